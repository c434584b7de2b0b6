import pytest

from ldarts_book.throughput import throughput


def test_the_same_searches_are_made_one_by_one_and_packed():
    rows = throughput((1, 2), searches=2, epochs=1, methods=["darts"], size="smoke", workers=2)
    assert [(row.method, row.together, row.searches, row.epochs) for row in rows] == [
        ("darts", 1, 2, 1),
        ("darts", 2, 2, 1),
    ]
    single, packed = rows
    assert single.ratio == 1
    assert packed.ratio == pytest.approx(single.seconds / packed.seconds)
