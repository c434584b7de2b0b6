"""Where the shared α rests, how it saturates, who decides, and what the loss does up to a vertex.

The statements of the chapter on collapse: for one edge or a stack of edges, with p = softmax(α) and a slope
S = Σ_l g_l, and for real supernets whose ω is held fixed. No search uses any of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pandas as pd
import torch
from scipy.optimize import brentq
from torch import Tensor

from ldarts_book.studies.theory import (
    Weights,
    alpha_gradient,
    copies,
    loss,
    searched,
    shared,
    spread,
    weighted_alignment,
)
from ldarts_lib.bilevel.alignment import felt
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet

Optimizer = Literal["gradient", "mirror", "adam"]
Slope = Tensor | Callable[[int, Tensor], Tensor]
"""S, [..., operations], or what gives it for the number of a step, from 0, and its α."""

ADAM_BETAS = (0.5, 0.999)
"""Those of the α optimizer of a search."""

_DIFFERENCE = 1e-7


def unsaturated_bound(p: Tensor, slope: Tensor) -> Tensor:
    """A bound of 1 − p_k, k the strongest operation: [..., operations] → [...].

    ::

        1 − p_k ≤ √2 ‖J(p)S‖ Σ_{o≠k} 1/|S_o − S_k|
    """
    strongest = p.argmax(-1, keepdim=True)
    apart = (slope - slope.gather(-1, strongest)).abs().scatter(-1, strongest, math.inf)
    return 2**0.5 * alpha_gradient(p.log(), slope).norm(dim=-1) * (1 / apart).sum(-1)


def margin_floor(start: Tensor, push: Tensor) -> Tensor:
    """The weight that gradient descent with a margin gives the strongest operation at least.

    With k that operation::

        1/p_k − 1 ≤ Σ_{o≠k} 1/(p_k(0)/p_o(0) + p_k(0) Σ_t η_t μ_t)

    Args:
        start: p at the start, [operations].
        push: Σ_t η_t μ_t, [...].
    """
    best = start.max()
    others = start.sort().values[:-1]
    return 1 / (1 + (1 / (best / others + best * push.unsqueeze(-1))).sum(-1))


def margin_time(weight: Tensor, margin: float, operations: int) -> Tensor:
    """When the flow from p = const has certainly given its best operation a weight, if it keeps a margin.

    ::

        t = (n − 1)/(nμ) · [Φ(p) − Φ(1/n)],   Φ(p) = 1/(1 − p) − 1/p + 2 log(p/(1 − p))
    """

    uniform = torch.full_like(weight, 1 / operations)
    late, early = (1 / (1 - p) - 1 / p + 2 * (p / (1 - p)).log() for p in (weight, uniform))
    return (operations - 1) / (operations * margin) * (late - early)


def descend(
    slope: Slope,
    start: Tensor,
    *,
    steps: int,
    learning_rate: float,
    optimizer: Optimizer = "gradient",
    decay: float = 0.0,
    betas: tuple[float, float] = ADAM_BETAS,
) -> Tensor:
    """The path of α under a slope and one of PyTorch's optimizers: [steps + 1, ..., operations].

    Args:
        start: the first α, [..., operations].
        optimizer: ``gradient`` (plain gradient descent), ``mirror`` (S itself in place of J(p)S) or ``adam``.
        decay: w of the weight decay, which adds wα to the gradient.
    """
    alpha = start.clone().requires_grad_()
    adam = partial(torch.optim.Adam, betas=betas)
    moves = (adam if optimizer == "adam" else torch.optim.SGD)([alpha], lr=learning_rate, weight_decay=decay)
    path = [start]
    for step in range(steps):
        now = slope(step, path[-1]) if callable(slope) else slope
        alpha.grad = now.expand_as(alpha).clone() if optimizer == "mirror" else alpha_gradient(alpha, now)
        moves.step()
        path.append(alpha.detach().clone())
    return torch.stack(path)


def alone(supernet: Supernet, batch: Batch, alphas: Weights, *, steps: int) -> pd.DataFrame:
    """Let α of the normal cells descend the loss of one batch at fixed ω; a row per step.

    Adam takes the steps, with a learning rate that falls from 0.05 to zero along a cosine.
    """
    alpha = alphas["normal"].detach().clone().requires_grad_()
    moves = torch.optim.Adam([alpha], lr=0.05, betas=ADAM_BETAS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(moves, steps)
    rows = []
    while len(rows) <= steps:
        weights = copies(supernet, {**alphas, "normal": alpha})
        found = gradients(supernet, batch, weights, of_parameters=False)
        g, p = found.cells["normal"], weights["normal"].detach()
        f = felt(g, p)
        rows.append(
            {
                "loss": found.loss.item(),
                "largest weight": p.max().item(),
                "spread of the sum": spread(g.sum(0)).mean().item(),
                "spread of a cell": spread(g).mean().item(),
                "alignment": weighted_alignment(f.flatten(1)).item(),
            }
        )
        alpha.grad = f.sum(0)
        moves.step()
        schedule.step()
    return pd.DataFrame(rows).rename_axis("step")


def adam_growth(learning_rate: float, betas: tuple[float, float] = ADAM_BETAS) -> float:
    """By how much Adam without noise lets the logit gap of two operations grow per step, late and saturated.

    There the gradient falls like exp(−gap). If the gap grows by γ per step, Adam's two averages are geometric
    series, and γ solves

    ::

        γ = 2η · (1 − β1)/(1 − β1 exp(γ)) · √[(1 − β2 exp(2γ))/(1 − β2)]

    with the learning rate η. The solution lies below −½ log β2, however large η is.
    """
    first, second = betas

    def excess(growth: float) -> float:
        mean = (1 - first) / (1 - first * math.exp(growth))
        return growth - 2 * learning_rate * mean * math.sqrt(
            max(0.0, 1 - second * math.exp(2 * growth)) / (1 - second)
        )

    return brentq(excess, 0.0, -0.5 * math.log(second), xtol=1e-15)


def adam_drift(learning_rate: float, ratio: Tensor | float) -> Tensor:
    """How fast Adam moves the gap of two logits per step, far from saturation and under noise: 2ηr/√(1 + r²).

    Args:
        ratio: r, mean over standard deviation of the difference of the two slopes.
    """
    ratio = torch.as_tensor(ratio, dtype=torch.float64)
    return 2 * learning_rate * ratio / (1 + ratio**2).sqrt()


def decayed_balance(slope: float, decay: float) -> float:
    """The logit gap a at which weight decay balances the slope, for two operations.

    The only solution of p(1 − p)s = wa/2 with p = 1/(1 + exp(−a)).

    Args:
        slope: s = S_2 − S_1, not negative.
        decay: w, positive.
    """

    def excess(gap: float) -> float:
        weight = 1 / (1 + math.exp(-gap))
        return decay * gap / 2 - weight * (1 - weight) * slope

    return brentq(excess, 0.0, slope / (2 * decay), xtol=1e-15)


def train_at(protocol: SearchProtocol, alphas: Weights, device: torch.device | str = "cpu") -> Bilevel:
    """Train ω alone on its half, at α that do not move; the supernet in training mode, with these α."""
    state = searched(protocol, 0, device)
    bilevel = state.bilevel
    with torch.no_grad():
        for kind, alpha in bilevel.alphas.items():
            alpha.copy_(alphas[kind])
    bilevel.supernet.train()
    for epoch in range(protocol.epochs):
        bilevel.start_epoch(epoch)
        for images, labels in state.training.epoch(protocol.batch_size, state.batches, augment=True):
            bilevel.weight_step(Batch(images, labels))
    return bilevel


def sharpened(alphas: Weights, weight: float) -> dict[str, Tensor]:
    """α that give the strongest operation of each edge ``weight`` and the others equal shares.

    Args:
        weight: more than 1/operations, less than 1.
    """
    odds = weight / (1 - weight)
    return {kind: e * math.log((e.shape[-1] - 1) * odds) for kind, e in nearest_vertex(alphas).items()}


def nearest_vertex(alphas: Weights) -> dict[str, Tensor]:
    """What argmax makes of α or p: per cell kind one 1 on each edge, [edges, operations]."""
    return {
        kind: torch.zeros_like(a).scatter(-1, a.argmax(-1, keepdim=True), 1.0) for kind, a in alphas.items()
    }


@dataclass(frozen=True)
class LossLine:
    """The loss on the segment from p (position 0) to the vertex that argmax selects (position 1).

    Attributes:
        positions: τ, [points], from 0 to 1.
        losses: 𝓛 at p + τ(v − p), [points].
        slopes: ⟨S, v − p⟩ at the same points, [points].
    """

    positions: Tensor
    losses: Tensor
    slopes: Tensor

    @property
    def gap(self) -> float:
        """𝓛(v) − 𝓛(p)."""
        return (self.losses[-1] - self.losses[0]).item()

    @property
    def remainder(self) -> float:
        """What the first order ⟨S, v − p⟩ leaves of the gap."""
        return self.gap - self.slopes[0].item()

    @property
    def bending(self) -> float:
        """K, the largest change of the slope from its value at p, divided by τ; ≥ 2|remainder|."""
        return ((self.slopes - self.slopes[0]).abs()[1:] / self.positions[1:]).max().item()


def loss_line(supernet: Supernet, batch: Batch, alphas: Weights, *, points: int = 41) -> LossLine:
    """The loss between p = softmax(α) and its vertex, where all cells move together.

    The points crowd towards the vertex, where a cell whose paths are cut changes fast.

    Args:
        supernet: its ω stay fixed, and BatchNorm uses the batch's statistics if it is in training mode.
        points: number of points, both ends included.
    """
    positions = 1 - (1 - torch.linspace(0, 1, points, dtype=torch.float64)) ** 3
    move, losses, slopes = _move(alphas), [], []
    for position in positions.tolist():
        weights = shared(supernet, _between(alphas, position))
        leaves = {kind: p.clone().requires_grad_() for kind, p in weights.items()}
        found = gradients(supernet, batch, leaves, of_parameters=False)
        losses.append(found.loss)
        slopes.append(sum((found.cells[kind].sum(0) * d).sum() for kind, d in move.items()))
    return LossLine(positions, torch.stack(losses).cpu(), torch.stack(slopes).cpu())


def slope_by_difference(supernet: Supernet, batch: Batch, alphas: Weights) -> Tensor:
    """The first slope of :func:`loss_line` by a central difference of the loss alone, a scalar."""
    with torch.no_grad():
        ahead, behind = (
            loss(supernet, batch, shared(supernet, _between(alphas, position)))
            for position in (_DIFFERENCE, -_DIFFERENCE)
        )
    return (ahead - behind) / (2 * _DIFFERENCE)


def _move(alphas: Weights) -> dict[str, Tensor]:
    """v − p, from p = softmax(α) to its vertex."""
    p = {kind: alpha.detach().softmax(-1) for kind, alpha in alphas.items()}
    return {kind: vertex - p[kind] for kind, vertex in nearest_vertex(p).items()}


def _between(alphas: Weights, position: float) -> dict[str, Tensor]:
    """p + τ(v − p)."""
    return {kind: alphas[kind].detach().softmax(-1) + position * d for kind, d in _move(alphas).items()}
