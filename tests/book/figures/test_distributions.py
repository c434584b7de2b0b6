"""The figures of a table show every cell and the right correlation."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from ldarts_book.figures import distribution, scatter


def render(fig: Figure) -> None:
    fig.savefig(io.BytesIO(), format="png")


def test_the_histogram_counts_every_cell() -> None:
    values, counts = np.array([0.1, 0.1, 0.5, 0.8]), [1, 2, 30, 400]
    (ax,) = distribution(values, {"best": 0.8}, counts=counts, bins=4).axes
    assert [bar.get_height() for bar in ax.patches] == [3, 0, 30, 400]
    assert "433 in all" in ax.get_title(loc="left")


def test_marks_stand_at_their_accuracies_and_do_not_touch() -> None:
    values = np.random.default_rng(0).uniform(0.2, 0.82, 500)
    marked = {"all 3×3": 0.807, "best": 0.82, "all pool": 0.25, "all skip": 0.44, "all conv 1×1": 0.46}
    fig = distribution(values, marked, counts=np.ones(500))
    render(fig)
    (ax,) = fig.axes
    for name, accuracy in marked.items():
        (line,) = (line for line in ax.lines if line.get_label() == name)
        (text,) = (text for text in ax.texts if name in text.get_text())
        assert list(line.get_xdata()) == [accuracy] * 2 and text.get_position()[0] == accuracy
        assert f"{accuracy:.3f}" in text.get_text()
    boxes = [text.get_window_extent() for text in ax.texts]
    bars = max(bar.get_window_extent().y1 for bar in ax.patches)
    for i, box in enumerate(boxes):
        assert box.y0 > bars
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_bad_tables_are_errors() -> None:
    with pytest.raises(ValueError, match="the table is empty"):
        distribution([], {}, counts=[])
    with pytest.raises(ValueError, match="expected 2 counts, got 3"):
        distribution([0.1, 0.2], {}, counts=[1, 2, 3])


def test_scatters_hold_every_cell_and_the_correlation() -> None:
    x, y = [0.1, 0.4, 0.2, 0.9], [91.0, 94.0, 90.0, 92.0]
    fig = scatter(x, y, labels=("Digits-201", "NAS-Bench-201"))
    render(fig)
    (ax,) = fig.axes
    (dots,) = ax.lines
    assert np.array_equal(dots.get_xydata(), np.transpose([x, y]))
    assert ax.get_title(loc="left") == "rank correlation 0.60 (4 cells)"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Digits-201", "NAS-Bench-201")


def test_seeds_are_compared_on_one_scale() -> None:
    fig = scatter([0.1, 0.4, 0.9], [0.2, 0.8, 0.6], labels=("one", "other"), same=True)
    render(fig)
    (ax,) = fig.axes
    assert ax.get_xlim() == ax.get_ylim() and ax.get_aspect() == 1
    dots, diagonal = ax.lines
    assert list(dots.get_ydata()) == [0.2, 0.8, 0.6]
    assert np.array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("one", "other")


@pytest.mark.parametrize("first, second", [([], []), ([0.1, 0.2], [0.1, 0.2]), ([0.1, 0.2, 0.3], [0.1, 0.2])])
def test_scatters_need_the_same_cells(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match=f"at least three, got {len(first)} and {len(second)}"):
        scatter(first, second, labels=("a", "b"))
