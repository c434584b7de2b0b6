"""A drawn cell shows every edge, every weight and nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon

from ldarts_book.figures import (
    cell_alt_text,
    draw_cell,
    draw_cells,
    draw_genotype,
    draw_stacks,
    draw_supernet,
)
from ldarts_book.figures.style import OPERATIONS
from ldarts_lib.spaces.genotype import Cell, Edge, Genotype
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.space import SPACES

RICH = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|"
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+" + "|".join(
    ["", "skip_connect~0", "skip_connect~1", "skip_connect~2", ""]
)


def curves(ax: Axes) -> list[PathPatch]:
    return [patch for patch in ax.patches if type(patch) is PathPatch]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def render(fig: Figure) -> bytes:
    file = io.BytesIO()
    fig.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


@pytest.mark.parametrize("text", [RICH, SKIPS, DARTS_V2])
def test_a_cell_has_a_curve_and_a_label_per_edge(text: str) -> None:
    for cell in parse(text).cells.values():
        ax = draw_cell(cell)
        render(ax.figure)
        assert [patch.get_label() for patch in curves(ax)] == [str(edge) for edge in cell.edges]
        labels = [OPERATIONS[name].label for name in cell.operations]
        known = {style.label for style in OPERATIONS.values()}
        assert [text for text in texts(ax) if text in known] == labels
        nodes = [str(node) for node in range(cell.inputs + cell.nodes)]
        assert [text for text in texts(ax) if text.isdigit()] == nodes


def test_curves_run_from_the_source_to_the_target() -> None:
    cell = parse(DARTS_V2).normal
    for edge, patch in zip(cell.edges, curves(draw_cell(cell)), strict=True):
        start, end = patch.get_path().vertices[[0, -1]]
        assert np.hypot(*(start - [edge.source, 0])) == pytest.approx(0.21)
        assert 0.21 < np.hypot(*(end - [edge.target, 0])) < 0.4
        assert start[0] < end[0]


@pytest.mark.parametrize("text", [RICH, DARTS_V2])
def test_labels_hide_neither_each_other_nor_short_edges(text: str) -> None:
    fig = draw_genotype(parse(text))
    render(fig)
    for ax in fig.axes:
        boxes = [text.get_window_extent() for text in ax.texts]
        baseline = ax.transData.transform((0, 0))[1]
        on_baseline = [b for b in boxes if b.y0 <= baseline <= b.y1]
        assert len(on_baseline) == sum(t.isdigit() or t == "out" for t in texts(ax))
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i]), texts(ax)[i]
            assert fig.bbox.contains(box.x0, box.y0) and fig.bbox.contains(box.x1, box.y1)


def test_skip_is_dashed_and_none_has_no_arrowhead() -> None:
    cell = parse(RICH).normal
    ax = draw_cell(cell)
    lines = dict(zip(cell.operations, (patch.get_linestyle() for patch in curves(ax)), strict=True))
    assert lines["nor_conv_3x3"] == "solid"
    assert len({str(lines[name]) for name in ("nor_conv_3x3", "skip_connect", "none")}) == 3
    heads = [patch.get_facecolor()[:3] for patch in ax.patches if type(patch) is Polygon]
    arrows = [name for name in cell.operations if name != "none"]
    assert heads == [to_rgb(OPERATIONS[name].colour) for name in arrows]


def test_width_grows_with_the_weight() -> None:
    cell = parse(RICH).normal
    values = [0.9, 0.2, 0.5, 0.0, 1.0, 0.35]
    weights = {(e.target, e.source): w for e, w in zip(cell.edges, values, strict=True)}
    widths = [patch.get_linewidth() for patch in curves(draw_cell(cell, weights=weights))]
    assert list(np.argsort(widths)) == list(np.argsort(values))
    assert min(widths) > 0
    assert len({patch.get_linewidth() for patch in curves(draw_cell(cell))}) == 1


def test_bad_weights_are_named() -> None:
    cell = parse(RICH).normal
    with pytest.raises(ValueError, match=r"\(3, 2\)\], got \[\(1, 0\)\]"):
        draw_cell(cell, weights={(1, 0): 1.0})
    weights = {(edge.target, edge.source): 0.5 for edge in cell.edges}
    with pytest.raises(ValueError, match=r"edge \(2, 1\) must lie in \[0, 1\], got nan"):
        draw_cell(cell, weights=weights | {(2, 1): float("nan")})


def test_only_a_concatenation_has_a_rail() -> None:
    darts, nasbench = draw_cell(parse(DARTS_V2).normal), draw_cell(parse(RICH).normal)
    assert "concat" in texts(darts) and "output" not in texts(darts)
    assert "output" in texts(nasbench) and "concat" not in texts(nasbench)
    drops = [line for line in darts.lines if len(set(line.get_xdata())) == 1]
    assert [line.get_xdata()[0] for line in drops] == [2, 3, 4, 5]


def test_repeated_edges_and_unknown_operations_are_drawn() -> None:
    edges = (Edge(2, 0, "sep_conv_9x9"), Edge(2, 0, "skip_connect"))
    ax = draw_cell(Cell(inputs=2, edges=edges, output=(2,)))
    heights = [patch.get_path().vertices[:, 1].max() for patch in curves(ax)]
    assert heights[1] > heights[0] + 0.1
    assert "sep_conv_…" in texts(ax)


def test_a_genotype_has_one_panel_per_cell() -> None:
    fig = draw_genotype(parse(DARTS_V2), title="DARTS V2")
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["normal cell", "reduce cell"]
    assert fig.get_suptitle() == "DARTS V2"
    assert len(draw_genotype(Genotype(parse(RICH).normal), title="one").axes) == 1


def test_alt_text_names_every_edge_and_the_output() -> None:
    text = cell_alt_text(parse(RICH).normal)
    assert text == (
        "A cell with 1 input node and 3 further nodes: node 1 receives a 3×3 convolution from "
        "node 0; node 2 receives no connection from node 0 and a 1×1 convolution from node 1; "
        "node 3 receives a skip connection from node 0, a 3×3 convolution from node 1 and a 3×3 "
        "average pooling from node 2; the output is node 3."
    )
    darts = cell_alt_text(parse(DARTS_V2).reduce)
    assert darts.startswith("A cell with 2 input nodes and 4 further nodes: ")
    assert darts.endswith("; the output concatenates the nodes 2, 3, 4 and 5.")


def test_a_recurrent_cell_averages_its_nodes():
    cell = parse("Genotype(recurrent=[('tanh', 0), ('sigmoid', 1)], concat=range(1, 3))").normal
    words = [text.get_text() for text in draw_cell(cell).texts]
    assert {"tanh", "σ", "mean"} < set(words)
    assert "concat" not in words
    assert "the output averages the nodes 1 and 2" in cell_alt_text(cell)


def test_a_supernet_draws_every_operation_of_every_edge_as_wide_as_its_weight() -> None:
    space = SPACES["nasbench201"].cells["normal"]
    p = np.random.default_rng(0).dirichlet(np.ones(5), size=6)
    first, last = draw_supernet(space, {"mixed": p, "one": np.eye(5)[p.argmax(-1)]}).axes
    names = [
        f"{t}<-{s}: {name}" for (t, s), ops in zip(space.edges, space.candidates, strict=True) for name in ops
    ]
    assert [patch.get_label() for patch in curves(first)] == names
    assert [patch.get_linewidth() for patch in curves(first)] == pytest.approx(5 * p.flatten())
    assert sum(patch.get_linewidth() > 0 for patch in curves(last)) == 6
    assert first.get_legend() is None and len(first.figure.legends[0].texts) == 5


def test_a_stack_shows_its_blocks_in_order_and_which_of_them_read_two() -> None:
    blocks = [(name, "") for name in ("stem", "normal cell", "reduction cell", "normal cell", "head")]
    one, two = draw_stacks({"one": blocks, "two": blocks}, two=["two"]).axes
    boxes = [patch.get_label() for patch in one.patches if type(patch) is FancyBboxPatch]
    assert boxes == [name for name, _ in blocks]
    arrows = [
        sum(text.arrow_patch is not None for text in ax.texts if hasattr(text, "arrow_patch"))
        for ax in (one, two)
    ]
    assert arrows == [4, 5]  # the first cell reads the stem twice


def test_cells_need_a_cell() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_cells({})
