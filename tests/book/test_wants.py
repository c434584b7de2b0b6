import numpy as np
import pandas as pd
import pytest
import torch

from ldarts_book import studies, wants
from ldarts_book.studies.theory import searched
from ldarts_lib.bilevel.alignment import layer_alignment
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import architecture_weights


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


def test_averaged_gradients_are_means_over_all_images_of_a_half_and_alpha_comes_to_rest():
    settings = protocol(method="darts", size="smoke", channels=2, batch_size=250, epochs=1)
    found = wants.averaged_alignment(settings, every=1, moves=4)
    assert found["state"].tolist() == ["search", "at rest"]
    assert found["slope"][1] < found["slope"][0]
    state = searched(settings, 1)
    supernet = state.bilevel.supernet
    weights = architecture_weights(state.bilevel.alphas, supernet.layout)
    for name, half in (("train", state.training), ("valid", state.validation)):
        g = torch.zeros(3, 30)
        for batch in half.epoch(250, torch.Generator().manual_seed(0), augment=False):
            g += gradients(supernet, Batch(*batch), weights).cells["normal"].flatten(1) / 2
        assert found[f"{name}_images"][0] == pytest.approx(layer_alignment(g).item(), abs=1e-4)


def test_what_is_averaged_is_recorded_in_parts(tmp_path, monkeypatch):
    columns = dict.fromkeys(("train_batches", "train_images", "valid_batches", "slope"), 0.5)
    assert wants.recorded_averages(tmp_path).empty
    for level, seeds in ((-0.25, [3, 4]), (0.9, [4, 5])):  # that of seed 4 is there already
        one = pd.DataFrame([{"state": "at rest", "epoch": 79, "valid_images": level, **columns}])
        monkeypatch.setattr(wants, "averaged_alignment", lambda _, one=one: one)
        wants.record_averages(["DARTS"], seeds, tmp_path)
    found = wants.recorded_averages(tmp_path)
    assert found[["seed", "valid_images"]].to_numpy().tolist() == [[3, -0.25], [4, -0.25], [5, 0.9]]
