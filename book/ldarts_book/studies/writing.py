"""Records are written in parts: rows that are added to a table, and beside it how they were made."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from ldarts_book.studies.study import STUDIES
from ldarts_lib.errors import RunError
from ldarts_lib.files import read_bytes, read_json, write_atomically, write_json
from ldarts_lib.runs.contents import require_whole

DIGITS = 4
"""Significant digits that a record keeps."""


def named_by(rows: pd.DataFrame) -> list[str]:
    """The columns that name a search."""
    return [key for key in ("setting", "variant", "seed") if key in rows]


class _Provenance(BaseModel):
    command: str
    earlier: list[dict[str, Any]] = []


def require_whole_record(place: Path, name: str) -> None:
    """Check, before anything is searched, the record to which rows shall be added.

    Raises:
        RunError: its table or its provenance is damaged.
    """
    whose = STUDIES.get(name)
    keys = [*next(whose.searches())[0]] if whose else ["variant"]
    path, table = place / "provenance.json", place / (whose.judge.file if whose else f"{name}.csv")
    if path.exists():
        require_whole(path, read_json(path), _Provenance)
    try:
        if table.exists():
            read_bytes(table)  # no pipe, and not too large
            pd.read_csv(table, usecols=keys, dtype={"seed": int})
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise RunError(f"{table} is damaged: {error}") from None


def add(rows: pd.DataFrame, name: str, path: Path) -> None:
    """Adds rows to a record: a search that was made again replaces its old rows, all others keep each letter.

    The rows have the order of the study: settings, variants, seeds, epochs.
    """
    text = partial(pd.read_csv, dtype=str, keep_default_na=False)
    new, keys = text(StringIO(rows.to_csv(index=False))), named_by(rows)
    old = text(path) if path.exists() else new[:0]
    again = old.set_index(keys).index.isin(new.set_index(keys).index)
    place = {one: number for number, one in enumerate((*STUDIES[name].settings, *STUDIES[name].variants))}

    def order(column: pd.Series) -> pd.Series:
        return column.astype(int) if column.name == "seed" else column.map(place).fillna(len(place))

    write_table(pd.concat([old[~again], new]).sort_values(keys, key=order, kind="stable"), path)


def write_provenance(folder: Path, command: str, device: Any, **facts: Any) -> None:
    """Says beside a record how it was made, but not where: a command line has the paths of a machine.

    Of each earlier part, made by another command, ``earlier`` has what differs from the last one.
    """
    from ldarts_lib.runs.environment import environment

    machine = {key: value for key, value in environment(device).items() if key != "command"}
    today = {"date": datetime.now(UTC).date().isoformat()}
    facts = {"command": command} | today | facts | {"environment": machine}
    old = read_json(path) if (path := folder / "provenance.json").exists() else {}
    parts = [{**old, **part} for part in (*old.pop("earlier", ()), *[old] * bool(old))]
    others = [part.items() for part in parts if part["command"] != command]
    earlier = [{key: value for key, value in part if value != facts.get(key)} for part in others]
    write_json(path, facts | ({"earlier": earlier} if earlier else {}))


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes a table whose bytes depend on its rows alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    how = {"method": "gzip", "mtime": 0} if path.suffix == ".gz" else None
    write_atomically(path, lambda file: table.to_csv(file, index=False, lineterminator="\n", compression=how))
