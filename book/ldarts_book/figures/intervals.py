"""Rows of marks with intervals: methods, settings, variants and published numbers beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ldarts_book.figures.canvas import add_legend, grid, mark_references, new_figure
from ldarts_book.figures.style import PALE, PLAIN, TEXT, Look, known_look, looks, styled

Panel = str | tuple[str, str, str]
"""A column with the middle, or three: middle, low and high end of the interval."""

_APART = 0.17
_ROUNDING = 1e-9


@styled
def intervals(
    table: pd.DataFrame,
    panels: Mapping[str, Panel],
    *,
    families: Mapping[str, Sequence[str]] | None = None,
    references: Mapping[str, Mapping[str, float]] | None = None,
    counts: Sequence[str] = (),
    seeds: Mapping[str, Sequence[float]] | None = None,
    left: float | None = None,
) -> Figure:
    """Marks with intervals: a row per name, a panel per quantity.

    A row that is a method has the method's look, all others one look or that of their family. What is not
    known (NaN) is not drawn.

    Args:
        table: one line per mark. Its index holds the rows from top to bottom; if it has two levels, the
            second names the marks of a row, which lie below each other.
        panels: for each panel what its x axis shows, and the columns of the table.
        families: names of rows under the name that they share: only these rows, in this order.
        references: values to hold the marks against, named, of the panel with this column as its middle.
        counts: columns whose numbers are written beside the first panel: "7 of 20".
        seeds: for each row the single values behind its mark, drawn as circles; the row's name, its mean and
            the number of seeds then stand above them.
        left: left end of the x axes; a value below it is written at the edge.

    Raises:
        ValueError: there is nothing to draw, a mark is given twice or not in its interval, or a row, column
            or panel is named that does not exist.
    """
    columns = {title: (panel,) if isinstance(panel, str) else tuple(panel) for title, panel in panels.items()}
    if families is not None:
        rows = [name for members in families.values() for name in members]
        if missing := [name for name in rows if name not in table.index]:
            raise ValueError(f"unknown row {missing[0]!r}; the table has {', '.join(table.index)}")
        table = table.loc[rows]
    _validate(table, columns, references or {}, counts)
    names = list(table.index.unique(0))
    if seeds is not None and set(seeds) != set(names):
        raise ValueError(f"seeds must be given for {names}, got {list(seeds)}")
    marks, legend = _looks(table, [panel[0] for panel in columns.values()], families or {})
    places = _places(table) + (0.2 if seeds is not None else 0)
    widths = [1 if len(panel) == 1 else 2 for panel in columns.values()]
    tall = 0.62 if seeds is not None else 0.24 + 0.1 * table.groupby(level=0).size().max()
    beside = 0 if seeds is not None else 0.085 * max(len(name) for name in names)
    size = max(beside + 1.4 * sum(widths), 4.3), tall * len(names) + 1.6
    fig, axes = new_figure(grid(len(columns), len(columns)), size, sharey=True, width_ratios=widths)
    for ax, (title, panel) in zip(axes, columns.items(), strict=True):
        for place, look, values in zip(places, marks, table[list(panel)].to_numpy(float), strict=True):
            _draw_mark(ax, place, values, look, left)
        mark_references(ax, (references or {}).get(panel[0], {}), of="x")
        _dress_rows(ax, names, title)
    for place, numbers in zip(places, table[list(counts)].to_numpy() if counts else (), strict=False):
        text = " of ".join(f"{number:.0f}" for number in numbers)
        axes[0].text(1.02, place, text, va="center", transform=axes[0].get_yaxis_transform())
    if seeds is not None:
        _draw_seeds(axes[0], dict(zip(names, marks, strict=True)), seeds)
    if left is not None:
        for ax in axes:
            ax.set_xlim(left=left)
    add_legend(fig, handles=[Line2D([], [], label=look.label, **look.mark) for look in legend])
    return fig


def _validate(
    table: pd.DataFrame, panels: Mapping[str, tuple[str, ...]], held: Iterable[str], counts: Sequence[str]
) -> None:
    named = [column for panel in panels.values() for column in panel]
    if unknown := [column for column in (*named, *counts) if column not in table]:
        raise ValueError(f"the table has no column {unknown[0]!r}; it has {', '.join(table)}")
    middles = [panel[0] for panel in panels.values()]
    if unknown := [column for column in held if column not in middles]:
        raise ValueError(f"no panel shows {unknown[0]!r}; choose from {', '.join(middles)}")
    if not middles or table.empty or not table[middles].notna().any(axis=None):
        raise ValueError("nothing to draw: the table needs a row, a panel and a value")
    if not table.index.is_unique:
        raise ValueError(f"{table.index[table.index.duplicated()][0]!r} has two values: choose one")
    for middle, *ends in panels.values():
        for name, (low, value, high) in table[[*ends[:1], middle, *ends[1:]]].iterrows() if ends else ():
            if value < low - _ROUNDING or value > high + _ROUNDING:
                raise ValueError(f"{name}: {value:.4f} is not in its interval [{low:.4f}, {high:.4f}]")


def _looks(
    table: pd.DataFrame, middles: Sequence[str], families: Mapping[str, Sequence[str]]
) -> tuple[list[Look], list[Look]]:
    """The look of every mark, and those that the legend explains: where a row's name does not say it."""
    if table.index.nlevels > 1:
        known = table[middles].notna().any(axis=1)
        named = looks(table[known].index.unique(1))
        marks = [named.get(name, PLAIN) for name in table.index.get_level_values(1)]
        return marks, list(named.values()) if len(named) > 1 else []
    shared = {
        family: look
        for family, look in looks(families).items()
        if any(known_look(name) is None for name in families[family])
    }
    of_row = {name: shared[family] for family in shared for name in families[family]}
    return [known_look(name) or of_row.get(name, PLAIN) for name in table.index], list(shared.values())


def _places(table: pd.DataFrame) -> np.ndarray:
    """The height of every mark: row n lies at n, its marks around it."""
    rows = table.index.get_level_values(0)
    within = table.groupby(level=0).cumcount().to_numpy()
    per_row = table.groupby(level=0).size().loc[rows].to_numpy()
    step = np.minimum(2 * _APART, 0.8 / per_row)
    return table.index.unique(0).get_indexer(rows) + step * (within - (per_row - 1) / 2)


def _draw_mark(ax: Axes, y: float, values: np.ndarray, look: Look, left: float | None) -> None:
    """A mark at the first value, a bar from the second to the third, if there are any."""
    if left is not None and values[0] < left:
        ax.text(left, y, f" ◂ {values[0]:.2f}", va="center", color=look.colour)
        return
    ax.plot(values[1:], [y] * (len(values) - 1), color=look.colour, lw=2.2, zorder=2)
    ax.plot(values[0], y, zorder=3, **look.mark)


def _draw_seeds(ax: Axes, rows: Mapping[str, Look], seeds: Mapping[str, Sequence[float]]) -> None:
    """A circle per seed above the mark of its row, and above both what the row is."""
    halo = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.85}
    for place, (name, look) in enumerate(rows.items()):
        values = np.asarray(seeds[name], dtype=float)
        ring = {"marker": "o", "mfc": "none", "mec": look.colour, "mew": 1.1, "ls": "none"}
        ax.plot(values, np.full(len(values), place), alpha=0.75, **ring)
        text = f"{look.label or name}: {values.mean():.3f} (n = {len(values)})"
        ax.text(
            0, place - 0.2, text, fontsize=TEXT, va="bottom", bbox=halo, zorder=5,
            transform=ax.get_yaxis_transform(),
        )  # fmt: skip
    ax.set(ylim=(len(rows) - 0.45, -0.75), yticks=[])
    ax.set_xlabel(f"{ax.get_xlabel()}\ncircle: one seed; mark and bar: mean, 95 %")


def _dress_rows(ax: Axes, names: Sequence[str], label: str) -> None:
    """One row per name, from top to bottom, every other one shaded."""
    for row in range(1, len(names), 2):
        ax.axhspan(row - 0.5, row + 0.5, color=PALE, alpha=0.45, lw=0, zorder=0)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel(label)
