"""How the shared α moves under a fixed slope: the statements of the chapters on optimization and collapse.

No network is needed: one edge, or a stack of edges, with architecture weights p = softmax(α) and a slope
S = Σ_l g_l, the gradient of the loss by p. All of it is meant for float64; nothing here is used by a search.
:mod:`ldarts_book.landscape` asks the same of a real supernet.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from ldarts_lib.bilevel.half_steps import softmax_backward

Optimizer = Literal["gradient", "adam"]

ADAM_BETAS = (0.5, 0.999)
"""Those of the α optimizer of a search."""

_LARGEST_MOVE = 0.05


class Refuted(AssertionError):
    """A computation contradicts a statement; the message gives both sides."""


def confirm_equal(found: Tensor, expected: Tensor, *, within: float = 1e-9) -> float:
    """The relative error ‖found − expected‖ / ‖expected‖.

    Args:
        found, expected: tensors of one shape; ``expected`` is not zero.
        within: the largest error that confirms the statement.

    Raises:
        Refuted: the error is larger, or not a number.
    """
    if found.shape != expected.shape:
        raise Refuted(f"the shapes {tuple(found.shape)} and {tuple(expected.shape)} differ")
    error = (torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected)).item()
    if not error <= within:
        raise Refuted(f"relative error {error:.3g}, allowed {within:.3g}: found {found}, expected {expected}")
    return error


def confirm_order(smaller: Tensor, larger: Tensor, *, slack: float = 1e-9) -> float:
    """The smallest difference ``larger − smaller``.

    Args:
        smaller, larger: tensors that broadcast.
        slack: how far below zero rounding may bring it, relative to the largest absolute value.

    Raises:
        Refuted: an entry of ``smaller`` exceeds that of ``larger``, or is not a number.
    """
    margin = (larger - smaller).min().item()
    scale = max(smaller.abs().max().item(), larger.abs().max().item())
    if not margin >= -slack * scale:
        raise Refuted(f"the order fails by {-margin:.3g}: smaller {smaller}, larger {larger}")
    return margin


def softmax_jacobian(p: Tensor) -> Tensor:
    """J(p) = diag(p) − p pᵀ: [..., operations] → [..., operations, operations]."""
    return torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)


def alpha_gradient(alpha: Tensor, slope: Tensor) -> Tensor:
    """J(softmax(α))·S, the gradient that α feels: [..., operations]."""
    return softmax_backward(alpha, slope.expand_as(alpha).unsqueeze(0))


def spread(slope: Tensor) -> Tensor:
    """Largest minus smallest entry of S on each edge: [..., operations] → [...]."""
    return slope.amax(-1) - slope.amin(-1)


def gradient_floor(p: Tensor, slope: Tensor) -> Tensor:
    """A lower bound of ‖J(p)S‖ on each edge: 2 c p_max p_min / √operations, c the spread of S.

    ``p_max`` and ``p_min`` are the weights of an operation with the largest and of one with the smallest
    entry of S. Proved in the chapter on collapse.

    Args:
        p, slope: [..., operations].

    Returns:
        [...].
    """
    best, worst = (p.gather(-1, index) for index in (_where_least(slope), _where_least(-slope)))
    return 2 * spread(slope) * (best * worst).squeeze(-1) / p.shape[-1] ** 0.5


def gradient_flow(slope: Tensor, start: Tensor, times: Tensor) -> Tensor:
    """α(t) of the flow dα/dt = −J(p)S with S held fixed: [times, operations].

    Runge-Kutta steps of order four, each so short that no entry of α moves by more than about 0.05.

    Args:
        slope: S, [operations].
        start: α(0), [operations].
        times: [times], increasing, none below 0.

    Raises:
        ValueError: times that are negative or not increasing.
    """
    if times[0] < 0 or (times.diff() <= 0).any():
        raise ValueError(f"times must increase from 0 or later, got {times.tolist()}")
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
        steps: number of steps.
        learning_rate: of the optimizer.
        optimizer: ``gradient`` (plain gradient descent) or ``adam`` (with the betas of a search).
        decay: w of the weight decay, which adds wα to the gradient.

    Raises:
        ValueError: an unknown optimizer.
    """
    if optimizer not in get_args(Optimizer):
        raise ValueError(f"unknown optimizer {optimizer!r}; choose one of {', '.join(get_args(Optimizer))}")
    alpha = start.clone().requires_grad_()
    options = {"lr": learning_rate, "weight_decay": decay}
    moves = (
        torch.optim.SGD([alpha], **options)
        if optimizer == "gradient"
        else torch.optim.Adam([alpha], betas=ADAM_BETAS, **options)
    )
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

    return _root(excess, 0.0, -0.5 * math.log(second))


def decayed_balance(slope: float, decay: float) -> float:
    """The logit gap a at which weight decay balances the slope, for two operations.

    The only solution of p(1 − p)s = wa/2 with p = 1/(1 + exp(−a)).

    Args:
        slope: s = S_2 − S_1, not negative.
        decay: w, positive.

    Raises:
        ValueError: a value out of range.
    """
    if not (0 <= slope < math.inf and 0 < decay < math.inf):
        raise ValueError(f"need a slope of at least 0 and a positive decay, got {slope} and {decay}")

    def excess(gap: float) -> float:
        weight = 1 / (1 + math.exp(-gap))
        return decay * gap / 2 - weight * (1 - weight) * slope

    return _root(excess, 0.0, slope / (2 * decay))


def mean_decision(cells: int, alignment: Tensor | float) -> Tensor:
    """Mean of cos(g_l, Σg) over cells of equal gradient norm: √[(1 + (cells − 1)Λ)/cells].

    Args:
        cells: L, at least 2.
        alignment: Λ, from −1/(L − 1) to 1.
    """
    total = 1 + (cells - 1) * torch.as_tensor(alignment, dtype=torch.float64)
    return (total / cells).sqrt()


def _where_least(values: Tensor) -> Tensor:
    return values.argmin(-1, keepdim=True)


def _runge_kutta(velocity: Callable[[Tensor], Tensor], x: Tensor, step: float) -> Tensor:
    first = velocity(x)
    second = velocity(x + step / 2 * first)
    third = velocity(x + step / 2 * second)
    fourth = velocity(x + step * third)
    return x + step / 6 * (first + 2 * second + 2 * third + fourth)


def _root(excess: Callable[[float], float], low: float, high: float) -> float:
    """Where an excess that is negative below and positive above changes its sign, by bisection."""
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return middle
