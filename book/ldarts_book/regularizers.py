"""How the gradients of the cells answer to ω and to α: what the chapter on the regularizers checks.

Everything here differentiates the normal cells' gradients g_l = ∂L/∂p_l as they stand, with nothing held
fixed, and so by another route than :mod:`ldarts_lib.bilevel.regularizers`. No search uses this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from ldarts_book.dynamics import softmax_jacobian
from ldarts_lib.bilevel.alignment import cell_norms, cosine_delta, layer_alignment
from ldarts_lib.bilevel.gradients import flat
from ldarts_lib.bilevel.regularizers import REGULARIZED_KIND, Regularizer, regularized_gradients
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet, architecture_weights

Measure = Callable[[Tensor], Tensor]
"""A function of the rows g_l, [cells, edges×operations] → a scalar."""


def measure_by_weights(
    supernet: Supernet, batch: Batch, weights: Mapping[str, Tensor], measure: Measure = layer_alignment
) -> tuple[Tensor, ...]:
    """∂R(g(ω))/∂ω by automatic differentiation of the whole composition.

    Args:
        supernet: holds ω.
        batch: images and labels.
        weights: per cell kind [cells, edges, operations], leaves that require gradients.
        measure: R.

    Returns:
        In the order of ``supernet.parameters()``.
    """
    _, g = _loss_and_rows(supernet, batch, weights)
    return torch.autograd.grad(measure(g), tuple(supernet.parameters()), materialize_grads=True)


def measure_along(
    supernet: Supernet,
    batch: Batch,
    weights: Mapping[str, Tensor],
    direction: tuple[Tensor, ...],
    distance: float,
    measure: Measure = layer_alignment,
) -> float:
    """R(g(ω + distance·direction)), from first derivatives of the loss alone; ω is put back.

    Args:
        direction: in the order of ``supernet.parameters()``.
    """
    parameters = list(supernet.parameters())
    start = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            torch._foreach_add_(parameters, direction, alpha=distance)
        _, g = _loss_and_rows(supernet, batch, weights)
        return measure(g.detach()).item()
    finally:
        with torch.no_grad():
            torch._foreach_copy_(parameters, start)


def alignment_by_alpha(
    supernet: Supernet, batch: Batch, alphas: Mapping[str, Tensor]
) -> tuple[float, float, Tensor]:
    """The loss, Λ, and ∂Λ/∂α at fixed ω, by differentiating through the softmax that all cells share.

    Args:
        alphas: per cell kind α, [edges, operations]; the derivative is by those of the normal cells.
    """
    leaves, weights = _shared(supernet, alphas)
    loss, g = _loss_and_rows(supernet, batch, weights)
    alignment = layer_alignment(g)
    (found,) = torch.autograd.grad(alignment, leaves[REGULARIZED_KIND])
    return loss.item(), alignment.item(), found


def mixed_by_cells(supernet: Supernet, batch: Batch, weights: Mapping[str, Tensor]) -> Tensor:
    """H·δ with the Hessian H of the loss by all copies of p, and δ of the cosine form held fixed.

    Returns:
        [cells, edges, operations].
    """
    _, g = _loss_and_rows(supernet, batch, weights)
    (found,) = torch.autograd.grad(g, weights[REGULARIZED_KIND], cosine_delta(g.detach()))
    return found


def climb_by_alpha(
    supernet: Supernet, batch: Batch, alphas: Mapping[str, Tensor], *, steps: int, learning_rate: float = 0.05
) -> tuple[pd.DataFrame, Tensor]:
    """Raise Λ by moving the α of the normal cells along ∂Λ/∂α with Adam, while ω stays as it is.

    Returns:
        The columns ``loss`` and ``alignment`` before each step and after the last one; and the final α.
    """
    moving = {kind: alpha.detach().clone() for kind, alpha in alphas.items()}
    optimizer = torch.optim.Adam([moving[REGULARIZED_KIND]], lr=learning_rate, maximize=True)
    rows = []
    for step in range(steps + 1):
        loss, alignment, moving[REGULARIZED_KIND].grad = alignment_by_alpha(supernet, batch, moving)
        rows.append({"loss": loss, "alignment": alignment})
        if step < steps:
            optimizer.step()
    return pd.DataFrame(rows), moving[REGULARIZED_KIND]


def batch_agreement(
    supernet: Supernet, batches: Sequence[Batch], weights: Mapping[str, Tensor]
) -> dict[str, float]:
    """How long ∂Λ/∂ω is beside ∂L/∂ω, and how far the batches agree on each of the two.

    Args:
        batches: at least two; no running statistics move.
        weights: per cell kind [cells, edges, operations], leaves that require gradients.

    Returns:
        ``ratio``, the mean length of ∂Λ/∂ω by that of ∂L/∂ω; ``loss`` and ``alignment``, the mean cosine over
        all pairs of batches of the one and of the other.
    """
    exact = Regularizer("cosine", "exact")
    found = [regularized_gradients(supernet, b, weights, exact, update_statistics=False) for b in batches]
    by_loss = torch.stack([flat(base.weights) for base, _ in found])
    by_alignment = torch.stack([flat(penalty) for _, penalty in found])
    return {
        "ratio": (cell_norms(by_alignment).mean() / cell_norms(by_loss).mean()).item(),
        "loss": layer_alignment(by_loss).item(),
        "alignment": layer_alignment(by_alignment).item(),
    }


def response_to_weights(supernet: Supernet, batch: Batch, weights: Mapping[str, Tensor]) -> Tensor:
    """∂g/∂ω: [cells×edges×operations, number of parameters]; one backward pass for each row."""
    _, g = _loss_and_rows(supernet, batch, weights)
    return _jacobian(g, tuple(supernet.parameters()))


def response_to_alpha(supernet: Supernet, batch: Batch, alphas: Mapping[str, Tensor]) -> Tensor:
    """∂g/∂α, all cells sharing α: [cells×edges×operations, edges×operations].

    The second derivatives by the copies of p are symmetric, so that one backward pass of Σ_l g_l gives a
    column.
    """
    weights = architecture_weights(alphas, supernet.layout)
    copies = weights[REGULARIZED_KIND]
    _, g = _loss_and_rows(supernet, batch, weights)
    by_p = _jacobian(g.sum(0), (copies,)).T.unflatten(1, copies.shape[1:])
    return torch.einsum("reo,eop->rep", by_p, softmax_jacobian(copies[0].detach())).flatten(1)


def _shared(supernet: Supernet, alphas: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copies of α that require gradients, and per kind p = softmax(α) expanded to all cells."""
    leaves = {kind: alpha.detach().clone().requires_grad_() for kind, alpha in alphas.items()}
    weights = {
        kind: leaf.softmax(-1).expand(supernet.layout.count(kind), *leaf.shape)
        for kind, leaf in leaves.items()
    }
    return leaves, weights


def _loss_and_rows(supernet: Supernet, batch: Batch, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The loss and its gradients by the copies of p, [cells, edges×operations], both differentiable."""
    loss = batch.losses(supernet(batch.inputs, weights, update_statistics=False))
    (g,) = torch.autograd.grad(loss, weights[REGULARIZED_KIND], create_graph=True)
    return loss, g.flatten(1)


def _jacobian(g: Tensor, variables: tuple[Tensor, ...]) -> Tensor:
    rows = (
        torch.autograd.grad(entry, variables, retain_graph=True, materialize_grads=True)
        for entry in g.flatten()
    )
    return torch.stack([flat(row) for row in rows])
