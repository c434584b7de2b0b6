"""The chapter that writes DARTS from scratch: its recorded search, and the library's with the same seed."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pandas as pd

from ldarts_lib.spaces.notations import parse
from ldarts_lib.tables.tables import open_table

_COLUMNS = {"valid_alignment": "alignment", "genotype": "cell"}


def recorded_searches() -> pd.DataFrame:
    """The chapter's own search of DARTS, and the quickstart's of DARTS and Λ-DARTS with the same seed.

    A row per ``variant`` and ``epoch`` with the ``cell`` and its exact ``accuracy``; the DARTS of the
    quickstart is called ``library``.
    """
    folder = Path(str(files("ldarts_data"))) / "recorded"
    names = {
        "DARTS": "scratch/searches.csv",
        "library": "quickstart/darts-seed0.csv",
        "Λ-DARTS": "quickstart/lambda-seed0.csv",
    }
    tables = {name: pd.read_csv(folder / path).rename(columns=_COLUMNS) for name, path in names.items()}
    rows = pd.concat(table.assign(variant=name) for name, table in tables.items())
    rows = rows[["variant", "epoch", "valid_loss", "alignment", "cell"]].reset_index(drop=True)
    digits = open_table("digits-201")
    return rows.assign(accuracy=[digits.query(parse(cell))["accuracy"] for cell in rows["cell"]])
