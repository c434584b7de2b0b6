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
    from ldarts_lib.datasets.images import ImageDataset, load_images
    from ldarts_lib.evaluation.evaluate import evaluate
    from ldarts_lib.evaluation.protocols import TrainingProtocol
    from ldarts_lib.evaluation.trained import trained_network
    from ldarts_lib.fast.supernet import FastSupernet
    from ldarts_lib.networks.discrete import DiscreteNetwork
    from ldarts_lib.networks.operations import register_operation
    from ldarts_lib.networks.supernet import Supernet
    from ldarts_lib.runs.directory import Run
    from ldarts_lib.spaces.genotype import Genotype
    from ldarts_lib.spaces.notations import parse
    from ldarts_lib.spaces.published import published
    from ldarts_lib.spaces.space import SPACES, Space
    from ldarts_lib.tables.surrogate import estimate
    from ldarts_lib.tables.tables import open_table

__version__ = "0.1.0"

_HOMES = {
    "spaces.space": ("SPACES", "Space"),
    "spaces.genotype": ("Genotype",),
    "spaces.notations": ("parse",),
    "spaces.published": ("published",),
    "networks.operations": ("register_operation",),
    "networks.supernet": ("Supernet",),
    "fast.supernet": ("FastSupernet",),
    "networks.discrete": ("DiscreteNetwork",),
    "bilevel.alignment": ("layer_alignment",),
    "bilevel.regularizers": ("Regularizer", "regularized_gradients"),
    "bilevel.half_steps": ("Bilevel",),
    "bilevel.protocols": ("SearchProtocol", "protocol"),
    "bilevel.search": ("search",),
    "evaluation.protocols": ("TrainingProtocol",),
    "evaluation.evaluate": ("evaluate",),
    "datasets.images": ("ImageDataset", "load_images"),
    "tables.surrogate": ("estimate",),
    "evaluation.trained": ("trained_network",),
    "tables.tables": ("open_table",),
    "runs.directory": ("Run",),
}
__all__ = [name for names in _HOMES.values() for name in names]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"ldarts_lib.{module}"), name)
            return value
    raise AttributeError(f"module 'ldarts_lib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
