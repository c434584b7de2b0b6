"""Λ-DARTS: differentiable architecture search with harmonized cells.

The rooms in the order in which the data flow: :mod:`~ldarts_lib.spaces` (what can be searched),
:mod:`~ldarts_lib.networks` and :mod:`~ldarts_lib.fast` (what computes), :mod:`~ldarts_lib.bilevel` (Λ, its
regularizers, the search), :mod:`~ldarts_lib.datasets`, :mod:`~ldarts_lib.runs` (what a run leaves),
:mod:`~ldarts_lib.evaluation` (how good a cell is) and :mod:`~ldarts_lib.tables` (the same, looked up).

The names of ``__all__`` are the public face. Each is imported when it is first used, and torch with the first
that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldarts_lib.bilevel.alignment import layer_alignment
    from ldarts_lib.bilevel.half_steps import Bilevel
    from ldarts_lib.bilevel.protocols import SearchProtocol, protocol
    from ldarts_lib.bilevel.regularizers import Regularizer, regularized_gradients
    from ldarts_lib.bilevel.search import search
    from ldarts_lib.datasets.images import load_images
    from ldarts_lib.evaluation.evaluate import evaluate
    from ldarts_lib.evaluation.protocols import TrainingProtocol
    from ldarts_lib.fast.supernet import FastSupernet
    from ldarts_lib.networks.discrete import DiscreteNetwork
    from ldarts_lib.networks.supernet import Supernet
    from ldarts_lib.runs.directory import Run
    from ldarts_lib.spaces.genotype import Genotype, parse
    from ldarts_lib.spaces.published import published
    from ldarts_lib.spaces.space import SPACES, Space
    from ldarts_lib.tables.tables import open_table

__version__ = "0.1.0"

_HOMES = {
    "SPACES": "spaces.space",
    "Space": "spaces.space",
    "Genotype": "spaces.genotype",
    "parse": "spaces.genotype",
    "published": "spaces.published",
    "Supernet": "networks.supernet",
    "FastSupernet": "fast.supernet",
    "DiscreteNetwork": "networks.discrete",
    "layer_alignment": "bilevel.alignment",
    "Regularizer": "bilevel.regularizers",
    "regularized_gradients": "bilevel.regularizers",
    "Bilevel": "bilevel.half_steps",
    "SearchProtocol": "bilevel.protocols",
    "protocol": "bilevel.protocols",
    "search": "bilevel.search",
    "TrainingProtocol": "evaluation.protocols",
    "evaluate": "evaluation.evaluate",
    "load_images": "datasets.images",
    "open_table": "tables.tables",
    "Run": "runs.directory",
}

__all__ = [
    "SPACES",
    "Bilevel",
    "DiscreteNetwork",
    "FastSupernet",
    "Genotype",
    "Regularizer",
    "Run",
    "SearchProtocol",
    "Space",
    "Supernet",
    "TrainingProtocol",
    "evaluate",
    "layer_alignment",
    "load_images",
    "open_table",
    "parse",
    "protocol",
    "published",
    "regularized_gradients",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ldarts_lib' has no attribute {name!r}")
    module, _, renamed = _HOMES[name].partition(":")
    value = globals()[name] = getattr(import_module(f"ldarts_lib.{module}"), renamed or name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
