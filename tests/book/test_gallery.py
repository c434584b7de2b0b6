"""What the gallery says of the estimates of its cells."""

from __future__ import annotations

import pytest

from ldarts_book import gallery
from ldarts_lib.spaces.published import published


@pytest.fixture(scope="module")
def table():
    return gallery.estimates({name: published(name) for name in published()})


def test_the_published_cells_of_the_space_stand_beside_random_and_collapsed_ones(table):
    families = gallery.families(table)
    assert [*families] == [*gallery.FAMILIES] and [*map(len, families.values())] == [22, 5, 3]
    assert list(table.index) == [name for rows in families.values() for name in rows]
    for _, part in table.groupby("family"):
        assert part["accuracy"].is_monotonic_decreasing
    assert "NASNet" not in table.index and "ENAS_ptb" not in table.index


def test_the_chapter_says_where_they_lie(table):
    middle = gallery.middle_of_random_cells()
    good, _, collapsed = (table[table["family"] == family] for family in gallery.FAMILIES)
    assert good["accuracy"].index[good["accuracy"] < middle].tolist() == ["svhn_s1_lambdadarts_corr"]
    assert (good["above"] == 725).sum() == 8
    assert (collapsed["above"] < 72.5).all() and not collapsed["familiar"].any()
    width = table["high"] - table["low"]
    assert width[collapsed.index].mean() > 3 * width[good.index].mean()


def test_without_published_cells_the_others_remain():
    assert list(gallery.families(gallery.estimates({}, draws=2))) == list(gallery.FAMILIES[1:])
