"""Accuracy against cost: what is dearer and worse than something else."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ldarts_book.figures.canvas import add_legend, dress, grid, new_figure
from ldarts_book.figures.style import GREY, INK, looks, styled
from ldarts_book.studies.study import FAMILY_OF


@styled
def dominance(table: pd.DataFrame, chance: pd.DataFrame, front: Sequence[str] = ()) -> Figure:
    """A mark with its interval (``mean``, ``low``, ``high``) per row at its ``cost``, in trainings of a cell.

    Lines join random search, ``chance``, and the rows ``front`` that nothing dominates.
    """
    fig, (ax,) = new_figure(grid(1, 1), (6.2, 4 + 0.14 * len(table)))
    chance, best = chance.sort_values("cost"), table.loc[[*front]]
    ax.plot(chance["cost"], chance["mean"], color=INK, lw=1.3, ls="dashdot", label="random search")
    ax.plot(best["cost"], best["mean"], color=GREY, lw=1.2, zorder=1, label="dominated by none")
    families = [FAMILY_OF.get(name, name) for name in table.index]  # a method looks alike in each strength
    for name, look in zip(table.index, looks(families).values(), strict=True):
        row = table.loc[name]
        ax.vlines(row["cost"], row["low"], row["high"], color=look.colour, lw=1.4)
        ax.plot(row["cost"], row["mean"], label=name, zorder=3, **look.mark)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    dress(ax, "mean accuracy, 95 %", x="cost, in trainings of a cell")
    add_legend(fig)
    return fig
