"""How the shared α moves under a fixed slope, and what the loss of a real supernet does up to a vertex.

The statements of the chapter on collapse: for one edge or a stack of edges, with p = softmax(α) and a slope
S = Σ_l g_l, and for the step from p to the architecture that argmax derives. No search uses any of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from scipy.optimize import brentq
from torch import Tensor

from ldarts_book.studies.theory import Weights, alpha_gradient, loss, searched, shared
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet

Optimizer = Literal["gradient", "adam"]

ADAM_BETAS = (0.5, 0.999)
"""Those of the α optimizer of a search."""

_DIFFERENCE = 1e-7


def spread(slope: Tensor) -> Tensor:
    """Largest minus smallest entry of S on each edge: [..., operations] → [...]."""
    return slope.amax(-1) - slope.amin(-1)


def gradient_floor(p: Tensor, slope: Tensor) -> Tensor:
    """A lower bound of ‖J(p)S‖ on each edge: 2 c p_max p_min / √operations, c the spread of S.

    ``p_max`` and ``p_min`` are the weights of an operation with the largest and of one with the smallest
    entry of S: [..., operations] → [...].
    """
    best, worst = (p.gather(-1, s.argmin(-1, keepdim=True)) for s in (slope, -slope))
    return 2 * spread(slope) * (best * worst).squeeze(-1) / p.shape[-1] ** 0.5


def two_operation_time(gap: Tensor, slope: float) -> Tensor:
    """When the flow of two operations, started at p = (1/2, 1/2), has the logit gap a.

    ::

        t = (exp(a) + 2a − exp(−a)) / 2s,   s = S_2 − S_1 > 0,  a = α_1 − α_2
    """
    return (gap.exp() + 2 * gap - (-gap).exp()) / (2 * slope)


def descend(
    slope: Tensor,
    start: Tensor,
    *,
    steps: int,
    learning_rate: float,
    optimizer: Optimizer = "gradient",
    decay: float = 0.0,
) -> Tensor:
    """The path of α under a fixed slope S and one of PyTorch's optimizers: [steps + 1, ..., operations].

    Args:
        slope: S, [..., operations].
        start: the first α, [..., operations].
        optimizer: ``gradient`` (plain gradient descent) or ``adam`` (with the betas of a search).
        decay: w of the weight decay, which adds wα to the gradient.
    """
    alpha = start.clone().requires_grad_()
    kinds = {"gradient": torch.optim.SGD, "adam": partial(torch.optim.Adam, betas=ADAM_BETAS)}
    moves = kinds[optimizer]([alpha], lr=learning_rate, weight_decay=decay)
    path = [start]
    for _ in range(steps):
        alpha.grad = alpha_gradient(alpha, slope)
        moves.step()
        path.append(alpha.detach().clone())
    return torch.stack(path)


def adam_growth(learning_rate: float, betas: tuple[float, float] = ADAM_BETAS) -> float:
    """By how much Adam lets the logit gap of two operations grow per step, near saturation.

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


def mean_decision(cells: int, alignment: Tensor | float) -> Tensor:
    """Mean of cos(g_l, Σg) over cells of equal gradient norm: √[(1 + (cells − 1)Λ)/cells].

    Args:
        cells: L, at least 2.
        alignment: Λ, from −1/(L − 1) to 1.
    """
    total = 1 + (cells - 1) * torch.as_tensor(alignment, dtype=torch.float64)
    return (total / cells).sqrt()


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
        losses: L at p + τ(e − p), [points].
        slopes: ⟨S, e − p⟩ at the same points, [points].
    """

    positions: Tensor
    losses: Tensor
    slopes: Tensor

    @property
    def gap(self) -> float:
        """L(e) − L(p)."""
        return (self.losses[-1] - self.losses[0]).item()

    @property
    def remainder(self) -> float:
        """What the first order ⟨S, e − p⟩ leaves of the gap."""
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
    """e − p, from p = softmax(α) to its vertex."""
    p = {kind: alpha.detach().softmax(-1) for kind, alpha in alphas.items()}
    return {kind: vertex - p[kind] for kind, vertex in nearest_vertex(p).items()}


def _between(alphas: Weights, position: float) -> dict[str, Tensor]:
    """p + τ(e − p)."""
    return {kind: alphas[kind].detach().softmax(-1) + position * d for kind, d in _move(alphas).items()}
