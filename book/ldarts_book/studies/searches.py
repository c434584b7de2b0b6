"""Makes the searches of studies, those that several share once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ldarts_book.studies.judges import Found
from ldarts_book.studies.study import Study, StudyError, folder
from ldarts_lib.bilevel.protocols import SearchProtocol, protocol
from ldarts_lib.bilevel.search import search_all

TOGETHER = 10
"""Seeds of one variant that are searched as one packed supernet.

The studies have whole tens of seeds, so that a search has the same neighbours, and with them the same
roundings, whichever studies are made."""


def run(
    studies: Sequence[Study],
    out: str | Path,
    *,
    size: str = "demo",
    workers: int | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, pd.DataFrame]:
    """Makes studies side by side, or continues them; the rows of each, as its judge records them.

    Args:
        studies: whose searches of one name are the same.
        out: parent of the run directories.
        size: preset of the searches.
        workers: processes at a time; by default one per core.
        device: where they search.
    """
    found = search(studies, out, size=size, workers=workers, device=device)
    return {
        study.name: study.judge.rows(several, workers=workers, device=device)
        for study, several in zip(studies, found, strict=True)
    }


def search(
    studies: Sequence[Study], out: str | Path, *, size: str = "demo", **where: Any
) -> list[list[Found]]:
    """The searches of each study, by setting, variant and seed; arguments as for :func:`run`."""
    plans = [[(keys, protocol(size=size, **own)) for keys, own in study.searches()] for study in studies]
    protocols: dict[str, SearchProtocol] = {}
    for keys, one in (named for plan in plans for named in plan):
        if protocols.setdefault(name := folder(keys, one.space), one) != one:
            raise StudyError(f"two studies have different searches of the name {name}")
    ascending = dict(sorted(protocols.items(), key=lambda item: item[1].seed))  # and so are packs
    results = search_all(ascending, out, together=TOGETHER, **where)

    def found(keys: Mapping[str, Any], protocol: SearchProtocol) -> Found:
        result = results[folder(keys, protocol.space)]
        return Found(keys, result.path, result.history, result.trajectory, protocol)

    return [[found(*named) for named in plan] for plan in plans]
