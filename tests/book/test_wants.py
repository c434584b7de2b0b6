import numpy as np
import pandas as pd
import pytest
import torch

from ldarts_book import studies, wants
from ldarts_book.studies.theory import softmax_jacobian
from ldarts_lib.bilevel.protocols import protocol


def recorded(g, p, square=1.0, **look):
    """The rows of one look at a search: g [cells, edges, operations], p [edges, operations]."""
    look = {"variant": "DARTS", "seed": 3, "state": "search", "epoch": 0, "half": "valid"} | look
    index = pd.MultiIndex.from_product(map(range, p.shape), names=["edge", "operation"])
    columns = {"p": p, **{f"g_{cell}": one for cell, one in enumerate(g)}, "square": p * 0 + square}
    columns |= {"batches": p * 0 + 0.25, "batches_felt": p * 0 + torch.arange(len(p))[:, None] / 10}
    flat = {name: x.double().flatten().numpy() for name, x in columns.items()}
    return pd.DataFrame(flat, index).reset_index().assign(**look)


def cosine(a, b):
    return (a.flatten() @ b.flatten() / (a.norm() * b.norm())).item()


def of_pairs(rows):
    return np.mean([cosine(rows[a], rows[b]) for a in range(len(rows)) for b in range(a)])


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


@pytest.fixture(scope="module")
def drawn():
    draw = torch.Generator().manual_seed(0)
    looks = [
        (
            torch.randn(cells, 2, 4, generator=draw).double(),
            torch.randn(2, 4, generator=draw).softmax(-1).double(),
        )
        for cells in (3, 12)
    ]
    return looks, pd.concat([recorded(*look, variant=f"{len(look[0])} cells") for look in looks])


def test_agreement_and_deciders_equal_loops_over_the_cells(drawn):
    looks, rows = drawn
    found, cells = wants.by_look(rows), wants.by_cell(rows)
    for (g, p), row in zip(looks, found.itertuples(), strict=True):
        f = torch.einsum("eop,cep->ceo", softmax_jacobian(p), g)
        total = f.sum(0)
        expected = {
            "batches": 0.25,
            "mean": of_pairs(g),
            "projected": of_pairs(g - g.mean(-1, keepdim=True)),
            "felt": of_pairs(f),
            "by_edge": (of_pairs(f[:, 0]) + of_pairs(f[:, 1])) / 2,
            "cancelled": -sum(
                (f[a] * f[b]).sum().item() for a in range(len(f)) for b in range(len(f)) if a != b
            )
            / (f * f).sum().item(),
            "largest": p.amax(1).mean().item(),
        }
        assert {name: getattr(row, name) for name in expected} == pytest.approx(expected)
        mine = cells[cells["variant"] == row.variant]
        shares = [(one * total).sum() / (total * total).sum() for one in f]
        assert mine["cell"].tolist() == [*range(1, len(g) + 1)] and sum(mine["share"]) == pytest.approx(1)
        np.testing.assert_allclose(mine["share"], shares)
        np.testing.assert_allclose(mine["cosine"], [cosine(one, g.sum(0)) for one in g])
        np.testing.assert_allclose(mine["norm"], [one.norm() for one in g])


def test_cells_that_agree_on_the_whole_need_not_agree_on_an_edge():
    one, other = torch.tensor([[[10.0, -10.0], [0.1, -0.1]], [[10.0, -10.0], [-0.1, 0.11]]]).double()
    rows = recorded([one, other], torch.full((2, 2), 0.5))
    assert wants.by_look(rows)["mean"][0] > 0.999 and abs(wants.by_look(rows)["by_edge"][0]) < 1e-9
    found = wants.by_edge(rows)
    assert found["ahead"].tolist() == [1, 0] and found["common"].tolist() == [True, False]
    assert found["margin"].tolist() == pytest.approx([40, 0.01])
    assert found["felt"].tolist() == pytest.approx([1, -1]) and found["batches"].tolist() == pytest.approx(
        [0, 0.1]
    )


def test_a_constant_slope_foretells_where_descent_and_adam_end():
    slope, p = torch.tensor([[0.0, 0.2, 0.5]]).double(), torch.full((1, 3), 1 / 3).double()
    f = torch.einsum("eop,ep->eo", softmax_jacobian(p), slope)
    looks = [recorded([slope / 2] * 2, p, f**2, epoch=epoch) for epoch in (0, 3)]
    foretold = wants.foretold(pd.concat(looks), 0.01, 50, 0.0).iloc[0]
    t = 0.01 * 3 * 50
    assert foretold["by_descent"] == pytest.approx((-t * f).softmax(-1)[0, 0].item())
    assert foretold["by_adam"] == pytest.approx((-t * f.sign()).softmax(-1)[0, 0].item())
    assert foretold["margin"] == pytest.approx(0.2) and foretold["largest"] == 0
    assert foretold["at_least"] == pytest.approx(1 - 6 / (9 + 0.2 * t))
    looks[1] = recorded([slope, 0 * slope], p, 4 * f**2, epoch=3)
    noisy = wants.foretold(pd.concat(looks), 0.01, 50, 0.0).iloc[0]
    shorter = (-t * f.sign() / 2.5**0.5).softmax(-1)[0, 0].item()  # the mean of F² and 4 F²
    assert noisy["by_adam"] == pytest.approx(shorter)
    assert noisy["at_least"] == pytest.approx(1 - 6 / (9 + 0.2 * t))
    last = wants.foretold(pd.concat([looks[0], recorded([-slope] * 2, p, epoch=3)]), 0.01, 50, 0.0).iloc[0]
    assert last["margin"] < 0 == last["at_least"]
