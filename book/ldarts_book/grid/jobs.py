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

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ldarts_lib.datasets.catalogue import recorded_name
from ldarts_lib.runs.contents import METRICS


@dataclass(frozen=True)
class Job:
    """One search or one evaluation.

    Attributes:
        part: the part of the grid.
        directory: the run directory, relative to that of the grid; also the job's name.
        space, method: of a search, and of the searches whose cell is evaluated.
        space_file: of a space of one's own.
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
    space_file: str | None = None
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
        """The name of its notebook in the folder of the book."""
        return "one_search.ipynb" if self.kind == "search" else "one_evaluation.ipynb"

    @property
    def executed(self) -> str:
        """The executed notebook, relative to the directory of the grid."""
        return f"{self.directory}.ipynb"

    @property
    def identity(self) -> dict[str, Any]:
        """What its metrics must say."""
        keys = ("recipe",) if self.kind == "evaluate" else ("space", "method")
        named = {key: getattr(self, key) for key in ("size", "seed", *keys)}
        return {"stage": self.kind, "dataset": recorded_name(self.dataset), **named}

    def parameters(self, out: Path) -> dict[str, Any]:
        """The parameters of the notebook, without device.

        Where the best of several cells is evaluated, ``architecture`` maps the run directory of each search
        to the metrics that judge it; :mod:`ldarts_book.grid.onejob` chooses when they are there.
        """
        given = {key: value for key, value in self.identity.items() if key != "stage"}
        given |= {"dataset": self.dataset, "out": str(out / self.directory)}
        if self.kind == "search":
            return given | {"space": self.space_file or self.space}
        searches = [str(out / search) for search in self.searches]
        metrics = [str(out / judge / METRICS) for judge in self.judges]
        best = dict(zip(searches, metrics, strict=True)) if metrics else None
        return {"architecture": self.published or best or searches[0], **given}
