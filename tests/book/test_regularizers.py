"""How the cells' gradients answer to ω and α, against numerical differentiation and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers import drawn_alphas, random_weights, small_batch, small_supernet
from ldarts_book import regularizers
from ldarts_book.studies.theory import copies, softmax_jacobian
from ldarts_lib.bilevel.alignment import layer_alignment, sign_alignment
from ldarts_lib.bilevel.gradients import flat, gradients
from ldarts_lib.bilevel.half_steps import softmax_backward
from ldarts_lib.bilevel.regularizers import Regularizer, regularized_gradients
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet

STEP = 1e-6


@pytest.fixture
def net() -> Supernet:
    return small_supernet("nasbench201", activation="gelu")


@pytest.fixture
def alphas(net: Supernet) -> dict[str, Tensor]:
    return drawn_alphas(net)


def rows(net, weights):
    return gradients(net, small_batch(), weights, of_parameters=False).cells["normal"].flatten(1)


def moved(alphas, direction, distance):
    return {"normal": alphas["normal"] + distance * direction}


def shared_rows(net, alphas):
    return rows(net, copies(net, alphas))


@pytest.mark.parametrize(("form", "measure"), [("cosine", layer_alignment), ("sign", sign_alignment)])
def test_the_whole_derivative_is_the_regularizers(net, form, measure):
    weights = random_weights(net)
    found = regularizers.measure_by_weights(net, small_batch(), weights, measure)
    _, expected = regularized_gradients(net, small_batch(), weights, Regularizer(form, "exact"))
    torch.testing.assert_close(flat(found), flat(expected), rtol=1e-9, atol=1e-12)


def test_along_a_direction_it_changes_by_the_derivative_and_the_weights_stay(net):
    weights, before = random_weights(net), flat(net.parameters()).clone()
    draw = torch.Generator().manual_seed(1)
    direction = tuple(torch.randn(p.shape, generator=draw, dtype=p.dtype) for p in net.parameters())
    here, ahead, behind = (
        regularizers.measure_along(net, small_batch(), weights, direction, s * STEP) for s in (0, 1, -1)
    )
    expected = flat(regularizers.measure_by_weights(net, small_batch(), weights)) @ flat(direction)
    assert (ahead - behind) / (2 * STEP) == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(flat(net.parameters()), before)
    assert here == layer_alignment(rows(net, weights))


def test_alignment_by_alpha_is_the_derivative_through_the_shared_softmax(net, alphas):
    loss, alignment, found = regularizers.alignment_by_alpha(net, small_batch(), alphas)
    weights = copies(net, alphas)
    assert loss == pytest.approx(gradients(net, small_batch(), weights).loss.item())
    assert alignment == pytest.approx(layer_alignment(rows(net, weights)).item())
    direction = torch.randn(*found.shape, generator=torch.Generator().manual_seed(2), dtype=found.dtype)
    ahead, behind = (layer_alignment(shared_rows(net, moved(alphas, direction, s * STEP))) for s in (1, -1))
    assert ((ahead - behind) / (2 * STEP)).item() == pytest.approx((found * direction).sum().item(), rel=1e-5)
    mixed = regularizers.mixed_by_cells(net, small_batch(), weights)
    torch.testing.assert_close(softmax_backward(alphas["normal"], mixed), found, rtol=1e-9, atol=1e-12)


def test_climbing_raises_the_alignment_and_leaves_the_rest(net, alphas):
    before, start = flat(net.parameters()).clone(), alphas["normal"].clone()
    table, end = regularizers.climb_by_alpha(net, small_batch(), alphas, steps=15)
    assert table["alignment"].iloc[-1] > table["alignment"].iloc[0] + 0.05
    assert len(table) == 16
    last = regularizers.alignment_by_alpha(net, small_batch(), {"normal": end})
    assert tuple(table.iloc[-1][["loss", "alignment"]]) == pytest.approx(last[:2])
    assert torch.equal(flat(net.parameters()), before)
    assert torch.equal(alphas["normal"], start)


def test_the_responses_are_the_derivatives_of_the_rows(net, alphas):
    weights = copies(net, alphas)
    of_alpha = regularizers.response_to_alpha(net, small_batch(), alphas)
    cells, (edges, operations) = net.layout.count("normal"), alphas["normal"].shape
    assert of_alpha.shape == (cells * edges * operations, edges * operations)
    direction = torch.randn(
        edges, operations, generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )
    ahead, behind = (shared_rows(net, moved(alphas, direction, s * STEP)).flatten() for s in (1, -1))
    torch.testing.assert_close(
        of_alpha @ direction.flatten(), (ahead - behind) / (2 * STEP), rtol=1e-5, atol=1e-7
    )
    common = torch.ones(operations, dtype=torch.float64)  # an offset of an edge does not move p
    assert (softmax_jacobian(alphas["normal"].softmax(-1)) @ common).abs().max() < 1e-12
    assert (of_alpha.unflatten(1, (edges, operations)) @ common).abs().max() < 1e-12 * of_alpha.norm()

    of_weights = regularizers.response_to_weights(net, small_batch(), weights)
    assert of_weights.shape == (of_alpha.shape[0], flat(net.parameters()).numel())
    whole = regularizers.measure_by_weights(net, small_batch(), weights)
    g = rows(net, weights).requires_grad_()
    (delta,) = torch.autograd.grad(layer_alignment(g), g)
    torch.testing.assert_close(delta.flatten() @ of_weights, flat(whole), rtol=1e-9, atol=1e-12)


ALL, INNER, OUTPUT = [[True] * 3] * 3, [[True, True, False]] * 2 + [[True] * 3], [[False, False, True]] * 3


@pytest.mark.parametrize(
    ("activation", "reduction", "holds"),
    [("relu", "light", ALL), ("relu", "residual", INNER), ("gelu", "light", OUTPUT)],
)
def test_scaling_a_node_binds_what_the_cells_want(alphas, activation, reduction, holds):
    net = small_supernet("nasbench201", activation=activation, reduction=reduction)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-20
    p = alphas["normal"].softmax(-1)
    a = regularizers.gauge_vectors(net.space.cells["normal"], p)
    assert a[0, 0].tolist() == p[0].tolist() and not a[2, :3].any()
    g = rows(net, copies(net, alphas))
    cosines = torch.cosine_similarity(a.flatten(1)[None], g[:, None], dim=-1)
    assert (cosines.abs() < 1e-9).tolist() == holds


def test_batches_agree_by_the_mean_cosine_of_their_gradients(net):
    weights, batches = random_weights(net), [small_batch(seed) for seed in range(3)]
    before = [buffer.clone() for buffer in net.buffers()]
    together = Batch(torch.cat([b.inputs for b in batches]), torch.cat([b.targets for b in batches]))
    found = regularizers.batch_agreement(net, together, weights, size=6)
    by_loss = [flat(gradients(net, batch, weights).weights) for batch in batches]
    by_alignment = [flat(regularizers.measure_by_weights(net, batch, weights)) for batch in batches]
    for key, vectors in {"loss": by_loss, "alignment": by_alignment}.items():
        pairs = [torch.cosine_similarity(vectors[i], vectors[j], 0) for i, j in ((0, 1), (0, 2), (1, 2))]
        assert found[key] == pytest.approx(sum(pairs).item() / 3)
    lengths = [sum(v.norm().item() for v in vectors) for vectors in (by_alignment, by_loss)]
    assert found["ratio"] == pytest.approx(lengths[0] / lengths[1])
    assert all(map(torch.equal, net.buffers(), before))
