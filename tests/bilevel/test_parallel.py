"""Many searches side by side."""

import pytest

from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.search import search, search_all
from ldarts_lib.errors import RunError
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.record import Diverged
from runfolders import timeless


def test_parallel_searches_equal_single_ones_and_are_read_again(tmp_path, capfd):
    """One search fails: the others are finished first."""
    good = protocol(size="smoke", batch_size=250, channels=2)
    protocols = {"bad": protocol(size="smoke", channels=2, weight_lr=1e30, clip=1e30), "good": good}
    with pytest.raises(Diverged):
        search_all(protocols, tmp_path, workers=1)
    assert "2/4" in capfd.readouterr().err
    alone = search(good, tmp_path / "alone", progress=False)
    again = search_all({"good": good, "alone": good}, tmp_path)  # starts no process
    assert list(again) == ["good", "alone"]
    assert timeless(again["good"].history) == timeless(alone.history)
    assert "2 of 2 searches finished earlier" in capfd.readouterr().out


def test_a_directory_of_something_else_is_refused_before_anything_is_searched(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="not empty"):
        search_all({seed: protocol(size="smoke", seed=int(seed)) for seed in "01"}, tmp_path)
    assert not Run(tmp_path / "0").epochs
