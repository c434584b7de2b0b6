"""Figures of published numbers: what is drawn is what the tables say."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ldarts_book.figures import results as plots_results
from ldarts_book.published import numbers as published_results


def rows(table, dataset, quantity):
    found = published_results.rows_of(table)
    return found[(found["evaluated"] == dataset) & (found["quantity"] == quantity)]


def middles(ax):
    """The marks of error bars, by their x values."""
    return [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1]


@pytest.fixture(autouse=True)
def nothing_is_left_open():
    yield
    assert not plt.get_fignums()


def test_each_method_has_its_row_and_ours_is_marked():
    published = rows("darts-space", "cifar10", "test_accuracy")
    figure = plots_results.compare_published(published, {"Λ-DARTS": (97.0, np.nan)}, label="accuracy")
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == list(published["method"])
    assert sorted(middles(ax)) == sorted([*published["value"], 97.0])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["published", "run here"]


def test_values_below_the_edge_are_written():
    published = rows("nasbench201", "cifar10", "test_accuracy")
    figure = plots_results.compare_published(published, {}, label="accuracy", left=83)
    (ax,) = figure.axes
    assert not figure.legends
    assert min(middles(ax)) > 83
    written = {text.get_text().strip() for text in ax.texts}
    assert written == {f"◂ {value:.2f}" for value in published["value"] if value < 83}


def test_what_cannot_be_compared_is_refused():
    published = rows("darts-space", "cifar10", "test_accuracy")
    with pytest.raises(ValueError, match="no published row 'ours'"):
        plots_results.compare_published(published, {"ours": (97.0, 0.1)}, label="accuracy")
    with pytest.raises(ValueError, match="has two values"):
        plots_results.compare_published(pd.concat([published, published]), {}, label="accuracy")
    with pytest.raises(ValueError, match="nothing to draw"):
        plots_results.compare_published(published.assign(value=np.nan), {}, label="accuracy")


def test_protocols_have_panels_of_their_own():
    panels = {
        name: rows(name, "cifar10", "test_error") for name in ("s1-s4-one-search", "s1-s4-three-searches")
    }
    figure = plots_results.compare_protocols(panels)
    assert [ax.get_title(loc="left") for ax in figure.axes] == list(panels)
    for ax, several in zip(figure.axes, panels.values(), strict=True):
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert names == list(several.loc[several["value"].notna(), "method"].unique())
        assert "Λ-DARTS" not in names
        assert [text.get_text() for text in ax.get_yticklabels()] == ["S1", "S2", "S3", "S4"]
    with pytest.raises(ValueError, match="nothing to draw"):
        plots_results.compare_protocols({})


def test_figure_1_and_ours_share_no_axes():
    published = published_results.figure1()
    ours = pd.DataFrame(
        {
            "variant": np.repeat(["DARTS", "Λ-DARTS"], 6),
            "seed": [0, 0, 0, 1, 1, 1] * 2,
            "epoch": [0, 1, 2] * 4,
            "valid_alignment": 0.1,
            "accuracy": 0.5,
        }
    )
    figure = plots_results.compare_figure1(published, ours)
    left, right, below, _ = figure.axes
    darts = published[published["method"] == "DARTS"]
    assert left.lines[0].get_ydata().tolist() == darts["alignment"].tolist()
    assert below.lines[0].get_ydata().tolist() == darts["accuracy"].tolist()
    assert right.lines[0].get_ydata().tolist() == pytest.approx([0.1] * 3)
    with pytest.raises(ValueError, match="no searches of 'Λ-DARTS'"):
        plots_results.compare_figure1(published, ours[ours["variant"] == "DARTS"])


def test_a_budget_marks_what_is_above_it():
    figure = plots_results.draw_budget({"small": 550.0, "large": 610.0}, 600)
    (ax,) = figure.axes
    marks = {line.get_ydata()[0]: line.get_marker() for line in ax.lines if len(line.get_xdata()) == 1}
    assert marks == {0: "o", 1: "s"}
    with pytest.raises(ValueError, match="nothing to draw"):
        plots_results.draw_budget({}, 600)


def test_the_last_step_is_drawn_with_its_expectation():
    windows = pd.DataFrame(
        {
            "length": [4, 4, 16, 16],
            "window": [0, 1, 0, 1],
            "cosine": [0.4, 0.6, 0.2, 0.4],
            "alignment": [0.1, 0.3, 0.2, 0.2],
            "alignment of the last step": 0.0,
        }
    )
    left, right = plots_results.draw_last_step(windows).axes
    lines = {line.get_label(): line.get_ydata().tolist() for line in left.lines}
    assert lines["mean"] == pytest.approx([0.5, 0.3])
    assert lines[r"$1/\sqrt{T}$"] == pytest.approx([0.5, 0.25])
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["all steps", "last step"]
    with pytest.raises(ValueError, match="no window"):
        plots_results.draw_last_step(windows[:0])
