"""The two regularizers of Λ-DARTS and three ways to their weight gradient.

The weights are trained on L − λR, where R is the layer alignment of the training batch, a function of the
cells' gradients g_l = ∂L/∂p_l. With δ_l = ∂R/∂g_l held fixed, the weight gradient of R is that of
⟨δ, g⟩, a mixed second derivative of the loss:

* ``exact``: by double backward.
* ``central``: [∇ω L(p + εδ) − ∇ω L(p − εδ)] / 2ε with ε = ε0/‖δ‖, the paper's estimator.
* ``forward``: [∇ω L(p + εδ) − ∇ω L(p)] / ε, one pass less.

Source: ``get_perturbations`` and ``get_reg_grads`` of the official code; the closed forms of δ are
checked against autograd in the tests. There, only the normal cells are regularized.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ldarts_lib.alignment import (
    cell_norms,
    layer_alignment,
    remove_offset,
    sign_alignment,
    unit_rows,
)
from ldarts_lib.supernet import Supernet


class ImpreciseDifference(RuntimeError):
    """A finite difference of gradients that are rounded more coarsely than they differ."""


Form = Literal["cosine", "sign", "projected", "random", "noise"]
Kinds = Literal["normal", "all"]
Estimator = Literal["central", "forward", "exact"]

REGULARIZED_KIND = "normal"


def cosine_delta(g: Tensor) -> Tensor:
    """∂Λ/∂g of the cosine form: [..., cells, edges×operations]; zero rows give zero.

    ::

        δ_l = 2/(L(L-1)) (I - u_l u_lᵀ) Σ_l' u_l' / ‖g_l‖,   u_l = g_l / ‖g_l‖
    """
    u, norms = unit_rows(g), cell_norms(g).unsqueeze(-1)
    total = u.sum(-2, keepdim=True)
    tangential = total - u * (u * total).sum(-1, keepdim=True)
    return _pair_weight(g) * torch.where(norms > 0, tangential / norms.clamp_min(_tiny(g)), 0.0)


def sign_delta(g: Tensor) -> Tensor:
    """∂R/∂g of the sign form: [..., cells, edges×operations]; pairs that share no support give zero.

    ::

        δ_l = 2/(L(L-1)) Σ_{l'≠l} [g_l' - ρ_ll' sign(g_l)⊙|g_l'|] / ⟨|g_l|, |g_l'|⟩
        ρ_ll' = ⟨g_l, g_l'⟩ / ⟨|g_l|, |g_l'|⟩
    """
    magnitude = g.abs()
    most = magnitude @ magnitude.mT
    scale = torch.where(most > 0, 1 / most.clamp_min(_tiny(g)), 0.0)
    scale = scale - torch.diag_embed(scale.diagonal(dim1=-2, dim2=-1))
    ratio = (g @ g.mT) * scale
    return _pair_weight(g) * (scale @ g - g.sign() * ((ratio * scale) @ magnitude))


def projected_delta(g: Tensor, operations: int) -> Tensor:
    """∂R/∂g of the projected Λ: [..., cells, edges×operations]; it has no offset itself.

    With the projection P that removes the offset of each edge, R = Λ(Pg) and ∂R/∂g = P·∂Λ/∂g(Pg). The cosine
    form's derivative is a sum of rows of its argument, so P leaves it as it is.
    """
    return cosine_delta(remove_offset(g, operations))


def random_delta(g: Tensor, noise: Tensor) -> Tensor:
    """A control: for each cell a random direction, as long as that of :func:`cosine_delta`.

    Args:
        g: [..., cells, edges×operations].
        noise: standard normal numbers of the same shape.
    """
    return unit_rows(noise) * cell_norms(cosine_delta(g)).unsqueeze(-1)


ALIGNMENTS: dict[Form, Callable[[Tensor], Tensor]] = {
    "cosine": layer_alignment,
    "sign": sign_alignment,
}
DELTAS: dict[Form, Callable[[Tensor], Tensor]] = {"cosine": cosine_delta, "sign": sign_delta}
RANDOM_FORMS = ("random", "noise")
"""The forms that draw random numbers: controls."""


@dataclass(frozen=True)
class Regularizer:
    """Which alignment, and how its weight gradient is found.

    Attributes:
        form: ``cosine`` (Λ itself), ``sign``, ``projected`` (Λ without the offset that α cannot feel), or a
            control: ``random`` (see :func:`random_delta`), or ``noise``, where the weight gradient of the
            cosine form is replaced by a random vector of its length.
        estimator: ``central``, ``forward`` or ``exact``.
        epsilon: ε0, the length of the perturbation of p over all cells together (unused by ``exact``).
        kinds: the cells that are aligned, ``normal`` ones only or ``all``; then R is the mean over the kinds.
    """

    form: Form = "cosine"
    estimator: Estimator = "central"
    epsilon: float = 1e-4
    kinds: Kinds = "normal"

    def __post_init__(self) -> None:
        allowed_values = {"form": get_args(Form), "estimator": get_args(Estimator), "kinds": get_args(Kinds)}
        for name, allowed in allowed_values.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose one of {allowed}")
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"ε0 must be positive and finite, got {self.epsilon}")

    def aligned(self, kinds: Iterable[str]) -> list[str]:
        """Those of a network's cell kinds that are regularized."""
        return [kind for kind in kinds if self.kinds == "all" or kind == REGULARIZED_KIND]


@dataclass(frozen=True)
class Gradients:
    """What one pass over a batch gives.

    Attributes:
        loss: mean cross-entropy, a scalar.
        logits: [batch, classes].
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
        loss = losses(logits, batch.labels)
        found = torch.autograd.grad(loss.sum(), (*weights.values(), *parameters), materialize_grads=True)
    return Gradients(
        loss.detach(),
        logits.detach(),
        dict(zip(weights, found, strict=False)),
        found[len(weights) :],
    )


def regularized_gradients(
    supernet: Supernet,
    batch: Batch,
    weights: Mapping[str, Tensor],
    regularizer: Regularizer,
    *,
    update_statistics: bool = True,
) -> tuple[Gradients, tuple[Tensor, ...]]:
    """The gradients of the loss, and ∂R/∂ω of the regularizer.

    All passes see the same random numbers, and only the first one, at the unperturbed weights, moves the
    running statistics, if any does.

    Returns:
        The gradients of the plain pass, and ∂R/∂ω in the order of ``supernet.parameters()``.
    """
    estimate = _by_double_backward if regularizer.estimator == "exact" else _by_differences
    found, penalty = estimate(supernet, batch, weights, regularizer, update_statistics)
    return found, as_noise(supernet, penalty) if regularizer.form == "noise" else penalty


def as_noise(supernet: Supernet, penalty: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """A random vector in the space of ω, as long as the given one; of a pack each network its own."""
    noise = supernet.noise_like_parameters()
    copies = supernet.copies
    scale = total_lengths(penalty, copies) / total_lengths(noise, copies)
    scale_copies(noise, scale)
    return tuple(noise)


def perturbation(
    regularizer: Regularizer, cells: Mapping[str, Tensor], noise: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Which way a finite difference moves the architecture weights.

    Args:
        regularizer: its form and the kinds of cells.
        cells: the cells' gradients, as in :class:`Gradients`.
        noise: for the form ``random``, standard normal numbers like the aligned cells' gradients.

    Returns:
        δ/‖δ‖ per aligned kind, in the shape of the cells' gradients (zero if δ is), and ‖δ‖, over all cells
        and kinds together: a scalar, or [copies].
    """
    deltas = _deltas(regularizer, cells, noise or {})
    length = torch.stack([_lengths(delta) for delta in deltas.values()]).norm(dim=0)
    divisor = length.clamp_min(_tiny(length))[..., None, None]
    moving = (length > 0)[..., None, None]
    return {kind: torch.where(moving, delta / divisor, 0.0) for kind, delta in deltas.items()}, length


def _by_differences(
    supernet: Supernet,
    batch: Batch,
    weights: Mapping[str, Tensor],
    regularizer: Regularizer,
    update_statistics: bool,
) -> tuple[Gradients, tuple[Tensor, ...]]:
    require_full_precision(supernet, batch.images.device)
    noise = _noise(supernet, weights, regularizer)
    state = supernet.random_state()
    base = gradients(supernet, batch, weights, update_statistics=update_statistics)
    directions, length = perturbation(regularizer, base.cells, noise)

    def gradient_at(distance: float) -> tuple[Tensor, ...]:
        supernet.set_random_state(state)
        return gradients(supernet, batch, _shifted(weights, directions, distance)).weights

    ahead = gradient_at(regularizer.epsilon)
    if regularizer.estimator == "central":
        behind, span = gradient_at(-regularizer.epsilon), 2 * regularizer.epsilon
    else:
        behind, span = base.weights, regularizer.epsilon
    penalty = torch._foreach_sub(ahead, behind)
    scale_copies(penalty, length / span)
    return base, tuple(penalty)


def require_full_precision(supernet: Supernet, device: torch.device) -> None:
    """Refuse finite differences where convolutions or products are computed in less than the full type.

    Raises:
        ImpreciseDifference: TF32, autocast or a lower precision is on; the message says how to turn it off.
    """
    reasons = []
    if supernet.precision is not None:
        reasons.append(f"the supernet computes in {supernet.precision}")
    if torch.is_autocast_enabled(device.type):
        reasons.append("autocast is on")
    if torch.get_float32_matmul_precision() != "highest":
        reasons.append(f"torch.get_float32_matmul_precision() is {torch.get_float32_matmul_precision()!r}")
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        reasons.append("torch.backends.cudnn.allow_tf32 is on, PyTorch's default")
    if reasons:
        raise ImpreciseDifference(
            f"a finite difference needs full precision, but {' and '.join(reasons)}: the perturbation has "
            "length 1e-4 to 1e-3, and rounding to 10 bits (TF32) or 7 (bfloat16) changes the gradients by "
            "more than it does. Turn it off, or use the estimator 'exact'"
        )


def penalized_gradients(
    supernet: Supernet,
    batch: Batch,
    weights: Mapping[str, Tensor],
    regularizer: Regularizer,
    strength: float,
) -> Gradients:
    """The gradients of one batch; those by ω are of L − λR with λ = ``strength``.

    The same numbers as :func:`regularized_gradients` gives, with less work for ``exact``: one backward pass
    serves the loss and the regularizer.
    """
    if regularizer.estimator == "exact" and regularizer.form != "noise":
        found, loss, inner = _differentiable_pass(supernet, batch, weights, regularizer, True)
        objective = loss.sum() - strength * inner
        return replace(found, weights=_by_parameters(supernet, objective))
    found, penalty = regularized_gradients(supernet, batch, weights, regularizer)
    return replace(found, weights=tuple(torch._foreach_sub(found.weights, penalty, alpha=strength)))


def _by_double_backward(
    supernet: Supernet,
    batch: Batch,
    weights: Mapping[str, Tensor],
    regularizer: Regularizer,
    update_statistics: bool,
) -> tuple[Gradients, tuple[Tensor, ...]]:
    found, loss, inner = _differentiable_pass(supernet, batch, weights, regularizer, update_statistics)
    penalty = _by_parameters(supernet, inner, retain_graph=True)
    return replace(found, weights=_by_parameters(supernet, loss.sum())), penalty


def _differentiable_pass(
    supernet: Supernet,
    batch: Batch,
    weights: Mapping[str, Tensor],
    regularizer: Regularizer,
    update_statistics: bool,
) -> tuple[Gradients, Tensor, Tensor]:
    """The cells' gradients, and as differentiable scalars the loss and ⟨δ, g⟩ with δ held fixed."""
    noise = _noise(supernet, weights, regularizer)
    logits = supernet(batch.images, weights, update_statistics=update_statistics)
    loss = losses(logits, batch.labels)
    with supernet.architecture_only():
        by_cell = torch.autograd.grad(
            loss.sum(), tuple(weights.values()), create_graph=True, materialize_grads=True
        )
    cells = dict(zip(weights, by_cell, strict=True))
    detached = {kind: g.detach() for kind, g in cells.items()}
    deltas = _deltas(regularizer, detached, noise)
    inner = sum((cells[kind] * delta).sum() for kind, delta in deltas.items())
    return Gradients(loss.detach(), logits.detach(), detached), loss, inner


def _by_parameters(supernet: Supernet, value: Tensor, *, retain_graph: bool = False) -> tuple[Tensor, ...]:
    parameters = tuple(supernet.parameters())
    return torch.autograd.grad(value, parameters, retain_graph=retain_graph, materialize_grads=True)


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


def _noise(supernet: Supernet, weights: Mapping[str, Tensor], regularizer: Regularizer) -> dict[str, Tensor]:
    """What the random form needs, drawn before the passes so that they see the same random numbers."""
    if regularizer.form != "random":
        return {}
    return {kind: supernet.normal_like(weights[kind]) for kind in regularizer.aligned(weights)}


def _deltas(
    regularizer: Regularizer, cells: Mapping[str, Tensor], noise: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """δ of each aligned kind, in the shape of its cells' gradients."""
    kinds = regularizer.aligned(cells)
    return {kind: _delta(regularizer.form, cells[kind], noise.get(kind)) / len(kinds) for kind in kinds}


def _delta(form: Form, cells: Tensor, noise: Tensor | None) -> Tensor:
    g = _rows(cells)
    if noise is not None:
        delta = random_delta(g, _rows(noise))
    elif form == "projected":
        delta = projected_delta(g, cells.shape[-1])
    else:
        delta = DELTAS["cosine" if form == "noise" else form](g)
    return delta.movedim(-2, 0).view_as(cells)


def _rows(cells: Tensor) -> Tensor:
    """[cells, (copies,) edges, operations] → [(copies,) cells, edges×operations]."""
    return cells.flatten(-2).movedim(0, -2)


def _lengths(cells: Tensor) -> Tensor:
    """The length over all cells together: a scalar, or [copies]."""
    return torch.linalg.vector_norm(_rows(cells), dim=(-2, -1))


def _shifted(
    weights: Mapping[str, Tensor], directions: Mapping[str, Tensor], distance: float
) -> dict[str, Tensor]:
    moved = {kind: w.detach() for kind, w in weights.items()}
    moved |= {kind: moved[kind] + distance * direction for kind, direction in directions.items()}
    return {kind: w.requires_grad_() for kind, w in moved.items()}


def _pair_weight(g: Tensor) -> float:
    cells = g.shape[-2]
    if cells < 2:
        raise ValueError(f"layer alignment compares at least two cells, got {cells}")
    return 2 / (cells * (cells - 1))


def _tiny(g: Tensor) -> float:
    return torch.finfo(g.dtype).tiny
