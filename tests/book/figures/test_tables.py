"""The figures of exact accuracies show every seed, every cell and the right correlation."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from ldarts_book.figures.tables import (
    against,
    compare_accuracies,
    rank_correlation,
    seed_agreement,
    table_distribution,
)

ACCURACIES = {"lambda": [0.7, 0.8], "mine": [0.4, 0.5, 0.9]}
INTERVALS = {"lambda": (0.7, 0.78), "mine": (0.45, 0.7)}
REFERENCES = {"random cell": 0.74, "random search": 0.79, "best cell": 0.82}


def render(fig: Figure) -> None:
    fig.savefig(io.BytesIO(), format="png")


def labelled(ax: Axes, label: str) -> list[Line2D]:
    return [line for line in ax.lines if line.get_label() == label]


def test_every_seed_is_a_dot_and_every_mean_has_its_interval() -> None:
    fig = compare_accuracies(ACCURACIES, INTERVALS, references=REFERENCES)
    render(fig)
    (ax,) = fig.axes
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == list(ACCURACIES.values())
    assert [set(line.get_ydata()) for line in dots] == [{0}, {1}]
    assert [line.get_xdata()[0] for line in labelled(ax, "mean")] == pytest.approx([0.75, 0.6])
    assert [tuple(line.get_xdata()) for line in labelled(ax, "interval")] == list(INTERVALS.values())
    low, high = ax.get_ylim()
    assert low > high  # the first method stands on top
    assert plt.get_fignums() == []


def test_rows_and_lines_are_named_with_their_numbers() -> None:
    fig = compare_accuracies(ACCURACIES, INTERVALS, references=REFERENCES, label="accuracy in %")
    (ax,) = fig.axes
    texts = [text.get_text() for text in ax.texts]
    assert texts == [
        "Λ-DARTS: 0.750 (n = 2)",
        "mine: 0.600 (n = 3)",
        "random\ncell\n0.740",
        "random\nsearch\n0.790",
        "best\ncell\n0.820",
    ]
    level = {
        line.get_xdata()[0]: line.get_linestyle() for line in ax.lines if len(set(line.get_xdata())) == 1
    }
    assert (level[0.74], level[0.79], level[0.82]) == (":", "-.", "--")
    with pytest.raises(ValueError, match="unknown reference 'worst'; choose from random cell, random search"):
        compare_accuracies(ACCURACIES, INTERVALS, references={"worst": 0.1})
    assert ax.get_xlabel().startswith("accuracy in %")


def test_texts_of_the_comparison_are_legible_on_a_phone() -> None:
    fig = compare_accuracies(ACCURACIES, INTERVALS, references=REFERENCES)
    on_phone = 350 / 96 / fig.get_figwidth()
    (ax,) = fig.axes
    assert min(text.get_fontsize() for text in ax.texts[: len(ACCURACIES)]) * on_phone >= 10


def test_an_unknown_interval_is_left_out() -> None:
    fig = compare_accuracies({"darts": [0.5]}, {"darts": (np.nan, np.nan)}, references=REFERENCES)
    render(fig)
    assert np.isnan(labelled(fig.axes[0], "interval")[0].get_xdata()).all()


def test_bad_comparisons_are_errors() -> None:
    for accuracies in ({}, {"darts": []}):
        with pytest.raises(ValueError, match="nothing to draw"):
            compare_accuracies(accuracies, {}, references=REFERENCES)
    with pytest.raises(ValueError, match=r"\['lambda', 'mine'\], got \['lambda'\]"):
        compare_accuracies(ACCURACIES, {"lambda": (0.7, 0.8)}, references=REFERENCES)
    for interval in ((0.76, 0.8), (0.7, 0.74)):
        with pytest.raises(ValueError, match=r"lambda: the mean 0\.7500 is not in"):
            compare_accuracies(
                ACCURACIES,
                INTERVALS | {"lambda": interval},
                references=REFERENCES,
            )


def test_the_histogram_counts_every_cell() -> None:
    values, counts = np.array([0.1, 0.1, 0.5, 0.8]), [1, 2, 30, 400]
    for given, expected in ((None, [2, 0, 1, 1]), (counts, [3, 0, 30, 400])):
        fig = table_distribution(values, {"best": 0.8}, counts=given, bins=4)
        render(fig)
        (ax,) = fig.axes
        assert [bar.get_height() for bar in ax.patches] == expected
        assert f"{sum(expected)} in all" in ax.get_title(loc="left")


def test_marks_stand_at_their_accuracies_and_do_not_touch() -> None:
    values = np.random.default_rng(0).uniform(0.2, 0.82, 500)
    marked = {"all 3×3": 0.807, "best": 0.82, "all pool": 0.25, "all skip": 0.44, "all conv 1×1": 0.46}
    fig = table_distribution(values, marked)
    render(fig)
    (ax,) = fig.axes
    for name, accuracy in marked.items():
        (line,) = labelled(ax, name)
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
        table_distribution([], {})
    with pytest.raises(ValueError, match="expected 2 counts, got 3"):
        table_distribution([0.1, 0.2], {}, counts=[1, 2, 3])


@pytest.mark.parametrize("seed", range(3))
def test_rank_correlation_agrees_with_scipy(seed: int) -> None:
    first, second = np.random.default_rng(seed).integers(0, 12, (2, 40))
    second = second - seed * first
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_scatters_hold_every_cell_and_the_correlation() -> None:
    x, y = [0.1, 0.4, 0.2, 0.9], [91.0, 94.0, 90.0, 92.0]
    fig = against(x, y, labels=("Digits-201", "NAS-Bench-201"))
    render(fig)
    (ax,) = fig.axes
    (dots,) = ax.lines
    assert np.array_equal(dots.get_xydata(), np.transpose([x, y]))
    assert ax.get_title(loc="left") == "rank correlation 0.60 (4 cells)"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Digits-201", "NAS-Bench-201")


def test_seeds_are_compared_on_one_scale() -> None:
    fig = seed_agreement([0.1, 0.4, 0.9], [0.2, 0.8, 0.6])
    render(fig)
    (ax,) = fig.axes
    assert ax.get_xlim() == ax.get_ylim() and ax.get_aspect() == 1
    dots, diagonal = ax.lines
    assert list(dots.get_ydata()) == [0.2, 0.8, 0.6]
    assert np.array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("accuracy, seed 0", "accuracy, seed 1")


@pytest.mark.parametrize("first, second", [([], []), ([0.1, 0.2], [0.1, 0.2]), ([0.1, 0.2, 0.3], [0.1, 0.2])])
def test_scatters_need_the_same_cells(first: list[float], second: list[float]) -> None:
    message = f"at least three, got {len(first)} and {len(second)}"
    with pytest.raises(ValueError, match=message):
        seed_agreement(first, second)
    with pytest.raises(ValueError, match=message):
        against(first, second, labels=("a", "b"))
