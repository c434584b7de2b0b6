"""Figures of many variants: what came of their searches beside what happened in them, and over λ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ldarts_book.figures._canvas import (
    ACCENT,
    GREY,
    INK,
    PALE,
    REFERENCES,
    SMALL,
    TEXT,
    check_references,
    dress_rows,
    mark_references,
    new_figure,
    strip,
)
from ldarts_book.figures._styles import method_styles

_LOOKS = (
    ("#d55e00", "o"),
    ("#0072b2", "s"),
    ("#117a65", "D"),
    ("#5c5c5c", "^"),
    ("#742a86", "P"),
    ("#8a4b2a", "v"),
)
_APART = 0.09


def draw_variants(
    summary: pd.DataFrame, families: Mapping[str, Sequence[str]], *, references: Mapping[str, float]
) -> Figure:
    """One row per variant: accuracy with its interval, collapsed searches, training loss and Λ.

    Args:
        summary: one row per variant, the columns of :func:`ldarts_book.studies.statistics.report` and of
            :func:`ldarts_book.studies.statistics.last_epochs`.
        families: names of variants under the name that they share, from top to bottom.
        references: as for :func:`~ldarts_book.figures.tables.compare_accuracies`.

    Raises:
        ValueError: there is no variant, one is not in the summary, or a reference is unknown.
    """
    names = [name for members in families.values() for name in members]
    if not names:
        raise ValueError("nothing to draw: give at least one variant")
    if missing := [name for name in names if name not in summary.index]:
        raise ValueError(f"unknown variant {missing[0]!r}; the summary has {', '.join(summary.index)}")
    fig, axes = new_figure(
        1, 3, (9.4, 0.33 * len(names) + 1.9), sharey=True, gridspec_kw={"width_ratios": (2.7, 1, 1)}
    )
    start = 0
    for (family, members), (colour, marker) in zip(families.items(), _LOOKS, strict=False):
        rows, y = summary.loc[list(members)], start + np.arange(len(members))
        look = {"color": colour, "marker": marker, "ms": 7, "mec": "white", "mew": 0.8, "ls": "none"}
        axes[0].hlines(y, rows["low"], rows["high"], color=colour, lw=2.2)
        for ax, column in zip(axes, ("mean", "train_loss", "valid_alignment"), strict=True):
            ax.plot(rows[column], y, label=family, **look)
        right = {"transform": axes[0].get_yaxis_transform(), "ha": "right", "va": "center"}
        for place, row in zip(y, rows.itertuples(), strict=True):
            axes[0].text(1, place, f"{row.collapsed} of {row.n}", fontsize=SMALL, color=INK, **right)
        start += len(members)
    titles = ("mean accuracy, 95 %; how many collapsed", "training loss", "Λ, α batches")
    for ax, title in zip(axes, titles, strict=True):
        dress_rows(ax, names, title)
    left, right = axes[0].get_xlim()
    widest = max(right, *references.values())
    axes[0].set_xlim(left, widest + 0.3 * (widest - left))
    mark_references(axes[0], references)
    axes[2].axvline(0, color=GREY, lw=1, zorder=0)
    handles = axes[0].get_legend_handles_labels()
    fig.legend(
        *handles, loc="outside lower left", ncols=3, frameon=False, fontsize=SMALL, labelcolor=INK,
        handletextpad=0.2, columnspacing=1.2,
    )  # fmt: skip
    return fig


def draw_strengths(summary: pd.DataFrame, *, references: Mapping[str, float]) -> Figure:
    """Accuracy, collapsed searches, Λ and training loss over the strength λ, one line per form.

    Args:
        summary: index (form, strength), strengths in ascending order; columns as for :func:`draw_variants`.
            A row of λ = 0 belongs to every form.
        references: horizontal lines in the panel of the accuracy, as for
            :func:`~ldarts_book.figures.tables.compare_accuracies`.

    Raises:
        ValueError: there is no row, or a reference is unknown.
    """
    if summary.empty:
        raise ValueError("nothing to draw: the summary has no row")
    check_references(references)
    table = summary.assign(share=summary["collapsed"] / summary["n"])
    forms, strengths = list(table.index.unique(0)), sorted(table.index.unique(1))
    fig, axes = new_figure(2, 2, (7.4, 6.0))
    shifts = (np.arange(len(forms)) - (len(forms) - 1) / 2) * _APART
    bounds = {"mean": ("low", "high"), "share": ("collapse_low", "collapse_high")}
    columns = ("mean", "share", "valid_alignment", "train_loss")
    for form, style, shift in zip(forms, method_styles(forms), shifts, strict=True):
        rows = table.loc[form]
        x = np.array([strengths.index(value) for value in rows.index]) + shift
        for ax, column in zip(axes, columns, strict=True):
            ax.plot(
                x, rows[column], color=style.colour, ls=style.line, marker=style.marker, lw=1.8, ms=6.5,
                mec="white", mew=0.7, label=style.label, zorder=3,
            )  # fmt: skip
            if column in bounds:
                low, high = (rows[bound] for bound in bounds[column])
                ax.vlines(x, low, high, color=style.colour, lw=1.4, alpha=0.7)
    for name, y in references.items():
        axes[0].axhline(y, color=ACCENT, lw=1.2, ls=REFERENCES[name], zorder=1)
        axes[0].annotate(
            name, (1, y), xycoords=axes[0].get_yaxis_transform(), xytext=(3, 0), textcoords="offset points",
            fontsize=SMALL - 1.5, color=ACCENT, va="center",
        )  # fmt: skip
    titles = (
        "mean accuracy, 95 %",
        "share of collapsed searches, 95 %",
        "Λ on the batches of α",
        "training loss",
    )
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, loc="left", fontsize=SMALL + 0.5, color=INK, pad=7)
        ax.set_xticks(range(len(strengths)), [_fraction(value) for value in strengths])
        ax.set_xlabel("strength λ", fontsize=SMALL, color=INK)
        strip(ax)
        ax.grid(axis="y", color=PALE, lw=0.8)
    handles = axes[0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper left", ncols=3, frameon=False, fontsize=TEXT, labelcolor=INK)
    return fig


def _fraction(value: float) -> str:
    return f"1/{round(1 / value)}" if 0 < value < 1 else f"{value:g}"
