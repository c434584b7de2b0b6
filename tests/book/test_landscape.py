"""The loss of a small supernet as α moves, against numerical differentiation and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import random_weights, small_batch, small_supernet
from ldarts_book.landscape import (
    LossLine,
    loss_line,
    nearest_vertex,
    shared_gradients,
    sharpened,
    slope_by_difference,
    train_at,
    unrolled_by_difference,
    unrolled_gradients,
)
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.half_steps import softmax_backward
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.datasets.images import load_images
from ldarts_lib.networks.supernet import architecture_weights, initial_alphas


def drawn_alphas(net, seed=3):
    generator = torch.Generator().manual_seed(seed)
    alphas = initial_alphas(net.space, generator=generator, dtype=torch.float64)
    return {kind: (700 * alpha).detach() for kind, alpha in alphas.items()}


def loss_at(net, batch, alphas=None, vertex=None):
    shared = vertex or {kind: alpha.softmax(-1) for kind, alpha in alphas.items()}
    weights = {kind: p.repeat(net.layout.count(kind), 1, 1) for kind, p in shared.items()}
    with torch.no_grad():
        return nn.functional.cross_entropy(net(batch.inputs, weights, update_statistics=False), batch.targets)


@pytest.mark.parametrize("space", ["nasbench201", "s3"])
def test_shared_gradients_are_the_jacobian_times_the_sum_of_the_cells(space):
    net, batch = small_supernet(space), small_batch()
    alphas = drawn_alphas(net)
    cells = gradients(net, batch, architecture_weights(alphas, net.layout), of_parameters=False).cells
    found = shared_gradients(net, batch, alphas)
    assert set(found) == set(net.space.cells)
    for kind, alpha in alphas.items():
        torch.testing.assert_close(found[kind], softmax_backward(alpha, cells[kind]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_unrolled_gradients_equal_a_difference_through_the_training_step(decay):
    net, training, validation = small_supernet("nasbench201"), small_batch(0), small_batch(1)
    weights, rate = random_weights(net), 0.3
    before = [parameter.detach().clone() for parameter in net.parameters()]
    found = unrolled_gradients(net, training, validation, weights, rate=rate, decay=decay)["normal"]
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))

    def outer(p):
        moved = {"normal": p.requires_grad_()}
        slopes = gradients(net, training, moved).weights
        with torch.no_grad():
            for parameter, origin, slope in zip(net.parameters(), before, slopes, strict=True):
                parameter.copy_(origin - rate * (slope + decay * origin))
            logits = net(validation.inputs, moved, update_statistics=False)
            for parameter, origin in zip(net.parameters(), before, strict=True):
                parameter.copy_(origin)
        return nn.functional.cross_entropy(logits, validation.targets)

    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(5), dtype=found.dtype)
    base, h = weights["normal"].detach(), 1e-6
    expected = (outer(base + h * direction) - outer(base - h * direction)) / (2 * h)
    assert (found * direction).sum().item() == pytest.approx(expected.item(), rel=1e-6)
    by_formula = unrolled_by_difference(
        net, training, validation, weights, rate=rate, length=1e-7, decay=decay
    )["normal"]
    torch.testing.assert_close(by_formula, found, rtol=1e-5, atol=1e-7)
    first = unrolled_gradients(net, training, validation, weights, rate=0.0)["normal"]
    torch.testing.assert_close(first, gradients(net, validation, weights).cells["normal"])
    assert not torch.allclose(first, found, rtol=1e-3)


def test_the_nearest_vertex_keeps_the_strongest_operations():
    vertex = nearest_vertex({"normal": torch.tensor([[0.2, 0.5, 0.3], [1.0, -1.0, 0.0]])})
    assert vertex["normal"].tolist() == [[0, 1, 0], [1, 0, 0]]


def test_sharpened_alphas_give_the_weight_that_was_asked_for():
    alphas = {"normal": torch.tensor([[0.2, 0.5, 0.3], [1.0, -1.0, 0.0]], dtype=torch.float64)}
    p = sharpened(alphas, 0.9)["normal"].softmax(-1)
    expected = torch.tensor([[0.05, 0.9, 0.05], [0.9, 0.05, 0.05]], dtype=torch.float64)
    torch.testing.assert_close(p, expected)


@pytest.mark.parametrize("weight", [1 / 3, 1.0, 0.1])
def test_sharpened_refuses_a_weight_that_is_not_the_largest(weight):
    with pytest.raises(ValueError, match="between 1/3 and 1"):
        sharpened({"normal": torch.zeros(2, 3)}, weight)


@pytest.mark.parametrize("space", ["nasbench201", "s3"])
def test_a_line_runs_from_p_to_the_vertex(space):
    net, batch = small_supernet(space).eval(), small_batch()
    alphas = drawn_alphas(net)
    line = loss_line(net, batch, alphas, points=9)
    assert line.positions[[0, -1]].tolist() == [0, 1]
    torch.testing.assert_close(line.losses[0], loss_at(net, batch, alphas))
    torch.testing.assert_close(line.losses[-1], loss_at(net, batch, vertex=nearest_vertex(alphas)))
    assert line.slopes[0].item() == pytest.approx(slope_by_difference(net, batch, alphas).item(), rel=1e-6)
    first, second = line.positions[:2]
    start = {kind: alpha.softmax(-1) for kind, alpha in alphas.items()}
    vertex = nearest_vertex(alphas)
    nudge = 1e-6

    def between(tau):
        return loss_at(net, batch, vertex={k: p + tau * (vertex[k] - p) for k, p in start.items()})

    expected = (between(second + nudge) - between(second - nudge)) / (2 * nudge)
    assert line.slopes[1].item() == pytest.approx(expected.item(), rel=1e-5)
    assert first == 0


def test_gap_remainder_and_bending_of_a_parabola():
    tau = torch.linspace(0, 1, 11, dtype=torch.float64)
    line = LossLine(tau, 2 - 0.5 * tau + 3 * tau**2, -0.5 + 6 * tau)
    assert (line.gap, line.remainder, line.bending) == pytest.approx((2.5, 3.0, 6.0))
    bent = LossLine(tau, 2 - 0.5 * tau - 3 * tau**3, -0.5 - 9 * tau**2)
    assert (bent.gap, bent.remainder, bent.bending) == pytest.approx((-3.5, -3.0, 9.0))


def test_training_moves_the_weights_and_not_alpha():
    settings = protocol("nasbench201", "digits", "darts", "smoke", epochs=2)
    alphas = {"normal": torch.linspace(-1, 1, 30).view(6, 5)}
    images = load_images("digits")
    trained, again = (train_at(settings, images, alphas) for _ in range(2))
    assert torch.equal(trained.alphas["normal"], alphas["normal"])
    untrained = train_at(
        settings.model_copy(update={"weight_lr": 1e-12, "weight_lr_min": 0.0}), images, alphas
    )
    batch = small_batch(dtype=torch.float32)
    first, second = (trained.supernet, again.supernet)
    assert torch.equal(loss_at(first, batch, alphas), loss_at(second, batch, alphas))
    moved = [
        (a - b).abs().max() for a, b in zip(first.parameters(), untrained.supernet.parameters(), strict=True)
    ]
    assert max(moved) > 0.01
    assert trained.supernet.training
