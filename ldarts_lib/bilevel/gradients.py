"""One pass over a batch: the loss, and its gradients by the architecture weights and the parameters ω."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ldarts_lib.networks.batches import Batch, Prediction
from ldarts_lib.networks.supernet import Supernet

NORMS = ("train_loss_norm", "train_penalty_norm", "train_gradient_norm", "clip_factor")
"""‖∇ω L‖, ‖λ ∂R/∂ω‖, ‖∇ω L − λ ∂R/∂ω‖, and what this is multiplied by."""


@dataclass(frozen=True)
class Gradients:
    """What one pass over a batch gives.

    Attributes:
        loss: mean cross-entropy, a scalar; of a packed supernet, as all else, one for each copy.
        output: logits [batch, classes], or what a recurrent supernet answers.
        cells: per cell kind g_l = ∂L/∂p of each cell, [cells, edges, operations].
        weights: ∂L/∂ω, in the order of ``supernet.parameters()``; empty if not asked for.
        norms: of a step of ω, what the history calls :data:`NORMS`; of the penalty alone the first two, and
            NaN where they come in one pass.
    """

    loss: Tensor
    output: Tensor | Prediction
    cells: dict[str, Tensor]
    weights: tuple[Tensor, ...] = ()
    norms: Tensor | None = None


def gradients(
    supernet: Supernet,
    batch: Batch,
    weights: Mapping[str, Tensor],
    *,
    of_parameters: bool = True,
    update_statistics: bool = False,
) -> Gradients:
    """Loss, and its gradients by the architecture weights and (if asked for) the parameters ω.

    Args:
        weights: leaves [cells, edges, operations] per kind that require gradients.
    """
    parameters = tuple(supernet.parameters()) if of_parameters else ()
    with nullcontext() if of_parameters else supernet.architecture_only():
        output = supernet(batch.inputs, weights, update_statistics=update_statistics)
        loss = batch.losses(output)
        found = torch.autograd.grad(loss.sum(), (*weights.values(), *parameters), materialize_grads=True)
    cells = dict(zip(weights, found, strict=False))
    return Gradients(loss.detach(), output.detach(), cells, found[len(weights) :])


def scale_copies(tensors: Sequence[Tensor], factors: Tensor) -> None:
    """Multiply parameters or gradients in place by a scalar, or those of each packed network by its own.

    The tensors of a pack have its networks one after the other in their first dimension; ``factors`` are then
    [copies].
    """
    if factors.dim() == 0:
        torch._foreach_mul_(tensors, factors)
        return
    for tensor in tensors:
        parts = tensor.unflatten(0, (len(factors), -1))
        parts.mul_(factors.view(-1, *[1] * (parts.dim() - 1)))


def total_lengths(tensors: Sequence[Tensor], copies: int) -> Tensor:
    """The length of parameters or gradients, all together: [copies], or a scalar if there is one network."""
    squares = torch.stack([t.square().unflatten(0, (copies, -1)).flatten(1).sum(1) for t in tensors])
    lengths = squares.sum(0).sqrt()
    return lengths if copies > 1 else lengths[0]


def joint_norm(tensors: Sequence[Tensor], copies: int) -> Tensor:
    """As :func:`total_lengths`, of a single network in few kernels, and rounded otherwise."""
    if copies > 1:
        return total_lengths(tensors, copies)
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """All entries of some tensors as one vector, detached."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
