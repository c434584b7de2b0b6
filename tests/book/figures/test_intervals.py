"""Rows hold every mark, its interval and what it is held against."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldarts_book.figures import intervals
from ldarts_book.figures.style import METHODS, OTHERS, PLAIN, SOURCES

ACCURACY = {"accuracy": ("mean", "low", "high")}
TABLE = pd.DataFrame(
    {
        "mean": [0.61, 0.73, 0.70],
        "low": [0.50, 0.65, 0.60],
        "high": [0.70, 0.78, 0.75],
        "loss": [0.1, 0.2, 0.3],
        "collapsed": [7.0, 2.0, 4.0],
        "n": 20,
    },
    index=["DARTS", "Λ-DARTS", "mine"],
)
PAIRS = pd.concat({"first": TABLE, "second": TABLE.iloc[:2] + 0.01}, names=["setting", "variant"])
REFERENCES = {"random cell": 0.65, "random search": 0.79, "best cell": 0.82}


def marks(ax: Axes) -> dict[float, tuple[float, str, str]]:
    """Height of each mark: where it stands, its colour, its marker."""
    found = [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_marker() != "None"]
    return {
        round(float(line.get_ydata()[0]), 6): (line.get_xdata()[0], line.get_color(), line.get_marker())
        for line in found
    }


def bars(ax: Axes) -> dict[float, list[float]]:
    """Height of each bar: its ends."""
    found = [line for line in ax.lines if len(line.get_xdata()) == 2 and len(set(line.get_ydata())) == 1]
    return {round(float(line.get_ydata()[0]), 6): list(line.get_xdata()) for line in found}


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def legend(fig: Figure) -> list[str]:
    return [text.get_text() for one in fig.legends for text in one.get_texts()]


def test_every_row_has_its_mark_and_its_interval_from_top_to_bottom():
    fig = intervals(TABLE, ACCURACY | {"loss": "loss"})
    accuracy, loss = fig.axes
    assert [tick.get_text() for tick in accuracy.get_yticklabels()] == list(TABLE.index)
    assert accuracy.get_ylim()[0] > accuracy.get_ylim()[1]
    assert [x for x, _, _ in marks(accuracy).values()] == TABLE["mean"].tolist()
    assert list(marks(accuracy)) == list(bars(accuracy)) == [0, 1, 2]
    assert list(bars(accuracy).values()) == TABLE[["low", "high"]].to_numpy().tolist()
    assert [x for x, _, _ in marks(loss).values()] == TABLE["loss"].tolist() and not bars(loss)
    assert (accuracy.get_xlabel(), loss.get_xlabel()) == ("accuracy", "loss")
    assert not fig.legends


def test_methods_have_their_look_and_other_rows_one_or_that_of_their_family():
    darts, ours = METHODS["darts"], METHODS["lambda"]
    own = [(darts.colour, darts.marker), (ours.colour, ours.marker)]
    fig = intervals(TABLE, ACCURACY)
    found = [tuple(look) for _, *look in marks(fig.axes[0]).values()]
    assert found == [*own, (PLAIN.colour, PLAIN.marker)]
    families = {"published": ["Λ-DARTS"], "ours": ["mine", "DARTS"]}
    fig = intervals(TABLE, ACCURACY, families=families)
    (ax,) = fig.axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["Λ-DARTS", "mine", "DARTS"]
    assert [x for x, _, _ in marks(ax).values()] == [0.73, 0.70, 0.61]
    assert marks(ax)[1][1:] == (OTHERS[0].colour, OTHERS[0].marker) and marks(ax)[2][1:] == own[0]
    assert legend(fig) == ["ours"]  # the row says itself that it is Λ-DARTS


def test_marks_of_one_row_lie_below_each_other_in_their_order():
    fig = intervals(PAIRS, {"share": "loss"} | ACCURACY, references={"mean": REFERENCES})
    left, ax = fig.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["first", "second"]
    found = marks(ax)
    assert np.round(list(found)).tolist() == [0, 0, 0, 1, 1]
    assert list(found) == sorted(found)
    assert [x for x, _, _ in found.values()] == PAIRS["mean"].tolist()
    assert list(bars(ax).values())[: len(PAIRS)] == PAIRS[["low", "high"]].to_numpy().tolist()
    assert [name for name in legend(fig) if ":" not in name] == list(TABLE.index)


def test_published_and_own_values_stand_in_one_row():
    rows = {("Λ-DARTS", "published"): 97.5, ("Λ-DARTS", "run here"): 97.0, ("DARTS", "published"): 97.2}
    table = pd.Series(rows).to_frame("value")
    fig = intervals(table, {"accuracy (%)": "value"})
    assert legend(fig) == ["published", "run here"]
    looks = [look for _, *look in marks(fig.axes[0]).values()]
    assert looks == [[SOURCES[name].colour, SOURCES[name].marker] for _, name in rows]
    assert not intervals(table.drop(index="run here", level=1), {"accuracy (%)": "value"}).legends


def test_references_are_named_lines_in_their_panel():
    fig = intervals(TABLE, ACCURACY | {"loss": "loss"}, references={"mean": REFERENCES, "loss": {"": 0}})
    accuracy, loss = fig.axes
    level = {line.get_label(): line for line in accuracy.lines if ":" in line.get_label()}
    places = [(name, line.get_xdata()[0]) for name, line in level.items()]
    assert places == [(f"{name}: {value}", value) for name, value in REFERENCES.items()]
    assert [line.get_linestyle() for line in level.values()] == [":", "-.", "--"]
    assert legend(fig) == list(level)
    assert [line.get_xdata()[0] for line in loss.lines if len(line.get_xdata()) == 2] == [0]
    assert accuracy.get_xlim()[1] > 0.82 and loss.get_xlim()[0] < 0


def test_counts_stand_beside_their_rows():
    fig = intervals(TABLE, ACCURACY, counts=["collapsed", "n"])
    assert texts(fig.axes[0]) == ["7 of 20", "2 of 20", "4 of 20"]
    assert [text.get_position()[1] for text in fig.axes[0].texts] == [0, 1, 2]


def test_seeds_are_circles_below_the_name_of_their_row():
    seeds = {"DARTS": [0.5, 0.72], "Λ-DARTS": [0.73], "mine": [0.1, 0.8, 1.2]}
    fig = intervals(TABLE, ACCURACY, seeds=seeds, references={"mean": REFERENCES})
    (ax,) = fig.axes
    circles = [line for line in ax.lines if line.get_markerfacecolor() == "none"]
    assert [list(line.get_xdata()) for line in circles] == list(seeds.values())
    assert [set(line.get_ydata()) for line in circles] == [{0}, {1}, {2}]
    assert texts(ax) == ["DARTS: 0.610 (n = 2)", "Λ-DARTS: 0.730 (n = 1)", "mine: 0.700 (n = 3)"]
    below = {y: x for y, (x, _, marker) in marks(ax).items() if y % 1}
    assert below == {0.2: 0.61, 1.2: 0.73, 2.2: 0.70}
    low, high = ax.get_xlim()
    assert low < 0.1 and high > 1.2
    on_phone = 350 / 96 / fig.get_figwidth()
    assert min(text.get_fontsize() for text in ax.texts) * on_phone >= 10


def test_values_below_the_edge_are_written():
    fig = intervals(TABLE, ACCURACY, left=0.65)
    (ax,) = fig.axes
    assert ax.get_xlim()[0] == 0.65
    assert [x for x, _, _ in marks(ax).values()] == [0.73, 0.70]
    assert [text.strip() for text in texts(ax)] == ["◂ 0.61"]


def test_what_is_not_known_is_left_out():
    table = TABLE.assign(low=np.nan, high=np.nan, loss=[0.1, np.nan, np.nan])
    fig = intervals(table, ACCURACY | {"loss": "loss"})
    assert np.isnan(list(bars(fig.axes[0]).values())).all()
    assert next(iter(marks(fig.axes[1]).values()))[0] == 0.1 and fig.axes[1].get_ylim() == (2.5, -0.5)
    known = PAIRS.copy()
    known.loc[(slice(None), "mine"), "mean"] = np.nan
    assert legend(intervals(known, {"accuracy": "mean"})) == ["DARTS", "Λ-DARTS"]


def test_labels_stay_inside_the_figure_and_apart():
    panels = {"mean accuracy, 95 %; how many collapsed": ACCURACY["accuracy"], "training loss": "loss"}
    rows = TABLE.rename(index={"mine": "noise as long as ε0 = 0.0001, λ = 1/8"})
    fig = intervals(rows, panels, counts=["collapsed", "n"], references={"mean": REFERENCES})
    fig.savefig(io.BytesIO(), format="png")
    boxes = [ax.xaxis.label.get_window_extent() for ax in fig.axes]
    boxes += [fig.legends[0].get_window_extent()]
    assert all(box.x0 >= 0 and box.x1 <= fig.bbox.x1 for box in boxes)
    assert not boxes[0].overlaps(boxes[1])


@pytest.mark.parametrize(
    "table, panels, options, message",
    [
        (TABLE.iloc[:0], ACCURACY, {}, "nothing to draw"),
        (TABLE, {}, {}, "nothing to draw"),
        (TABLE.assign(mean=np.nan), ACCURACY, {}, "nothing to draw"),
        (TABLE, {"a": "accuracy"}, {}, "no column 'accuracy'; it has mean, low"),
        (TABLE, ACCURACY, {"counts": ["collapsd"]}, "no column 'collapsd'"),
        (TABLE, ACCURACY, {"references": {"loss": REFERENCES}}, "no panel shows 'loss'; choose from mean"),
        (TABLE, ACCURACY, {"families": {"one": ["x"]}}, "unknown row 'x'; the table has DARTS, Λ-DARTS"),
        (TABLE, ACCURACY, {"families": {}}, "nothing to draw"),
        (pd.concat([TABLE, TABLE]), ACCURACY, {}, "'DARTS' has two values"),
        (TABLE, ACCURACY, {"seeds": {"DARTS": [1.0]}}, r"given for \['DARTS', .*\], got \['DARTS'\]"),
        (TABLE.assign(low=0.62), ACCURACY, {}, r"DARTS: 0\.6100 is not in its interval \[0\.6200, 0\.7000\]"),
        (TABLE.assign(high=0.72), ACCURACY, {}, r"Λ-DARTS: 0\.7300 is not in"),
    ],
)
def test_what_cannot_be_drawn_is_named(table, panels, options, message):
    with pytest.raises(ValueError, match=message):
        intervals(table, panels, **options)
