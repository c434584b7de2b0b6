"""Counts of published cells against counts by hand."""

from __future__ import annotations

import pytest

from ldarts_book.published.counting import count, depth
from ldarts_lib.spaces.genotype import Cell, Edge
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.published import published

CHAIN = Cell(2, tuple(Edge(n, n - 1, "sep_conv_3x3") for n in range(2, 6)), (2, 3, 4, 5))
FLAT = Cell(2, tuple(Edge(n, 0, "skip_connect") for n in range(2, 6)), (2, 3, 4, 5))


def test_depth_is_the_longest_path():
    assert (depth(CHAIN), depth(FLAT)) == (4, 1)
    assert depth(parse("|none~0|+|skip_connect~0|none~1|+|none~0|none~1|none~2|").normal) == 3


def test_released_cells_of_the_two_forms_differ_in_depth():
    normal = {name: published(name).normal for name in published() if "lambdadarts_" in name}
    assert {depth(normal[f"lambdadarts_corr_{i}"]) for i in range(4)} == {1, 2}
    assert {depth(normal[f"lambdadarts_sign_{i}"]) for i in range(4)} == {3, 4}


def test_the_network_of_darts_has_its_known_size():
    found = count({"DARTS_V2": published("DARTS_V2")}, channels=36, depth=20, classes=10)
    row = found.loc["DARTS_V2"]
    assert round(1e6 * row["parameters (M)"]) == 3_349_342
    assert (row["normal skips"], row["normal depth"], row["reduce skips"]) == (2, 2, 3)
    assert row["with weights"] == 6
    assert found["normal skips"].dtype.kind == "i"


@pytest.fixture(scope="module")
def released():
    return {name: published(name) for name in published() if name.startswith("lambdadarts_")}


@pytest.mark.slow
def test_the_parameters_that_are_reported_are_those_of_the_cosine_cells(released):
    cosine = {name: cells for name, cells in released.items() if "corr" in name}
    found = count(cosine, channels=36, depth=20, classes=10)
    assert found["parameters (M)"].mean() == pytest.approx(3.53, abs=0.005)
    assert found["parameters (M)"].std(ddof=0) == pytest.approx(0.13, abs=0.005)
    assert found["normal skips"].between(1, 2).all()
    assert found["with weights"].between(9, 10).all()


@pytest.mark.slow
def test_the_mobile_setting_holds_the_released_cells(released):
    network = {"channels": 48, "depth": 14, "classes": 1000, "resolution": 224, "stem": "imagenet"}
    found = count(released, **network)
    assert (found["multiply-adds (M)"] < 600).all()
    assert not any(round(size, 1) == 5.2 for size in found["parameters (M)"])
    assert count({"NASNet": published("NASNet")}, **network)["multiply-adds (M)"].item() > 600
