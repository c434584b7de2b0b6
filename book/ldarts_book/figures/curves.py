"""Columns over the epochs, or over another x: a line per variant, with what its seeds did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldarts_book.figures.canvas import add_legend, dress, grid, mark_references, new_figure
from ldarts_book.figures.style import Look, column_label, looks, operation_look, ordered_looks, styled
from ldarts_lib.spaces.space import CellSpace

History = Sequence[Mapping[str, Any]] | pd.DataFrame
"""One row per epoch, as a run directory records them."""
Spread = Literal["range", "half", "searches"]

_NOTES: Mapping[Spread, str] = {
    "range": "lines: mean over the seeds; bands: smallest to largest",
    "half": "lines: mean over the seeds; bands: the middle half",
    "searches": "thick: mean over the seeds; thin: single searches",
}
_COUNTS = ("skips", "convolutions")
_NAMED_IN_ORDER = 6
_APART = 0.09


@styled
def curves(
    runs: Mapping[str, Sequence[History]] | pd.DataFrame,
    panels: Sequence[str] | Mapping[str, str],
    *,
    x: str = "epoch",
    even: bool = False,
    spread: Spread = "range",
    bounds: Mapping[str, tuple[str, str]] | None = None,
    references: Mapping[str, Mapping[str, float]] | None = None,
    shared: Sequence[Sequence[str]] = (),
    ordered: bool = False,
) -> Figure:
    """A line per variant, a panel per column; of several seeds the line is the mean.

    Drawn are those x at which all seeds of a variant have a value. Epochs, which histories count from 0, are
    counted from 1.

    Args:
        runs: for each variant the histories of its seeds; or one table with the columns ``variant`` and x,
            and ``seed`` if there are several.
        panels: the columns, with the titles of their panels if they are not the usual ones.
        x: the column of the x axis, which is named like it.
        even: whether the values of x stand at equal distances.
        spread: how the seeds are shown: by a band (their range, their middle half) or by thin lines.
        bounds: for a column those of the low and of the high end of its intervals.
        references: values to hold a column against, named.
        shared: groups of columns whose panels have the same limits.
        ordered: whether the variants have an order, such as cells from the input to the output.

    Raises:
        ValueError: there is nothing to draw, or a column does not exist or holds no numbers.
    """
    titles = panels if isinstance(panels, Mapping) else {column: column_label(column) for column in panels}
    bounds, references = bounds or {}, references or {}
    table = _table(runs, [x, *titles, *(end for ends in bounds.values() for end in ends)])
    if unknown := [column for column in (*bounds, *references) if column not in titles]:
        raise ValueError(f"no panel shows {unknown[0]!r}; choose from {', '.join(titles)}")
    if x == "epoch":
        table = table.assign(epoch=table["epoch"] + 1)
    places = {value: place for place, value in enumerate(sorted(table[x].unique()))}
    variants = dict(tuple(table.groupby("variant", sort=False)))
    drawn, labels = (ordered_looks if ordered else looks)(variants), _labels(variants, ordered)
    spots = grid(len(titles), min(2, len(titles)))
    fig, axes = new_figure(spots, (3.1 * len(spots[0]), 2.4 * len(spots) + 0.75))
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        for number, (name, rows) in enumerate(variants.items()):
            rows = rows.dropna(subset=[column]).set_index(x)
            if even:
                rows.index = rows.index.map(places) + _APART * (number - (len(variants) - 1) / 2)
            seeds = rows.pivot(columns="seed", values=column).dropna()
            _draw_line(ax, seeds, drawn[name], labels[name], spread)
            if column in bounds:
                low, high = (rows[end] for end in bounds[column])
                ax.vlines(rows.index, low, high, color=drawn[name].colour, lw=1.4)
        dress(ax, title, x=x, integer=column in _COUNTS)
        if even:
            ax.set_xticks(range(len(places)), [_fraction(value) for value in places])
        mark_references(ax, references.get(column, {}))
    for group in shared:
        together = [ax for ax, column in zip(axes, titles, strict=True) if column in group]
        limits = np.array([ax.get_ylim() for ax in together])
        for ax in together:
            ax.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    several = table.groupby("variant")["seed"].nunique().max() > 1
    add_legend(fig, _NOTES[spread] if several else "")
    return fig


def cell_curves(panels: Mapping[str, npt.ArrayLike], *, shared: Sequence[Sequence[str]] = ()) -> Figure:
    """A line per cell of the network over the epochs, from light (next to the input) to dark.

    Args:
        panels: values [epochs, cells] under their titles.
        shared: as for :func:`curves`.

    Raises:
        ValueError: there is nothing to draw, or the panels have not the same cells.
    """
    tables = {title: pd.DataFrame(np.asarray(values)) for title, values in panels.items()}
    cells = {title: table.shape[1] for title, table in tables.items()}
    if len(set(cells.values())) > 1:
        raise ValueError(f"all panels need the same cells, got {cells}")
    long = [
        table.rename(columns=lambda cell: f"cell {cell + 1}")
        .rename_axis("epoch")
        .melt(var_name="variant", value_name=title, ignore_index=False)
        for title, table in tables.items()
    ]
    titles = {title: title for title in panels}
    return curves(pd.concat([pd.DataFrame(), *long]).reset_index(), titles, shared=shared, ordered=True)


@styled
def weight_curves(space: CellSpace, weights: npt.ArrayLike) -> Figure:
    """The architecture weights over the epochs: a panel per edge, a line per operation.

    Args:
        weights: p after each epoch, [epochs, edges, operations].
    """
    weights = np.asarray(weights)
    fig, axes = new_figure(grid(len(space.edges), 2), (7.0, 1.9 * ((len(space.edges) + 1) // 2) + 0.75))
    epochs = np.arange(1, len(weights) + 1)
    for place, (ax, (target, source)) in enumerate(zip(axes, space.edges, strict=True)):
        for name, p in zip(space.candidates[place], weights[:, place].T, strict=True):
            look = operation_look(name)
            ax.plot(epochs, p, color=look.colour, ls=look.line, lw=2, label=look.label)
        ax.set(xlim=(1, len(weights)), ylim=(0, 1))
        dress(ax, f"$p$ on the edge from node {source} to node {target}")
    add_legend(fig)
    return fig


def halves(history: History) -> pd.DataFrame:
    """The history of one search as two variants for :func:`curves`: the batches of ω, and those of α."""
    table, halves = pd.DataFrame(history), []
    for half, name in (("train_", "batches of ω"), ("valid_", "batches of α")):
        columns = table.filter(regex=f"^{half}").rename(columns=lambda column: column[len("train_") :])
        halves.append(columns.assign(epoch=table["epoch"], variant=name))
    return pd.concat(halves)


def _table(runs: Mapping[str, Sequence[History]] | pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """All rows, with the columns ``variant``, ``seed`` and those that are drawn."""
    if isinstance(runs, Mapping):
        if not all(runs.values()):
            raise ValueError("nothing to draw: give at least one run of each variant")
        tables = [pd.DataFrame()]
        for name, several in runs.items():
            for seed, history in enumerate(several):
                tables.append(pd.DataFrame(history).assign(variant=name, seed=seed))
                _require(tables[-1], columns, f"a history of {name}")
        runs = pd.concat(tables)
    if runs.empty or len(columns) < 2:
        raise ValueError("nothing to draw: give at least one run and one column")
    _require(runs, columns, "the table")
    return runs.assign(seed=runs["seed"].fillna(-1) if "seed" in runs else -1)


def _require(table: pd.DataFrame, columns: Sequence[str], where: str) -> None:
    numbers = list(table.select_dtypes("number"))
    if not table.empty and (missing := [column for column in columns if column not in numbers]):
        raise ValueError(f"{where} has no numbers {missing[0]!r}; choose from {', '.join(numbers)}")


def _labels(variants: Mapping[str, pd.DataFrame], ordered: bool) -> dict[str, str]:
    """What the legend says; of many in an order it names the first and the last."""
    names = list(variants)
    if ordered and len(names) > _NAMED_IN_ORDER:
        return {name: name if name in (names[0], names[-1]) else "_" for name in names}
    counts = {name: rows["seed"][rows["seed"] >= 0].nunique() for name, rows in variants.items()}
    said = {name: f" ({count} seed{'s' * (count > 1)})" if count else "" for name, count in counts.items()}
    return {name: look.label + said[name] for name, look in looks(names).items()}


def _draw_line(ax: Axes, seeds: pd.DataFrame, look: Look, label: str, spread: Spread) -> None:
    """``seeds`` is [x, seeds]."""
    if seeds.empty:
        return
    places = seeds.index.to_numpy(float)
    line = {"ls": look.line, "lw": 2.2, "markevery": max(1, len(places) // 7)}
    ax.plot(places, seeds.mean(axis=1), label=label, zorder=3, **(look.mark | line))
    if spread == "searches" and seeds.shape[1] > 1:
        ax.plot(places, seeds, color=look.colour, lw=0.8, alpha=0.4)
    elif seeds.shape[1] > 1:
        low, high = (0, 1) if spread == "range" else (0.25, 0.75)
        ends = seeds.quantile(low, axis=1), seeds.quantile(high, axis=1)
        ax.fill_between(places, *ends, color=look.colour, alpha=0.18, lw=0)


def _fraction(value: float) -> str:
    return f"1/{round(1 / value)}" if 0 < value < 1 else f"{value:g}"
