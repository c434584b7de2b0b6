"""A study is a value: variants, seeds, judge; run it, record it, read it, compare."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "study": (
        "CHOOSING", "CHOSEN", "CONFIRMING", "REPORTED", "SHOWN", "STRENGTHS", "STUDIES", "VARIANTS", "Study",
        "listing",
    ),
    "judges": ("LOOKED_UP", "LookedUp", "Trained"),
    "searches": ("run",),
    "records": ("NotRecorded", "judged", "overview", "record", "recorded_seeds", "watched"),
    "statistics": (
        "STOPPING", "contrasts", "holm", "last", "last_epochs", "mean_interval", "optimism", "outcomes",
        "readable", "report", "signed_rank", "summary", "with_stopping",
    ),
    "ldarts_lib.tables.chance": ("random_search", "references"),
    "bench": (), "digits201": (), "theory": (),
}  # fmt: skip
__all__ = [name for names in _HOMES.values() for name in names]


def __getattr__(name: str) -> Any:
    """Searching loads torch and comparing scipy, which no other reader of a record needs."""
    for module, names in _HOMES.items():
        if name in (module, *names):
            found = import_module(module if "." in module else f"{__name__}.{module}")
            return found if name == module else getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
