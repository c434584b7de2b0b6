"""The figures of searches show what they are given: every search, every pair, every cell."""

from __future__ import annotations

import io
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ldarts_book.figures._canvas import spread
from ldarts_book.figures._styles import METHOD_STYLES
from ldarts_book.figures.search import alignment_and_saturation, cosine_heat_maps, watch_searches, who_decides
from ldarts_lib.bilevel.trajectory import Trajectory

ALIGNMENTS = ("train_alignment", "valid_alignment", "train_projected_alignment", "valid_projected_alignment")
REFERENCES = {"random cell": 0.7, "best cell": 0.8}


def history(accuracy: list[float], **columns: Any) -> list[dict[str, Any]]:
    row = {"skips": 1, "convolutions": 3, "valid_loss": 1.0} | columns
    return [{"epoch": epoch, "accuracy": value, **row} for epoch, value in enumerate(accuracy)]


def trajectory(epochs: int = 8, cells: int = 3, seed: int = 0) -> Trajectory:
    rng = np.random.default_rng(seed)
    cosines = rng.uniform(-1, 1, (epochs, 2, cells, cells)).astype(np.float32)
    return Trajectory({}, cosines, rng.uniform(-1, 1, (epochs, 2, cells)).astype(np.float32))


def norms(one: Trajectory, scale: float = 1.0) -> list[dict[str, float]]:
    cells = one.decisions.shape[-1]
    return [
        {"epoch": epoch}
        | {f"valid_norm_{cell}": scale * (epoch + 10 * cell) for cell in range(cells)}
        | {f"train_norm_{cell}": -scale * (epoch + 10 * cell) for cell in range(cells)}
        for epoch in range(len(one))
    ]


def render(fig: Figure) -> None:
    fig.savefig(io.BytesIO(), format="png")


def title(ax: Axes) -> str:
    return ax.get_title(loc="left")


def thick(ax: Axes) -> list[Line2D]:
    return [line for line in ax.lines if line.get_linewidth() == 2.4]


def thin(ax: Axes) -> list[Line2D]:
    return [line for line in ax.lines if line.get_linewidth() == 0.8]


def test_every_search_is_a_thin_line_and_the_mean_a_thick_one() -> None:
    seeds = [[0.1, 0.5, 0.3], [0.3, 0.1, 0.7]]
    fig = watch_searches({"darts": [history(seed) for seed in seeds]})
    render(fig)
    ax = fig.axes[0]
    assert [list(line.get_ydata()) for line in thin(ax)] == seeds
    (mean,) = thick(ax)
    assert mean.get_ydata() == pytest.approx([0.2, 0.3, 0.5])
    assert list(mean.get_xdata()) == [1, 2, 3]
    assert plt.get_fignums() == []


def test_a_single_search_is_drawn_once() -> None:
    ax = watch_searches({"darts": [history([0.1, 0.2])]}).axes[0]
    assert len(thick(ax)) == 1 and not thin(ax)


def test_methods_differ_in_more_than_colour() -> None:
    names = [*METHOD_STYLES, "mine", "yours", "hers", "ours"]
    fig = watch_searches({name: [history([0.1, 0.2])] for name in names})
    render(fig)
    lines = thick(fig.axes[0])
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(names)
    assert [line.get_color() for line in lines[:2]] == [METHOD_STYLES[name].colour for name in names[:2]]


def test_panels_have_titles_and_the_legend_counts_the_seeds() -> None:
    fig = watch_searches({"darts": [history([0.1])] * 3, "lambda": [history([0.1])]})
    assert [title(ax) for ax in fig.axes] == [
        "accuracy of the derived cell",
        "skip connections in the genotype",
        "convolutions on live paths",
        r"validation loss $\mathcal{L}_\mathrm{val}$",
    ]
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.texts] == ["DARTS (3 seeds)", "Λ-DARTS (1 seed)"]
    assert "thin: single searches" in legend.get_title().get_text()


def test_best_and_random_are_lines_in_the_panel_of_the_accuracy() -> None:
    searches = {"darts": [history([0.1, 0.2], regret=0.5)]}
    fig = watch_searches(searches, columns=("regret", "accuracy"), references=REFERENCES)
    render(fig)
    regret, accuracy = fig.axes
    level = {
        line.get_linestyle(): line.get_ydata()[0] for line in accuracy.lines if line not in thick(accuracy)
    }
    assert level == {"--": 0.8, ":": 0.7}
    assert [text.get_text() for text in accuracy.texts] == ["random cell", "best cell"]
    assert not regret.texts and len(regret.lines) == 1
    assert title(regret).startswith("regret")
    (alone,) = watch_searches(searches, columns=["accuracy"], references={"random cell": 0.7}).axes
    assert [text.get_text() for text in alone.texts] == ["random cell"]
    assert alone.lines[-1].get_linestyle() == ":" and alone.lines[-1].get_ydata()[0] == 0.7


def test_a_table_of_all_searches_is_split() -> None:
    rows = [
        {"variant": name, "seed": seed, **row}
        for name, offset in (("Λ-DARTS", 0.0), ("DARTS", 0.5))
        for seed in (5, 6)
        for row in history([0.1 + offset, 0.01 * seed + offset])
    ]
    fig = watch_searches(pd.DataFrame(rows), columns=["accuracy"])
    (ax,) = fig.axes
    assert [line.get_label() for line in thick(ax)] == ["Λ-DARTS", "DARTS"]
    found = [list(line.get_ydata()) for line in thin(ax)]
    assert found == [pytest.approx(v) for v in ([0.1, 0.05], [0.1, 0.06], [0.6, 0.55], [0.6, 0.56])]


def test_three_panels_leave_no_empty_axes() -> None:
    fig = watch_searches({"darts": [history([0.1])]}, columns=("skips", "accuracy", "valid_loss"))
    assert len(fig.axes) == 3


@pytest.mark.parametrize("searches", [{}, {"darts": []}, pd.DataFrame(columns=["variant", "seed", "epoch"])])
def test_nothing_to_watch_is_an_error(searches: Any) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        watch_searches(searches)
    with pytest.raises(ValueError, match="nothing to draw"):
        watch_searches({"darts": [history([0.1])]}, columns=())


def test_a_missing_column_is_named_with_its_method() -> None:
    searches = {"darts": [history([0.1], regret=1.0)], "lambda": [history([0.1])]}
    with pytest.raises(ValueError, match=r"history of lambda has no column 'regret', only \['accuracy', "):
        watch_searches(searches, columns=["regret"])


def test_alignment_panels_share_their_scale_and_keep_their_columns() -> None:
    values = dict(zip(ALIGNMENTS, (0.1, 0.2, 0.3, -0.4), strict=True))
    fig = alignment_and_saturation({"darts": [history([0.5], entropy=1.2, **values)]}, operations=5)
    render(fig)
    assert [title(ax) for ax in fig.axes] == [
        "layer alignment Λ (ω batches)",
        "layer alignment Λ (α batches)",
        "projected Λ (ω batches)",
        "projected Λ (α batches)",
        "entropy of p (nats)",
    ]
    means = [thick(ax)[0].get_ydata().tolist() for ax in fig.axes]
    assert means == [[0.1], [0.2], [0.3], [-0.4], [1.2]]
    assert len({ax.get_ylim() for ax in fig.axes[:4]}) == 1
    low, high = fig.axes[0].get_ylim()
    assert low <= -0.4 and high >= 0.3
    entropy = fig.axes[4]
    (level,) = (line for line in entropy.lines if line not in thick(entropy))
    assert level.get_ydata()[0] == pytest.approx(1.6094379)
    assert [text.get_text() for text in entropy.texts] == ["equal weights"]


def test_heat_maps_hold_every_pair_of_every_method() -> None:
    searches = {"darts": trajectory(seed=1), "lambda": trajectory(epochs=5, seed=2)}
    for half, words in ((0, "ω batches"), (1, "α batches")):
        fig = cosine_heat_maps(searches, half=half)
        render(fig)
        *maps, bar = fig.axes
        assert [title(ax) for ax in maps] == ["DARTS", "Λ-DARTS"]
        for ax, one in zip(maps, searches.values(), strict=True):
            (image,) = ax.images
            for row, (first, second) in enumerate([(0, 1), (0, 2), (1, 2)]):
                assert np.array_equal(image.get_array()[row], one.cosines[:, half, first, second])
            assert image.get_clim() == (-1, 1)
            assert image.get_extent() == [0.5, len(one) + 0.5, 2.5, -0.5]
        assert [tick.get_text() for tick in maps[0].get_yticklabels()] == ["1, 2", "1, 3", "2, 3"]
        assert words in bar.get_ylabel()


def test_positive_and_negative_cosines_differ_in_colour_and_zero_is_pale() -> None:
    fig = cosine_heat_maps({"darts": trajectory()})
    image = fig.axes[0].images[0]
    low, zero, high = (image.to_rgba(np.array([[value]]))[0, 0] for value in (-0.8, 0.0, 0.8))
    assert low[2] > low[0] + 0.3 and high[0] > high[2] + 0.3 and min(zero) > 0.9


def test_numbers_in_the_map_are_means_over_quarters() -> None:
    one = trajectory(epochs=8)
    texts = cosine_heat_maps({"darts": one}).axes[0].texts
    assert len(texts) == 12
    for text in texts:
        x, row = text.get_position()
        first, second = [(0, 1), (0, 2), (1, 2)][row]
        block = one.cosines[int(x - 1.5) : int(x + 0.5), 1, first, second]
        assert len(block) == 2
        assert float(text.get_text().replace("−", "-")) == pytest.approx(block.mean(), abs=0.0051)


def test_many_cells_give_a_map_without_numbers() -> None:
    fig = cosine_heat_maps({"darts": trajectory(cells=15)})
    render(fig)
    ax = fig.axes[0]
    assert ax.images[0].get_array().shape == (105, 8) and not ax.texts
    ticks = [tick.get_text() for tick in ax.get_yticklabels()]
    assert ticks[:2] == ["1, 2", "2, 3"] and len(ticks) == 14


def test_who_decides_shows_norms_and_cosines_of_each_cell() -> None:
    searches = {"darts": trajectory(seed=1), "lambda": trajectory(seed=2)}
    histories = {"darts": norms(searches["darts"]), "lambda": norms(searches["lambda"], 2.0)}
    for half, sign, words in ((0, -1, "ω"), (1, 1, "α")):
        fig = who_decides(histories, searches, half=half)
        render(fig)
        for column, (name, scale) in enumerate((("darts", 1.0), ("lambda", 2.0))):
            upper, lower = fig.axes[column], fig.axes[2 + column]
            assert len(upper.lines) == len(lower.lines) == 3
            for cell in range(3):
                expected = [sign * scale * (epoch + 10 * cell) for epoch in range(8)]
                assert list(upper.lines[cell].get_ydata()) == expected
                assert np.array_equal(lower.lines[cell].get_ydata(), searches[name].decisions[:, half, cell])
                assert list(lower.lines[cell].get_xdata()) == list(range(1, 9))
            assert title(upper).startswith(METHOD_STYLES[name].label) and words in title(upper)
    styles = {(line.get_linestyle(), to_rgba(line.get_color())) for line in fig.axes[0].lines}
    assert len({line for line, _ in styles}) == len({colour for _, colour in styles}) == 3
    assert [text.get_text() for text in fig.legends[0].texts] == ["cell 1", "cell 2", "cell 3"]


def test_of_many_cells_the_legend_names_the_first_and_the_last() -> None:
    one = trajectory(cells=15)
    fig = who_decides({"darts": norms(one)}, {"darts": one})
    render(fig)
    assert [text.get_text() for text in fig.legends[0].texts] == ["cell 1", "cell 15"]
    assert len(fig.axes[0].lines) == 15


def test_bad_trajectories_are_errors() -> None:
    one = trajectory()
    for draw in (cosine_heat_maps, lambda searches, half=1: who_decides({}, searches, half=half)):
        with pytest.raises(ValueError, match="nothing to draw"):
            draw({})
        with pytest.raises(ValueError, match="nothing to draw"):
            draw({"darts": Trajectory()})
        with pytest.raises(ValueError, match="got 2"):
            draw({"darts": one}, half=2)
        with pytest.raises(ValueError, match="'lambda': 4"):
            draw({"darts": one, "lambda": trajectory(cells=4)})
        with pytest.raises(ValueError, match="at least two"):
            draw({"darts": trajectory(cells=1)})
    with pytest.raises(ValueError, match=r"\{'darts': 7\} and \{'darts': 8\}"):
        who_decides({"darts": norms(one)[:7]}, {"darts": one})
    with pytest.raises(ValueError, match="same methods"):
        who_decides({"lambda": norms(one)}, {"darts": one})


def test_labels_are_spread_without_changing_their_order() -> None:
    assert spread([0.9, 0.1, 0.5], 0.2) == pytest.approx([0.9, 0.1, 0.5])
    assert spread([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    moved = spread([0.99, 1.0, 0.98], 0.1)
    assert moved == pytest.approx([0.9, 1.0, 0.8])
