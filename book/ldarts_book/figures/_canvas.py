"""What all figures share: ink, sizes of text, figures that pyplot does not keep, axes in one dress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, GREY, PALE = "#222222", "#8b9199", "#d9dde2"
ACCENT = "#c2410c"
TEXT, SMALL = 12, 10.5
REFERENCES = {"random cell": "dotted", "random search": "dashdot", "best cell": "dashed"}
"""What accuracies are held against, from the floor to the ceiling, and how its line is drawn."""


def new_figure(
    rows: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure that pyplot does not keep, and its axes in reading order.

    Args:
        rows, columns: of the axes.
        size: width and height in inches.
        options: more arguments of ``pyplot.subplots``.
    """
    look = {"dpi": 144, "facecolor": "white", "layout": "constrained"}
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **(look | options))
    plt.close(fig)
    return fig, list(axes.flat)


def dress(ax: Axes, title: str, *, x: str = "epoch", integer: bool = False) -> None:
    """Axes of numbers over epochs: the y label lies above its axis, lines of a grid carry the values.

    Args:
        ax: the axes.
        title: what the y axis shows.
        x: what the x axis shows.
        integer: whether y counts something.
    """
    ax.set_title(title, loc="left", fontsize=SMALL + 0.5, color=INK, pad=7)
    ax.set_xlabel(x, fontsize=SMALL, color=INK)
    ax.tick_params(labelsize=SMALL, colors=INK, length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(GREY)
    ax.grid(axis="y", color=PALE, lw=0.8)
    ax.set_axisbelow(True)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    steps = [1, 2, 5, 10] if integer else [1, 2, 2.5, 5, 10]
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=integer, steps=steps))


def check_references(references: Mapping[str, float]) -> None:
    """Raise :class:`ValueError` if there is a reference without a look."""
    if unknown := [name for name in references if name not in REFERENCES]:
        raise ValueError(f"unknown reference {unknown[0]!r}; choose from {', '.join(REFERENCES)}")


def mark_references(ax: Axes, references: Mapping[str, float]) -> None:
    """Vertical lines at accuracies, named above the axes: the best cell to the right of its line."""
    check_references(references)
    for name, x in references.items():
        ax.axvline(x, color=ACCENT, lw=1.3, ls=REFERENCES[name], zorder=1)
        place = {"transform": ax.get_xaxis_transform(), "va": "bottom"}
        side = "left" if name == "best cell" else "right"
        text = f"{name.replace(' ', chr(10))}\n{x:.3f}"
        ax.text(x, 1.01, text, fontsize=SMALL, color=ACCENT, ha=side, **place)


def dress_rows(ax: Axes, names: Sequence[str], label: str) -> None:
    """Axes of one row per name, from top to bottom, every other one shaded; the label is that of x."""
    for row in range(1, len(names), 2):
        ax.axhspan(row - 0.5, row + 0.5, color=PALE, alpha=0.45, lw=0, zorder=0)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel(label, fontsize=SMALL, color=INK)
    strip(ax)


def strip(ax: Axes) -> None:
    """No frame but a grey line below."""
    ax.tick_params(labelsize=SMALL, colors=INK, length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(GREY)
    ax.set_axisbelow(True)


def label_at_right(ax: Axes, heights: Mapping[str, float], *, gap: float, colours: Sequence[str]) -> None:
    """Write labels to the right of the axes, at their heights or, where they are too close, near them.

    Args:
        ax: the axes; the limits and the scale of y must be final.
        heights: for each label the y value that it belongs to.
        gap: smallest distance of two labels, as a share of the height of the axes.
        colours: of the labels.
    """
    points = ax.transData.transform([(ax.get_xlim()[1], y) for y in heights.values()])
    places = ax.transAxes.inverted().transform(points)[:, 1]
    line = {"arrowstyle": "-", "color": GREY, "lw": 0.8, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
    for text, place, moved, colour in zip(heights, places, spread(places, gap), colours, strict=True):
        ax.annotate(
            text, (1, place), (1.035, moved), xycoords="axes fraction", fontsize=SMALL, color=colour,
            va="center", arrowprops=line, annotation_clip=False,
        )  # fmt: skip


def spread(places: npt.ArrayLike, gap: float, highest: float = 1.0) -> npt.NDArray[np.float64]:
    """Places moved apart to a distance of at least ``gap``, in their order, none above ``highest``."""
    order = np.argsort(places, kind="stable")
    wanted = np.asarray(places, dtype=float)[order]
    steps = gap * np.arange(len(wanted))
    moved = np.maximum.accumulate(wanted - steps) + steps
    moved = np.minimum(moved - (moved - wanted).mean(), highest - steps[::-1])
    return moved[np.argsort(order)]
