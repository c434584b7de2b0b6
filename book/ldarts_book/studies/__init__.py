"""A study is a value: variants, seeds, judge; run it, record it, read it, compare."""

from importlib import import_module
from typing import Any

_HERE = ("design", "study", "judges", "records", "statistics")


def __getattr__(name: str) -> Any:
    """What these modules and those of chance define, or a module; scipy comes late, torch with a search."""
    for home in (*(f"{__name__}.{module}" for module in _HERE), "ldarts_lib.tables.chance"):
        if name in (found := vars(import_module(home))):
            return found[name]
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
