"""Figures of the theory: α on a simplex, saturation, balances, who decides, a loss to a vertex, differences.

They look as those of :mod:`ldarts_book.figures.plots` do, and are returned closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ldarts_book.dynamics import decayed_balance, gradient_flow, mean_decision
from ldarts_book.figures._canvas import GREY, INK, PALE, SMALL, TEXT, dress, new_figure
from ldarts_book.figures._styles import operation_style
from ldarts_book.landscape import LossLine

LOOKS = (("#0b4a86", "solid"), ("#c2410c", "dashed"), ("#007a6c", "dashdot"), ("#742a86", "dotted"))
"""Colour and line of the curves of one panel, in their order."""

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
_STARTS = (
    (1, 1, 1),
    (6, 1, 1),
    (1, 6, 1),
    (1, 1, 6),
    (1, 8, 8),
    (8, 1, 8),
    (8, 8, 1),
    (1, 30, 3),
    (3, 1, 30),
)
_MARKED_TIMES = (1, 10, 100, 1000)


def draw_simplex_flow(
    slopes: Mapping[str, Sequence[float]], operations: Sequence[str], *, end: float = 1000.0
) -> Figure:
    """The flow dα/dt = −J(p)S as paths of p on the simplex of three operations, one panel per slope.

    Dots stand where the path from the middle is at the times 1, 10, 100 and 1000, as far as they are reached.

    Args:
        slopes: titles of the panels and S, three entries each.
        operations: the three operations, in the order of the entries.
        end: the time at which all paths end.

    Raises:
        ValueError: there is no slope, or not three operations.
    """
    if not slopes or {len(operations), *(len(slope) for slope in slopes.values())} != {3}:
        raise ValueError(
            f"need slopes of three entries and three operations, got {dict(slopes)} and {operations}"
        )
    fig, axes = new_figure(1, len(slopes), (3.9 * len(slopes), 3.9))
    for ax, (title, slope) in zip(axes, slopes.items(), strict=True):
        _draw_triangle(ax, slope, operations)
        _draw_paths(ax, torch.tensor(slope, dtype=torch.float64), end)
        ax.set_title(title, loc="left", fontsize=TEXT, color=INK)
    return fig


def draw_saturation(
    times: Tensor, rest: Mapping[str, Tensor], limits: Mapping[str, Tensor], gaps: Mapping[str, Tensor]
) -> Figure:
    """How slowly a softmax saturates under the flow, and how Adam undoes it.

    Args:
        times: [times], positive.
        rest: 1 − p_k of each flow, [times].
        limits: under the same names the limiting law, [times], drawn thin.
        gaps: for each optimizer the logit gap after each step, [steps + 1].
    """
    fig, (left, right) = new_figure(1, 2, (8.4, 3.3))
    for (name, values), (colour, line) in zip(rest.items(), LOOKS, strict=False):
        left.plot(times, values, color=colour, ls=line, lw=2.2, label=name)
        left.plot(times, limits[name], color=colour, lw=0.9)
    dress(left, r"$1 - p_k$ under the flow (thin: the limiting law)", x="time t")
    left.set(xscale="log", yscale="log", ylim=(float(min(v.min() for v in rest.values())) / 2, 1.5))
    left.legend(loc="lower left", **_legend())
    for (name, values), (colour, line) in zip(gaps.items(), LOOKS, strict=False):
        right.plot(np.arange(len(values)), values, color=colour, ls=line, lw=2.2, label=name)
    dress(right, "logit gap $a$, same learning rate", x="steps")
    right.legend(loc="upper left", **_legend())
    return fig


def draw_balance(slope: float, decays: Sequence[float], paths: Mapping[str, tuple[float, Tensor]]) -> Figure:
    """Where weight decay balances the slope of two operations, and optimizers that arrive there.

    Args:
        slope: s, the difference of the two entries of S.
        decays: w, one straight line each.
        paths: for each name the decay and the logit gap after each step, [steps + 1].
    """
    fig, (left, right) = new_figure(1, 2, (8.4, 3.3))
    balances = [decayed_balance(slope, decay) for decay in decays]
    gaps = np.linspace(0, 1.25 * max(balances), 300)
    weight = 1 / (1 + np.exp(-gaps))
    left.plot(gaps, slope * weight * (1 - weight), color=INK, lw=2.2, label="slope $p(1-p)s$")
    for decay, balance, (colour, line) in zip(decays, balances, LOOKS, strict=False):
        left.plot(gaps, decay * gaps / 2, color=colour, ls=line, lw=1.8, label=f"decay $wa/2$, w = {decay:g}")
        left.plot([balance], [decay * balance / 2], "o", color=colour, ms=7)
    dress(left, "the two forces", x="logit gap $a$")
    left.set_ylim(0, 0.42 * slope)
    left.legend(loc="upper right", **_legend())
    for (name, (decay, values)), (colour, line) in zip(paths.items(), LOOKS, strict=False):
        right.plot(np.arange(1, len(values)), values[1:], color=colour, ls=line, lw=2.2, label=name)
        right.axhline(decayed_balance(slope, decay), color=GREY, lw=0.9, ls=(0, (4, 3)), zorder=0)
    dress(right, "logit gap $a$ (grey: the balance)", x="steps")
    right.set(xscale="log", ylim=(0, 1.6 * max(balances)))
    right.legend(loc="upper left", **_legend())
    return fig


def draw_decisions(points: Mapping[int, tuple[npt.ArrayLike, npt.ArrayLike]]) -> Figure:
    """Mean of cos(g_l, S) against Λ: the formula for equal norms as a line, computed gradients as dots.

    Args:
        points: per number of cells Λ and the mean score of some gradients.
    """
    fig, (ax,) = new_figure(1, 1, (5.4, 3.4))
    for (cells, (alignments, scores)), (colour, line) in zip(points.items(), LOOKS, strict=False):
        grid = np.linspace(-1 / (cells - 1), 1, 400)
        ax.plot(grid, mean_decision(cells, torch.from_numpy(grid)), color=colour, ls=line, lw=1.8)
        ax.plot(alignments, scores, "o", color=colour, ms=4.5, alpha=0.75, label=f"L = {cells}")
    ax.axvline(0, color=GREY, lw=0.9, zorder=0)
    dress(ax, r"mean of $\cos(g_l, S)$ over the cells", x="layer alignment Λ")
    ax.set(xlim=(-1.03, 1.03), ylim=(0, 1.05), xticks=(-1, -0.5, 0, 0.5, 1))
    ax.legend(loc="lower right", **_legend())
    return fig


def draw_loss_lines(lines: Mapping[str, LossLine]) -> Figure:
    """The loss from p to its vertex, the first-order guess, and the band that bounds the remainder.

    Args:
        lines: titles of the panels and what to draw.

    Raises:
        ValueError: there is no line.
    """
    if not lines:
        raise ValueError("nothing to draw: give at least one line")
    fig, axes = new_figure(1, len(lines), (4.2 * len(lines), 3.6), sharey=True)
    for ax, (title, line) in zip(axes, lines.items(), strict=True):
        guess = line.losses[0] + line.positions * line.slopes[0]
        bound = line.bending * line.positions**2 / 2
        ax.fill_between(line.positions, guess - bound, guess + bound, color=PALE, lw=0, label="bound $K/2$")
        ax.plot(line.positions, guess, color=LOOKS[1][0], ls="dashed", lw=1.8, label="first order")
        ax.plot(line.positions, line.losses, color=LOOKS[0][0], lw=2.2, label="loss")
        dress(ax, title, x=r"position $\tau$ on the way from p to the vertex")
        ax.set_xticks((0, 0.5, 1))
    losses = torch.cat([line.losses for line in lines.values()])
    margin = max(0.35 * float(losses.max() - losses.min()), 0.05)
    axes[0].set_ylim(float(losses.min()) - margin, float(losses.max()) + margin)
    fig.legend(*axes[0].get_legend_handles_labels(), ncols=3, **_legend("outside lower center"))
    return fig


def draw_difference_errors(
    lengths: Sequence[float],
    errors: Mapping[str, Sequence[float]],
    orders: Mapping[str, int],
    *,
    anchor: float = 1e-2,
) -> Figure:
    """The error of finite differences against their length, both logarithmic, with laws error ∝ length^order.

    Args:
        lengths: ε0, positive.
        errors: of each estimator the relative error at each length.
        orders: of some estimators the order; a thin line of that slope goes through the error at ``anchor``.
        anchor: one of the lengths.

    Raises:
        ValueError: an estimator has not one error for each length, an order belongs to no estimator, or
            ``anchor`` is not among the lengths.
    """
    if {len(values) for values in errors.values()} != {len(lengths)} or not set(orders) <= set(errors):
        raise ValueError(
            f"need an error for each of the {len(lengths)} lengths, and orders of {list(errors)}; got "
            f"{[len(values) for values in errors.values()]} errors and orders of {list(orders)}"
        )
    nearest = int(np.argmin(np.abs(np.log(np.asarray(lengths) / anchor))))
    if not np.isclose(lengths[nearest], anchor):
        raise ValueError(f"anchor = {anchor} is not among the lengths {list(lengths)}")
    fig, (ax,) = new_figure(1, 1, (6.2, 4.0))
    x = np.asarray(lengths, dtype=float)
    for (name, values), (colour, line) in zip(errors.items(), LOOKS, strict=False):
        if name in orders:
            law = values[nearest] * (x / anchor) ** orders[name]
            ax.plot(x, law, color=colour, lw=0.9)
        ax.plot(x, values, color=colour, ls=line, lw=2.2, marker="o", ms=3.5, label=name)
    dress(ax, "relative error (thin: the law of the order)", x=r"length $\epsilon_0$ of the perturbation")
    every = np.concatenate([np.asarray(values, dtype=float) for values in errors.values()])
    ax.set(xscale="log", yscale="log", ylim=(every[every > 0].min() / 5, 5 * every.max()))
    fig.legend(*ax.get_legend_handles_labels(), ncols=len(errors), **_legend("outside lower center"))
    return fig


def _legend(place: str | None = None) -> dict[str, object]:
    look = {"frameon": False, "fontsize": SMALL, "labelcolor": INK}
    return look | ({"loc": place} if place else {})


def _draw_triangle(ax: Axes, slope: Sequence[float], operations: Sequence[str]) -> None:
    ax.fill(*_CORNERS.T, fc="white", ec=GREY, lw=1.2, zorder=0)
    for corner, value, name in zip(_CORNERS, slope, operations, strict=True):
        style, above = operation_style(name), corner[1] > 0
        ax.text(
            corner[0],
            corner[1] + (0.03 if above else -0.04),
            f"{style.label}\nS = {value:g}",
            color=style.colour,
            fontsize=SMALL,
            ha="center",
            va="bottom" if above else "top",
        )
    ax.set(xlim=(-0.15, 1.15), ylim=(-0.22, 1.08), aspect="equal")
    ax.set_axis_off()


def _draw_paths(ax: Axes, slope: Tensor, end: float) -> None:
    times = torch.cat([torch.zeros(1), torch.logspace(-2, np.log10(end), 120)]).double()
    for number, weights in enumerate(_STARTS):
        start = torch.tensor(weights, dtype=torch.float64).log()
        x, y = _place(gradient_flow(slope, start, times)).T
        ax.plot(x, y, color=LOOKS[0][0], lw=2.0 if number == 0 else 1.2, zorder=2, snap=False)
        ax.plot(x[0], y[0], "o", color=LOOKS[0][0], mfc="white", ms=4, zorder=3)
        middle = np.searchsorted(np.hypot(x - x[0], y - y[0]), 0.45 * np.hypot(x[-1] - x[0], y[-1] - y[0]))
        arrow = {"arrowstyle": "-|>", "color": LOOKS[0][0], "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (x[middle + 1], y[middle + 1]), (x[middle], y[middle]), arrowprops=arrow, zorder=2)
    marked = torch.tensor([t for t in _MARKED_TIMES if t <= end], dtype=torch.float64)
    x, y = _place(gradient_flow(slope, torch.zeros(3, dtype=torch.float64), marked)).T
    ax.plot(x, y, "o", color=LOOKS[1][0], ms=6, zorder=4)


def _place(alpha: Tensor) -> npt.NDArray[np.float64]:
    """Points [..., 2] of the triangle for α [..., 3]."""
    return alpha.softmax(-1).numpy() @ _CORNERS
