"""Figures of published numbers, with ours marked where there are some."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldarts_book.figures._canvas import ACCENT, INK, SMALL, TEXT, dress, dress_rows, new_figure
from ldarts_book.figures._styles import MethodStyle, method_styles

_OF_THE_PAPER = method_styles(["Λ-DARTS"])[0].colour
_MARKS = "osD^vPX*p<>h"


def compare_published(
    published: pd.DataFrame,
    ours: Mapping[str, tuple[float, float]],
    *,
    label: str,
    left: float | None = None,
) -> Figure:
    """One row per method: the published value with its standard deviation, and ours below it.

    Args:
        published: rows of :func:`ldarts_book.published.numbers.rows_of` with one value per method.
        ours: mean and standard deviation (NaN if not known) of the methods that were run here.
        label: what the x axis shows.
        left: left end of the x axis; values below it are written at the edge.

    Raises:
        ValueError: there is no value, a method has two rows, or ours is of a method without a row.
    """
    rows = published.set_index("method")
    if rows["value"].notna().sum() == 0:
        raise ValueError("nothing to draw: no published value")
    if not rows.index.is_unique:
        raise ValueError(f"{rows.index[rows.index.duplicated()][0]!r} has two values: choose one quantity")
    if unknown := [name for name in ours if name not in rows.index]:
        raise ValueError(f"no published row {unknown[0]!r}; choose one of {', '.join(rows.index)}")
    fig, (ax,) = new_figure(1, 1, (5.8, 0.36 * len(rows) + 1.1))
    for place, (name, row) in enumerate(rows.iterrows()):
        colour = _OF_THE_PAPER if name == "Λ-DARTS" else INK
        _mark(ax, place - 0.15 * (name in ours), row["value"], row["std"], colour, "o", left)
        if name in ours:
            _mark(ax, place + 0.2, *ours[name], ACCENT, "D", left)
    dress_rows(ax, list(rows.index), label)
    if left is not None:
        ax.set_xlim(left=left)
    for marker, colour, text in (("o", INK, "published"), ("D", ACCENT, "run here")):
        ax.plot([], [], marker, color=colour, ms=7, mec="white", label=text)
    if ours:
        fig.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=TEXT, labelcolor=INK)
    return fig


def compare_protocols(panels: Mapping[str, pd.DataFrame], *, label: str = "test error (%)") -> Figure:
    """One panel per protocol, each with its own methods: spaces from top to bottom, a mark per method.

    Args:
        panels: under a title, rows of one published table and one data set; without a value nothing is drawn.
        label: what the x axes show.

    Raises:
        ValueError: there is no panel, or one of them has no value.
    """
    if not panels or not all(rows["value"].notna().any() for rows in panels.values()):
        raise ValueError("nothing to draw: give at least one panel, each with a value")
    fig, axes = new_figure(len(panels), 1, (6.2, 2.75 * len(panels)), sharex=True)
    for ax, (title, rows) in zip(axes, panels.items(), strict=True):
        spaces = list(rows["space"].unique())
        names = list(rows.loc[rows["value"].notna(), "method"].unique())
        offsets = np.linspace(-0.3, 0.3, len(names)) if len(names) > 1 else [0.0]
        for style, marker, offset in zip(method_styles(names), _MARKS, offsets, strict=False):
            several = rows[rows["method"] == style.label]
            y = [spaces.index(space) + offset for space in several["space"]]
            ax.errorbar(
                several["value"], y, xerr=several["std"].fillna(0), fmt=marker, ms=6.5, color=style.colour,
                mec="white", mew=0.6, lw=1.6, label=style.label,
            )  # fmt: skip
        dress_rows(ax, [space.upper() for space in spaces], label if ax is axes[-1] else "")
        ax.set_title(title, loc="left", fontsize=TEXT, color=INK)
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=SMALL)
    return fig


def compare_figure1(published: pd.DataFrame, ours: pd.DataFrame) -> Figure:
    """Alignment and accuracy over the epochs: left the paper's Figure 1, digitised, right our searches.

    Args:
        published: of :func:`ldarts_book.published.numbers.figure1`.
        ours: epochs of a study, judged: ``variant``, ``seed``, ``epoch``, ``valid_alignment``, ``accuracy``.

    Raises:
        ValueError: a method of the figure is not among our variants.
    """
    methods = list(published["method"].unique())
    if missing := sorted(set(methods) - set(ours["variant"])):
        raise ValueError(f"no searches of {missing[0]!r}; there are {', '.join(ours['variant'].unique())}")
    fig, axes = new_figure(2, 2, (7.0, 5.4))
    for style in method_styles(methods):
        points = published[published["method"] == style.label]
        runs = ours[ours["variant"] == style.label]
        for row, (theirs, own, scale) in enumerate(
            (("alignment", "valid_alignment", 1), ("accuracy", "accuracy", 100))
        ):
            axes[2 * row].errorbar(
                points["epoch"], points[theirs], yerr=points[f"{theirs}_error"], color=style.colour,
                marker=style.marker, ms=5.5, mec="white", lw=2, elinewidth=1.2, label=style.label,
            )  # fmt: skip
            _band(axes[2 * row + 1], scale * runs.pivot(index="epoch", columns="seed", values=own), style)
    titles = (
        "Λ, Figure 1 of the paper",
        "Λ of the α batches, our searches",
        "CIFAR-10 accuracy (%), Figure 1",
        "accuracy on noisy-digits (%), ours",
    )
    for ax, title in zip(axes, titles, strict=True):
        dress(ax, title)
    handles = axes[0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper left", ncols=2, frameon=False, fontsize=TEXT, labelcolor=INK)
    return fig


def draw_budget(multiply_adds: Mapping[str, float], limit: float) -> Figure:
    """The cost of networks beside a limit, both in millions of multiply-adds.

    Args:
        multiply_adds: of each network, in the order of the rows.
        limit: the largest cost that is allowed.

    Raises:
        ValueError: there is no network.
    """
    if not multiply_adds:
        raise ValueError("nothing to draw: give at least one network")
    fig, (ax,) = new_figure(1, 1, (5.8, 0.33 * len(multiply_adds) + 1.1))
    for place, value in enumerate(multiply_adds.values()):
        colour = ACCENT if value > limit else _OF_THE_PAPER
        ax.plot([0, value], [place, place], color=colour, lw=1.6)
        ax.plot(value, place, "s" if value > limit else "o", color=colour, ms=7)
        at_right = {"transform": ax.get_yaxis_transform(), "va": "center"}
        ax.text(1.02, place, f"{value:.0f}", fontsize=SMALL, color=INK, **at_right)
    dress_rows(ax, list(multiply_adds), "multiply-adds of one image (millions)")
    ax.axvline(limit, color=INK, lw=1.3, ls="dashed")
    ax.set_xlim(0, 1.05 * max(limit, *multiply_adds.values()))
    return fig


def draw_last_step(windows: pd.DataFrame) -> Figure:
    """The last time step's gradient beside the window's: their cosine, and the alignment of each.

    Args:
        windows: of :func:`ldarts_book.ptb.last_against_all`.

    Raises:
        ValueError: there is no window.
    """
    if windows.empty:
        raise ValueError("nothing to draw: no window")
    fig, (left, right) = new_figure(1, 2, (7.0, 2.9))
    means = windows.groupby("length").mean()
    x = np.arange(len(means))
    places = {length: place for place, length in enumerate(means.index)}
    left.plot(windows["length"].map(places), windows["cosine"], "o", ms=4, color=_OF_THE_PAPER, alpha=0.35)
    left.plot(x, means["cosine"], "D-", color=_OF_THE_PAPER, ms=6, mec="white", label="mean")
    left.plot(x, means.index.to_numpy() ** -0.5, color=INK, ls="dashed", label=r"$1/\sqrt{T}$")
    for column, line, mark in (("alignment", "solid", "o"), ("alignment of the last step", "dashed", "s")):
        label = "all steps" if column == "alignment" else "last step"
        error = windows.groupby("length")[column].sem().fillna(0)
        right.errorbar(
            x, means[column], yerr=error, ls=line, marker=mark, color=INK, mec="white", label=label
        )
    for ax, title in ((left, "cosine of last step and window"), (right, "Λ, mean ± standard error")):
        dress(ax, title, x="words per window, T")
        ax.set_xticks(x, means.index)
        ax.legend(frameon=False, fontsize=SMALL, labelcolor=INK)
    return fig


def _mark(ax: Axes, y: float, value: float, std: float, colour: str, marker: str, left: float | None) -> None:
    if pd.isna(value):
        return
    if left is not None and value < left:
        ax.text(left, y, f" ◂ {value:.2f}", va="center", fontsize=SMALL, color=colour)
        return
    error = None if pd.isna(std) else std
    ax.errorbar(value, y, xerr=error, fmt=marker, color=colour, ms=7, mec="white", mew=0.8, lw=1.8)


def _band(ax: Axes, seeds: pd.DataFrame, style: MethodStyle) -> None:
    """The mean over the seeds, and the middle half of them; ``seeds`` is [epochs, seeds]."""
    ax.plot(seeds.index, seeds.mean(axis=1), color=style.colour, lw=2, label=style.label)
    low, high = (seeds.quantile(q, axis=1) for q in (0.25, 0.75))
    ax.fill_between(seeds.index, low, high, color=style.colour, alpha=0.18, lw=0)
