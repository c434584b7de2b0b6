"""Figures: cells as graphs, searches as curves with a band over the seeds.

Operations and methods keep their colours in all figures; no figure relies on colour alone. Figures
have a solid white background, so that they read the same on a light and on a dark page. They are
returned closed: a notebook shows them once, as the value of a cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import BoxStyle, Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve

from ldarts_book.figures._arcs import RADIUS, apex, arrowhead, bezier
from ldarts_book.figures._canvas import GREY, INK, PALE, SMALL, TEXT, dress, new_figure
from ldarts_book.figures._styles import MethodStyle, column_label, method_styles, operation_style
from ldarts_lib.spaces.genotype import Cell, Edge, Genotype

History = Sequence[Mapping[str, Any]] | pd.DataFrame

_INCHES_PER_NODE = 0.86
_RAIL = -0.56


def draw_cell(
    cell: Cell,
    *,
    ax: Axes | None = None,
    title: str = "",
    weights: Mapping[tuple[int, int], float] | None = None,
) -> Axes:
    """Draw a cell: nodes from left to right, one labelled curve per edge.

    A node always has the same place and an edge the same curve, so that cells can be compared at
    a glance. Skip connections are dashed; ``none`` is dotted and has no arrowhead.

    Args:
        cell: the cell.
        ax: where to draw; by default a new figure, ``ax.figure``.
        title: a line above the cell.
        weights: architecture weight in [0, 1] of each edge (target, source), shown as the line's
            width; by default all lines are equally wide.

    Raises:
        ValueError: the weights are not those of the cell's edges, or one is outside [0, 1].
    """
    if weights is not None:
        _validate_weights(cell, weights)
    if ax is None:
        ax = new_figure(1, 1, _size(cell, title))[1][0]
    drawn: Counter[tuple[int, int]] = Counter()
    for edge in cell.edges:
        key = edge.target, edge.source
        width = 2.0 if weights is None else 0.8 + 4.2 * weights[key]
        _draw_edge(ax, edge, width, level=edge.target - edge.source - 1 + 0.5 * drawn[key])
        drawn[key] += 1
    if len(cell.output) > 1:
        _draw_concatenation(ax, cell)
    _draw_nodes(ax, cell)
    xlim, ylim = _extent(cell)
    ax.set(xlim=xlim, ylim=ylim, aspect="equal")
    ax.set_axis_off()
    ax.set_title(title, loc="left", fontsize=TEXT, color=INK)
    return ax


def draw_genotype(genotype: Genotype, *, title: str = "") -> Figure:
    """Draw all cells of a genotype, the reduction cell below the normal cell.

    Args:
        genotype: the architecture.
        title: a line above the figure.
    """
    kinds = {f"{kind} cell": cell for kind, cell in genotype.cells.items()}
    if len(kinds) == 1:
        return draw_cell(genotype.normal, title=title).figure
    fig = draw_cells(kinds)
    if title:
        fig.set_figheight(fig.get_figheight() + 0.3)
        fig.suptitle(title, fontsize=TEXT + 1, color=INK, x=0.01, ha="left", weight="bold")
    return fig


def draw_cells(cells: Mapping[str, Cell]) -> Figure:
    """Draw several cells below each other.

    Args:
        cells: the cells, under their titles.

    Raises:
        ValueError: there is no cell.
    """
    if not cells:
        raise ValueError("nothing to draw: give at least one cell")
    widths, heights = zip(*(_size(cell, title) for title, cell in cells.items()), strict=True)
    fig, axes = new_figure(len(cells), 1, (max(widths), sum(heights)))
    for ax, (title, cell) in zip(axes, cells.items(), strict=True):
        draw_cell(cell, ax=ax, title=title)
    return fig


def show_images(images: np.ndarray, labels: np.ndarray, *, count: int = 16) -> Figure:
    """Show the first images of a data set with their labels.

    Args:
        images: [n, channels, height, width], uint8 or in the scale 0..1, with 1 or 3 channels.
        labels: [n].
        count: how many.
    """
    across = min(count, 8)
    down = -(-count // across)
    fig, axes = new_figure(down, across, (0.8 * across, 1.0 * down))
    for ax, image, label in zip(axes, np.asarray(images), np.asarray(labels), strict=False):
        ax.imshow(image.transpose(1, 2, 0), cmap="gray_r")
        ax.set_title(str(label), fontsize=SMALL, color=INK, pad=2)
    for ax in axes:
        ax.set_axis_off()
    return fig


def cell_alt_text(cell: Cell) -> str:
    """Describe a cell in a sentence, for readers who do not see the figure."""
    parts = []
    for node in range(cell.inputs, cell.inputs + cell.nodes):
        terms = [f"{operation_style(e.operation).words} from node {e.source}" for e in cell.incoming(node)]
        parts.append(f"node {node} receives {_enumerate(terms)}" if terms else f"node {node} is empty")
    inputs = f"{cell.inputs} input node{'s' * (cell.inputs != 1)}"
    inner = f"{cell.nodes} further node{'s' * (cell.nodes != 1)}"
    gathers = "averages" if cell.inputs == 1 else "concatenates"
    verb = f"{gathers} the nodes" if len(cell.output) > 1 else "is node"
    parts.append(f"the output {verb} {_enumerate([str(node) for node in cell.output])}")
    return f"A cell with {inputs} and {inner}: {'; '.join(parts)}."


def history_frame(history: History) -> pd.DataFrame:
    """A history as a table with one row per epoch and the epoch as its index.

    Args:
        history: rows, or a table, with the columns of :func:`ldarts_lib.bilevel.search.search`.

    Raises:
        ValueError: the history is empty or has no column ``epoch``.
    """
    frame = pd.DataFrame(history)
    if frame.empty:
        raise ValueError("the history is empty: no epoch of the search is finished")
    if frame.index.name == "epoch":
        return frame
    if "epoch" not in frame:
        raise ValueError(f"a history needs the column 'epoch', got {list(frame.columns)}")
    return frame.set_index("epoch")


def compare_searches(
    histories: Mapping[str, Sequence[History]],
    *,
    columns: Sequence[str] = ("valid_alignment", "skips", "entropy", "valid_loss"),
) -> Figure:
    """Compare methods over the epochs, one panel per column of the history.

    The line is the mean over the seeds, the band reaches from the smallest to the largest value.
    Of each method the epochs are drawn that all its seeds have.

    Args:
        histories: for each method (a name of ``ldarts search --method``, or any other) one
            history per seed.
        columns: columns of the history that hold numbers.

    Raises:
        ValueError: there is no history or no column, or a column is unknown or holds no numbers.
    """
    frames = {name: [history_frame(one) for one in several] for name, several in histories.items()}
    if not frames or not columns or not all(frames.values()):
        raise ValueError("nothing to draw: give at least one column, one method, one seed of each")
    _validate_columns(columns, [frame for several in frames.values() for frame in several])
    across = min(2, len(columns))
    down = -(-len(columns) // across)
    fig, axes = new_figure(down, across, (3.4 * across, 2.35 * down + 0.65))
    for ax, column in zip(axes, columns, strict=False):
        for style, several in zip(method_styles(list(frames)), frames.values(), strict=True):
            _draw_band(ax, pd.concat([f[column] for f in several], axis=1, join="inner"), style)
        dress(ax, column_label(column), integer=column == "skips")
    for ax in axes[len(columns) :]:
        ax.set_axis_off()
    _draw_legend(fig, axes[0], [len(several) for several in frames.values()])
    return fig


def compare_costs(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Seconds and memory of a search step: the reference and the fast supernet, per regularizer.

    Args:
        records: rows of the benchmark, as ``ldarts bench --json`` writes them.
    """
    table = pd.DataFrame(records)
    table = table[~table.checkpoint]
    spaces, costs = table.space.unique(), table.regularizer.unique()
    names = [name for name in ("reference", "fast") if name in set(table.implementation)]
    measures = {"seconds": "seconds per step", "peak_memory_mb": "peak memory (MiB)"}
    fig, axes = new_figure(len(measures), len(spaces), (3.4 * len(spaces), 2.3 * len(measures)))
    panels = ((measure, space) for measure in measures for space in spaces)
    for ax, (measure, space) in zip(axes, panels, strict=True):
        for offset, (name, style) in enumerate(zip(names, method_styles(names), strict=True)):
            rows = table[(table.space == space) & (table.implementation == name)].set_index("regularizer")
            places = np.arange(len(costs)) + 0.4 * (offset - 0.5)
            ax.bar(places, rows[measure].reindex(costs), width=0.36, color=style.colour, label=name)
        ax.set_xticks(range(len(costs)), costs, fontsize=TEXT - 1)
        ax.set_title(f"{space}: {measures[measure]}", loc="left", fontsize=TEXT, color=INK)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=TEXT - 1)
    handles = axes[0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower center", ncols=2, frameon=False, fontsize=TEXT)
    return fig


def _enumerate(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _validate_weights(cell: Cell, weights: Mapping[tuple[int, int], float]) -> None:
    edges = {(edge.target, edge.source) for edge in cell.edges}
    if set(weights) != edges:
        raise ValueError(
            f"weights must be given for the edges (target, source) {sorted(edges)}, got {sorted(weights)}"
        )
    for key, weight in weights.items():
        if not 0 <= weight <= 1:
            raise ValueError(f"the weight of edge {key} must lie in [0, 1], got {weight}")


def _extent(cell: Cell) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of x and y; node n is at (n, 0)."""
    last = cell.inputs + cell.nodes - 1
    repeats = max(Counter((e.target, e.source) for e in cell.edges).values(), default=1) - 1
    right = last + (len(cell.output) > 1) + 0.45
    bottom = _RAIL - 0.12 if len(cell.output) > 1 else -0.55
    return (-0.45, right), (bottom, apex(last - 1 + 0.5 * repeats) + 0.2)


def _size(cell: Cell, title: str) -> tuple[float, float]:
    """Width and height in inches."""
    (left, right), (bottom, top) = _extent(cell)
    scale = _INCHES_PER_NODE
    return scale * (right - left), scale * (top - bottom) + (0.35 if title else 0.05)


def _draw_edge(ax: Axes, edge: Edge, width: float, level: float) -> None:
    style = operation_style(edge.operation)
    arrow = 0.0 if edge.operation == "none" else 0.11 + 0.012 * width
    points = bezier(edge.source, edge.target, level, arrow)
    curve = Curve(points, [Curve.MOVETO, *[Curve.CURVE4] * 3])
    line = {"ec": style.colour, "lw": width, "ls": style.line, "capstyle": "butt"}
    ax.add_patch(PathPatch(curve, fc="none", label=str(edge), **line))
    if arrow:
        ax.add_patch(Polygon(arrowhead(points, arrow, width), fc=style.colour, lw=0))
    x, y = np.array([1, 3, 3, 1]) @ points / 8
    _write(ax, x, y if level else -0.18, style.label, color=style.colour, halo=bool(level))


def _write(ax: Axes, x: float, y: float, text: str, *, halo: bool = False, **style: Any) -> None:
    box = {"boxstyle": BoxStyle.Round(pad=0.12), "fc": "white", "ec": "none"} if halo else None
    style = {"color": INK, "fontsize": TEXT, "ha": "center", "va": "center"} | style
    ax.text(x, y, text, bbox=box, zorder=3, **style)


def _draw_nodes(ax: Axes, cell: Cell) -> None:
    for node in range(cell.inputs + cell.nodes):
        outer = node < cell.inputs or cell.output == (node,)
        ax.add_patch(Circle((node, 0), RADIUS, fc=PALE if outer else "white", ec=INK, lw=1.3))
        _write(ax, node, -0.01, str(node))
    for node in range(cell.inputs):
        caption = "input" if cell.inputs == 1 else f"$c_{{k-{cell.inputs - node}}}$"
        _write(ax, node, -0.4, caption, fontsize=SMALL)
    if len(cell.output) == 1:
        _write(ax, cell.output[0], -0.4, "output", fontsize=SMALL)


def _draw_concatenation(ax: Axes, cell: Cell) -> None:
    """The output, and a rail below the nodes that gathers those that it concatenates or averages."""
    end = cell.inputs + cell.nodes
    line = {"color": GREY, "lw": 1.3, "zorder": 0.5}
    for node in cell.output:
        ax.plot([node, node], [0, _RAIL], **line)
    ax.plot([min(cell.output), end, end], [_RAIL, _RAIL, 0], **line)
    box = BoxStyle.Round(pad=0, rounding_size=0.1)
    corner, width, height = (end - 0.28, -RADIUS), 0.56, 2 * RADIUS
    ax.add_patch(FancyBboxPatch(corner, width, height, box, fc=PALE, ec=INK, lw=1.3))
    _write(ax, end, -0.01, "out", fontsize=SMALL)
    _write(ax, end - 0.5, _RAIL, "mean" if cell.inputs == 1 else "concat", halo=True, fontsize=SMALL)


def _validate_columns(columns: Sequence[str], frames: Sequence[pd.DataFrame]) -> None:
    numeric = [list(frame.select_dtypes("number").columns) for frame in frames]
    allowed = [column for column in numeric[0] if all(column in names for names in numeric)]
    for column in columns:
        if column not in allowed:
            raise ValueError(f"unknown column {column!r}; choose from {', '.join(allowed)}")


def _draw_band(ax: Axes, seeds: pd.DataFrame, style: MethodStyle) -> None:
    """One method in one panel; ``seeds`` is [epochs, seeds]."""
    epochs = seeds.index.to_numpy()
    line = {"color": style.colour, "ls": style.line, "lw": 2.2, "label": style.label}
    marks = {
        "marker": style.marker,
        "ms": 5.5,
        "mec": "white",
        "mew": 0.6,
        "markevery": max(1, len(epochs) // 8),
    }
    ax.plot(epochs, seeds.mean(axis=1), **line, **marks)
    if seeds.shape[1] > 1:
        low, high = seeds.min(axis=1), seeds.max(axis=1)
        ax.fill_between(epochs, low, high, color=style.colour, alpha=0.18, lw=0)


def _draw_legend(fig: Figure, ax: Axes, seeds: Sequence[int]) -> None:
    handles, names = ax.get_legend_handles_labels()
    counts = [f"{count} seed{'s' * (count > 1)}" for count in seeds]
    labels = [f"{name} ({count})" for name, count in zip(names, counts, strict=True)]
    note = "lines: mean over the seeds; bands: smallest to largest" if max(seeds) > 1 else None
    fig.legend(
        handles, labels, loc="outside upper left", ncols=2, frameon=False, alignment="left",
        fontsize=TEXT, labelcolor=INK, title=note, title_fontproperties={"size": SMALL},
    )  # fmt: skip
