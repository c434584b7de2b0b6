"""The idea in one drawing: what three cells want of the α that they share, and what becomes of their sum."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from ldarts_book.figures.canvas import new_figure
from ldarts_book.figures.style import GREY, INK, METHODS, TEXT, styled

WANTS = {
    "darts": ((1.0, -35.0), (0.8, 25.0), (0.5, 101.8)),
    "lambda": ((0.7, 2.0), (0.85, 16.0), (0.75, 28.0)),
}
"""Lengths and angles of three gradients; the mean cosine of their pairs is 0.00 and 0.95."""
_WORDS = {
    "darts": ("Λ ≈ 0, as in DARTS", "The cells pull apart: the longest arrows decide, cell 3 is overruled."),
    "lambda": ("Λ ≈ 1, what Λ-DARTS trains for", "The cells agree: the step is what each of them wants."),
}
_SIDE, _PITCH, _SUM = 1.25, 1.85, 5.75


@styled
def draw_idea() -> Figure:
    """The gradients of three cells and their sum, which moves the shared α: at Λ ≈ 0 and at Λ ≈ 1."""
    fig, axes = new_figure([["darts"], ["lambda"]], (6.3, 4.1))
    for ax, (method, wants) in zip(axes, WANTS.items(), strict=True):
        lengths, angles = np.array(wants).T
        gradients = (lengths * (np.cos(np.radians(angles)), np.sin(np.radians(angles)))).T
        title, text = _WORDS[method]
        _draw_row(ax, gradients, METHODS[method].colour)
        ax.text(0, 1.8, title, fontsize=TEXT + 1, weight="bold", color=METHODS[method].colour)
        ax.text(0, -0.2, text, fontsize=TEXT, va="top")
        ax.set(xlim=(-0.05, 8.3), ylim=(-0.6, 2.05), aspect="equal")
        ax.set_axis_off()
    return fig


def _draw_row(ax: Axes, gradients: np.ndarray, colour: str) -> None:
    """Three cells, each with its gradient, and behind them the gradients joined, with their sum."""
    start = np.array((_SUM, _SIDE / 2 - gradients.sum(0)[1] / 2))
    _draw_arrow(ax, start, gradients.sum(0), colour, 4)
    for cell, gradient in enumerate(gradients):
        corner = np.array((_PITCH * cell, 0.0))
        ax.add_patch(FancyBboxPatch(corner, _SIDE, _SIDE, boxstyle="round,pad=0", fc="none", ec=GREY))
        ax.text(corner[0] + _SIDE / 2, _SIDE + 0.07, f"cell {cell + 1}", fontsize=TEXT, ha="center")
        _draw_arrow(ax, corner + _SIDE / 2 - gradient / 2, gradient, INK, 2)
        sign = "+" if cell < len(gradients) - 1 else "="
        ax.text(
            corner[0] + (_SIDE + _PITCH) / 2, _SIDE / 2, sign, fontsize=TEXT + 3, ha="center", va="center"
        )
        _draw_arrow(ax, start, gradient, GREY, 1)
        start = start + gradient
    ax.text(_SUM + 1.15, _SIDE + 0.07, "step of the shared α", fontsize=TEXT, ha="center", color=colour)


def _draw_arrow(ax: Axes, start: np.ndarray, way: np.ndarray, colour: str, width: float) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 10 + 3 * width, "lw": width, "color": colour}
    ax.annotate("", start + way, start, arrowprops=style | {"shrinkA": 0, "shrinkB": 0})
