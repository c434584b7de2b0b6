"""DARTS from scratch: what is recorded of it, against the library's own record and the table of all cells."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from ldarts_book.scratch import recorded_searches


def test_its_first_epochs_are_those_of_the_library():
    """The same seed, batches and steps: what differs is rounding, which grows from epoch to epoch."""
    searches = dict(tuple(recorded_searches().groupby("variant")))
    assert [*searches] == ["DARTS", "library", "Λ-DARTS"] and {*map(len, searches.values())} == {80}
    mine, theirs = (searches[name].reset_index().iloc[:7] for name in ("DARTS", "library"))
    assert mine["cell"].equals(theirs["cell"]) and mine["accuracy"].equals(theirs["accuracy"])
    for column, within in (("valid_loss", 1e-5), ("alignment", 1e-4)):
        assert mine[column].to_numpy() == pytest.approx(theirs[column].to_numpy(), abs=within)


def test_the_record_says_how_it_was_made_and_what_its_cells_are_worth(repository):
    folder = repository / "data" / "recorded" / "scratch"
    own = pd.read_csv(folder / "searches.csv")
    assert own["accuracy"].to_numpy() == pytest.approx(
        recorded_searches()["accuracy"][: len(own)].to_numpy(), abs=1e-6
    )
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["command"] == "ldarts run-notebook book/scratch.ipynb -p size demo"
    assert {"commit", "date", "cpu", "versions", "seconds"} <= set(provenance)
