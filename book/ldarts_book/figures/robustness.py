"""Forest plots: one row per setting, with an interval for each method or for their difference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldarts_book.figures._canvas import GREY, INK, TEXT, dress_rows, mark_references, new_figure
from ldarts_book.figures._styles import MethodStyle, method_styles

_APART = 0.17
_OVERALL = MethodStyle("all settings", INK, marker="D")


def forest_plot(summary: pd.DataFrame, *, references: Mapping[str, float]) -> Figure:
    """Collapsed searches and mean accuracy of every setting and method, with 95 % intervals.

    Args:
        summary: rows of :func:`ldarts_book.robustness.summarize`, for which the index is (setting,
        variant).
        references: as for :func:`~ldarts_book.figures.tables.compare_accuracies`.

    Raises:
        ValueError: there is no row, or a reference is unknown.
    """
    _require_rows(summary)
    settings = list(summary.index.unique("setting"))
    methods = list(summary.index.unique("variant"))
    fig, (left, right) = new_figure(1, 2, (6.6, 0.52 * len(settings) + 1.75), sharey=True)
    places = np.linspace(-_APART, _APART, len(methods)) if len(methods) > 1 else [0.0]
    for style, method, place in zip(method_styles(methods), methods, places, strict=True):
        rows = summary.xs(method, level="variant")
        y = np.array([settings.index(setting) for setting in rows.index]) + place
        share = rows["collapsed"] / rows["n"]
        _draw(left, y, share, rows["collapse_low"], rows["collapse_high"], style)
        _draw(right, y, rows["mean"], rows["low"], rows["high"], style)
    dress_rows(left, settings, "share of collapsed searches")
    left.set(xlim=(-0.04, 1.04), xticks=(0, 0.5, 1))
    dress_rows(right, settings, "mean accuracy (Digits-201)")
    mark_references(right, references)
    handles = left.get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper left", ncols=2, frameon=False, fontsize=TEXT, labelcolor=INK)
    return fig


def gain_plot(summary: pd.DataFrame, overall: pd.Series) -> Figure:
    """What Λ-DARTS has more than DARTS on the same seeds, for every setting and for all together.

    Args:
        summary: rows of :func:`ldarts_book.robustness.summarize`.
        overall: of :func:`ldarts_book.robustness.overall`; the diamond in the last row.

    Raises:
        ValueError: there is no row.
    """
    _require_rows(summary)
    (style,) = method_styles(["Λ-DARTS"])
    rows = summary.xs(style.label, level="variant")
    names = [*rows.index, _OVERALL.label]
    fig, (ax,) = new_figure(1, 1, (5.4, 0.4 * len(names) + 1.0))
    _draw(ax, np.arange(len(rows)), rows["gain"], rows["gain_low"], rows["gain_high"], style)
    last = (overall[[name]].astype(float) for name in ("gain", "gain_low", "gain_high"))
    _draw(ax, np.array([len(rows)]), *last, _OVERALL)
    dress_rows(ax, names, "gain of Λ-DARTS in mean accuracy")
    ax.axhline(len(rows) - 0.5, color=GREY, lw=1)
    ax.axvline(0, color=INK, lw=1.2, ls="dashed", zorder=1)
    return fig


def _require_rows(summary: pd.DataFrame) -> None:
    if summary.empty:
        raise ValueError("nothing to draw: the summary has no row")


def _draw(
    ax: Axes, y: np.ndarray, middle: pd.Series, low: pd.Series, high: pd.Series, style: MethodStyle
) -> None:
    ax.hlines(y, low, high, color=style.colour, lw=2.2, zorder=2)
    mark = {"marker": style.marker, "ms": 7, "mec": "white", "mew": 0.8, "ls": "none", "zorder": 3}
    ax.plot(middle, y, color=style.colour, label=style.label, **mark)
