import numpy as np
import pandas as pd
import pytest

from ldarts_book.figures.differences import draw_differences

EPSILONS = [1e-6, 1e-4, 1e-2, 1.0]


def table(error, flips):
    cosine = 1 / (1 + np.array(error))
    return pd.DataFrame(
        {"cosine": cosine, "error": error, "flips": flips}, index=pd.Index(EPSILONS, name="epsilon")
    )


def test_each_panel_shows_a_column_of_every_network(tmp_path):
    tables = {
        "ReLU": table([0.0, 30.0, 3.0, 1.0], [0, 1e-5, 1e-3, 0.2]),
        "GELU": table([0.0, 1e-8, 1e-4, 1.0], [np.nan] * 4),
    }
    figure = draw_differences(tables)
    cosine, error, flips, legend = figure.axes
    for ax, column in ((cosine, "cosine"), (error, "error")):
        for line, one in zip(ax.get_lines(), tables.values(), strict=False):
            assert line.get_xdata().tolist() == EPSILONS
            np.testing.assert_allclose(line.get_ydata()[1:], one[column].iloc[1:])
            assert np.all(line.get_ydata() > 0)  # the scale of errors is logarithmic
    assert flips.get_lines()[0].get_xdata().tolist() == EPSILONS[1:]
    assert [text.get_text() for text in legend.get_legend().get_texts()] == list(tables)
    guide = error.get_lines()[2]
    assert np.polyfit(np.log(guide.get_xdata()), np.log(guide.get_ydata()), 1)[0] == pytest.approx(-0.5)
    figure.savefig(tmp_path / "figure.png")


def test_no_table_is_refused():
    with pytest.raises(ValueError, match="at least one table"):
        draw_differences({})
