"""Many searches side by side."""

import pytest

from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.search import search, search_all
from ldarts_lib.errors import RunError
from ldarts_lib.runs.directory import Run
from runfolders import timeless


def test_parallel_searches_equal_single_ones_and_are_read_again(tmp_path, capfd):
    """One search fails: the others are finished first."""
    protocols = {
        method: protocol(method=method, size="smoke", batch_size=250, channels=2)
        for method in ("darts", "lambda")
    }
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="not empty"):
        search_all(protocols | {"other": protocol(size="smoke")}, tmp_path, workers=2)
    assert all(Run(tmp_path / name).finished for name in protocols)
    alone = search(protocols["lambda"], tmp_path / "alone", progress=False)
    again = search_all(protocols, tmp_path, workers=1)
    assert list(again) == list(protocols)
    assert timeless(again["lambda"].history) == timeless(alone.history)
    said = capfd.readouterr()
    assert "2 of 2 searches finished earlier" in said.out and "4/4" in said.err
