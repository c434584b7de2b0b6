"""The jobs of a grid: one notebook each, with its parameters, its run directory and what it waits for.

=================================================  ==============================================
``SPACE/DATASET/METHOD/seedN/search``              a search
``SPACE/DATASET/METHOD/seedN/RECIPE-DATASET``      the training (or look-up) of its cell
``SPACE/DATASET/METHOD/best/RECIPE-DATASET``       that of the best cell of several seeds
``published/NAME/RECIPE-DATASET-seedN``            that of a published cell
=================================================  ==============================================

The executed notebook lies beside the run directory, with ``.ipynb`` at the end of its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ldarts_lib.runs.directory import METRICS

if TYPE_CHECKING:
    from ldarts_book.grid.grid import Evaluation, Part

NOTEBOOKS = {"search": "one_search.ipynb", "evaluate": "one_evaluation.ipynb"}
"""The notebook of each kind of job, in the folder of the book."""


@dataclass(frozen=True)
class Job:
    """One search or one evaluation.

    Attributes:
        part: the part of the grid.
        directory: the run directory, relative to that of the grid; also the job's name.
        space, method: of a search, and of the searches whose cell is evaluated.
        published: name of a published architecture that is evaluated.
        searches: run directories of the searches whose cell is evaluated, the best of several.
        judges: the evaluation, one for each of several searches, that says which is the best.
    """

    kind: Literal["search", "evaluate"]
    part: str
    size: str
    dataset: str
    seed: int
    directory: str
    space: str | None = None
    method: str | None = None
    recipe: str | None = None
    published: str | None = None
    searches: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The directories of the jobs that must be finished before."""
        return self.judges or self.searches

    @property
    def notebook(self) -> str:
        """The name of its notebook."""
        return NOTEBOOKS[self.kind]

    @property
    def executed(self) -> str:
        """The executed notebook, relative to the directory of the grid."""
        return f"{self.directory}.ipynb"

    def parameters(self, out: Path | str) -> dict[str, Any]:
        """The parameters of the notebook, without device.

        Where the best of several cells is evaluated, ``architecture`` maps the run directory of each search
        to the metrics that judge it; :mod:`ldarts_book.grid.onejob` chooses when they are there.
        """
        out = Path(out)
        where = {"out": str(out / self.directory)}
        common = {"dataset": self.dataset, "size": self.size, "seed": self.seed} | where
        if self.kind == "search":
            return {"space": self.space, "method": self.method, **common}
        searches = [str(out / search) for search in self.searches]
        metrics = [str(out / judge / METRICS) for judge in self.judges]
        judged = dict(zip(searches, metrics, strict=True)) if metrics else None
        architecture = self.published or judged or searches[0]
        return {"architecture": architecture, "recipe": self.recipe, **common}

    @property
    def identity(self) -> dict[str, Any]:
        """What its metrics must say."""
        keys = ("recipe",) if self.kind == "evaluate" else ("space", "method")
        named = {key: getattr(self, key) for key in ("dataset", "size", "seed", *keys)}
        return {"stage": self.kind, **named}


def evaluation_name(recipe: str, dataset: str, seed: int | None) -> str:
    """The evaluation as directories call it; a seed shows if it is given."""
    return f"{recipe}-{dataset}" + ("" if seed is None else f"-seed{seed}")


def expand(size: str, name: str, part: Part) -> Iterator[tuple[Job, int | None]]:
    """The jobs of a part, each after those that it needs, with the position of its evaluation in the part."""
    if part.published:
        yield from _published(size, name, part)
        return
    for space, dataset, method in product(part.spaces or (), part.datasets or (), part.methods or ()):
        above = f"{space}/{dataset}/{method}"
        common = {"part": name, "size": size, "space": space, "method": method}
        searches = [f"{above}/seed{seed}/search" for seed in part.seeds or ()]
        for seed, directory in zip(part.seeds or (), searches, strict=True):
            yield Job("search", dataset=dataset, seed=seed, directory=directory, **common), None
        for position, evaluation in enumerate(part.evaluations):
            if evaluation.best_by:
                judges = tuple(f"{above}/seed{seed}/{evaluation.best_by}" for seed in part.seeds or ())
                groups = {f"{above}/best": {"searches": tuple(searches), "judges": judges}}
            else:
                groups = {search.rpartition("/")[0]: {"searches": (search,)} for search in searches}
            for (folder, origin), (on, seed) in product(groups.items(), _trainings(evaluation, dataset)):
                directory = f"{folder}/{evaluation_name(evaluation.recipe, on, seed)}"
                details = {"dataset": on, "seed": seed or 0, "recipe": evaluation.recipe, **origin}
                yield Job("evaluate", directory=directory, **common, **details), position


def _published(size: str, name: str, part: Part) -> Iterator[tuple[Job, int | None]]:
    for architecture, (position, evaluation) in product(part.published or (), enumerate(part.evaluations)):
        for on, seed in _trainings(evaluation, None):
            directory = f"published/{architecture}/{evaluation_name(evaluation.recipe, on, seed or 0)}"
            origin = {"recipe": evaluation.recipe, "published": architecture}
            yield Job("evaluate", name, size, on, seed or 0, directory, **origin), position


def _trainings(evaluation: Evaluation, searched_on: str | None) -> Iterator[tuple[str, int | None]]:
    datasets = evaluation.datasets or ((searched_on,) if searched_on else ())
    yield from product(datasets, evaluation.seeds or (None,))
