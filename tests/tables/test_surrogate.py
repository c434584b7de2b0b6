"""The surrogate of the DARTS space: what it says of cells that it has not seen, and of collapsed ones."""

from __future__ import annotations

import importlib.util
import json
import random
from dataclasses import astuple
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import held
from ldarts_book.studies.judges import draw
from ldarts_lib.spaces.genotype import Cell, Edge, Genotype, GenotypeError
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.published import published, published_record
from ldarts_lib.spaces.space import SPACES
from ldarts_lib.tables.surrogate import OPERATIONS, SPACE, bounds, estimate, features

SHIPS = files("ldarts_data") / "nasbench301"
PAIR = "[('skip_connect', 0), ('skip_connect', 1)]"
WIDE, DEEP = (0, 1) * 4, (0, 1, 1, 2, 2, 3, 3, 4)


@pytest.fixture(scope="module")
def script():
    """The script that fits; the directory is no package."""
    path = files("ldarts_data").joinpath("../scripts/fit_surrogate.py")
    spec = importlib.util.spec_from_file_location("fit_surrogate", str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def labelled(script):
    """Features and accuracies of the labelled cells."""
    return script.read(held("darts_cells_nasbench301.csv"))


def uniform(operation: str, sources: tuple[int, ...]) -> Cell:
    """A cell with one operation everywhere."""
    return Cell(2, tuple(Edge(2 + i // 2, s, operation) for i, s in enumerate(sources)), (2, 3, 4, 5))


def rewritten(cell: Cell, order: random.Random) -> Cell:
    """The same cell with other numbers for its nodes, and the edges of each in another order."""
    number, edges = {0: 0, 1: 1}, []
    while left := [node for node in range(2, 6) if node not in number]:
        ready = [n for n in left if all(edge.source in number for edge in cell.incoming(n))]
        chosen, target = order.choice(ready), len(number)
        incoming = [Edge(target, number[edge.source], edge.operation) for edge in cell.incoming(chosen)]
        edges += order.sample(incoming, 2)
        number[chosen] = target
    return Cell(2, tuple(edges), cell.output)


def test_cells_that_were_not_fitted_are_estimated(script, labelled):
    found = script.cross_validate(*labelled, repeats=1)
    assert found["kendall"] > 0.81 and found["spearman"] > 0.95 and found["error"] < 0.125
    assert 0.9 < found["cover"] < 0.95
    assert all(0.88 < third < 0.96 for third in found["cover_by_thirds_of_the_estimate"])
    shipped = json.loads((SHIPS / "provenance.json").read_text())["cross_validation"]
    for key in ("kendall", "spearman", "error", "cover"):
        assert shipped[key] == pytest.approx(found[key], abs=0.01)


def test_cells_with_few_convolutions_are_estimated_from_those_with_many(script, labelled):
    """What a collapse needs: less than any cell that was fitted has."""
    x, accuracy = labelled
    few = x[:, :21].reshape(-1, 3, 7)[:, :, 3:].sum((1, 2)) <= 2  # in the normal cell
    low, middle, high, _ = bounds(script.fit(x[~few], accuracy[~few]), x[few])
    assert few.sum() == 46
    assert abs((middle - accuracy[few]).mean()) < 0.2 < 0.45 < accuracy[~few].mean() - accuracy[few].mean()
    assert ((low <= accuracy[few]) & (accuracy[few] <= high)).mean() > 0.8


def test_what_ships_is_that_fit_small_and_with_its_source(script, labelled):
    fitted = script.fit(*labelled)
    with np.load(str(SHIPS / "surrogate.npz")) as shipped:
        assert set(shipped) == set(fitted)
        for name, value in fitted.items():
            np.testing.assert_allclose(shipped[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert sum((SHIPS / name).stat().st_size for name in ("surrogate.npz", "provenance.json")) < 150_000
    facts = json.loads((SHIPS / "provenance.json").read_text())
    assert "6639fd15" in facts["source"] and facts["rights"] == "Apache-2.0"
    assert {"date", "command", "labels"} <= set(facts)


@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_how_a_cell_is_written_makes_no_difference(seed, order):
    genotype = draw(SPACE, seed)
    other = Genotype(*(rewritten(cell, order) for cell in genotype.cells.values()))
    np.testing.assert_array_equal(features(other), features(genotype))
    found = estimate(genotype)
    assert found.low < found.accuracy < found.high < 100


def test_the_published_cells_lie_above_every_collapsed_one():
    of_the_space = [published(name) for name in published() if published_record(name).space in SPACES]
    good = [estimate(genotype) for genotype in of_the_space if genotype.kind == "darts"]
    assert len(good) == 22 and all(found.familiar for found in good)
    for operation in OPERATIONS[:3]:
        for sources in (WIDE, (0, 1, 0, 1, 1, 0, 0, 2), DEEP):
            cell = uniform(operation, sources)
            for reduce in (cell, published("DARTS_V2").reduce):
                found = estimate(Genotype(cell, reduce))
                assert found.accuracy < 92.6 < min(one.accuracy for one in good)
                assert not found.familiar and found.above < 100
                assert found.high - found.low > 1.2 > max(one.high - one.low for one in good)


@pytest.mark.parametrize(
    ("genotype", "message"),
    [
        (published("AmoebaNet"), "lacks conv_7x1_1x7, sep_conv_7x7; it knows max_pool_3x3"),
        (published("ENAS_ptb"), "lacks relu, tanh"),
        (Genotype(uniform("none", WIDE), uniform("sep_conv_3x3", WIDE)), "lacks none"),
        (parse(f"Genotype(normal={PAIR}, reduce={PAIR})"), "expected 4 intermediate nodes, got 1"),
        (Genotype(*[uniform("skip_connect", (0, 0) * 4)] * 2), "2 different nodes"),
    ],
    ids=["AmoebaNet", "recurrent", "none", "one node", "one source"],
)
def test_cells_of_other_spaces_are_refused(genotype, message):
    with pytest.raises(GenotypeError, match=message):
        estimate(genotype)


def test_query_says_what_is_estimated_and_where_it_extrapolates(ldarts):
    code, text, _ = ldarts("query", "DARTS_V2")
    accuracy, low, high, *_ = astuple(estimate(published("DARTS_V2")))
    assert code == 0 and f"{accuracy:.2f} % (90 %: {low:.2f} to {high:.2f})" in text
    assert "collapsed" in text and "ranking the newest" in text and "extrapolation" not in text
    cell = uniform("skip_connect", WIDE)
    assert "an extrapolation" in ldarts("query", Genotype(cell, cell))[1]
