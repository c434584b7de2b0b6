"""The figures of the theory draw what they are given, and only closed figures are returned."""

from __future__ import annotations

import io
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.special import softmax

from ldarts_book.figures import lines, loss_lines, simplex_flow

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


def flow(slope, start, times):
    """Not the flow of the book, but one that also ends at the smallest entry."""
    return softmax(start - np.outer(times, slope), axis=1)


def test_flow_shows_the_paths_and_marks_the_times():
    slope = (0.5, 0.0, 1.0)
    (ax,) = rendered(simplex_flow({"one": slope}, NAMES, flow)).axes
    assert ax.get_title(loc="left") == "one"
    labels = [text.get_text() for text in ax.texts if "S =" in text.get_text()]
    assert labels == ["3×3\nS = 0.5", "skip\nS = 0", "avg\nS = 1"]
    paths = [line for line in ax.lines if len(line.get_xdata()) > 10]
    assert len(paths) == 9
    for path in paths:
        assert np.hypot(*(path.get_xydata()[-1] - CORNERS[1])) < 0.02
    marked = flow(slope, np.zeros(3), [1, 10, 100, 1000]) @ CORNERS
    np.testing.assert_allclose(ax.lines[-1].get_xydata(), marked)


@pytest.mark.parametrize("slopes", [{}, {"one": (0.0, 1.0)}])
def test_flow_needs_three_operations(slopes):
    with pytest.raises(ValueError, match="three entries"):
        simplex_flow(slopes, NAMES, flow)


def test_lines_are_drawn_as_given_and_named_once():
    x, y = [1.0, 10.0, 100.0], np.array([1e-3, 2e-3, 1e-1])
    panels = {"loss": {"law": (x, y), "measured": ([10.0], [0.5])}, "gap": {"law": ([1, 2], [3, 4])}}
    fig = rendered(
        lines(
            panels,
            x=["length", "steps"],
            log={"loss": "xy", "gap": "x"},
            dots=["measured"],
            references={"gap": {"balance": 3.5}},
            shaded={"the paper's": (1.0, 2.0)},
        )
    )
    loss, gap = fig.axes
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["loss", "gap"]
    assert [ax.get_xlabel() for ax in fig.axes] == ["length", "steps"]
    assert [(ax.get_xscale(), ax.get_yscale()) for ax in fig.axes] == [("log", "log"), ("log", "linear")]
    law, measured = line_named(loss, "law"), line_named(loss, "measured")
    np.testing.assert_allclose(law.get_xydata(), np.transpose([x, y]))
    assert law.get_marker() == "None" != measured.get_marker() and measured.get_linestyle() == "None"
    assert line_named(gap, "law").get_color() == law.get_color() != measured.get_color()
    assert line_named(gap, "balance: 3.5").get_ydata() == [3.5, 3.5]
    assert [(patch.get_x(), patch.get_width()) for patch in loss.patches] == [(1.0, 1.0)]
    names = [text.get_text() for text in fig.legends[0].get_texts()]
    assert sorted(names) == sorted(["law", "measured", "the paper's", "balance: 3.5"])


@pytest.mark.parametrize("panels, x", [({}, []), ({"a": {}, "b": {}}, ["x"])])
def test_every_panel_needs_a_label(panels, x):
    with pytest.raises(ValueError, match=r"needs a label of x, got \["):
        lines(panels, x=x)


def line_of(*values):
    return SimpleNamespace(**dict(zip(("positions", "losses", "slopes", "bending"), values, strict=True)))


def test_loss_lines_show_the_loss_its_tangent_and_the_bound():
    tau = np.linspace(0, 1, 11)
    line = line_of(tau, 2 - 0.5 * tau + 3 * tau**2, -0.5 + 6 * tau, 6.0)
    flat = line_of(tau, 1 + 0 * tau, 0 * tau, 0.0)
    left, right = rendered(loss_lines({"bent": line, "flat": flat})).axes
    assert [ax.get_title(loc="left") for ax in (left, right)] == ["bent", "flat"]
    np.testing.assert_allclose(line_named(left, "loss").get_ydata(), line.losses)
    np.testing.assert_allclose(line_named(left, "first order").get_ydata(), 2 - 0.5 * tau)
    band = left.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(1.5 + 3.0)
    assert band[np.isclose(band[:, 0], 1), 1].min() == pytest.approx(1.5 - 3.0)
    assert left.get_ylim() == right.get_ylim()
    with pytest.raises(ValueError, match="at least one line"):
        loss_lines({})
