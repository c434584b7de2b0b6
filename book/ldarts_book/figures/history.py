"""The history of one run as curves."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from ldarts_book.figures._canvas import ACCENT, GREY, INK, SMALL, dress, new_figure

_COLOURS = (INK, ACCENT, GREY)
_STYLES = ("solid", "dashed", "dotted")


def draw_history(history: pd.DataFrame, *panels: Sequence[str]) -> Figure:
    """Columns of a run's history over the epochs, one panel per group of columns.

    Args:
        history: one row per epoch.
        panels: the columns of each panel, at most three; where a column is NaN it has no point.

    Raises:
        ValueError: a column that the history does not have, or more than three in a panel.
    """
    unknown = [name for names in panels for name in names if name not in history]
    if unknown:
        raise ValueError(f"the history has no column {unknown[0]!r}; it has {', '.join(history)}")
    if any(len(names) > len(_COLOURS) for names in panels):
        raise ValueError(f"a panel shows at most {len(_COLOURS)} columns")
    fig, axes = new_figure(1, len(panels), (4.2 * len(panels), 3.0))
    for ax, names in zip(axes, panels, strict=True):
        for name, colour, style in zip(names, _COLOURS, _STYLES, strict=False):
            known = history[["epoch", name]].dropna()
            label = name.replace("_", " ")
            ax.plot(known["epoch"], known[name], color=colour, ls=style, marker=".", label=label)
        dress(ax, ", ".join(name.replace("_", " ") for name in names))
        if len(names) > 1:
            ax.legend(frameon=False, fontsize=SMALL)
    return fig
