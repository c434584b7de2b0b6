import io

import pandas as pd
import pytest

from ldarts_book.figures.variants import draw_strengths, draw_variants

REFERENCES = {"random cell": 0.68, "random search": 0.79, "best cell": 0.82}
ROW = {"mean": 0.7, "low": 0.65, "high": 0.75, "collapsed": 2, "n": 20, "collapse_low": 0.02}
ROW |= {"collapse_high": 0.3, "train_loss": 0.2, "valid_alignment": 0.4}


def summary(*index):
    rows = [ROW | {"mean": 0.7 + 0.01 * place} for place in range(len(index))]
    return pd.DataFrame(rows, index=index)


def render(fig):
    fig.savefig(io.BytesIO(), format="png")


def test_every_variant_is_a_row_with_all_its_numbers():
    fig = draw_variants(
        summary("a", "b", "c", "d"), {"first": ["a"], "others": ["c", "b"]}, references=REFERENCES
    )
    render(fig)
    accuracy, loss, alignment = fig.axes
    assert [tick.get_text() for tick in accuracy.get_yticklabels()] == ["a", "c", "b"]
    marks = {line.get_label(): line for line in accuracy.lines if line.get_label() in ("first", "others")}
    assert marks["others"].get_xdata().tolist() == pytest.approx([0.72, 0.71])
    assert marks["others"].get_ydata().tolist() == [1, 2]
    assert [text.get_text() for text in accuracy.texts].count("2 of 20") == 3
    assert "random\nsearch\n0.790" in [text.get_text() for text in accuracy.texts]
    assert all(line.get_xdata()[0] == 0.2 for line in loss.lines)
    assert alignment.lines[0].get_xdata()[0] == 0.4
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["first", "others"]


def test_strengths_are_drawn_in_their_order_with_intervals():
    index = [(form, strength) for form in ("Λ-DARTS", "mine") for strength in (0.0, 0.25, 2.0)]
    table = summary(*index)
    table.index = pd.MultiIndex.from_tuples(index, names=["form", "strength"])
    fig = draw_strengths(table, references=REFERENCES)
    render(fig)
    accuracy, share, alignment, loss = fig.axes
    assert [tick.get_text() for tick in accuracy.get_xticklabels()] == ["0", "1/4", "2"]
    line = next(line for line in accuracy.lines if line.get_label() == "mine")
    assert line.get_ydata().tolist() == pytest.approx([0.73, 0.74, 0.75])
    assert next(iter(share.lines)).get_ydata().tolist() == [0.1] * 3
    assert {text.get_text() for text in accuracy.texts} == set(REFERENCES)
    assert len(alignment.lines) == len(loss.lines) == 2


def test_nothing_and_the_unknown_are_refused():
    with pytest.raises(ValueError, match="at least one variant"):
        draw_variants(summary("a"), {}, references=REFERENCES)
    with pytest.raises(ValueError, match="unknown variant 'x'; the summary has a"):
        draw_variants(summary("a"), {"one": ["x"]}, references=REFERENCES)
    with pytest.raises(ValueError, match="no row"):
        draw_strengths(summary("a").iloc[:0], references=REFERENCES)
    with pytest.raises(ValueError, match="unknown reference 'floor'"):
        draw_variants(summary("a"), {"one": ["a"]}, references={"floor": 0.1})
