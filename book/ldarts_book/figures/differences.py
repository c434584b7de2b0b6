"""The figure of the finite difference: how far it is from the exact gradient, over the length ε0."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldarts_book.figures._canvas import GREY, INK, PALE, SMALL, TEXT, new_figure

PUBLISHED = (1e-4, 1e-3)
"""The lengths of the paper's experiments."""

_LOOKS = (("#d55e00", "solid", "o"), ("#0072b2", "dashed", "s"), ("#117a65", "dashdot", "^"))
_SMALLEST = 1e-12


def draw_differences(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Cosine with the exact gradient, relative error, and activations that switch, over ε0.

    The lengths of the paper's experiments are shaded. An error of zero is drawn at the lower edge; switches
    are drawn where there are any.

    Args:
        tables: of :func:`ldarts_book.differences.against_exact`, under the names of the networks.

    Raises:
        ValueError: there is no table.
    """
    if not tables:
        raise ValueError("nothing to draw: give at least one table")
    fig, axes = new_figure(2, 2, (7.2, 5.9))
    for (name, table), (colour, line, marker) in zip(tables.items(), _LOOKS, strict=False):
        look = {"color": colour, "ls": line, "marker": marker, "lw": 2, "ms": 5.5, "mec": "white", "mew": 0.6}
        axes[0].plot(table.index, table["cosine"], label=name, **look)
        axes[1].plot(table.index, table["error"].clip(lower=_SMALLEST), label=name, **look)
        flips = table["flips"][table["flips"] > 0]
        axes[2].plot(flips.index, flips, label=name, **look)
    _guide(axes[1], tables)
    titles = ("cosine with the exact gradient", "relative error", "share of activations that switch")
    for ax, title in zip(axes, titles, strict=False):
        _dress(ax, title, sorted({epsilon for table in tables.values() for epsilon in table.index}))
    axes[0].set_ylim(-0.25, 1.05)
    for ax in axes[1:3]:
        ax.set_yscale("log")
    axes[3].set_axis_off()
    axes[3].legend(
        *axes[0].get_legend_handles_labels(), loc="center left", frameon=False, handlelength=3.5,
        fontsize=TEXT, labelcolor=INK, title="shaded: the paper's ε0", title_fontsize=SMALL,
        alignment="left",
    )  # fmt: skip
    return fig


def _guide(ax: Axes, tables: Mapping[str, pd.DataFrame]) -> None:
    """A line of slope −1/2 through the largest error."""
    errors = next(iter(tables.values()))["error"]
    start = errors.idxmax()
    x = np.array([start, min(errors.index.max(), start * 1e3)])
    ax.plot(x, errors[start] * (x / start) ** -0.5, color=INK, lw=1.1, ls="dotted", label="slope −1/2")
    ax.annotate(
        "slope −1/2", (x[0], errors[start]), xytext=(14, 3), ha="left",
        textcoords="offset points", fontsize=SMALL, color=INK,
    )  # fmt: skip


def _dress(ax: Axes, title: str, epsilons: list[float]) -> None:
    ax.axvspan(*PUBLISHED, color=PALE, alpha=0.6, lw=0, zorder=0)
    ax.set_xscale("log")
    ax.set_xlim(epsilons[0] / 2, epsilons[-1] * 2)
    ax.set_title(title, loc="left", fontsize=SMALL + 0.5, color=INK, pad=7)
    ax.set_xlabel("length ε0 of the perturbation", fontsize=SMALL, color=INK)
    ax.tick_params(labelsize=SMALL, colors=INK, length=0, which="both")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(GREY)
    ax.grid(axis="y", color=PALE, lw=0.8)
    ax.set_axisbelow(True)
