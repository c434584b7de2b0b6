"""The regularizers of Λ-DARTS and three ways to their weight gradient.

The weights are trained on L − λR, where R is the layer alignment of the training batch, a function of the
cells' gradients g_l = ∂L/∂p_l. With δ_l = ∂R/∂g_l held fixed, the weight gradient of R is that of
⟨δ, g⟩, a mixed second derivative of the loss:

* ``exact``: by double backward.
* ``central``: [∇ω L(p + εδ) − ∇ω L(p − εδ)] / 2ε with ε = ε0/‖δ‖, the paper's estimator.
* ``forward``: [∇ω L(p + εδ) − ∇ω L(p)] / ε, one pass less.

Derived in the chapter *regularizers*; how far the three are apart is the chapter *differences*. Source:
``get_perturbations`` and ``get_reg_grads`` of the official code, which regularizes the normal cells only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from ldarts_lib.bilevel.alignment import (
    REPLACED_FORMS,
    Form,
    cosine_delta,
    edge_delta,
    projected_delta,
    random_delta,
    sign_delta,
)
from ldarts_lib.bilevel.gradients import Gradients, gradients, joint_norm, scale_copies, total_lengths
from ldarts_lib.errors import LdartsError
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.edges import EDGES
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.runs.environment import allows_tf32
from ldarts_lib.settings import Positive


class ImpreciseDifference(LdartsError, RuntimeError):
    """A finite difference of gradients that are rounded more coarsely than they differ."""


Kinds = Literal["normal", "all"]
Estimator = Literal["central", "forward", "exact"]

REGULARIZED_KIND = "normal"


@dataclass(frozen=True)
class Regularizer:
    """Which alignment, and how its weight gradient is found.

    Attributes:
        form: ``cosine`` (Λ itself), ``sign``, ``projected`` (Λ without the offset that α cannot feel),
            ``edge`` (the mean over the edges of Λ of what α feels there, J(p) g), or a control: ``random``
            (see :func:`~ldarts_lib.bilevel.alignment.random_delta`), or one that replaces the weight gradient
            of the cosine form: ``noise`` by a random vector of its length, ``flipped`` by its product with a
            random sign, which has no mean, and ``blurred`` by the exact gradient and, in each entry with a
            random sign, the estimator's error.
        estimator: ``central``, ``forward`` or ``exact``.
        epsilon: ε0, the length of the perturbation of p over all cells together (unused by ``exact``).
        kinds: the cells that are aligned, ``normal`` ones only or ``all``; then R is the mean over the kinds.

    Examples:
        >>> Regularizer("sign").aligned(["normal", "reduce"])
        ['normal']
    """

    form: Form = "cosine"
    estimator: Estimator = "central"
    epsilon: Positive = 1e-4
    kinds: Kinds = "normal"

    def aligned(self, kinds: Iterable[str]) -> list[str]:
        """Those of a network's cell kinds that are regularized."""
        cells = [kind for kind in kinds if not kind.endswith(EDGES)]
        return [kind for kind in cells if self.kinds == "all" or kind == REGULARIZED_KIND]


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
    running statistics, if any does. ∂R/∂ω is in the order of ``supernet.parameters()``.

    Examples:
        >>> from ldarts_lib.networks.supernet import architecture_weights, initial_alphas
        >>> from ldarts_lib.spaces.space import SPACES
        >>> supernet = Supernet(SPACES["nasbench201"], channels=2, depth=1, classes=10, channels_in=1)
        >>> weights = architecture_weights(initial_alphas(supernet.space), supernet.layout)
        >>> batch = Batch(torch.rand(4, 1, 8, 8), torch.arange(4))
        >>> found, penalty = regularized_gradients(supernet, batch, weights, Regularizer(estimator="exact"))
        >>> len(found.weights) == len(penalty), found.cells["normal"].shape
        (True, torch.Size([3, 6, 5]))
    """
    state = supernet.random_state()
    if regularizer.estimator == "exact":
        found, loss, inner = _differentiable_pass(supernet, batch, weights, regularizer, update_statistics)
        penalty = _by_parameters(supernet, inner, retain_graph=True)
        found = replace(found, weights=_by_parameters(supernet, loss.sum()))
    else:
        found, penalty = _by_differences(supernet, batch, weights, regularizer, update_statistics)
    if regularizer.form == "flipped":  # ±D
        scale_copies(penalty, supernet.normal_like(next(iter(weights.values()))).sum((0, -2, -1)).sign())
    elif regularizer.form == "blurred":  # ∂Λ/∂ω + σ ⊙ (D − ∂Λ/∂ω) with random signs σ
        supernet.set_random_state(state)
        plain = replace(regularizer, form="cosine", estimator="exact")
        _, exact = regularized_gradients(supernet, batch, weights, plain, update_statistics=False)
        drawn = zip(exact, penalty, supernet.noise_like_parameters(), strict=True)
        penalty = tuple(e + noise.sign() * (d - e) for e, d, noise in drawn)
    elif regularizer.form == "noise":  # a random vector in the space of ω, as long as ∂Λ/∂ω
        lengths, noise = total_lengths(penalty, supernet.copies), supernet.noise_like_parameters()
        scale_copies(noise, lengths / total_lengths(noise, supernet.copies))
        penalty = tuple(noise)
    return found, penalty


def penalized_gradients(
    supernet: Supernet,
    batch: Batch,
    weights: Mapping[str, Tensor],
    regularizer: Regularizer,
    strength: float,
    other: Batch | None = None,
    *,
    both: bool = False,
) -> Gradients:
    """The gradients of one batch; those by ω are of L − λR with λ = ``strength``.

    R is that of ``other``, if it is given, or the mean over ``both``; else one backward pass of ``exact``
    serves the loss and R.
    """
    if other is None and regularizer.estimator == "exact" and regularizer.form not in REPLACED_FORMS:
        found, loss, inner = _differentiable_pass(supernet, batch, weights, regularizer, True)
        objective = loss.sum() - strength * inner  # ∇ω [L − λ⟨δ, g⟩] = ∇ω L − λ ∂R/∂ω
        unknown = torch.full_like(torch.stack([found.loss] * 2, -1), torch.nan)
        return replace(found, weights=_by_parameters(supernet, objective), norms=unknown)
    if other is None or both:
        found, penalty = regularized_gradients(supernet, batch, weights, regularizer)
    else:
        found = gradients(supernet, batch, weights, update_statistics=True)
    if other is not None:
        _, of_other = regularized_gradients(supernet, other, weights, regularizer, update_statistics=False)
        penalty = tuple(torch._foreach_lerp(penalty, of_other, 0.5)) if both else of_other
    of_loss, of_penalty = (joint_norm(part, supernet.copies) for part in (found.weights, penalty))
    weights = tuple(torch._foreach_sub(found.weights, penalty, alpha=strength))
    return replace(found, weights=weights, norms=torch.stack([of_loss, strength * of_penalty], -1))


def perturbation(
    regularizer: Regularizer, cells: Mapping[str, Tensor], given: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Which way a finite difference moves the architecture weights.

    Args:
        cells: the cells' gradients, as in :class:`~ldarts_lib.bilevel.gradients.Gradients`.
        given: per aligned kind, for the form ``edge`` the weights p, for ``random`` standard normal numbers,
            both like the cells' gradients.

    Returns:
        δ/‖δ‖ per aligned kind, in the shape of the cells' gradients (zero if δ is), and ‖δ‖, over all cells
        and kinds together: a scalar, or [copies].
    """
    deltas = _deltas(regularizer, cells, given or {})
    # d = δ/‖δ‖, with the norm over all cells and kinds together
    lengths = [torch.linalg.vector_norm(_rows(delta), dim=(-2, -1)) for delta in deltas.values()]
    length = torch.stack(lengths).norm(dim=0)
    divisor = length.clamp_min(torch.finfo(length.dtype).tiny)[..., None, None]
    moving = (length > 0)[..., None, None]
    return {kind: torch.where(moving, delta / divisor, 0.0) for kind, delta in deltas.items()}, length


def _by_differences(
    supernet: Supernet, batch: Batch, weights: Mapping[str, Tensor], regularizer: Regularizer, update: bool
) -> tuple[Gradients, tuple[Tensor, ...]]:
    require_full_precision(supernet, batch.inputs.device)
    given = _given(supernet, weights, regularizer)
    state = supernet.random_state()
    base = gradients(supernet, batch, weights, update_statistics=update)
    directions, length = perturbation(regularizer, base.cells, given)

    def gradient_at(distance: float) -> tuple[Tensor, ...]:
        supernet.set_random_state(state)
        moved = {kind: w.detach() for kind, w in weights.items()}
        moved |= {kind: moved[kind] + distance * direction for kind, direction in directions.items()}
        leaves = {kind: w.requires_grad_() for kind, w in moved.items()}
        return gradients(supernet, batch, leaves).weights

    # with G(s) = ∇ω L(p + s·d), D₀ = ‖δ‖ [G(ε0) − G(−ε0)] / 2ε0 (central) and D₊ = ‖δ‖ [G(ε0) − G(0)] / ε0
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
    single = next(supernet.parameters()).dtype == torch.float32  # TF32 touches nothing else
    tf32 = allows_tf32()
    if single and (precision := tf32["float32_matmul_precision"]) not in ("highest", "ieee", "none"):
        reasons.append(f"torch.get_float32_matmul_precision() is {precision!r}")
    if single and device.type == "cuda" and tf32["allow_tf32"]:
        reasons.append("torch.backends.cudnn.allow_tf32 is on, PyTorch's default")
    if reasons:
        raise ImpreciseDifference(
            f"a finite difference needs full precision, but {' and '.join(reasons)}: the perturbation has "
            "length 1e-4 to 1e-3, and rounding to 10 bits (TF32) or 7 (bfloat16) changes the gradients by "
            "more than it does. Turn it off, or use the estimator 'exact'"
        )


def _differentiable_pass(
    supernet: Supernet, batch: Batch, weights: Mapping[str, Tensor], regularizer: Regularizer, update: bool
) -> tuple[Gradients, Tensor, Tensor]:
    """The cells' gradients, and as differentiable scalars the loss and ⟨δ, g⟩ with δ held fixed."""
    # δ is a constant here: ∂R/∂ω = ∂⟨δ, g(ω)⟩/∂ω
    given = _given(supernet, weights, regularizer)
    output = supernet(batch.inputs, weights, update_statistics=update)
    loss = batch.losses(output)
    leaves, options = tuple(weights.values()), {"create_graph": True, "materialize_grads": True}
    with supernet.architecture_only():
        cells = dict(zip(weights, torch.autograd.grad(loss.sum(), leaves, **options), strict=True))
    detached = {kind: g.detach() for kind, g in cells.items()}
    deltas = _deltas(regularizer, detached, given)
    inner = sum((cells[kind] * delta).sum() for kind, delta in deltas.items())
    return Gradients(loss.detach(), output.detach(), detached), loss, inner


def _by_parameters(supernet: Supernet, value: Tensor, **options: bool) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, tuple(supernet.parameters()), materialize_grads=True, **options)


def _given(supernet: Supernet, weights: Mapping[str, Tensor], regularizer: Regularizer) -> dict[str, Tensor]:
    """p, or noise that is drawn before the passes so that they see the same random numbers."""
    take = {"edge": Tensor.detach, "random": supernet.normal_like}.get(regularizer.form)
    return {kind: take(weights[kind]) for kind in regularizer.aligned(weights)} if take else {}


def _deltas(
    regularizer: Regularizer, cells: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """δ of each aligned kind, in the shape of its cells' gradients."""
    kinds, deltas = regularizer.aligned(cells), {}
    for kind in kinds:
        g = _rows(cells[kind])
        if regularizer.form == "random":
            delta = random_delta(g, _rows(given[kind]))
        elif regularizer.form == "projected":
            delta = projected_delta(g, cells[kind].shape[-1])
        elif regularizer.form == "edge":
            delta = edge_delta(g, given[kind].movedim(0, -3))
        else:
            delta = sign_delta(g) if regularizer.form == "sign" else cosine_delta(g)
        deltas[kind] = delta.movedim(-2, 0).view_as(cells[kind]) / len(kinds)
    return deltas


def _rows(cells: Tensor) -> Tensor:
    """[cells, (copies,) edges, operations] → [(copies,) cells, edges×operations]."""
    return cells.flatten(-2).movedim(0, -2)
