"""Curves show what they are given: every search, the mean of the seeds, every cell."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ldarts_book.figures import cell_curves, curves, halves, weight_curves
from ldarts_book.figures.style import METHODS, OPERATIONS
from ldarts_lib.spaces.space import SPACES

SEEDS = [[0.1, 0.5, 0.3], [0.2, 0.1, 0.6], [0.9, 0.3, 0.0]]


def rows(values: list[float], **columns: Any) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "accuracy": value, "genotype": "|skip_connect~0|", **columns}
        for epoch, value in enumerate(values)
    ]


def thick(ax: Axes) -> list[Line2D]:
    return [line for line in ax.lines if line.get_linewidth() == 2.2]


def thin(ax: Axes) -> list[Line2D]:
    return [line for line in ax.lines if line.get_linewidth() == 0.8]


def titles(fig: Figure) -> list[str]:
    return [ax.get_title(loc="left") for ax in fig.axes]


def legend(fig: Figure) -> list[str]:
    return [text.get_text() for text in fig.legends[0].get_texts()]


@pytest.mark.parametrize(
    "spread, ends",
    [("range", [(0.1, 0.9), (0.1, 0.5), (0.0, 0.6)]), ("half", [(0.15, 0.55), (0.2, 0.4), (0.15, 0.45)])],
)
def test_the_line_is_the_mean_and_the_band_holds_the_seeds(spread, ends):
    fig = curves({"darts": [rows(seed) for seed in SEEDS]}, ["accuracy"], spread=spread)
    (ax,) = fig.axes
    (line,) = ax.lines
    assert line.get_ydata() == pytest.approx(np.mean(SEEDS, axis=0))
    assert list(line.get_xdata()) == [1, 2, 3]  # epochs are counted from 1
    corners = next(c for c in ax.collections if not isinstance(c, LineCollection)).get_paths()[0].vertices
    for epoch, (low, high) in enumerate(ends, start=1):
        at_epoch = corners[corners[:, 0] == epoch, 1]
        assert (at_epoch.min(), at_epoch.max()) == pytest.approx((low, high))


def test_methods_keep_their_names_and_looks():
    fig = curves({name: [rows([0.1, 0.2])] for name in ("mine", "lambda", "DARTS")}, ["accuracy"])
    lines = {line.get_label(): line for line in thick(fig.axes[0])}
    assert list(lines) == ["mine (1 seed)", "Λ-DARTS (1 seed)", "DARTS (1 seed)"]
    for label, method in (("Λ-DARTS (1 seed)", "lambda"), ("DARTS (1 seed)", "darts")):
        line, look = lines[label], METHODS[method]
        assert (line.get_color(), line.get_marker()) == (look.colour, look.marker)


def test_the_legend_counts_the_seeds_and_says_how_they_are_shown():
    several = {"darts": [rows([0.1, 0.2])] * 3, "lambda": [rows([0.1, 0.2])]}
    for spread, words in {"range": "smallest to largest", "half": "half", "searches": "single"}.items():
        fig = curves(several, ["accuracy"], spread=spread)
        assert legend(fig) == ["DARTS (3 seeds)", "Λ-DARTS (1 seed)"]
        assert words in fig.legends[0].get_title().get_text()
    assert curves({"darts": [rows([0.1])]}, ["accuracy"]).legends[0].get_title().get_text() == ""


def test_every_search_of_a_table_may_be_a_thin_line():
    offsets = {"Λ-DARTS": 0.0, "DARTS": 0.5}
    table = pd.DataFrame(
        {"variant": name, "seed": seed, **row}
        for name, offset in offsets.items()
        for seed in (5, 6)
        for row in rows([0.1 + offset, 0.01 * seed + offset])
    )
    fig = curves(table, ["accuracy"], spread="searches")
    assert legend(fig) == ["Λ-DARTS (2 seeds)", "DARTS (2 seeds)"]
    found = [list(line.get_ydata()) for line in thin(fig.axes[0])]
    assert found == [pytest.approx([0.1 + o, 0.01 * seed + o]) for o in offsets.values() for seed in (5, 6)]
    assert len(thick(fig.axes[0])) == 2
    alone = curves(table[table["seed"] == 5], ["accuracy"], spread="searches")
    assert not thin(alone.axes[0])


def test_panels_are_titled_and_a_lone_one_takes_the_row():
    history = rows([0.1], skips=2, valid_loss=2.3)
    fig = curves({"darts": [history]}, ["accuracy", "skips", "valid_loss"])
    loss = r"validation loss $\mathcal{L}_\mathrm{val}$"
    assert titles(fig) == ["accuracy of the derived cell", "skip connections in the genotype", loss]
    assert {ax.get_xlabel() for ax in fig.axes} == {"epoch"}
    fig.savefig(io.BytesIO(), format="png")
    widths = [ax.get_position().width for ax in fig.axes]
    assert widths[2] > 1.8 * widths[0]
    assert titles(curves({"darts": [history]}, {"skips": "mine"})) == ["mine"]


def test_seeds_of_different_length_share_their_epochs():
    fig = curves({"darts": [rows([0.1, 0.2, 0.3]), rows([0.3, 0.4])]}, ["accuracy"])
    assert list(fig.axes[0].lines[0].get_xdata()) == [1, 2]


def test_what_is_not_known_is_left_blank():
    histories = {"darts": [rows([float("nan")] * 2)], "lambda": [rows([float("nan"), 0.3])]}
    (line,) = curves(histories, ["accuracy"]).axes[0].lines
    assert line.get_xydata().tolist() == [[2, 0.3]]


def test_panels_may_come_from_different_sources():
    theirs = pd.DataFrame({"variant": "DARTS", "t": [0.0, 50.0], "published": [81.0, 54.3]})
    ours = pd.DataFrame({"variant": "DARTS", "seed": [0, 1], "t": 3.0, "own": [60.0, 70.0]})
    left, right = curves(pd.concat([theirs, ours]), ["published", "own"], x="t").axes
    assert thick(left)[0].get_xydata().tolist() == [[0, 81], [50, 54.3]]
    assert thick(right)[0].get_xydata().tolist() == [[3, 65]]
    assert left.get_xlabel() == "t"


def test_references_and_shared_limits():
    history = rows([0.1, 0.2], a=-0.4, b=0.9)
    fig = curves(
        {"darts": [history]},
        ["accuracy", "a", "b"],
        references={"accuracy": {"random cell": 0.7, "best cell": 0.8}, "a": {"": 0.0}},
        shared=[["a", "b"]],
    )
    accuracy, a, b = fig.axes
    level = {line.get_label(): (line.get_ydata()[0], line.get_linestyle()) for line in accuracy.lines[1:]}
    assert level == {"random cell: 0.7": (0.7, ":"), "best cell: 0.8": (0.8, "--")}
    assert legend(fig) == ["DARTS (1 seed)", *level]
    assert a.lines[-1].get_ydata()[0] == 0.0
    assert a.get_ylim() == b.get_ylim() and a.get_ylim()[0] < -0.4 and b.get_ylim()[1] > 0.9
    assert accuracy.get_ylim()[1] > 0.8


def test_values_at_equal_distances_have_their_bounds():
    table = pd.DataFrame(
        {"variant": form, "λ": strength, "mean": mean, "low": mean - 0.1, "high": mean + 0.2}
        for form, offset in (("Λ-DARTS", 0.0), ("mine", 0.05))
        for strength, mean in ((2.0, 0.7 + offset), (0.0, 0.5 + offset), (0.25, 0.6 + offset))
    )
    fig = curves(table, ["mean"], x="λ", even=True, bounds={"mean": ("low", "high")})
    (ax,) = fig.axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1/4", "2"]
    first, second = thick(ax)
    assert first.get_ydata() == pytest.approx([0.5, 0.6, 0.7])
    assert np.round(first.get_xdata()).tolist() == [0, 1, 2]
    assert (first.get_xdata() < second.get_xdata()).all()
    bounds = [c for c in ax.collections if isinstance(c, LineCollection)]
    ends = sorted(segment[:, 1].tolist() for segment in bounds[0].get_segments())
    assert np.array(ends) == pytest.approx(np.array([[0.4, 0.7], [0.5, 0.8], [0.6, 0.9]]))
    assert legend(fig) == ["Λ-DARTS", "mine"]


def test_a_history_has_two_halves():
    history = rows([0.1, 0.2], train_loss=1.0, valid_loss=2.0, train_alignment=0.3, valid_alignment=0.4)
    fig = curves(halves(history), ["loss", "alignment"])
    assert titles(fig) == [r"loss $\mathcal{L}$", "layer alignment Λ"]
    assert legend(fig) == ["batches of ω", "batches of α"]
    assert [[line.get_ydata()[0] for line in ax.lines] for ax in fig.axes] == [[1.0, 2.0], [0.3, 0.4]]


def test_every_cell_is_a_line_in_every_panel():
    rng = np.random.default_rng(0)
    panels = {"DARTS: norm": rng.uniform(size=(8, 3)), "cosine": rng.uniform(size=(5, 3))}
    fig = cell_curves(panels, shared=[list(panels)])
    assert titles(fig) == list(panels) and legend(fig) == ["cell 1", "cell 2", "cell 3"]
    for ax, values in zip(fig.axes, panels.values(), strict=True):
        assert [list(line.get_ydata()) for line in ax.lines] == values.T.tolist()
        assert list(ax.lines[0].get_xdata()) == list(range(1, len(values) + 1))
        assert len({line.get_linestyle() for line in ax.lines}) == 3
    assert fig.axes[0].get_ylim() == fig.axes[1].get_ylim()
    many = cell_curves({"norm": np.zeros((2, 15))})
    assert legend(many) == ["cell 1", "cell 15"] and len(many.axes[0].lines) == 15
    with pytest.raises(ValueError, match=r"the same cells, got \{'a': 3, 'b': 4\}"):
        cell_curves({"a": np.zeros((2, 3)), "b": np.zeros((2, 4))})
    with pytest.raises(ValueError, match="nothing to draw"):
        cell_curves({})


@pytest.mark.parametrize(
    "runs, panels, options, message",
    [
        ({}, ["accuracy"], {}, "nothing to draw"),
        (pd.DataFrame(columns=["variant", "seed", "epoch"]), ["accuracy"], {}, "nothing to draw"),
        ({"darts": [rows([0.1])]}, [], {}, "nothing to draw"),
        ({"darts": [[]]}, ["accuracy"], {}, "nothing to draw"),
        ({"darts": [rows([0.1])]}, ["regret"], {}, "'regret'; choose from epoch, accuracy"),
        ({"darts": [rows([0.1])]}, ["accuracy"], {"x": "λ"}, "'λ'; choose from"),
        ({"darts": [rows([0.1])]}, ["accuracy"], {"bounds": {"accuracy": ("low", "epoch")}}, "'low'; choose"),
        ({"darts": [rows([0.1])]}, ["accuracy"], {"references": {"loss": {}}}, "no panel shows 'loss'"),
        (
            {"darts": [rows([0.1], regret=1.0)], "lambda": [rows([0.1])]},
            ["regret"],
            {},
            "a history of lambda has no numbers 'regret'",
        ),
    ],
)
def test_what_cannot_be_drawn_is_named(runs, panels, options, message):
    with pytest.raises(ValueError, match=message):
        curves(runs, panels, **options)


def test_the_weights_of_every_edge_are_drawn_in_the_looks_of_the_operations():
    space = SPACES["nasbench201"].cells["normal"]
    p = np.random.default_rng(0).dirichlet(np.ones(5), size=(4, 6))
    fig = weight_curves(space, p)
    drawn = [[line.get_ydata() for line in ax.lines] for ax in fig.axes]
    np.testing.assert_array_equal(drawn, p.transpose(1, 2, 0))
    assert titles(fig)[3] == "$p$ on the edge from node 0 to node 3"
    assert legend(fig) == [OPERATIONS[name].label for name in space.candidates[0]]
