"""What a finite difference computes, against the library's own estimators and against counting by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from helpers import random_weights, small_batch, small_supernet
from ldarts_book import differences
from ldarts_book.studies.theory import drawn, searched
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
