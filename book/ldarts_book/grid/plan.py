"""Where the jobs of a grid stand, what it costs, and what is missing for it here."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.table import Table

from ldarts_book.grid.grid import Grid, GridError
from ldarts_book.grid.jobs import Job
from ldarts_lib.datasets import catalogue
from ldarts_lib.datasets.catalogue import IMAGENET
from ldarts_lib.datasets.folders import read_folder
from ldarts_lib.datasets.imagenet import folders
from ldarts_lib.errors import DatasetCorrupt, DatasetMissing, RunError
from ldarts_lib.files import read_json
from ldarts_lib.runs.contents import CONFIG, METRICS
from ldarts_lib.runs.metrics import read_metrics

_COSTS = json.loads((files("ldarts_data") / "gpu_hours.json").read_text(encoding="utf-8"))
"""Hours of searches and trainings on CIFAR-10, or the text, and the training images of the data sets."""
LARGE = ("paper", "official")
"""The sizes that need a GPU."""
HARDWARE: str = _COSTS["hardware"]
"""What the hours are of."""
SOURCES: dict[str, str] = _COSTS["sources"]
"""Where the estimates come from, in words."""


def gpu_hours(job: Job) -> float:
    """An estimate of what a job of a large size costs on :data:`HARDWARE`, by :data:`SOURCES`; else 0."""
    if job.size not in LARGE:
        return 0.0
    if job.kind == "evaluate":
        hours = _COSTS["training"][job.recipe]
    else:  # other spaces are like darts, other methods like lambda
        methods = _COSTS["search"].get(job.space, _COSTS["search"]["darts"])
        hours = methods.get(job.method, methods["lambda"])
    images = _COSTS["images"]
    return hours * images.get(job.dataset, images["cifar10"]) / images["cifar10"]


class Standing(NamedTuple):
    """Where a job stands, and why: the problem of an unusable one, the error of a failed one.

    It is finished; interrupted (it will be continued); failed (its notebook ended with an error; it will be
    tried again); missing (never begun); or unusable (its metrics are damaged, of another version or of
    another run: it is not touched).
    """

    state: str
    reason: str = ""


def standing(job: Job, out: Path) -> Standing:
    """Where a job of the grid in ``out`` stands."""
    path = out / job.directory / METRICS
    if not path.exists():
        error = _error(out / job.executed)
        begun = "interrupted" if path.with_name(CONFIG).exists() else "missing"
        return Standing("failed", error) if error else Standing(begun)
    try:
        found = read_metrics(path).model_dump()
    except RunError as error:
        return Standing("unusable", str(error))
    expected = [(key, value) for key, value in job.identity.items() if found.get(key) != value]
    differing = "; ".join(f"{key} = {found.get(key)!r}, expected {value!r}" for key, value in expected)
    if differing:
        return Standing("unusable", f"{path} is of another run: {differing}")
    return Standing("finished")


def _error(notebook: Path) -> str:
    """The error that an executed notebook ended with, if it did."""
    try:
        outputs = [output for cell in read_json(notebook)["cells"] for output in cell.get("outputs", [])]
        errors = [output for output in outputs if output.get("output_type") == "error"]
    except (RunError, KeyError, TypeError, AttributeError):  # it is missing, or damaged
        return ""
    return f"{errors[-1].get('ename')}: {errors[-1].get('evalue')}" if errors else ""


def plan(grid: Grid, out: Path) -> pd.DataFrame:
    """What is to do in a directory, which need not be there.

    Columns: the number of ``jobs``, of those that are ``finished``, ``interrupted``, ``failed``, ``unusable``
    and ``missing``, and the estimated ``GPU-hours to do``, under (part, job: ``search`` or
    a recipe).
    """
    rows = []
    for job in grid.jobs():
        state = standing(job, out).state
        row = {"part": job.part, "job": job.recipe or job.kind, "jobs": 1}
        row |= {name: int(name == state) for name in _STATES}
        rows.append(row | {"GPU-hours to do": 0.0 if state == "finished" else gpu_hours(job)})
    return pd.DataFrame(rows).groupby(["part", "job"], sort=False).sum()


_STATES = ("finished", "interrupted", "failed", "unusable", "missing")


def plan_table(rows: pd.DataFrame, title: str) -> Table:
    """A plan for the terminal, without columns in which there is nothing to say."""
    table, total = Table(title=title, box=None, show_footer=True), rows.sum()
    table.add_column("part", "all")
    table.add_column("job")
    shown = [name for name in rows if name in ("jobs", "finished") or (name != "missing" and total[name])]
    for name in shown:
        table.add_column(name, f"{total[name]:,.0f}", justify="right")
    for names, row in rows[shown].iterrows():
        table.add_row(*names, *(f"{value:,.0f}" for value in row))
    return table


def obstacles(grid: Grid, *, gpu_here: bool = True) -> list[str]:
    """What a grid needs and this machine lacks, one line each.

    With ``gpu_here`` its jobs run on this machine, and not on the nodes of a cluster.
    """
    found = []
    if grid.size in LARGE and gpu_here:
        import torch

        if not torch.cuda.is_available():
            found += ["a CUDA device: torch sees none (make reproduce PROFILE=slurm sends jobs to a cluster)"]
    images = {record.name: record for record in catalogue.status()}
    for name in dict.fromkeys(job.dataset for job in grid.jobs() if job.recipe != "lookup"):
        try:
            if name == IMAGENET:
                folders()
            elif own := catalogue.own_folder(name):
                read_folder(own)
            elif name in images and not images[name].present:
                found.append(f"the data set {name}: {images[name].how}")
        except (DatasetCorrupt, DatasetMissing) as error:
            found.append(f"the data set {name}: {error}")
    return found


def refuse_if_impossible(grid: Grid, *, gpu_here: bool = True) -> None:
    """Stop before anything runs if something is missing.

    Raises:
        GridError: all that is missing, in one message.
    """
    if lacking := obstacles(grid, gpu_here=gpu_here):
        lines = "".join(f"\n  - {item}" for item in lacking)
        raise GridError(f"this grid of size {grid.size} cannot run here, for it needs{lines}")
