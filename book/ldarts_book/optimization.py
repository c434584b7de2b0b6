"""The second order of DARTS on a real supernet, exactly and by the formula that a search takes."""

from __future__ import annotations

import torch
from torch import Tensor

from ldarts_book.studies.theory import Weights, loss
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet


def unrolled_gradients(
    supernet: Supernet,
    training: Batch,
    validation: Batch,
    weights: Weights,
    *,
    rate: float,
    decay: float = 0.0,
) -> dict[str, Tensor]:
    """d/dp of L_val(ω − ξ[∇ω L_train(ω, p) + decay·ω], p), the second order of DARTS, exactly.

    By differentiating through the training step, where a search takes a finite difference.

    Args:
        supernet: holds ω, which does not change.
        training, validation: a batch of each half.
        weights: per cell kind [cells, edges, operations], leaves that require gradients.
        rate: ξ, the learning rate of the step; 0 gives the first order.
        decay: weight decay of ω.

    Returns:
        Per cell kind [cells, edges, operations].
    """
    omega = _leaves(supernet)
    inner = loss(supernet, training, weights, omega)
    slopes = torch.autograd.grad(inner, tuple(omega.values()), create_graph=True, materialize_grads=True)
    outer = loss(supernet, validation, weights, _after_a_step(omega, slopes, rate, decay))
    return _by_cells(outer, weights)


def unrolled_by_difference(
    supernet: Supernet,
    training: Batch,
    validation: Batch,
    weights: Weights,
    *,
    rate: float,
    length: float,
    decay: float = 0.0,
) -> dict[str, Tensor]:
    """The same as :func:`unrolled_gradients` by the formula of DARTS, with a central difference.

    ::

        ∂p L_val(ω′, p) − ξ [∂p L_train(ω + εv, p) − ∂p L_train(ω − εv, p)] / 2ε,   v = ∇ω L_val(ω′, p)

    Args:
        length: of the displacement εv; a search takes 0.01.
    """
    omega = _leaves(supernet)
    inner = loss(supernet, training, weights, omega)
    slopes = torch.autograd.grad(inner, tuple(omega.values()), materialize_grads=True)
    moved = {
        name: value.detach().requires_grad_()
        for name, value in _after_a_step(omega, slopes, rate, decay).items()
    }
    outer = loss(supernet, validation, weights, moved)
    direction = torch.autograd.grad(outer, tuple(moved.values()), retain_graph=True, materialize_grads=True)
    epsilon = length / torch.stack([torch.linalg.vector_norm(v) for v in direction]).norm()
    ahead, behind = (
        _by_cells(loss(supernet, training, weights, _after_a_step(omega, direction, -step)), weights)
        for step in (epsilon, -epsilon)
    )
    return {
        kind: direct - rate * (ahead[kind] - behind[kind]) / (2 * epsilon)
        for kind, direct in _by_cells(outer, weights).items()
    }


def _leaves(supernet: Supernet) -> dict[str, Tensor]:
    return {name: parameter.detach().requires_grad_() for name, parameter in supernet.named_parameters()}


def _after_a_step(
    omega: Weights, slopes: tuple[Tensor, ...], rate: Tensor | float, decay: float = 0.0
) -> dict[str, Tensor]:
    return {
        name: value - rate * (slope + decay * value)
        for (name, value), slope in zip(omega.items(), slopes, strict=True)
    }


def _by_cells(value: Tensor, weights: Weights) -> dict[str, Tensor]:
    found = torch.autograd.grad(value, tuple(weights.values()), materialize_grads=True)
    return dict(zip(weights, found, strict=True))
