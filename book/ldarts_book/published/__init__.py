"""Numbers of others, results of ours, and both side by side."""

from importlib import import_module
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """The modules, loaded when they are used: ``published.numbers``."""
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
