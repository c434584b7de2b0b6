"""What the axes of a grid may list."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, Strict

from ldarts_book.grid.evaluations import LOOKUP
from ldarts_lib.datasets.catalogue import DATASETS, IMAGENET, own_folder
from ldarts_lib.datasets.corpus import TEXTS
from ldarts_lib.errors import require_known
from ldarts_lib.settings import Seed
from ldarts_lib.spaces.definition import find_space
from ldarts_lib.spaces.notations import architecture
from ldarts_lib.spaces.published import published
from ldarts_lib.spaces.space import SPACES
from ldarts_lib.tables.tables import TABULATED

DATA_OF = {"ptb": TEXTS, LOOKUP: TABULATED, "imagenet": (*DATASETS, IMAGENET)}
"""The data sets of a recipe; of the others all images that fit on a device."""


def several(of: Any) -> Any:
    """The type of an axis: one value or more."""
    return Annotated[tuple[of, ...], Field(min_length=1)] | None


def _known_space(space: str) -> str:
    if find_space(space)[1] is None:
        require_known("space", space, (*SPACES, "ptb"))
    return space


def _known_data(dataset: str) -> str:
    """A name, or a folder of pictures, as a whole path."""
    if dataset not in (known := (*DATASETS, IMAGENET, *TEXTS)) and not own_folder(dataset):
        raise ValueError(f"{dataset!r} is no data set: choose among {', '.join(known)}, or name a folder")
    return dataset if dataset in known else str(own_folder(dataset).resolve())


def _known_architecture(text: str) -> str:
    """A published name, or a cell in any notation, as its genotype."""
    name, genotype = architecture(text)
    genotype.require(genotype.kind)
    return name if name in published() else str(genotype)


Data = several(Annotated[str, AfterValidator(_known_data)])
Seeds = several(Annotated[Seed, Strict()])
Architectures = several(Annotated[str, AfterValidator(_known_architecture)])
Spaces = several(Annotated[str, AfterValidator(_known_space)])
