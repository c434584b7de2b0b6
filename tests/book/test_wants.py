import numpy as np
import pandas as pd

from ldarts_book import studies, wants
from ldarts_lib.bilevel.protocols import protocol


def test_who_decides_is_counted_over_the_searches_and_every_cell_has_a_gradient():
    columns = ["norm_0", "norm_1", "decision_0", "decision_1"]
    rows = [
        {"variant": "a", "seed": seed, "epoch": epoch, **dict(zip(columns, values, strict=True))}
        for seed, late in ((0, (3.0, 1.0, 0.9, 0.2)), (1, (2.0, 1.0, 0.1, 0.8)), (2, (1.0, 4.0, 0.2, 0.8)))
        for epoch, values in enumerate([(0.0, 9.0, 0.0, 1.0), late, late])
    ]
    found = studies.deciders(pd.DataFrame(rows), count=2).loc["a"]
    assert found["norm"].tolist() == [2, 2]
    np.testing.assert_allclose(found["cosine with the sum"], [0.4, 0.6])
    assert found["longest"].tolist() == [2, 1]
    assert found["decides"].tolist() == [1, 2]
    g = wants.first_gradients(protocol(method="darts", size="smoke"))
    assert g.shape == (3, 30) and g.norm(dim=1).min() > 0
