"""What all figures share: figures that pyplot does not keep, axes in one dress, references and legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ldarts_book.figures.style import GREY, INK, PALE, REFERENCES, SMALL


def grid(count: int, across: int) -> list[list[Any]]:
    """Places of axes in reading order; a lone one of two takes the whole row."""
    rows: list[list[Any]] = [list(range(count))[place : place + across] for place in range(0, count, across)]
    rows[-1] += [rows[-1][-1] if across == 2 else "."] * (across - len(rows[-1]))
    return rows


def new_figure(
    places: Sequence[Sequence[Any]], size: tuple[float, float], **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure that pyplot does not keep, and its axes in reading order.

    Args:
        places: of the axes, as :func:`grid` gives them.
        size: width and height in inches.
        options: more arguments of ``pyplot.subplot_mosaic``.
    """
    look = {"dpi": 144, "facecolor": "white", "layout": "constrained"}
    fig, axes = plt.subplot_mosaic(places, figsize=size, **(look | options))
    plt.close(fig)
    for ax in axes.values():
        # Ticks are made when the figure is drawn, long after the style sheet is closed.
        ax.tick_params(labelsize=SMALL, colors=INK, length=0, which="both")
    return fig, list(axes.values())


def dress(ax: Axes, title: str, *, x: str = "epoch", integer: bool = False) -> None:
    """Axes of numbers over x: what y shows stands above the axes, the lines of a grid carry the values.

    Args:
        integer: whether y counts something.
    """
    ax.set_title(title)
    ax.set_xlabel(x)
    ax.grid(axis="y", color=PALE, lw=0.8)
    if ax.get_xscale() == "linear":
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=x.startswith("epoch"), steps=[1, 2, 5, 10]))
    if ax.get_yscale() == "linear":
        steps = [1, 2, 5, 10] if integer else [1, 2, 2.5, 5, 10]
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=integer, steps=steps))


def mark_references(ax: Axes, references: Mapping[str, float], *, of: str = "y") -> None:
    """Lines across the axes at values of x or y, named in the legend; one without a name is thin and grey."""
    draw = ax.axhline if of == "y" else ax.axvline
    for name, value in references.items():
        if name:
            label = f"{name}: {value:.3g}"
            draw(value, color=INK, lw=1.3, ls=REFERENCES.get(name, "dashed"), zorder=1.5, label=label)
        else:
            draw(value, color=GREY, lw=1, zorder=1)
    ax.autoscale_view()


def add_legend(fig: Figure, note: str = "", handles: Sequence[Artist] = ()) -> None:
    """What is labelled in any of the axes, once each, above them.

    Args:
        note: a line above it.
        handles: what comes first.
    """
    found = {str(handle.get_label()): handle for handle in handles}
    for ax in fig.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        place = {
            "loc": "outside upper left",
            "ncols": 2 if fig.get_figwidth() > 5.5 else 1,
            "alignment": "left",
        }
        fig.legend(found.values(), found.keys(), title=note or None, **place)
