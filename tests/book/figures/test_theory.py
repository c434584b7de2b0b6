"""The figures of the theory draw what they are given, and only closed figures are returned."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import softmax

from ldarts_book.dynamics import decayed_balance
from ldarts_book.figures.theory import (
    draw_balance,
    draw_decisions,
    draw_difference_errors,
    draw_loss_lines,
    draw_saturation,
    draw_simplex_flow,
)
from ldarts_book.landscape import LossLine

NAMES = ("nor_conv_3x3", "skip_connect", "avg_pool_3x3")
CORNERS = np.array([[0, 0], [1, 0], [0.5, 3**0.5 / 2]])


def rendered(fig):
    """The figure, after it was rendered (a missing glyph or a failed layout is an error)."""
    fig.savefig(io.BytesIO(), format="png")
    assert not plt.get_fignums()
    return fig


def line_named(ax, label):
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found


def test_flow_ends_near_the_corner_of_the_smallest_entry_and_marks_the_times():
    slope = (0.5, 0.0, 1.0)
    (ax,) = rendered(draw_simplex_flow({"one": slope}, NAMES)).axes
    assert ax.get_title(loc="left") == "one"
    assert [text.get_text() for text in ax.texts if "S =" in text.get_text()] == [
        "3×3\nS = 0.5",
        "skip\nS = 0",
        "avg\nS = 1",
    ]
    paths = [line for line in ax.lines if len(line.get_xdata()) > 10]
    assert len(paths) == 9
    for path in paths:
        assert np.hypot(*(path.get_xydata()[-1] - CORNERS[1])) < 0.02

    def velocity(_, alpha):
        p = softmax(alpha)
        return -p * (np.array(slope) - p @ np.array(slope))

    times = [1, 10, 100, 1000]
    alphas = solve_ivp(velocity, (0, 1000), np.zeros(3), "Radau", times, rtol=1e-9, atol=1e-10).y.T
    np.testing.assert_allclose(ax.lines[-1].get_xydata(), softmax(alphas, axis=1) @ CORNERS, atol=1e-5)


def test_a_short_flow_marks_only_what_it_reaches():
    (ax,) = draw_simplex_flow({"one": (0.0, 1.0, 2.0)}, NAMES, end=20.0).axes
    assert len(ax.lines[-1].get_xdata()) == 2


@pytest.mark.parametrize("slopes", [{}, {"one": (0.0, 1.0)}])
def test_flow_needs_three_operations(slopes):
    with pytest.raises(ValueError, match="three entries"):
        draw_simplex_flow(slopes, NAMES)


def test_saturation_shows_each_flow_with_its_law_and_each_optimizer():
    times = torch.logspace(0, 3, 5)
    gaps = {"Adam": torch.arange(6.0), "descent": torch.zeros(6)}
    fig = rendered(draw_saturation(times, {"two": 0.3 / times}, {"two": 0.5 / times}, gaps))
    left, right = fig.axes
    assert (left.get_xscale(), left.get_yscale()) == ("log", "log")
    np.testing.assert_allclose(line_named(left, "two").get_ydata(), 0.3 / times)
    np.testing.assert_allclose(left.lines[1].get_ydata(), 0.5 / times)
    np.testing.assert_allclose(
        line_named(right, "Adam").get_xydata(), np.repeat(np.arange(6), 2).reshape(6, 2)
    )


def test_balance_marks_where_the_forces_meet():
    paths = {"descent": (0.01, torch.tensor([0.0, 1.0, 1.5]))}
    left, right = rendered(draw_balance(0.2, (0.01, 0.1), paths)).axes
    marks = [line.get_xydata()[0] for line in left.lines if line.get_marker() == "o"]
    assert len(marks) == 2
    for (gap, force), decay in zip(marks, (0.01, 0.1), strict=True):
        assert gap == pytest.approx(decayed_balance(0.2, decay))
        assert force == pytest.approx(0.2 * np.exp(-gap) / (1 + np.exp(-gap)) ** 2)
    assert line_named(right, "descent").get_xydata().tolist() == [[1, 1.0], [2, 1.5]]
    assert right.lines[-1].get_ydata()[0] == pytest.approx(decayed_balance(0.2, 0.01))


def test_decisions_show_the_formula_and_the_dots():
    (ax,) = rendered(draw_decisions({4: ([0.0, 0.5], [0.5, 0.8])})).axes
    assert line_named(ax, "L = 4").get_xydata().tolist() == [[0.0, 0.5], [0.5, 0.8]]
    curve = ax.lines[0].get_xydata()
    np.testing.assert_allclose(curve[:, 1], np.sqrt((1 + 3 * curve[:, 0]) / 4), atol=1e-9)
    assert curve[0, 0] == pytest.approx(-1 / 3)


def test_loss_lines_show_the_loss_its_tangent_and_the_bound():
    tau = torch.linspace(0, 1, 11, dtype=torch.float64)
    line = LossLine(tau, 2 - 0.5 * tau + 3 * tau**2, -0.5 + 6 * tau)
    flat = LossLine(tau, 1 + 0 * tau, 0 * tau)
    left, right = rendered(draw_loss_lines({"bent": line, "flat": flat})).axes
    assert [ax.get_title(loc="left") for ax in (left, right)] == ["bent", "flat"]
    np.testing.assert_allclose(line_named(left, "loss").get_ydata(), line.losses)
    np.testing.assert_allclose(line_named(left, "first order").get_ydata(), 2 - 0.5 * tau)
    band = left.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(1.5 + 3.0)
    assert band[np.isclose(band[:, 0], 1), 1].min() == pytest.approx(1.5 - 3.0)
    assert left.get_ylim() == right.get_ylim()


def test_loss_lines_need_a_line():
    with pytest.raises(ValueError, match="at least one line"):
        draw_loss_lines({})


def test_difference_errors_show_each_estimator_and_the_law_of_its_order():
    lengths = [1.0, 0.1, 0.01, 0.001]
    errors = {"central": [2.0, 1e-2, 1e-4, 1e-6], "rounded": [1.0, 1.0, 0.5, 0.9]}
    fig = rendered(draw_difference_errors(lengths, errors, {"central": 2}))
    (ax,) = fig.axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    for name, values in errors.items():
        np.testing.assert_allclose(line_named(ax, name).get_xydata(), np.transpose([lengths, values]))
    law = ax.lines[0].get_xydata()
    np.testing.assert_allclose(law, [[x, 1e-4 * (x / 0.01) ** 2] for x in lengths])
    assert len(ax.lines) == 3
    low, high = ax.get_ylim()
    assert low < 1e-6 and high > 2.0
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == list(errors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"errors": {"central": [1.0]}}, "an error for each of the 2 lengths"),
        ({"errors": {}}, "an error for each of the 2 lengths"),
        ({"orders": {"forward": 1}}, r"orders of \['forward'\]"),
        ({"anchor": 0.02}, "anchor = 0.02 is not among the lengths"),
    ],
)
def test_difference_errors_need_all_errors_and_their_anchor(changes, message):
    given = {"lengths": [0.1, 0.01], "errors": {"central": [1.0, 0.1]}, "orders": {"central": 1}} | changes
    with pytest.raises(ValueError, match=message):
        draw_difference_errors(**given)
