"""Remedies that stop, hold or widen: each against a naive formula, alone, in a pack and when it goes on."""

from types import SimpleNamespace

import pytest
import torch

from ldarts_lib.bilevel.packed import PackedSearch
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.regularizers import Regularizer
from ldarts_lib.bilevel.remedies import darts_es
from ldarts_lib.bilevel.search import search
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.datasets.images import load_images

IMAGES = load_images("noisy-digits")
TINY = {
    "size": "smoke",
    "channels": 4,
    "batch_size": 20,
    "split": 0.04,
    "precision": "float64",
    "epochs": 3,
    "epoch_steps": 1,
}
METHODS = {
    "darts-es": {"window": 0.3, "products": 2, "start": 0.0, "growth": 1e-9},
    "oles": {"steps": 1, "threshold": 0.2},
    "r-darts": {"drop_path": 0.4},
    "lambda+pc-darts": {"estimator": "exact", "partial": 2},
}


def state_of(method, seed=0, **settings):
    chosen = protocol(method=method, seed=seed, **TINY | METHODS.get(method, {}) | settings)
    return SearchState(chosen, IMAGES)


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in ("darts-es", "oles"))) for name in METHODS],
)
def test_a_search_goes_on_bit_for_bit_and_is_the_same_in_a_pack(method):
    whole, first, second, *packed = [state_of(method, seed) for seed in (0, 0, 0, 0, 1)]
    pack = PackedSearch(packed, IMAGES)
    rows, _ = [[one.run_epoch(epoch) for epoch in range(2)] for one in (whole, first)]
    second.restore(first.checkpoint())
    rows.append(whole.run_epoch(2))
    assert rows[-1] | {"seconds": 0} == second.run_epoch(2) | {"seconds": 0}
    together = [pack.run_epoch(epoch)[0] for epoch in range(3)]
    for one, other in zip(rows, together, strict=True):
        numbers = {name: x for name, x in one.items() if isinstance(x, float) and name != "seconds"}
        assert {name: other[name] for name in numbers} == pytest.approx(numbers, rel=1e-8, abs=1e-10)
    assert {*whole.bilevel.remedy.kept} == {*packed[0].bilevel.remedy.kept}
    for name, kept in whole.bilevel.remedy.kept.items():
        assert torch.allclose(kept.double(), packed[0].bilevel.remedy.kept[name].double())


def test_darts_es_stops_where_the_smoothed_eigenvalue_has_grown_by_a_third(monkeypatch, tmp_path):
    """λ̄(i − k)/λ̄(i) < 0.75 with k = 2 of 12 epochs, smoothed over i − 1, i, i + 1, not before epoch 2."""
    values = [0.1, 1.0, 9.0, 3.0, 3.0, 3.0, 3.1, 3.9, 4.4, 5.0, 6.0, 7.0]
    smooth = {i: sum(values[i - 1 : i + 2]) / 3 for i in range(1, 11)}
    expected = next(i - 2 for i in range(4, 11) if smooth[i - 2] / smooth[i] < 0.75)

    def curvature(bilevel, batch, products):
        epoch = round(bilevel.share * 11)
        shape = bilevel.alphas["normal"].shape[:-2]
        grown = torch.tensor(values[epoch]).expand(shape).clone()
        return grown if not shape else grown * torch.tensor([1.0, 0.0])  # only the first of a pack

    monkeypatch.setattr(darts_es, "dominant_eigenvalue", curvature)
    given = TINY | {"method": "darts-es", "epochs": 12, "window": 1 / 6, "start": 1 / 6}
    found = search(protocol(**given), tmp_path / "run", dataset=IMAGES, progress=False)
    metrics = (tmp_path / "run" / "metrics.json").read_text()
    assert f'"stopped": {expected}' in metrics and len(found.history) == expected + 4
    assert str(found.genotype) == found.history[-1]["genotype"] == found.history[expected]["genotype"]
    states = [SearchState(protocol(**given, seed=seed), IMAGES) for seed in (0, 1)]
    pack, alphas = PackedSearch(states, IMAGES), []
    for epoch in range(12):
        pack.run_epoch(epoch)
        alphas.append([state.bilevel.alphas["normal"].detach().clone() for state in states])
    assert [state.ended for state in states] == [True, False]
    assert torch.equal(alphas[-1][0], alphas[expected][0]) and not torch.equal(alphas[-1][1], alphas[-2][1])
    torch.testing.assert_close(alphas[-1][0], found.alphas["normal"])


def cosines(bilevel, one, other):
    """Of each operation's gradients, and the places of its parameters."""
    names, found, parts = [name for name, _ in bilevel.supernet.named_parameters()], [], []
    for operation in sorted({n.rsplit(".", 2)[0] for n in names if ".operations." in n}):
        parts.append([i for i, name in enumerate(names) if name.startswith(f"{operation}.")])
        a, b = (torch.cat([gradients[i].flatten() for i in parts[-1]]) for gradients in (one, other))
        found.append(torch.nn.functional.cosine_similarity(a, b, dim=0))
    return torch.stack(found), parts


def test_oles_holds_the_operations_whose_gradients_disagree():
    state = state_of("oles", steps=1)
    bilevel, batches = state.bilevel, next(state.pairs())
    bilevel.start_epoch(0)
    of_weights, of_alpha = bilevel.step(*batches)
    agreement, parts = cosines(bilevel, of_weights.weights, of_alpha.weights)
    before = [parameter.detach().clone() for parameter in bilevel.parameters]
    bilevel.step(*batches)
    moved = [not torch.equal(a, b) for a, b in zip(bilevel.parameters, before, strict=True)]
    held = [not any(moved[i] for i in places) for places in parts]
    assert held == (agreement < 0.2).tolist() and 0 < sum(held) < len(held)


def test_oles_takes_the_mean_of_some_steps_and_holds_for_good():
    """Of random gradients, some of which agree less than 0.4 in the mean of two steps."""
    bilevel, seen = state_of("oles", steps=2, threshold=0.4).bilevel, []
    torch.manual_seed(0)
    frozen = torch.zeros(len(cosines(bilevel, *[bilevel.parameters] * 2)[0]), dtype=torch.bool)
    for step in range(1, 5):
        given = [[torch.randn_like(parameter) for parameter in bilevel.parameters] for _ in range(2)]
        given[1] = [b + torch.rand(()) * a for a, b in zip(*given, strict=True)]
        bilevel.remedy.after_step(bilevel, *(SimpleNamespace(weights=one) for one in given))
        seen.append(cosines(bilevel, *given)[0])
        before, frozen = frozen, frozen | (step % 2 == 0) & (sum(seen[-2:]) / 2 < 0.4)
        held = {id(parameter): mask for parameter, mask in bilevel.remedy.held_parameters(bilevel)}
        _, parts = cosines(bilevel, *given)
        assert [bool(held[id(bilevel.parameters[places[0]])].all()) for places in parts] == frozen.tolist()
    assert 0 < before.sum() < frozen.sum() < len(frozen)


def test_the_edges_of_pc_darts_compete_within_their_node_after_a_while():
    state = state_of("pc-darts", wait=0.4)
    alphas, remedy = state.bilevel.alphas, state.bilevel.remedy
    assert [remedy.waits(share) for share in (0.0, 0.39, 0.4)] == [True, True, False]
    assert state.bilevel.supernet.rule.partial == remedy.partial == 4
    with torch.no_grad():
        alphas["normal_edges"].copy_(torch.arange(6.0))
    p = remedy.weights(alphas, state.bilevel.supernet, 0.0)
    powers = torch.arange(6.0, dtype=torch.float64).exp()
    sums = powers[:1].sum(), *[powers[1:3].sum()] * 2, *[powers[3:].sum()] * 3
    naive = powers / torch.stack(sums)
    torch.testing.assert_close(p["normal_edges"], naive)
    assert Regularizer(kinds="all").aligned(alphas) == ["normal"]
    torch.testing.assert_close(remedy.decided(alphas)["normal"], naive[:, None] * p["normal"])
    for epoch, moves in ((0, False), (1, True)):
        before = {kind: alpha.detach().clone() for kind, alpha in alphas.items()}
        state.run_epoch(epoch)
        assert [not torch.equal(before[kind], alpha) for kind, alpha in alphas.items()] == [moves, moves]


def test_r_darts_decays_more_and_drops_paths_more_and_more():
    state = state_of("r-darts", decay=3)
    state.bilevel.start_epoch(2)
    assert state.bilevel.weight_optimizer.param_groups[0]["weight_decay"] == pytest.approx(3 * 3e-4)
    assert state.bilevel.supernet.rule.keep == pytest.approx(1 - 0.4)
