"""What a finite difference computes, against the library's own estimators and against counting by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from helpers import random_weights, small_batch, small_supernet
from ldarts_book import differences
from ldarts_book.studies.theory import drawn, searched
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.regularizers import Regularizer, perturbation, regularized_gradients

LENGTHS = (1e-6, 1e-2, 1e-1)


def small(activation="relu"):
    net = small_supernet("nasbench201", activation=activation)
    return net, small_batch(), random_weights(net)


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors])


@pytest.mark.parametrize("form", ["cosine", "sign"])
def test_the_columns_are_those_of_the_two_estimators(form):
    net, batch, weights = small()
    found = differences.against_exact(net, batch, weights, LENGTHS, form=form)
    plain, exact = regularized_gradients(net, batch, weights, Regularizer(form, "exact"))
    for epsilon, row in found.iterrows():
        _, central = regularized_gradients(net, batch, weights, Regularizer(form, "central", epsilon))
        one, other = flat(central), flat(exact)
        assert row["cosine"] == pytest.approx((one @ other / one.norm() / other.norm()).item(), abs=1e-6)
        assert row["ratio"] == pytest.approx((one.norm() / other.norm()).item(), rel=1e-5)
        assert row["error"] == pytest.approx(((one - other).norm() / other.norm()).item(), rel=1e-4, abs=1e-6)
        assert row["of the loss"] == pytest.approx((one.norm() / flat(plain.weights).norm()).item(), rel=1e-5)


def test_the_kinks_are_the_whole_difference():
    """With the same activations at both ends, or with smooth ones, the error is that of a Taylor series."""
    free = differences.against_exact(*small(), LENGTHS)
    frozen = differences.against_exact(*small(), LENGTHS, frozen=True)
    gelu = differences.against_exact(*small("gelu"), LENGTHS)
    assert free["error"][1e-2] > 1 and free["error"][1e-6] < 1e-6
    assert free["halves"][1e-2] < 0.9 < frozen["halves"][1e-2]
    for smooth in (frozen, gelu):
        assert smooth["error"][1e-2] < 5e-3
        assert smooth["error"][1e-1] / smooth["error"][1e-2] == pytest.approx(100, rel=0.5)  # second order
    assert gelu["flips"].isna().all()


def test_flips_are_counted_at_the_two_ends():
    net, batch, weights = small()
    found = differences.against_exact(net, batch, weights, [1e-1])["flips"].item()
    cells = regularized_gradients(net, batch, weights, Regularizer())[0].cells
    directions, _ = perturbation(Regularizer(), cells)
    signs = {1: [], -1: []}
    for sign, seen in signs.items():
        moved = {"normal": weights["normal"].detach() + sign * 0.1 * directions["normal"]}
        hooks = [
            module.register_forward_pre_hook(lambda _, x, seen=seen: seen.append(x[0] > 0))
            for module in net.modules()
            if isinstance(module, nn.ReLU)
        ]
        net(batch.inputs, moved, update_statistics=False)
        for hook in hooks:
            hook.remove()
    flips = sum((a != b).sum() for a, b in zip(*signs.values(), strict=True))
    assert found == pytest.approx((flips / sum(a.numel() for a in signs[1])).item())
    assert found > 0


def test_the_scene_is_the_network_of_the_search():
    settings = protocol(method="darts", size="smoke", epochs=1)
    net, images, weights = differences.scene(settings, 1)
    state = searched(settings, 1)
    batch, single = drawn(state.training), {kind: w.float() for kind, w in weights.items()}
    logits = net(images.inputs, weights, update_statistics=False)
    expected = state.bilevel.supernet(batch.inputs, single, update_statistics=False)
    assert logits.dtype == torch.float64
    torch.testing.assert_close(logits.float(), expected, rtol=1e-3, atol=1e-4)


def test_panels_show_every_table_and_a_guide():
    def table(error, flips):
        index = pd.Index([1e-6, 1e-4, 1e-2, 1.0], name="epsilon")
        return pd.DataFrame({"cosine": 0.5, "error": error, "flips": flips}, index=index)

    tables = {"ReLU": table([0.0, 30.0, 3.0, 1.0], [0, 1e-5, 1e-3, 0.2]), "GELU": table(1e-8, np.nan)}
    cosine, error, flips = differences.panels(tables).values()
    assert list(cosine) == list(flips) == list(tables) and list(error) == [*tables, "slope −1/2"]
    assert (error["ReLU"][1] > 0).all()  # the scale of errors is logarithmic
    assert error["ReLU"][1][1e-4] == 30.0
    assert flips["ReLU"][0].tolist() == [1e-4, 1e-2, 1.0] and flips["GELU"][0].empty
    x, y = error["slope −1/2"]
    assert (x[0], y[0]) == (1e-4, 30.0)
    assert np.polyfit(np.log(x), np.log(y), 1)[0] == pytest.approx(-0.5)


def test_the_difference_is_its_smooth_part_and_its_jumps():
    """Against a naive count, and against the formula of each jump, sign(∂_t z) (∂L/∂a) ∂_ω z."""
    (net, batch, weights), length = small(), 2e-3
    at, jumps, smooth = differences.jumps(net, batch, weights, length, pieces=8)
    direction, scale = perturbation(Regularizer(), gradients(net, batch, weights).cells)
    _, central = regularized_gradients(net, batch, weights, Regularizer("cosine", "central", length))
    whole, expected = scale * (smooth + jumps.sum(0) / (2 * length)), flat(central)
    assert (whole - expected).norm() < 1e-5 * expected.norm()
    relus = [module for module in net.modules() if isinstance(module, nn.ReLU)]

    def passed(t):
        z, a = {}, {}

        def hook(module, inputs, output):
            z[module], a[module] = inputs[0], output

        hooks = [relu.register_forward_hook(hook) for relu in relus]
        loss = batch.losses(net(batch.inputs, {"normal": weights["normal"] + t * direction["normal"]}))
        for one in hooks:
            one.remove()
        return loss, z, a

    grid = np.linspace(-length, length, 81)
    with torch.no_grad():
        seen = [torch.cat([z.flatten() > 0 for z in passed(t)[1].values()]) for t in grid]
    changes = [i for i in range(80) if not torch.equal(seen[i], seen[i + 1])]
    assert len(changes) == len(at) > 2
    assert all(grid[i] <= t <= grid[i + 1] for i, t in zip(changes, at.tolist(), strict=True))
    for t, jump in zip(at.tolist(), jumps, strict=True):
        (_, before, _), (loss, after, a) = (passed(t + side * 1e-5 * length) for side in (-1, 1))
        of_a = torch.autograd.grad(loss, tuple(a.values()), retain_graph=True, allow_unused=True)
        switched = sum(
            (z * ((z > 0).double() - (before[relu] > 0).double()) * slope).sum()
            for (relu, z), slope in zip(after.items(), of_a, strict=True)
            if slope is not None
        )
        expected = torch.autograd.grad(switched, tuple(net.parameters()), materialize_grads=True)
        assert (jump - flat(expected)).norm() < 0.01 * jump.norm()


def test_means_and_climbs_of_a_record():
    def part(scene, seed, e, x):
        e, x = np.array(e, float), np.array(x, float)
        measures = {"exact": (e @ e, e @ e, 4.0), "0.1": (x @ e, x @ x, 9.0), "noise": (np.nan,) * 3}
        rows = [
            (seed, vector, measure, value, scene)
            for vector, values in measures.items()
            for measure, value in zip(("inner", "square", "single"), values, strict=True)
        ]
        steps = {"mean 0.01": 0.03, "mean -0.01": -0.01, "slope exact": 2.5}
        rows += [(seed, "0.1", measure, value * (seed + 1), scene) for measure, value in steps.items()]
        return pd.DataFrame(rows, columns=["seed", "vector", "measure", "value", "scene"]).dropna()

    parts = [part("a, seed 0", 0, [1, 0], [1, 1]), part("a, seed 1", 1, [0, 2], [0, 6])]
    found = differences.means(pd.concat(parts)).loc["a"].loc["0.1"]
    assert found["projection"] == pytest.approx((1 + 12) / (1 + 4))
    assert found["error"] == pytest.approx(1.6 / 2.5)  # of 1 − 2.6 and 12 − 4 · 2.6
    assert found["cosine"] == pytest.approx(2.6 / 7.6**0.5)  # squares of 2 and 36
    assert found["bias"] == pytest.approx((7.6 - 5.2 + 1) ** 0.5)
    assert found["single"] == pytest.approx(((9 + 9) / 5) ** 0.5)
    rise = differences.climbs(pd.concat(parts)).loc["a", 1, "0.1"]
    assert rise["mean 0.01"] == 0.06 and rise["slope"] == pytest.approx(4.0)
    assert rise["slope exact"] == 5.0
    means = differences.means(pd.concat(parts)).query("single.notna()")
    (lengths, drawn) = differences.panels_of_means(means, ["a"])["length of a single difference"]["a"]
    assert lengths.tolist() == [0.1] and drawn.tolist() == [found["single"]]
    steps = [f"{kind} {step:g}" for kind in ("mean", "single") for step in differences.STEPS]
    some = pd.DataFrame([range(8), range(2, 10)], columns=steps, index=[[0, 1], ["0.1", "0.1"]])
    panels = differences.panels_of_climbs(some.rename_axis(["seed", "vector"]))
    assert [*panels.values()][1] == {"ε0 = 0.1": (list(differences.STEPS), [5, 6, 7, 8])}
