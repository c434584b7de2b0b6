"""Where the jobs of a grid stand, what it costs, and what is missing for it here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.table import Table

from ldarts_book.grid.grid import Grid
from ldarts_book.grid.jobs import Job
from ldarts_lib.datasets import catalogue
from ldarts_lib.datasets.catalogue import IMAGENET
from ldarts_lib.datasets.imagenet import folders
from ldarts_lib.errors import DatasetMissing, LdartsError, RunError
from ldarts_lib.runs.directory import CONFIG, METRICS
from ldarts_lib.runs.metrics import read_metrics

HARDWARE = "one GTX 1080 Ti, or a GPU of its time that the source does not name; a recent one is faster"
_IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "svhn": 73_257, "imagenet16-120": 151_700}
_CIFAR = 1.5 * 24
_TRAINING = {
    "cifar": _CIFAR,
    "cifar-small": _CIFAR * (16 / 36) * (8 / 20),
    "nasbench201": _CIFAR * (16 / 36) * (15 / 20) * (200 / 600),
    "imagenet": 12 * 24,
    "ptb": 3 * 24,
    "lookup": 0.0,
}
_SEARCH = {
    "nasbench201": {"darts": 10_890 / 3600, "darts-2nd": 29_902 / 3600, "lambda": 2 * 10_890 / 3600},
    "ptb": {"darts": 0.5 * 24, "darts-2nd": 24.0, "lambda": 24.0},
    "darts": {"darts": 0.4 * 24, "darts-2nd": 24.0, "lambda": 0.8 * 24},
}
"""Hours on CIFAR-10, or the text; other spaces are like darts, other methods like lambda."""
SOURCES = {
    "searches in the DARTS family": (
        "DARTS 0.4 and darts-2nd 1 GPU-day on CIFAR-10 (Wang et al., 2021, DARTS-PT), Λ-DARTS 0.8 (as a card "
        "on its reproducibility reports); all in the space darts. Assumed: no more in S1 to S4"
    ),
    "searches in nasbench201": (
        "DARTS 10,890 s, darts-2nd 29,902 s (Dong and Yang, 2020). Assumed: Λ-DARTS twice as long as DARTS, "
        "as in the space darts"
    ),
    "ptb": (
        "DARTS 0.5 GPU-days, training 3 GPU-days (Liu et al., 2019, Table 2 and appendix A.2.2). Assumed: "
        "Λ-DARTS twice as long"
    ),
    "trainings": (
        "cifar 1.5 GPU-days, imagenet 12 GPU-days (Liu et al., 2019, appendix A.2). Assumed: cifar-small and "
        "nasbench201 in proportion to channels × cells × epochs"
    ),
    "other data sets": "assumed: in proportion to the number of training images (SVHN: 73,257 to 50,000)",
}
"""Where the estimates come from, in words."""


class NotPossible(LdartsError, RuntimeError):
    """A grid that cannot run here; the message names everything that is missing."""


def gpu_hours(job: Job) -> float | None:
    """An estimate of what a job of size paper costs on :data:`HARDWARE`; None for other sizes.

    Its sources and assumptions are :data:`SOURCES`.
    """
    if job.size != "paper":
        return None
    if job.kind == "evaluate":
        hours = _TRAINING[job.recipe or ""]
    else:
        methods = _SEARCH.get(job.space or "", _SEARCH["darts"])
        hours = methods.get(job.method or "", methods["lambda"])
    return hours * _IMAGES.get(job.dataset, 50_000) / 50_000


State = Literal["finished", "interrupted", "failed", "missing", "unusable"]


@dataclass(frozen=True)
class Status:
    """Where a job stands, and why: the problem of an unusable one, the error of a failed one.

    It is finished; interrupted (it will be continued); failed (its notebook ended with an error; it will be
    tried again); missing (never begun); or unusable (its metrics are damaged, of another version or of
    another run: it is not touched).
    """

    state: State
    reason: str = ""


def status(job: Job, out: Path | str) -> Status:
    """Where a job of the grid in ``out`` stands."""
    run = Path(out) / job.directory
    if (run / METRICS).exists():
        return _of_metrics(job, run / METRICS)
    if error := _error(Path(out) / job.executed):
        return Status("failed", error)
    return Status("interrupted" if (run / CONFIG).exists() else "missing")


def _of_metrics(job: Job, path: Path) -> Status:
    try:
        found = read_metrics(path).model_dump()
    except RunError as error:
        return Status("unusable", str(error))
    expected = [(key, value) for key, value in job.identity.items() if found.get(key) != value]
    differing = "; ".join(f"{key} = {found.get(key)!r}, expected {value!r}" for key, value in expected)
    return Status("unusable", f"{path} is of another run: {differing}") if differing else Status("finished")


def _error(notebook: Path) -> str:
    """The error that an executed notebook ended with, if it did."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return ""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    errors = [output for output in outputs if output.get("output_type") == "error"]
    return f"{errors[-1].get('ename')}: {errors[-1].get('evalue')}" if errors else ""


@dataclass(frozen=True)
class Row:
    """One line of a plan: the jobs of one kind (``search``, or a recipe) in one part.

    ``states`` counts the jobs in each :data:`State`; ``hours`` are the estimated GPU-hours of those that are
    not finished, None without an estimate.
    """

    part: str
    what: str
    jobs: int
    states: Counter[str]
    hours: float | None


def plan(grid: Grid, out: Path | str) -> list[Row]:
    """What is to do, part by part; the directory need not be there."""
    groups: dict[tuple[str, str], list[tuple[Job, State]]] = {}
    for job in grid.jobs():
        groups.setdefault((job.part, job.recipe or job.kind), []).append((job, status(job, out).state))
    rows = []
    for (part, what), jobs in groups.items():
        left = [gpu_hours(job) for job, state in jobs if state != "finished"]
        hours = None if None in left else sum(hour for hour in left if hour)
        rows.append(Row(part, what, len(jobs), Counter(state for _, state in jobs), hours))
    return rows


def plan_table(rows: Sequence[Row], title: str) -> Table:
    """A plan for the terminal; the hours only if there are any."""
    estimated = any(row.hours for row in rows)
    table = Table(title=title, box=None, show_footer=True)
    table.add_column("part", "all")
    table.add_column("job")
    table.add_column("jobs", str(sum(row.jobs for row in rows)), justify="right")
    table.add_column("finished", str(sum(row.states["finished"] for row in rows)), justify="right")
    table.add_column("other")
    if estimated:
        hours = sum(row.hours or 0 for row in rows)
        table.add_column("GPU-hours to do", f"{hours:,.0f}", justify="right")
    for row in rows:
        others = [f"{count} {state}" for state, count in row.states.items() if state in _WORTH_SAYING]
        cells = [row.part, row.what, str(row.jobs), str(row.states["finished"]), ", ".join(others)]
        table.add_row(*cells, *([f"{row.hours or 0:,.0f}"] if estimated else []))
    return table


_WORTH_SAYING = ("interrupted", "failed", "unusable")


def missing(grid: Grid, *, gpu_here: bool = True) -> list[str]:
    """What a grid needs and this machine lacks, one line each.

    With ``gpu_here`` its jobs run on this machine, and not on the nodes of a cluster.
    """
    found = []
    if grid.size == "paper" and gpu_here:
        import torch

        if not torch.cuda.is_available():
            found.append(
                "a CUDA device: torch sees none (make reproduce PROFILE=slurm sends jobs to a cluster)"
            )
    jobs = grid.jobs()
    images = {record.name: record for record in catalogue.status()}
    for name in dict.fromkeys(job.dataset for job in jobs if job.recipe != "lookup"):
        if name == IMAGENET:
            try:
                folders()
            except DatasetMissing as error:
                found.append(f"the data set imagenet: {error}")
        elif not images[name].present:
            found.append(f"the data set {name}: {images[name].how}")
    return found


def refuse_if_impossible(grid: Grid, *, gpu_here: bool = True) -> None:
    """Stop before anything runs if something is missing.

    Raises:
        NotPossible: all that is missing, in one message.
    """
    if lacking := missing(grid, gpu_here=gpu_here):
        lines = "".join(f"\n  - {item}" for item in lacking)
        raise NotPossible(f"this grid of size {grid.size} cannot run here, for it needs{lines}")
