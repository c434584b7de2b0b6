"""Where a job of a grid stands, read from what lies in its directory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ldarts_book.grid.jobs import Job
from ldarts_lib.errors import RunError
from ldarts_lib.runs.directory import CONFIG, METRICS
from ldarts_lib.runs.metrics import read_metrics

State = Literal["finished", "interrupted", "failed", "missing", "unusable"]


@dataclass(frozen=True)
class Status:
    """Where a job stands.

    Attributes:
        state: finished; interrupted (it will be continued); failed (its notebook ended with an error; it will
            be tried again); missing (never begun); unusable (its metrics are damaged, of another version or
            of another run: it is not touched).
        reason: why, of an unusable one; the error, of a failed one.
    """

    state: State
    reason: str = ""


def status(job: Job, out: Path | str) -> Status:
    """Where a job stands.

    Args:
        job: the job.
        out: the directory of the grid.
    """
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
    differing = [
        f"{key} = {found.get(key)!r}, expected {value!r}"
        for key, value in job.identity.items()
        if found.get(key) != value
    ]
    if differing:
        return Status("unusable", f"{path} is of another run: {'; '.join(differing)}")
    return Status("finished")


def _error(notebook: Path) -> str:
    """The error that an executed notebook ended with, if it did."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return ""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    errors = [output for output in outputs if output.get("output_type") == "error"]
    return f"{errors[-1].get('ename')}: {errors[-1].get('evalue')}" if errors else ""
