import numpy as np
import pandas as pd
import pytest

from ldarts_book.figures.history import draw_history

HISTORY = pd.DataFrame(
    {"epoch": [0, 1, 2], "train_loss": [3.0, 2.0, 1.0], "test_accuracy": [np.nan, 0.5, 0.7]}
)


def test_lines_are_the_columns_where_they_are_known():
    left, right = draw_history(HISTORY, ["train_loss"], ["test_accuracy", "train_loss"]).axes
    assert left.lines[0].get_xydata().tolist() == [[0, 3], [1, 2], [2, 1]]
    assert right.lines[0].get_xydata().tolist() == [[1, 0.5], [2, 0.7]]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["test accuracy", "train loss"]


def test_an_unknown_column_is_named():
    with pytest.raises(ValueError, match="no column 'loss'; it has epoch, train_loss, test_accuracy"):
        draw_history(HISTORY, ["loss"])
    with pytest.raises(ValueError, match="at most 3"):
        draw_history(HISTORY, ["train_loss"] * 4)
