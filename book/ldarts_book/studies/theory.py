"""What the chapters on theory share: statements, checked; the softmax of α; and a supernet to look at.

All of it is meant for float64, and nothing here is used by a search. It differentiates where a search has
closed forms or finite differences. p = softmax(α) are architecture weights, S = Σ_l g_l their slope, the
gradient of the loss by p, as in the chapter *optimization*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
from torch import Tensor
from torch.func import functional_call

from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.half_steps import softmax_backward
from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.datasets.batches import Batches
from ldarts_lib.datasets.images import load_images
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet, architecture_weights

Weights = Mapping[str, Tensor]
"""Per kind of cell: α or p of all cells, [edges, operations], or each cell's own copy with [cells] before."""

_LARGEST_MOVE = 0.05


class Refuted(AssertionError):
    """A computation contradicts a statement; the message gives both sides."""


def confirm_equal(found: Tensor, expected: Tensor, *, within: float = 1e-9) -> float:
    """The relative error ‖found − expected‖ / ‖expected‖, the largest of all rows.

    Raises:
        Refuted: it is above ``within``, or not a number, or the shapes differ.
    """
    if found.shape != expected.shape:
        raise Refuted(f"the shapes {tuple(found.shape)} and {tuple(expected.shape)} differ")
    errors, lengths = ((torch.atleast_1d(x)).norm(dim=-1) for x in (found - expected, expected))
    error = torch.where(errors == 0, 0.0, errors / lengths).max().item()
    if not error <= within:
        raise Refuted(f"relative error {error:.3g}, allowed {within:.3g}: found {found}, expected {expected}")
    return error


def confirm_order(smaller: Tensor, larger: Tensor, *, slack: float = 1e-9) -> float:
    """The smallest difference ``larger − smaller``.

    Raises:
        Refuted: one is below zero by more than ``slack``, relative to the two values, or not a number.
    """
    margins = larger - smaller
    if not (margins >= -slack * torch.maximum(smaller.abs(), larger.abs())).all():
        raise Refuted(f"the order fails by {-margins.min():.3g}: smaller {smaller}, larger {larger}")
    return margins.min().item()


def searched(settings: SearchProtocol, epochs: int = 0, device: torch.device | str = "cpu") -> SearchState:
    """The state of a search after some epochs."""
    state = SearchState(settings, load_images(settings.dataset, device=device), device)
    for epoch in range(epochs):
        state.run_epoch(epoch)
    return state


def first(half: Batches, count: int, dtype: torch.dtype = torch.float64) -> Batch:
    """The first images of the data of ω or of α."""
    images, labels = half.all()
    return Batch(images[:count].to(dtype), labels[:count])


def drawn(half: Batches, count: int = 64) -> Batch:
    """Images that are drawn with the seed 0."""
    return Batch(*next(half.epoch(count, torch.Generator().manual_seed(0), augment=False)))


def cast(
    dtype: torch.dtype, supernet: Supernet, batch: Batch, weights: Weights
) -> tuple[Supernet, Batch, dict[str, Tensor]]:
    """A copy in another precision."""
    leaves = {kind: p.detach().to(dtype).requires_grad_() for kind, p in weights.items()}
    return deepcopy(supernet).to(dtype), Batch(batch.inputs.to(dtype), batch.targets), leaves


def copies(supernet: Supernet, alphas: Weights) -> dict[str, Tensor]:
    """Each cell's own copy of p = softmax(α), leaves [cells, edges, operations]."""
    return architecture_weights(alphas, supernet.layout)


def shared(supernet: Supernet, p: Weights) -> dict[str, Tensor]:
    """The same p for all cells, [cells, edges, operations], to be differentiated through."""
    return {kind: one.expand(supernet.layout.count(kind), *one.shape) for kind, one in p.items()}


def loss(supernet: Supernet, batch: Batch, weights: Weights, omega: Weights | None = None) -> Tensor:
    """The mean cross-entropy, a scalar; at the parameters ``omega`` by their names, if they are given."""
    options = {"update_statistics": False}
    return batch.losses(functional_call(supernet, dict(omega or {}), (batch.inputs, weights), options))


def cells(supernet: Supernet, batch: Batch, weights: Weights) -> Tensor:
    """g_l = ∂L/∂p_l of the normal cells, [cells, edges, operations]."""
    return gradients(supernet, batch, weights, of_parameters=False).cells["normal"]


def shared_gradients(supernet: Supernet, batch: Batch, alphas: Weights) -> dict[str, Tensor]:
    """∂L/∂α by automatic differentiation through one softmax that all cells of a kind share."""
    leaves = {kind: alpha.detach().clone().requires_grad_() for kind, alpha in alphas.items()}
    value = loss(supernet, batch, shared(supernet, {kind: a.softmax(-1) for kind, a in leaves.items()}))
    return dict(zip(leaves, torch.autograd.grad(value, tuple(leaves.values())), strict=True))


def shares(felt: Tensor) -> Tensor:
    """Who decides: π_l = ⟨f_l, F⟩ / ‖F‖² with F = Σ_l f_l; they sum to one: [..., cells, n] → [..., cells].

    Args:
        felt: f_l, the gradients J(p) g_l, flattened.
    """
    total = felt.sum(-2, keepdim=True)
    return (felt * total).sum(-1) / (total**2).sum(-1)


def spread(slope: Tensor) -> Tensor:
    """Largest minus smallest entry of S on each edge: [..., operations] → [...]."""
    return slope.amax(-1) - slope.amin(-1)


def weighted_alignment(g: Tensor) -> Tensor:
    """The mean cosine of all pairs of rows, weighted by the product of their lengths: [..., rows, n] → [...].

    Where the rows sum to zero it is at most −1/(rows − 1).
    """
    lengths = g.norm(dim=-1)
    squares = (lengths**2).sum(-1)
    return ((g.sum(-2) ** 2).sum(-1) - squares) / (lengths.sum(-1) ** 2 - squares)


def margin(slope: Tensor, best: Tensor | int) -> Tensor:
    """The smallest S_o − S_k over o ≠ k, k the operation ``best``: [..., operations] → [...]."""
    best = torch.as_tensor(best, device=slope.device).expand(slope.shape[:-1]).unsqueeze(-1)
    return (slope - slope.gather(-1, best)).scatter(-1, best, math.inf).amin(-1)


def certified_favourites(g: Tensor) -> Tensor:
    """The edges on which all cells must want the same operation, by their directions: [..., edges].

    With ε the largest distance of two directions u_l = g_l/‖g_l‖, and ū = Σ_l g_l / Σ_l ‖g_l‖, these are the
    edges where the smallest entry of ū is below the others by more than √2 ε.

    Args:
        g: the cells' gradients, or anything in their place, [..., cells, edges, operations].
    """
    lengths = g.flatten(-2).norm(dim=-1)[..., None, None]
    u, mean = g / lengths, g.sum(-3) / lengths.sum(-3)
    apart = (u.unsqueeze(-3) - u.unsqueeze(-4)).flatten(-2).norm(dim=-1).amax((-2, -1))
    return margin(mean, mean.argmin(-1)) > 2**0.5 * apart.unsqueeze(-1)


def softmax_jacobian(p: Tensor) -> Tensor:
    """J(p) = diag(p) − p pᵀ: [..., operations] → [..., operations, operations]."""
    return torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)


def alpha_gradient(alpha: Tensor, slope: Tensor) -> Tensor:
    """J(softmax(α))·S, the gradient that α feels: [..., operations]."""
    return softmax_backward(alpha, slope.expand_as(alpha).unsqueeze(0))


def gradient_flow(slope: Tensor, start: Tensor, times: Tensor) -> Tensor:
    """α(t) of the flow dα/dt = −J(p)S with S held fixed: [times, operations].

    Runge-Kutta steps of order four, each so short that no entry of α moves by more than about 0.05.

    Args:
        slope: S, [operations].
        start: α(0), [operations].
        times: increasing, none below 0.
    """
    alpha, now, visited = start, 0.0, []
    for time in times.tolist():
        while now < time:
            speed = alpha_gradient(alpha, slope).abs().max().item()
            rest = time - now
            step = min(rest, _LARGEST_MOVE / speed) if speed > 0 else rest
            alpha = _runge_kutta(lambda a: -alpha_gradient(a, slope), alpha, step)
            now = time if step == rest else now + step
        visited.append(alpha)
    return torch.stack(visited)


def _runge_kutta(velocity: Callable[[Tensor], Tensor], x: Tensor, step: float) -> Tensor:
    first = velocity(x)
    second = velocity(x + step / 2 * first)
    third = velocity(x + step / 2 * second)
    fourth = velocity(x + step * third)
    return x + step / 6 * (first + 2 * second + 2 * third + fourth)
