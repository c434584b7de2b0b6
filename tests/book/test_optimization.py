"""The second order, against numerical differentiation through the training step."""

from __future__ import annotations

import pytest
import torch

from helpers import random_weights, small_batch, small_supernet
from ldarts_book.optimization import unrolled_gradients
from ldarts_book.studies.theory import loss
from ldarts_lib.bilevel.gradients import gradients


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
            found = loss(net, validation, moved)
            for parameter, origin in zip(net.parameters(), before, strict=True):
                parameter.copy_(origin)
        return found

    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(5), dtype=found.dtype)
    base, h = weights["normal"].detach(), 1e-6
    expected = (outer(base + h * direction) - outer(base - h * direction)) / (2 * h)
    assert (found * direction).sum().item() == pytest.approx(expected.item(), rel=1e-6)
    by_formula = unrolled_gradients(net, training, validation, weights, rate=rate, length=1e-7, decay=decay)[
        "normal"
    ]
    torch.testing.assert_close(by_formula, found, rtol=1e-5, atol=1e-7)
    first = unrolled_gradients(net, training, validation, weights, rate=0.0)["normal"]
    torch.testing.assert_close(first, gradients(net, validation, weights).cells["normal"])
    assert not torch.allclose(first, found, rtol=1e-3)
