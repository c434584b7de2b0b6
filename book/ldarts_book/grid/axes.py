"""The axes of a grid, and which of their values go together."""

from __future__ import annotations

from ldarts_lib.datasets import DATASETS
from ldarts_lib.datasets.corpus import TEXTS
from ldarts_lib.datasets.imagenet import IMAGENET
from ldarts_lib.spaces.space import SPACES

SPACE_NAMES: tuple[str, ...] = (*SPACES, "ptb")
"""The spaces of image classifiers, and that of recurrent cells."""
METHODS_OF_TEXT: tuple[str, ...] = ("darts", "lambda", "lambda-sign")
IMAGES: tuple[str, ...] = tuple(name for name in DATASETS if name != IMAGENET)
SEARCHED_ON: tuple[str, ...] = (*IMAGES, *TEXTS)
EVALUATED_ON: tuple[str, ...] = (*IMAGES, IMAGENET, *TEXTS)
TABULATED: tuple[str, ...] = ("noisy-digits", "cifar10", "cifar100", "imagenet16-120")
"""Data sets for which a table knows every cell of the space nasbench201."""

_CHAINS = ("cifar", "cifar-small", "imagenet")
RECIPES: tuple[str, ...] = (*_CHAINS, "nasbench201", "ptb", "lookup")


def recipes_of(space: str) -> tuple[str, ...]:
    """The recipes that take a cell of a space."""
    return {"ptb": ("ptb",), "nasbench201": ("nasbench201", "lookup")}.get(space, _CHAINS)


def datasets_of(recipe: str) -> tuple[str, ...]:
    """The data sets that a recipe can be evaluated on."""
    if recipe in ("ptb", "lookup"):
        return TEXTS if recipe == "ptb" else TABULATED
    return (*IMAGES, IMAGENET) if recipe == "imagenet" else IMAGES


def searchable(space: str) -> tuple[str, ...]:
    """The data sets that a space can be searched on."""
    return TEXTS if space == "ptb" else IMAGES


def misfit(recipe: str, space: str, dataset: str) -> str | None:
    """Why a cell of a space cannot be evaluated by a recipe on a data set; None if it can."""
    if recipe not in recipes_of(space):
        return (
            f"the recipe {recipe!r} does not take cells of the space {space}; "
            f"choose among {', '.join(recipes_of(space))}"
        )
    if dataset not in datasets_of(recipe):
        return (
            f"the recipe {recipe!r} cannot be evaluated on {dataset!r}; "
            f"choose among {', '.join(datasets_of(recipe))}"
        )
    return None
