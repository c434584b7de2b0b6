"""One pass over a batch: the loss, and its gradients by the architecture weights and the parameters ω."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldarts_lib.networks.supernet import Supernet


@dataclass(frozen=True)
class Gradients:
    """What one pass over a batch gives.

    Attributes:
        loss: mean cross-entropy, a scalar.
        logits: [batch, classes]; of a recurrent supernet a :class:`~ldarts_lib.bilevel.windows.Prediction`.
        cells: per cell kind ∂L/∂p of each cell, [cells, edges, operations].
        weights: ∂L/∂ω, in the order of ``supernet.parameters()``; empty if not asked for.
    """

    loss: Tensor
    logits: Tensor
    cells: dict[str, Tensor]
    weights: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Images [batch, channels, height, width] and labels [batch] (int64).

    For a packed supernet images [batch, copies×channels, height, width] and labels [copies, batch].
    """

    images: Tensor
    labels: Tensor

    def losses(self, logits: Tensor) -> Tensor:
        """What is differentiated, a scalar, or [copies]: see :func:`losses`."""
        return losses(logits, self.labels)


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
        logits = supernet(batch.images, weights, update_statistics=update_statistics)
        loss = batch.losses(logits)
        found = torch.autograd.grad(loss.sum(), (*weights.values(), *parameters), materialize_grads=True)
    return Gradients(
        loss.detach(),
        logits.detach(),
        dict(zip(weights, found, strict=False)),
        found[len(weights) :],
    )


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy, of each network of a pack its own: a scalar, or [copies]."""
    if labels.dim() == 1:
        return nn.functional.cross_entropy(logits, labels)
    each = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return each.view_as(labels).mean(-1)


def scale_copies(tensors: Sequence[Tensor], factors: Tensor) -> None:
    """Multiply parameters or gradients in place by a scalar, or those of each packed network by its own.

    Args:
        tensors: those of a pack have its networks one after the other in their first dimension.
        factors: a scalar, or [copies].
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


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """All entries of some tensors as one vector, detached."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
