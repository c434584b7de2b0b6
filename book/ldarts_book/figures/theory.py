"""Figures of the theory: formulas and what was measured, α on a simplex, the loss on the way to a vertex."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldarts_book.figures.canvas import add_legend, dress, grid, mark_references, new_figure
from ldarts_book.figures.style import ACCENT, GREY, OTHERS, PALE, TEXT, looks, operation_look, styled

Floats = npt.NDArray[np.float64]
Flow = Callable[[Floats, Floats, Floats], Floats]
"""p(t) [times, operations] of a slope [operations], a start α(0) [operations] and times."""


class _LossLine(Protocol):
    """A loss on the way from p (position 0) to a vertex (position 1), with its slopes and their bound K."""

    positions: Any
    losses: Any
    slopes: Any
    bending: float


_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
_STARTS = (
    (1, 1, 1), (6, 1, 1), (1, 6, 1), (1, 1, 6), (1, 8, 8), (8, 1, 8), (8, 8, 1), (1, 30, 3), (3, 1, 30),
)  # fmt: skip


@styled
def lines(
    panels: Mapping[str, Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]],
    *,
    x: Sequence[str],
    log: Mapping[str, str] | None = None,
    dots: Collection[str] = (),
    references: Mapping[str, Mapping[str, float]] | None = None,
    shaded: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Lines that share no x, such as a formula and what was measured.

    Args:
        panels: under their titles the lines, x and y of each under its name.
        x: what the x axis of each panel shows.
        log: titles of panels whose axes are logarithmic: ``x``, ``y`` or ``xy``.
        dots: names of what is not a line but single points.
        references: of a panel heights to hold it against, named.
        shaded: ranges of x in all panels, named.

    Raises:
        ValueError: there is no panel, or not one label of x for each.
    """
    if not panels or len(x) != len(panels):
        raise ValueError(f"every panel needs a label of x, got {list(x)} for {list(panels)}")
    places = grid(len(panels), min(2, len(panels)))
    fig, axes = new_figure(places, (3.1 * len(places[0]), 2.7 * len(places) + 0.9))
    drawn = looks(dict.fromkeys(name for named in panels.values() for name in named))
    for ax in axes[1:] if len(set(x)) == 1 else ():
        ax.sharex(axes[0])
    for ax, label, (title, named) in zip(axes, x, panels.items(), strict=True):
        ax.set(**{f"{axis}scale": "log" for axis in (log or {}).get(title, "")})
        for name, (at, values) in named.items():
            look = drawn[name]
            line = look.mark if name in dots else {"color": look.colour, "ls": look.line, "lw": 2}
            ax.plot(at, values, label=name, **line)
        mark_references(ax, (references or {}).get(title, {}))
        for name, ends in (shaded or {}).items():
            ax.axvspan(*ends, color=PALE, alpha=0.6, lw=0, zorder=0, label=name)
        dress(ax, title, x=label)
    add_legend(fig)
    return fig


@styled
def simplex_flow(slopes: Mapping[str, Sequence[float]], operations: Sequence[str], flow: Flow) -> Figure:
    """The flow dα/dt = −J(p)S as paths of p on the simplex of three operations, one panel per slope.

    Dots stand where the path from the middle is at the times 1, 10, 100 and 1000, at which all paths end.

    Args:
        slopes: titles of the panels and S, three entries each.
        operations: the three operations, in the order of the entries.
        flow: solves the equation.

    Raises:
        ValueError: there is no slope, or not three operations.
    """
    if not slopes or {len(operations), *(len(slope) for slope in slopes.values())} != {3}:
        raise ValueError(
            f"need slopes of three entries and three operations, got {dict(slopes)} and {operations}"
        )
    fig, axes = new_figure(grid(len(slopes), len(slopes)), (3.1 * len(slopes), 3.3))
    for ax, (title, slope) in zip(axes, slopes.items(), strict=True):
        _draw_triangle(ax, slope, operations)
        _draw_paths(ax, np.asarray(slope, dtype=float), flow)
        ax.set_title(title, fontsize=TEXT)
    return fig


@styled
def loss_lines(lines: Mapping[str, _LossLine]) -> Figure:
    """The loss from p to its vertex, the first-order guess, and the band that bounds the remainder.

    Args:
        lines: titles of the panels and what to draw.

    Raises:
        ValueError: there is no line.
    """
    if not lines:
        raise ValueError("nothing to draw: give at least one line")
    fig, axes = new_figure(grid(len(lines), len(lines)), (3.1 * len(lines), 3.2), sharey=True)
    loss, first = OTHERS[:2]
    for ax, (title, line) in zip(axes, lines.items(), strict=True):
        tau, losses = np.asarray(line.positions), np.asarray(line.losses)
        # 𝓛(p) + τ ⟨S, v − p⟩ ± K τ² / 2, theorem "Discretization gap" of the chapter why
        guess = losses[0] + tau * float(line.slopes[0])
        bound = line.bending * tau**2 / 2
        ax.fill_between(tau, guess - bound, guess + bound, color=PALE, lw=0, label="bound $K/2$")
        ax.plot(tau, guess, color=first.colour, ls=first.line, lw=1.8, label="first order")
        ax.plot(tau, losses, color=loss.colour, lw=2.2, label="loss")
        dress(ax, title, x=r"position $\tau$ from p to the vertex")
        ax.set_xticks((0, 0.5, 1))
    every = np.concatenate([np.asarray(line.losses) for line in lines.values()])
    margin = max(0.35 * np.ptp(every), 0.05)
    axes[0].set_ylim(every.min() - margin, every.max() + margin)
    add_legend(fig)
    return fig


def _draw_triangle(ax: Axes, slope: Sequence[float], operations: Sequence[str]) -> None:
    ax.fill(*_CORNERS.T, fc="white", ec=GREY, lw=1.2, zorder=0)
    for (x, y), value, name in zip(_CORNERS, slope, operations, strict=True):
        look = operation_look(name)
        place = {"ha": "center", "va": "bottom" if y else "top"}
        ax.text(x, y + (0.03 if y else -0.04), f"{look.label}\nS = {value:g}", color=look.colour, **place)
    ax.set(xlim=(-0.15, 1.15), ylim=(-0.22, 1.08), aspect="equal")
    ax.set_axis_off()


def _draw_paths(ax: Axes, slope: Floats, flow: Flow) -> None:
    colour = OTHERS[0].colour
    times = np.concatenate([[0.0], np.logspace(-2, 3, 120)])
    for number, start in enumerate(_STARTS):
        x, y = (flow(slope, np.log(start), times) @ _CORNERS).T
        ax.plot(x, y, color=colour, lw=2.0 if number == 0 else 1.2, zorder=2, snap=False)
        ax.plot(x[0], y[0], "o", color=colour, mec=colour, mfc="white", ms=4, zorder=3)
        middle = np.searchsorted(np.hypot(x - x[0], y - y[0]), 0.45 * np.hypot(x[-1] - x[0], y[-1] - y[0]))
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (x[middle + 1], y[middle + 1]), (x[middle], y[middle]), arrowprops=arrow, zorder=2)
    x, y = (flow(slope, np.zeros(3), np.logspace(0, 3, 4)) @ _CORNERS).T
    ax.plot(x, y, "o", color=ACCENT, ms=6, zorder=4)
