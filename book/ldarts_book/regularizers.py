"""How the gradients of the cells answer to ω and to α: what the chapter on the regularizers checks.

Everything here differentiates the normal cells' gradients g_l = ∂L/∂p_l as they stand, with nothing held
fixed, and so by another route than :mod:`ldarts_lib.bilevel.regularizers`. No search uses this module.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from ldarts_book.studies.theory import Weights, copies, loss, shared, softmax_jacobian
from ldarts_lib.bilevel.alignment import cell_norms, cosine_delta, layer_alignment
from ldarts_lib.bilevel.gradients import flat
from ldarts_lib.bilevel.regularizers import REGULARIZED_KIND, Regularizer, regularized_gradients
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.spaces.space import CellSpace

LINEAR = ("skip_connect", "avg_pool_3x3")
"""Operations of NAS-Bench-201 that return s times as much for s times the input; the others normalize it."""
Measure = Callable[[Tensor], Tensor]
"""A function of the rows g_l, [cells, edges×operations] → a scalar."""


def measure_by_weights(
    supernet: Supernet, batch: Batch, weights: Weights, measure: Measure = layer_alignment
) -> tuple[Tensor, ...]:
    """∂R(g(ω))/∂ω by automatic differentiation of the whole composition, as ``supernet.parameters()``.

    Args:
        weights: per cell kind [cells, edges, operations], leaves that require gradients.
        measure: R.
    """
    _, g = _loss_and_rows(supernet, batch, weights)
    return torch.autograd.grad(measure(g), tuple(supernet.parameters()), materialize_grads=True)


def measure_along(
    supernet: Supernet,
    batch: Batch,
    weights: Weights,
    direction: tuple[Tensor, ...],
    distance: float,
    measure: Measure = layer_alignment,
) -> float:
    """R(g(ω + distance·direction)), from first derivatives of the loss alone; ω stays as it is."""
    moves = zip(supernet.named_parameters(), direction, strict=True)
    omega = {name: parameter.detach() + distance * move for (name, parameter), move in moves}
    _, g = _loss_and_rows(supernet, batch, weights, omega)
    return measure(g.detach()).item()


def alignment_by_alpha(supernet: Supernet, batch: Batch, alphas: Weights) -> tuple[float, float, Tensor]:
    """The loss, Λ, and ∂Λ/∂α of the normal cells at fixed ω, through the softmax that all cells share."""
    leaves = {kind: alpha.detach().clone().requires_grad_() for kind, alpha in alphas.items()}
    p = shared(supernet, {kind: leaf.softmax(-1) for kind, leaf in leaves.items()})
    value, g = _loss_and_rows(supernet, batch, p)
    alignment = layer_alignment(g)
    (found,) = torch.autograd.grad(alignment, leaves[REGULARIZED_KIND])
    return value.item(), alignment.item(), found


def mixed_by_cells(supernet: Supernet, batch: Batch, weights: Weights) -> Tensor:
    """H·δ, [cells, edges, operations]: the Hessian H of the loss by all p_l, δ of the cosine form fixed."""
    _, g = _loss_and_rows(supernet, batch, weights)
    (found,) = torch.autograd.grad(g, weights[REGULARIZED_KIND], cosine_delta(g.detach()))
    return found


def climb_by_alpha(
    supernet: Supernet, batch: Batch, alphas: Weights, *, steps: int, learning_rate: float = 0.05
) -> tuple[pd.DataFrame, Tensor]:
    """Raise Λ by moving the α of the normal cells along ∂Λ/∂α with Adam, while ω stays as it is.

    Returns:
        The columns ``loss`` and ``alignment`` before each step and after the last one; and the final α.
    """
    moving = {kind: alpha.detach().clone() for kind, alpha in alphas.items()}
    optimizer = torch.optim.Adam([moving[REGULARIZED_KIND]], lr=learning_rate, maximize=True)
    rows = []
    for step in range(steps + 1):
        value, alignment, moving[REGULARIZED_KIND].grad = alignment_by_alpha(supernet, batch, moving)
        rows.append({"loss": value, "alignment": alignment})
        if step < steps:
            optimizer.step()
    return pd.DataFrame(rows), moving[REGULARIZED_KIND]


def batch_agreement(supernet: Supernet, images: Batch, weights: Weights, size: int = 64) -> dict[str, float]:
    """How long ∂Λ/∂ω is beside ∂L/∂ω, and how far batches of this size agree on each of the two.

    Returns:
        ``ratio``, the mean length of ∂Λ/∂ω by that of ∂L/∂ω; ``loss`` and ``alignment``, the mean cosine over
        all pairs of batches of the one and of the other.
    """
    exact = Regularizer("cosine", "exact")
    batches = map(Batch, images.inputs.split(size), images.targets.split(size))
    found = [regularized_gradients(supernet, b, weights, exact, update_statistics=False) for b in batches]
    by_loss = torch.stack([flat(base.weights) for base, _ in found])
    by_alignment = torch.stack([flat(penalty) for _, penalty in found])
    return {
        "ratio": (cell_norms(by_alignment).mean() / cell_norms(by_loss).mean()).item(),
        "loss": layer_alignment(by_loss).item(),
        "alignment": layer_alignment(by_alignment).item(),
    }


def response_to_weights(supernet: Supernet, batch: Batch, weights: Weights) -> Tensor:
    """∂g/∂ω: [cells×edges×operations, number of parameters]; one backward pass for each row."""
    _, g = _loss_and_rows(supernet, batch, weights)
    return _jacobian(g, tuple(supernet.parameters()))


def response_to_alpha(supernet: Supernet, batch: Batch, alphas: Weights) -> Tensor:
    """∂g/∂α, all cells sharing α: [cells×edges×operations, edges×operations].

    The second derivatives by the copies of p are symmetric, so that one backward pass of Σ_l g_l gives a
    column.
    """
    weights = copies(supernet, alphas)
    p = weights[REGULARIZED_KIND]
    _, g = _loss_and_rows(supernet, batch, weights)
    by_p = _jacobian(g.sum(0), (p,)).T.unflatten(1, p.shape[1:])
    return torch.einsum("reo,eop->rep", by_p, softmax_jacobian(p[0].detach())).flatten(1)


def gauge_vectors(cell: CellSpace, p: Tensor) -> Tensor:
    """The a_j of the chapter's lemma, of each node but the inputs: [nodes, edges, operations]."""
    vectors = torch.zeros(cell.nodes, *p.shape, dtype=p.dtype, device=p.device)
    for e, (target, source) in enumerate(cell.edges):
        linear = torch.tensor([name in LINEAR for name in cell.candidates[e]], device=p.device)
        vectors[target - cell.inputs, e] = p[e]
        if source >= cell.inputs:
            vectors[source - cell.inputs, e] = -p[e] * linear
    return vectors


def _loss_and_rows(
    supernet: Supernet, batch: Batch, weights: Weights, omega: Weights | None = None
) -> tuple[Tensor, Tensor]:
    """The loss and its gradients by the copies of p, [cells, edges×operations], both differentiable."""
    value = loss(supernet, batch, weights, omega)
    (g,) = torch.autograd.grad(value, weights[REGULARIZED_KIND], create_graph=True)
    return value, g.flatten(1)


def _jacobian(g: Tensor, variables: tuple[Tensor, ...]) -> Tensor:
    rows = (
        torch.autograd.grad(entry, variables, retain_graph=True, materialize_grads=True)
        for entry in g.flatten()
    )
    return torch.stack([flat(row) for row in rows])
