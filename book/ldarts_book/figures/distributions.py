"""A table of all cells: how their accuracies are distributed, and how two columns of them agree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from ldarts_book.figures.canvas import grid, new_figure
from ldarts_book.figures.style import ACCENT, INK, PALE, TEXT, styled

_HALO = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.85}
_SHADE = "#45607a"


@styled
def distribution(
    accuracies: npt.ArrayLike, marked: Mapping[str, float], *, counts: npt.ArrayLike, bins: int = 60
) -> Figure:
    """How the accuracies of all cells of a table are distributed, with some cells named.

    Args:
        accuracies: [rows].
        marked: accuracies of named cells.
        counts: number of cells that each row stands for, [rows].
        bins: of the histogram.

    Raises:
        ValueError: the table is empty, or the counts are not as many as the accuracies.
    """
    values = np.asarray(accuracies, dtype=float)
    if not values.size:
        raise ValueError("nothing to draw: the table is empty")
    weights = np.asarray(counts, dtype=float)
    if weights.shape != values.shape:
        raise ValueError(f"expected {len(values)} counts, got {len(weights)}")
    fig, (ax,) = new_figure(grid(1, 1), (5.6, 2.7 + 0.2 * len(marked)))
    ax.hist(values, bins=bins, weights=weights, color=_SHADE, alpha=0.75)
    top = ax.get_ylim()[1]
    step = top * 0.2 / 2.1
    ends = [values.min(), values.max(), *marked.values()]
    middle = (min(ends) + max(ends)) / 2
    for level, (name, x) in enumerate(_from_the_middle(marked, middle)):
        height = top + step * (level + 0.6)
        ax.plot([x, x], [0, height], color=ACCENT, lw=1.2, label=name)
        side = "left" if x < middle else "right"
        ax.text(x, height, f" {name} {x:.3f} ", ha=side, va="center", bbox=_HALO, zorder=5)
    ax.set_ylim(0, top + step * (len(marked) + 0.5))
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= top])
    ax.set(title=f"cells per bin, {weights.sum():,.0f} in all", xlabel="test accuracy")
    return fig


@styled
def scatter(
    first: npt.ArrayLike, second: npt.ArrayLike, *, labels: tuple[str, str], same: bool = False
) -> Figure:
    """The same cells judged twice: their accuracies, and the rank correlation (Spearman's).

    Args:
        first, second: accuracies, [cells].
        labels: of the axes.
        same: whether both judge the same thing, such as two seeds: then equal accuracies are marked.

    Raises:
        ValueError: the accuracies are not of the same cells, or of fewer than three.
    """
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if x.shape != y.shape or x.size < 3:
        raise ValueError(f"give the accuracies of the same cells, at least three, got {x.size} and {y.size}")
    fig, (ax,) = new_figure(grid(1, 1), (4.3, 4.3))
    alpha = float(np.clip(400 / len(x), 0.08, 0.8))
    ax.plot(x, y, "o", ms=4, mew=0, color=_SHADE, alpha=alpha, label="cells")
    correlation = pd.Series(x).corr(pd.Series(y), method="spearman")
    ax.set_title(f"rank correlation {correlation:.2f} ({len(x):,} cells)", fontsize=TEXT)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.grid(color=PALE, lw=0.8)
    if same:
        limits = [min(ax.get_xlim()[0], ax.get_ylim()[0]), max(ax.get_xlim()[1], ax.get_ylim()[1])]
        ax.plot(limits, limits, color=INK, lw=1.1, ls="dashed", label="equal")
        ax.set(xlim=limits, ylim=limits, aspect="equal")
    return fig


def _from_the_middle(marked: Mapping[str, float], middle: float) -> list[tuple[str, float]]:
    """Marks from low to high: no label, written towards the middle, lies on the line of a higher one."""
    left = [item for item in marked.items() if item[1] < middle]
    right = [item for item in marked.items() if item[1] >= middle]
    return sorted(left, key=lambda item: -item[1]) + sorted(right, key=lambda item: item[1])
