"""Frames show the cell and the epoch that they are asked for, and nothing moves between them."""

from __future__ import annotations

import io
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from ldarts_book.figures.frames import Curves, draw_frame, edge_weights, frame_alt_texts, key_frames
from ldarts_book.figures.plots import cell_alt_text
from ldarts_book.figures.scrubber import scrubber
from ldarts_lib.spaces.genotype import Cell, parse
from ldarts_lib.spaces.space import SPACES

FIRST = parse(
    "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|"
).normal
LAST = parse("|skip_connect~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|skip_connect~1|avg_pool_3x3~2|").normal
CURVES = Curves([0.7, 0.8, 0.4], [2.0, 1.0, 1.5], best=0.82, random=0.74, std=[0.01, 0.02, 0.03])


def equal(cell: Cell, weight: float = 0.5) -> dict[tuple[int, int], float]:
    return {(edge.target, edge.source): weight for edge in cell.edges}


def render(fig: Figure) -> None:
    fig.savefig(io.BytesIO(), format="png")


def marks(ax: Axes) -> list[tuple[float, float]]:
    return [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == "o"]


def widths(ax: Axes) -> list[float]:
    return [patch.get_linewidth() for patch in ax.patches if type(patch) is PathPatch]


@pytest.mark.parametrize("name", ["nasbench201", "darts", "s1"])
def test_edge_weights_are_those_of_the_chosen_operations(name: str) -> None:
    space = SPACES[name].cells["normal"]
    rng = np.random.default_rng(0)
    p = {
        kind: rng.dirichlet(np.ones(cell.operations), len(cell.edges))
        for kind, cell in SPACES[name].cells.items()
    }
    cell = SPACES[name].discretize(p).normal
    found = edge_weights(cell, space, p["normal"])
    assert list(found) == [(edge.target, edge.source) for edge in cell.edges]
    strongest = dict(zip(space.edges, p["normal"].max(axis=1), strict=True))
    assert found == {edge: strongest[edge] for edge in found}


def test_edge_weights_of_another_operation() -> None:
    p = np.arange(30.0).reshape(6, 5)
    weights = edge_weights(FIRST, SPACES["nasbench201"].cells["normal"], p)
    assert weights == {(1, 0): 3, (2, 0): 5, (2, 1): 12, (3, 0): 16, (3, 1): 23, (3, 2): 29}
    with pytest.raises(ValueError, match=r"\(6, 5\), got \(5, 6\)"):
        edge_weights(FIRST, SPACES["nasbench201"].cells["normal"], p.reshape(5, 6))


def test_a_frame_shows_the_cell_with_its_weights_and_accuracy() -> None:
    weights = equal(FIRST) | {(2, 1): 0.9, (3, 0): 0.1}
    left, _ = draw_frame(FIRST, weights, CURVES, 2)
    (ax,) = left.axes
    edges = [(edge.target, edge.source) for edge in FIRST.edges]
    assert np.argmax(widths(ax)) == edges.index((2, 1)) and np.argmin(widths(ax)) == edges.index((3, 0))
    assert left.texts[1].get_text() == "accuracy of this cell 0.800 ± 0.020, best 0.820"


def test_a_frame_marks_its_epoch_on_whole_curves() -> None:
    _, right = draw_frame(FIRST, equal(FIRST), CURVES, 2)
    upper, lower = right.axes
    assert marks(upper) == [(2, 0.8)] and marks(lower) == [(2, 1.0)]
    for ax, values in ((upper, CURVES.accuracies), (lower, CURVES.losses)):
        (curve,) = (line for line in ax.lines if line.get_label() == "search")
        assert list(curve.get_xdata()) == [1, 2, 3] and list(curve.get_ydata()) == values
    level = [
        (line.get_ydata()[0], line.get_linestyle()) for line in upper.lines if len(line.get_xdata()) == 2
    ]
    assert [(y, style) for y, style in level if y in (0.82, 0.74)] == [(0.82, "--"), (0.74, ":")]
    assert [text.get_text() for text in upper.texts] == ["best", "random"]
    corners = upper.collections[0].get_paths()[0].vertices
    assert {0.37, 0.43} <= set(corners[corners[:, 0] == 3, 1].round(9))


def test_nothing_moves_from_frame_to_frame() -> None:
    def places(cell: Cell, epoch: int) -> list[Any]:
        found = []
        for fig in draw_frame(cell, equal(cell, 0.2 * epoch), CURVES, epoch):
            render(fig)
            found += [fig.get_size_inches().tolist(), fig.get_layout_engine()]
            found += [(ax.get_position().bounds, ax.get_xlim(), ax.get_ylim()) for ax in fig.axes]
        return found

    assert places(FIRST, 1) == places(LAST, 3)


def test_texts_of_a_frame_are_inside_and_apart() -> None:
    for fig in draw_frame(FIRST, equal(FIRST), CURVES, 1):
        render(fig)
        texts = [*fig.texts, *(text for ax in fig.axes for text in [*ax.texts, ax.title, ax._left_title])]
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        for i, box in enumerate(boxes):
            assert fig.bbox.x0 <= box.x0 and box.x1 <= fig.bbox.x1 and box.y0 >= 0 and box.y1 <= fig.bbox.y1
            assert not any(box.overlaps(other) for other in boxes[:i]), texts[i]


def test_larger_cells_get_a_larger_panel() -> None:
    p = {kind: np.full(cell.shape, 1 / cell.operations) for kind, cell in SPACES["darts"].cells.items()}
    cell = SPACES["darts"].discretize(p).normal
    left, _ = draw_frame(cell, equal(cell), CURVES, 1)
    small, _ = draw_frame(FIRST, equal(FIRST), CURVES, 1)
    assert (left.get_size_inches() > 1.3 * small.get_size_inches()).all()


def test_descriptions_say_what_the_panels_show() -> None:
    cell, curves = frame_alt_texts(LAST, CURVES, 3)
    assert cell == f"Epoch 3 of 3. {cell_alt_text(LAST)}"
    for part in ("3 epochs", "epoch 3", "0.400 ± 0.030", "best 0.820", "random 0.740", "is 1.500"):
        assert part in curves
    plain = Curves([0.7], [2.0], best=0.82, random=0.74)
    assert "0.700, best 0.820" in frame_alt_texts(LAST, plain, 1)[1]


def test_eighty_frames_are_light() -> None:
    epochs = range(1, 81)
    rng = np.random.default_rng(0)
    curves = Curves(rng.uniform(0.1, 0.8, 80), rng.uniform(0.7, 2, 80), 0.82, 0.74, [0.02] * 80)
    some = [(epoch, 0.01 * epoch) for epoch in epochs[::20]]
    page = scrubber(
        (draw_frame(FIRST, equal(FIRST, weight), curves, epoch) for epoch, weight in some),
        (frame_alt_texts(FIRST, curves, epoch) for epoch, _ in some),
    )
    assert len(page.data) * 80 / (len(some) + 1) < 2_000_000  # the first stands in the page twice


def test_key_frames_show_their_cells_and_mark_their_epochs() -> None:
    cells = [FIRST, FIRST, LAST]
    weights = [equal(cell, weight) for cell, weight in zip(cells, (0.1, 0.5, 0.9), strict=True)]
    fig = key_frames(cells, weights, CURVES, [1, 3])
    render(fig)
    first, last, upper, lower = fig.axes
    titles = [ax.get_title(loc="left") for ax in (first, last)]
    assert titles == ["epoch 1: accuracy 0.700", "epoch 3: accuracy 0.400"]
    for ax, cell in ((first, FIRST), (last, LAST)):
        labels = [patch.get_label() for patch in ax.patches if type(patch) is PathPatch]
        assert labels == [str(edge) for edge in cell.edges]
    assert max(widths(first)) < min(widths(last))
    assert marks(upper) == [(1, 0.7), (3, 0.4)] and marks(lower) == [(1, 2.0), (3, 1.5)]
    assert plt.get_fignums() == []


def test_three_key_frames_leave_no_empty_axes() -> None:
    cells = [FIRST] * 3
    fig = key_frames(cells, [equal(FIRST)] * 3, CURVES, [1, 2, 3])
    render(fig)
    assert len(fig.axes) == 5


@pytest.mark.parametrize("epoch", [0, 4])
def test_epochs_are_counted_from_one(epoch: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 to 3, got {epoch}"):
        draw_frame(FIRST, equal(FIRST), CURVES, epoch)
    with pytest.raises(ValueError, match=f"from 1 to 3, got {epoch}"):
        frame_alt_texts(FIRST, CURVES, epoch)
    with pytest.raises(ValueError, match=f"from 1 to 3, got {epoch}"):
        key_frames([FIRST] * 3, [equal(FIRST)] * 3, CURVES, [1, epoch])


def test_missing_data_are_errors() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        key_frames([FIRST] * 3, [equal(FIRST)] * 3, CURVES, [])
    with pytest.raises(ValueError, match="3 epochs, 2 cells, 3 weights"):
        key_frames([FIRST] * 2, [equal(FIRST)] * 3, CURVES, [1])
    with pytest.raises(ValueError, match=r"got \[2, 1\]"):
        Curves([0.1, 0.2], [1.0], 0.82, 0.74)
    with pytest.raises(ValueError, match=r"got \[2, 2, 1\]"):
        Curves([0.1, 0.2], [1.0, 1.0], 0.82, 0.74, std=[0.1])
    with pytest.raises(ValueError, match=r"got \[0, 0\]"):
        Curves([], [], 0.82, 0.74)
