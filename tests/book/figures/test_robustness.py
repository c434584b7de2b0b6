"""The forest plots hold every estimate, its interval and the lines that it is held against."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ldarts_book.figures._styles import METHOD_STYLES
from ldarts_book.figures.robustness import forest_plot, gain_plot

ROWS = {
    ("baseline", "DARTS"): (3, 0.14, 0.69, 0.61, 0.50, 0.70, 0.0, 0.0, 0.0),
    ("baseline", "Λ-DARTS"): (1, 0.02, 0.47, 0.73, 0.65, 0.78, 0.12, -0.02, 0.21),
    ("depth=2", "DARTS"): (4, 0.22, 0.78, 0.58, 0.45, 0.69, 0.0, 0.0, 0.0),
    ("depth=2", "Λ-DARTS"): (0, 0.0, 0.32, 0.75, 0.72, 0.77, 0.17, 0.06, 0.30),
}
COLUMNS = [
    "collapsed", "collapse_low", "collapse_high", "mean", "low", "high", "gain", "gain_low", "gain_high",
]  # fmt: skip
SUMMARY = pd.DataFrame(ROWS.values(), index=pd.MultiIndex.from_tuples(ROWS, names=["setting", "variant"]))
SUMMARY.columns = COLUMNS
SUMMARY["n"] = 8
OVERALL = pd.Series({"settings": 2, "gain": 0.145, "gain_low": 0.03, "gain_high": 0.24}, dtype=object)
REFERENCES = {"random cell": 0.65, "best cell": 0.82}


def render(fig: Figure) -> None:
    fig.savefig(io.BytesIO(), format="png")


def marks(ax: Axes, label: str) -> np.ndarray:
    (line,) = (line for line in ax.lines if line.get_label() == label)
    return line.get_xydata()


def intervals(ax: Axes, colour: str) -> list[list[float]]:
    """The ends of the bars of one colour, from top to bottom."""
    bars = [c for c in ax.collections if isinstance(c, LineCollection) and to_hex(c.get_color()[0]) == colour]
    segments = sorted((s for bar in bars for s in bar.get_segments()), key=lambda s: s[0, 1])
    return [list(segment[:, 0]) for segment in segments]


def test_every_setting_has_both_methods_with_their_intervals() -> None:
    fig = forest_plot(SUMMARY, references=REFERENCES)
    render(fig)
    left, right = fig.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["baseline", "depth=2"]
    for method in ("darts", "lambda"):
        style = METHOD_STYLES[method]
        rows = SUMMARY.xs(style.label, level="variant")
        assert marks(left, style.label)[:, 0] == pytest.approx(rows["collapsed"].to_numpy() / 8)
        assert marks(right, style.label)[:, 0] == pytest.approx(rows["mean"].to_numpy())
        assert intervals(left, style.colour) == rows[["collapse_low", "collapse_high"]].to_numpy().tolist()
        assert intervals(right, style.colour) == rows[["low", "high"]].to_numpy().tolist()
        assert np.round(marks(right, style.label)[:, 1]).tolist() == [0, 1]
    low, high = left.get_ylim()
    assert low > high  # the first setting stands on top
    assert (marks(left, "DARTS")[:, 1] < marks(left, "Λ-DARTS")[:, 1]).all()
    assert plt.get_fignums() == []


def test_accuracies_are_held_against_the_random_and_the_best_cell() -> None:
    fig = forest_plot(SUMMARY, references=REFERENCES)
    _, right = fig.axes
    assert [text.get_text() for text in right.texts] == ["random\ncell\n0.650", "best\ncell\n0.820"]
    level = {line.get_xdata()[0]: line.get_linestyle() for line in right.lines if len(line.get_xdata()) == 2}
    assert (level[0.65], level[0.82]) == (":", "--")


def test_gains_end_with_that_of_all_settings() -> None:
    fig = gain_plot(SUMMARY, OVERALL)
    render(fig)
    (ax,) = fig.axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["baseline", "depth=2", "all settings"]
    np.testing.assert_allclose(marks(ax, "Λ-DARTS"), [[0.12, 0], [0.17, 1]])
    np.testing.assert_allclose(marks(ax, "all settings"), [[0.145, 2]])
    blue = METHOD_STYLES["lambda"].colour
    assert intervals(ax, blue) == [[-0.02, 0.21], [0.06, 0.30]]
    assert intervals(ax, to_hex(ax.lines[1].get_color())) == [[0.03, 0.24]]
    zero = [line for line in ax.lines if list(line.get_xdata()) == [0, 0]]
    assert [line.get_linestyle() for line in zero] == ["--"]


def test_labels_stay_inside_the_figure() -> None:
    for fig in (
        forest_plot(SUMMARY, references=REFERENCES),
        gain_plot(SUMMARY, OVERALL),
    ):
        render(fig)
        for ax in fig.axes:
            box = ax.xaxis.label.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= fig.bbox.x1


def test_an_unknown_interval_is_left_out() -> None:
    unknown = SUMMARY.assign(low=np.nan, high=np.nan)
    fig = forest_plot(unknown, references=REFERENCES)
    render(fig)
    assert marks(fig.axes[1], "DARTS")[:, 0].tolist() == [0.61, 0.58]
    bars = [bar for bar in fig.axes[1].collections if isinstance(bar, LineCollection)]
    assert len(bars) == 2 and not any(segment.size for bar in bars for segment in bar.get_segments())


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="the summary has no row"):
        forest_plot(SUMMARY.iloc[:0], references=REFERENCES)
    with pytest.raises(ValueError, match="the summary has no row"):
        gain_plot(SUMMARY.iloc[:0], OVERALL)
