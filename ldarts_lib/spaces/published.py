"""Architectures that others found and published: those of Λ-DARTS and of the methods before it.

They ship in ``data/published.json``, each with its source. So a cell can be counted, drawn and trained from
scratch without a search.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import overload

from ldarts_lib.errors import require_known
from ldarts_lib.spaces.genotype import Genotype
from ldarts_lib.spaces.notations import parse


@dataclass(frozen=True)
class Published:
    """A published architecture: the search space that it is of (None: of none of ours), the images or the
    text that it was searched on, and who found it, and where the cell is written.
    """

    name: str
    space: str | None
    dataset: str
    source: str
    genotype: Genotype


@cache
def _records() -> dict[str, Published]:
    entries = json.loads((files("ldarts_data") / "published.json").read_text(encoding="utf-8"))
    return {
        name: Published(name, e["space"], e["dataset"], e["source"], parse(e["genotype"]))
        for name, e in entries.items()
    }


def published_record(name: str) -> Published:
    """A published architecture with its source.

    Raises:
        UnknownName: the message lists those that exist.
    """
    require_known("published architecture", name, _records())
    return _records()[name]


@overload
def published() -> tuple[str, ...]: ...
@overload
def published(name: str) -> Genotype: ...
def published(name: str | None = None) -> tuple[str, ...] | Genotype:
    """The names of all published architectures, or the architecture of a name.

    Raises:
        UnknownName: the message lists those that exist.

    Examples:
        >>> from ldarts_lib import published
        >>> "DARTS_V2" in published()
        True
        >>> published("DARTS_V2").normal.edges[0].operation
        'sep_conv_3x3'
    """
    return tuple(_records()) if name is None else published_record(name).genotype
