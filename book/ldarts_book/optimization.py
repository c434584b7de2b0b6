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
    length: float | None = None,
) -> dict[str, Tensor]:
    """d/dp of L_val(ω − ξ[∇ω L_train(ω, p) + decay·ω], p), the second order of DARTS.

    Exactly, by differentiating through the training step, or by the formula of DARTS, a central difference::

        ∂p L_val(ω′, p) − ξ [∂p L_train(ω + εq, p) − ∂p L_train(ω − εq, p)] / 2ε,   q = ∇ω L_val(ω′, p)

    Args:
        supernet: holds ω, which does not change.
        training, validation: a batch of each half.
        weights: per cell kind [cells, edges, operations], leaves that require gradients.
        rate: ξ, the learning rate of the step; 0 gives the first order.
        decay: weight decay of ω.
        length: of the displacement εq, a search takes 0.01; None for the exact gradient.
    """
    omega = {name: parameter.detach().requires_grad_() for name, parameter in supernet.named_parameters()}
    inner = loss(supernet, training, weights, omega)
    slopes = _by(omega, inner, create_graph=length is None)
    moved = _after_a_step(omega, slopes, rate, decay)
    if length is None:
        return _by(weights, loss(supernet, validation, weights, moved))
    moved = {name: value.detach().requires_grad_() for name, value in moved.items()}
    outer = loss(supernet, validation, weights, moved)
    direction = _by(moved, outer, retain_graph=True)
    epsilon = length / torch.stack([torch.linalg.vector_norm(q) for q in direction.values()]).norm()
    ahead, behind = (
        _by(weights, loss(supernet, training, weights, _after_a_step(omega, direction, -step)))
        for step in (epsilon, -epsilon)
    )
    return {
        kind: direct - rate * (ahead[kind] - behind[kind]) / (2 * epsilon)
        for kind, direct in _by(weights, outer).items()
    }


def _after_a_step(
    omega: Weights, slopes: Weights, rate: Tensor | float, decay: float = 0.0
) -> dict[str, Tensor]:
    return {name: value - rate * (slopes[name] + decay * value) for name, value in omega.items()}


def _by(leaves: Weights, value: Tensor, **options: bool) -> dict[str, Tensor]:
    """The gradient of a value with respect to each of some leaves."""
    found = torch.autograd.grad(value, tuple(leaves.values()), materialize_grads=True, **options)
    return dict(zip(leaves, found, strict=True))
