"""Figures of exact accuracies: methods against each other, and what a table of all cells looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldarts_book.figures._canvas import ACCENT, INK, PALE, SMALL, TEXT, mark_references, new_figure, strip
from ldarts_book.figures._styles import method_styles

_BLUE = "#0b4a86"
_HALO = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.85}


def compare_accuracies(
    accuracies: Mapping[str, Sequence[float]],
    intervals: Mapping[str, tuple[float, float]],
    *,
    references: Mapping[str, float],
    label: str = "test accuracy",
) -> Figure:
    """One row per method: a dot for each seed, and the mean with its confidence interval.

    Args:
        accuracies: for each method those of its seeds, in the order of the rows.
        intervals: for each method the ends of the 95 % interval of the mean; NaN where it is not known.
        references: accuracies of the ``random cell``, of ``random search``, of the ``best cell``, if known.
        label: what the x axis shows.

    Raises:
        ValueError: there is no method, one has no accuracy or no interval, its mean is not in it, or a
            reference is unknown.
    """
    if not accuracies or not all(len(values) for values in accuracies.values()):
        raise ValueError("nothing to draw: give at least one method and one accuracy of each")
    if set(accuracies) != set(intervals):
        raise ValueError(f"intervals must be given for {list(accuracies)}, got {list(intervals)}")
    fig, (ax,) = new_figure(1, 1, (4.3, 0.62 * len(accuracies) + 1.15))
    for row, (name, style) in enumerate(zip(accuracies, method_styles(list(accuracies)), strict=True)):
        values, (low, high) = np.asarray(accuracies[name], dtype=float), intervals[name]
        mean = values.mean()
        if low > mean or high < mean:
            raise ValueError(f"{name}: the mean {mean:.4f} is not in its interval [{low:.4f}, {high:.4f}]")
        ax.plot(
            values, np.full(len(values), row), "o", ms=6, mfc="none", mec=style.colour, mew=1.1, alpha=0.75
        )
        ax.plot([low, high], [row + 0.2] * 2, color=INK, lw=2.2, solid_capstyle="butt", label="interval")
        ax.plot(mean, row + 0.2, "D", color=INK, ms=6, mec="white", mew=0.8, zorder=4, label="mean")
        text = f"{style.label}: {mean:.3f} (n = {len(values)})"
        place = {"transform": ax.get_yaxis_transform(), "va": "bottom"}
        ax.text(0, row - 0.2, text, fontsize=TEXT, color=INK, bbox=_HALO, zorder=5, **place)
    mark_references(ax, references)
    ax.set(ylim=(len(accuracies) - 0.45, -0.75), yticks=[])
    ax.set_xlabel(f"{label}\ncircle: one seed; diamond and bar: mean, 95 %", fontsize=SMALL, color=INK)
    strip(ax)
    return fig


def table_distribution(
    accuracies: npt.ArrayLike,
    marked: Mapping[str, float],
    *,
    counts: npt.ArrayLike | None = None,
    bins: int = 60,
    label: str = "test accuracy",
) -> Figure:
    """How the accuracies of all cells of a table are distributed, with some cells named.

    Args:
        accuracies: [rows].
        marked: accuracies of named cells.
        counts: number of cells that each row stands for, [rows]; by default one.
        bins: of the histogram.
        label: what the x axis shows.

    Raises:
        ValueError: the table is empty, or the counts are not as many as the accuracies.
    """
    values = np.asarray(accuracies, dtype=float)
    if not values.size:
        raise ValueError("nothing to draw: the table is empty")
    weights = np.ones(len(values)) if counts is None else np.asarray(counts, dtype=float)
    if weights.shape != values.shape:
        raise ValueError(f"expected {len(values)} counts, got {len(weights)}")
    fig, (ax,) = new_figure(1, 1, (5.6, 2.7 + 0.2 * len(marked)))
    ax.hist(values, bins=bins, weights=weights, color=_BLUE, alpha=0.75)
    top = ax.get_ylim()[1]
    step = top * 0.2 / 2.1
    ends = [values.min(), values.max(), *marked.values()]
    middle = (min(ends) + max(ends)) / 2
    for level, (name, x) in enumerate(_from_the_middle(marked, middle)):
        height = top + step * (level + 0.6)
        ax.plot([x, x], [0, height], color=ACCENT, lw=1.2, label=name)
        side = "left" if x < middle else "right"
        ax.text(
            x, height, f" {name} {x:.3f} ", ha=side, va="center", fontsize=SMALL, color=INK, bbox=_HALO,
            zorder=5,
        )  # fmt: skip
    ax.set_ylim(0, top + step * (len(marked) + 0.5))
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= top])
    ax.set_title(f"cells per bin, {weights.sum():,.0f} in all", loc="left", fontsize=SMALL + 0.5, color=INK)
    ax.set_xlabel(label, fontsize=SMALL, color=INK)
    strip(ax)
    return fig


def seed_agreement(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    labels: tuple[str, str] = ("accuracy, seed 0", "accuracy, seed 1"),
) -> Figure:
    """How far two trainings of the same cells agree: their accuracies, and the rank correlation.

    Args:
        first, second: accuracies with the two seeds, [cells].
        labels: of the axes.

    Raises:
        ValueError: the accuracies are not of the same cells, or of fewer than three.
    """
    fig, ax = _scatter(first, second, labels)
    limits = [min(ax.get_xlim()[0], ax.get_ylim()[0]), max(ax.get_xlim()[1], ax.get_ylim()[1])]
    ax.plot(limits, limits, color=INK, lw=1.1, ls="dashed", label="equal")
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    return fig


def against(first: npt.ArrayLike, second: npt.ArrayLike, *, labels: tuple[str, str]) -> Figure:
    """The same cells on two benchmarks: their accuracies, and the rank correlation.

    Args:
        first, second: accuracies on the two benchmarks, [cells].
        labels: of the axes.

    Raises:
        ValueError: the accuracies are not of the same cells, or of fewer than three.
    """
    return _scatter(first, second, labels)[0]


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Spearman's ρ: the correlation of the ranks, ties sharing theirs."""
    ranks = [pd.Series(np.asarray(values, dtype=float)).rank() for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def _scatter(first: npt.ArrayLike, second: npt.ArrayLike, labels: tuple[str, str]) -> tuple[Figure, Axes]:
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if x.shape != y.shape or x.size < 3:
        raise ValueError(f"give the accuracies of the same cells, at least three, got {x.size} and {y.size}")
    fig, (ax,) = new_figure(1, 1, (4.3, 4.3))
    alpha = float(np.clip(400 / len(x), 0.08, 0.8))
    ax.plot(x, y, "o", ms=4, mew=0, color=_BLUE, alpha=alpha, label="cells")
    title = f"rank correlation {rank_correlation(x, y):.2f} ({len(x):,} cells)"
    ax.set_title(title, loc="left", fontsize=TEXT, color=INK)
    ax.set_xlabel(labels[0], fontsize=SMALL, color=INK)
    ax.set_ylabel(labels[1], fontsize=SMALL, color=INK)
    ax.grid(color=PALE, lw=0.8)
    ax.set_axisbelow(True)
    strip(ax)
    return fig, ax


def _from_the_middle(marked: Mapping[str, float], middle: float) -> list[tuple[str, float]]:
    """Marks from low to high: no label, written towards the middle, lies on the line of a higher one."""
    left = [item for item in marked.items() if item[1] < middle]
    right = [item for item in marked.items() if item[1] >= middle]
    return sorted(left, key=lambda item: -item[1]) + sorted(right, key=lambda item: item[1])
