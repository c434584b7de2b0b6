"""Cells as arc diagrams: node n lies at (n, 0), an edge passes above the nodes that it leaves out.

And what they belong to: a supernet's cell, with all operations of every edge, and networks, stacks of cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import BoxStyle, Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve

from ldarts_book.figures.canvas import grid, new_figure
from ldarts_book.figures.style import GREY, INK, PALE, SMALL, TEXT, operation_look, styled
from ldarts_lib.spaces.genotype import Cell, Edge, Genotype
from ldarts_lib.spaces.space import CellSpace

INCHES_PER_NODE = 0.86
_RADIUS = 0.21
_RAIL = -0.56


@styled
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
        ax = new_figure(grid(1, 1), _size(cell, title))[1][0]
    drawn: Counter[tuple[int, int]] = Counter()
    for edge in cell.edges:
        key = edge.target, edge.source
        width = 2.0 if weights is None else 0.8 + 4.2 * weights[key]
        _draw_edge(ax, edge, width, level=edge.target - edge.source - 1 + 0.5 * drawn[key])
        drawn[key] += 1
    if len(cell.output) > 1:
        _draw_gathering(ax, cell)
    _draw_nodes(ax, cell)
    xlim, ylim = _extent(cell)
    ax.set(xlim=xlim, ylim=ylim, aspect="equal")
    ax.set_axis_off()
    ax.set_title(title, fontsize=TEXT)
    return ax


@styled
def draw_cells(cells: Mapping[str, Cell]) -> Figure:
    """Draw several cells, under their titles, below each other.

    Raises:
        ValueError: there is no cell.
    """
    if not cells:
        raise ValueError("nothing to draw: give at least one cell")
    widths, heights = zip(*(_size(cell, title) for title, cell in cells.items()), strict=True)
    fig, axes = new_figure(grid(len(cells), 1), (max(widths), sum(heights)))
    for ax, (title, cell) in zip(axes, cells.items(), strict=True):
        draw_cell(cell, ax=ax, title=title)
    return fig


@styled
def draw_genotype(genotype: Genotype, *, title: str = "") -> Figure:
    """Draw all cells of a genotype, the reduction cell below the normal cell, and a title above them."""
    kinds = {f"{kind} cell": cell for kind, cell in genotype.cells.items()}
    if len(kinds) == 1:
        return draw_cell(genotype.normal, title=title).figure
    fig = draw_cells(kinds)
    if title:
        fig.set_figheight(fig.get_figheight() + 0.3)
        fig.suptitle(title, fontsize=TEXT + 1, x=0.01, ha="left", weight="bold")
    return fig


@styled
def draw_supernet(space: CellSpace, weights: Mapping[str, npt.ArrayLike]) -> Figure:
    """Draw a supernet's cell: all operations of every edge, each as wide as its architecture weight.

    Args:
        weights: p [edges, operations] under the titles of the panels.
    """
    names = space.candidates[0]
    nodes = Cell(space.inputs, tuple(Edge(*edge, "none") for edge in space.edges), space.output_nodes)
    width, height = _size(nodes, "titled")
    fig, axes = new_figure(grid(len(weights), 1), (width, height * len(weights) + 0.9))
    for ax, (title, p) in zip(axes, weights.items(), strict=True):
        for (target, source), row in zip(space.edges, np.asarray(p), strict=True):
            for place, (name, weight) in enumerate(zip(names, row, strict=True)):
                look = operation_look(name)
                points = _bezier(source, target, target - source - 1, 0)
                points[:, 1] += 0.07 * (place - (len(names) - 1) / 2)  # side by side
                curve = Curve(points, [Curve.MOVETO, *[Curve.CURVE4] * 3])
                dashes = look.line if weight > 0 else "-"  # which scale with the width, in matplotlib 3.10
                line = {"ec": look.colour, "lw": 5 * weight, "ls": dashes, "capstyle": "butt"}
                ax.add_patch(PathPatch(curve, fc="none", label=f"{target}<-{source}: {name}", **line))
        _draw_nodes(ax, nodes)
        xlim, ylim = _extent(nodes)
        ax.set(xlim=xlim, ylim=ylim, aspect="equal", title=title)
        ax.set_axis_off()
    looks = map(operation_look, names)
    lines = [Line2D([], [], color=look.colour, ls=look.line, lw=2, label=look.label) for look in looks]
    fig.legend(handles=lines, loc="outside lower left", ncols=2)
    return fig


@styled
def draw_stacks(networks: Mapping[str, Sequence[tuple[str, str]]], *, two: Collection[str] = ()) -> Figure:
    """Draw networks as stacks of blocks, the input above the output; cells stand out from what is fixed.

    Args:
        networks: under their titles the blocks, each with its name and a remark.
        two: titles of networks whose cells read the two blocks before them.
    """
    rows = max(map(len, networks.values()))
    fig, axes = new_figure(grid(len(networks), len(networks)), (2.75 * len(networks), 0.5 * rows + 0.3))
    for ax, (title, blocks) in zip(axes, networks.items(), strict=True):
        for row, (name, remark) in enumerate(blocks):
            cell = name.endswith("cell")
            box = BoxStyle.Round(pad=0, rounding_size=0.12)
            look = {"fc": "white" if cell else PALE, "ec": INK if cell else PALE, "lw": 1.6, "boxstyle": box}
            ax.add_patch(FancyBboxPatch((0, -row - 0.3), 1.55, 0.6, label=name, **look))
            _write(ax, 0.775, -row, name, fontsize=SMALL, weight="bold" if cell else "normal")
            _write(ax, 2.0, -row, remark, fontsize=SMALL, ha="left")
            arrow = {"arrowstyle": "-|>", "color": INK, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
            if row:
                ax.annotate("", (0.775, -row + 0.3), (0.775, -row + 0.7), arrowprops=arrow)
            if cell and title in two and row > 2:  # the first one reads the stem twice
                arc = arrow | {"connectionstyle": "arc3,rad=-0.55", "color": GREY}
                ax.annotate("", (1.55, -row + 0.1), (1.55, 2 - row), arrowprops=arc)
        ax.set(xlim=(-0.05, 3.2), ylim=(-rows + 0.6, 0.4), title=title)
        ax.set_axis_off()
    return fig


def cell_alt_text(cell: Cell) -> str:
    """Describe a cell in a sentence, for readers who do not see the figure."""
    parts = []
    for node in range(cell.inputs, cell.inputs + cell.nodes):
        terms = [f"{operation_look(e.operation).words} from node {e.source}" for e in cell.incoming(node)]
        parts.append(f"node {node} receives {_enumerate(terms)}" if terms else f"node {node} is empty")
    inputs = f"{cell.inputs} input node{'s' * (cell.inputs != 1)}"
    inner = f"{cell.nodes} further node{'s' * (cell.nodes != 1)}"
    gathers = "averages" if cell.inputs == 1 else "concatenates"
    verb = f"{gathers} the nodes" if len(cell.output) > 1 else "is node"
    parts.append(f"the output {verb} {_enumerate([str(node) for node in cell.output])}")
    return f"A cell with {inputs} and {inner}: {'; '.join(parts)}."


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
    """Limits of x and y."""
    last = cell.inputs + cell.nodes - 1
    repeats = max(Counter((e.target, e.source) for e in cell.edges).values(), default=1) - 1
    right = last + (len(cell.output) > 1) + 0.45
    bottom = _RAIL - 0.12 if len(cell.output) > 1 else -0.55
    return (-0.45, right), (bottom, _apex(last - 1 + 0.5 * repeats) + 0.2)


def _size(cell: Cell, title: str) -> tuple[float, float]:
    """Width and height in inches."""
    (left, right), (bottom, top) = _extent(cell)
    return INCHES_PER_NODE * (right - left), INCHES_PER_NODE * (top - bottom) + (0.35 if title else 0.05)


def _draw_edge(ax: Axes, edge: Edge, width: float, level: float) -> None:
    look = operation_look(edge.operation)
    arrow = 0.0 if edge.operation == "none" else 0.11 + 0.012 * width
    points = _bezier(edge.source, edge.target, level, arrow)
    curve = Curve(points, [Curve.MOVETO, *[Curve.CURVE4] * 3])
    line = {"ec": look.colour, "lw": width, "ls": look.line, "capstyle": "butt"}
    ax.add_patch(PathPatch(curve, fc="none", label=str(edge), **line))
    if arrow:
        ax.add_patch(Polygon(_arrowhead(points, arrow, width), fc=look.colour, lw=0))
    # The middle of a cubic Bézier curve, (P0 + 3 P1 + 3 P2 + P3) / 8, is its highest point.
    x, y = np.array([1, 3, 3, 1]) @ points / 8
    _write(ax, x, y if level else -0.18, look.label, color=look.colour, halo=bool(level))


def _apex(level: float) -> float:
    """Height of an edge that passes over ``level`` nodes."""
    return 0.14 + 0.46 * level if level else 0.0


def _bezier(source: int, target: int, level: float, arrow: float) -> npt.NDArray[np.float64]:
    """Control points [4, 2] from the rim of one node to ``arrow`` before the rim of the other.

    Long edges leave more steeply than short ones, so that edges of one node do not run together.
    """
    angle = np.deg2rad(90 - 54 * 0.65 ** (level - 1)) if level else 0.0
    rise = np.array([np.cos(angle), np.sin(angle)])
    start = np.array([source, 0]) + _RADIUS * rise
    end = np.array([target, 0]) + (_RADIUS + arrow) * rise * [-1, 1]
    if not level:
        return np.linspace(start, end, 4)
    # Both handles at the height h put the middle of the curve at (y0 + 6 h + y3) / 8, which is the apex.
    height = (_apex(level) - (start[1] + end[1]) / 8) / 0.75
    handle = min(height / np.tan(angle), (target - source) / 2)
    return np.array([start, (source + handle, height), (target - handle, height), end])


def _arrowhead(points: npt.NDArray, length: float, width: float) -> npt.NDArray[np.float64]:
    """Corners [3, 2] of the triangle that continues the curve."""
    tangent = (points[3] - points[2]) / np.linalg.norm(points[3] - points[2])
    side = (0.05 + 0.012 * width) * np.array([-tangent[1], tangent[0]])
    return np.stack([points[3] + side, points[3] - side, points[3] + length * tangent])


def _write(ax: Axes, x: float, y: float, text: str, *, halo: bool = False, **look: Any) -> None:
    box = {"boxstyle": BoxStyle.Round(pad=0.12), "fc": "white", "ec": "none"} if halo else None
    look = {"fontsize": TEXT, "ha": "center", "va": "center"} | look
    ax.text(x, y, text, bbox=box, zorder=3, **look)


def _draw_nodes(ax: Axes, cell: Cell) -> None:
    for node in range(cell.inputs + cell.nodes):
        outer = node < cell.inputs or cell.output == (node,)
        ax.add_patch(Circle((node, 0), _RADIUS, fc=PALE if outer else "white", ec=INK, lw=1.3))
        _write(ax, node, -0.01, str(node))
    for node in range(cell.inputs):
        caption = "input" if cell.inputs == 1 else f"$c_{{k-{cell.inputs - node}}}$"
        _write(ax, node, -0.4, caption, fontsize=SMALL)
    if len(cell.output) == 1:
        _write(ax, cell.output[0], -0.4, "output", fontsize=SMALL)


def _draw_gathering(ax: Axes, cell: Cell) -> None:
    """The output, and a rail below the nodes that gathers those that it concatenates or averages."""
    end = cell.inputs + cell.nodes
    line = {"color": GREY, "lw": 1.3, "zorder": 0.5}
    for node in cell.output:
        ax.plot([node, node], [0, _RAIL], **line)
    ax.plot([min(cell.output), end, end], [_RAIL, _RAIL, 0], **line)
    box = BoxStyle.Round(pad=0, rounding_size=0.1)
    corner, width, height = (end - 0.28, -_RADIUS), 0.56, 2 * _RADIUS
    ax.add_patch(FancyBboxPatch(corner, width, height, box, fc=PALE, ec=INK, lw=1.3))
    _write(ax, end, -0.01, "out", fontsize=SMALL)
    _write(ax, end - 0.5, _RAIL, "mean" if cell.inputs == 1 else "concat", halo=True, fontsize=SMALL)
