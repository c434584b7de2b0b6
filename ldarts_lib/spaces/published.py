"""Architectures that others found and published: those of Λ-DARTS and of the methods before it.

They ship in ``data/published.json``, each with its source. So a cell can be counted, drawn and trained from
scratch without a search.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from ldarts_lib.runs.directory import GENOTYPE, RunDirectory
from ldarts_lib.spaces.genotype import Genotype, GenotypeError, parse


@dataclass(frozen=True)
class Published:
    """A published architecture.

    Attributes:
        name: what the source calls it.
        space: the search space that it is of; None if it is of none of ours.
        dataset: the images that it was searched on.
        source: who found it, and where the cell is written.
        genotype: the architecture.
    """

    name: str
    space: str | None
    dataset: str
    source: str
    genotype: Genotype


@cache
def _all() -> dict[str, Published]:
    entries = json.loads((files("ldarts_data") / "published.json").read_text(encoding="utf-8"))
    return {
        name: Published(name, e["space"], e["dataset"], e["source"], parse(e["genotype"]))
        for name, e in entries.items()
    }


def names() -> tuple[str, ...]:
    """The names of all published architectures."""
    return tuple(_all())


def record(name: str) -> Published:
    """A published architecture with its source.

    Raises:
        ValueError: no such name; the message lists those that exist.
    """
    if name not in _all():
        raise ValueError(f"unknown published architecture {name!r}; choose one of {', '.join(names())}")
    return _all()[name]


def get(name: str) -> Genotype:
    """The cells of a published architecture.

    Raises:
        ValueError: no such name; the message lists those that exist.
    """
    return record(name).genotype


def architecture(text: str) -> Genotype:
    """An architecture as people name it: a published name, the run directory of a search, or a genotype.

    Raises:
        GenotypeError: the text is none of these.
        RunError: the directory holds no finished search.
    """
    text = text.strip()
    if text in _all():
        return get(text)
    if text.startswith(("|", "Genotype(")):
        return parse(text)
    if Path(text).is_dir():
        return parse(RunDirectory(text).read_json(GENOTYPE)["genotype"])
    raise GenotypeError(
        f"unknown architecture {text!r}: expected the run directory of a search, a genotype in quotes, or "
        f"one of {', '.join(names())}"
    )
