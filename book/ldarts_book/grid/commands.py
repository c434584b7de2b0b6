"""Grids as commands: ``sweep``, ``plan`` and ``collect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ldarts_book.grid import plan as plans
from ldarts_book.grid.grid import Grid, GridError, read_grid
from ldarts_book.grid.locks import FolderBusy
from ldarts_book.grid.plan import NotPossible
from ldarts_book.grid.status import status
from ldarts_book.grid.sweep import PlacesError, SweepFailed, run_grid
from ldarts_book.notebook import NotebookError
from ldarts_book.published import results
from ldarts_book.published.results import ResultsError
from ldarts_lib.runs.threads import prepare

Flag = tyro.conf.FlagCreatePairsOff
EXPECTED_ERRORS = (FolderBusy, GridError, NotPossible, PlacesError, ResultsError, SweepFailed)
"""What these commands raise when they are used wrongly or something is missing."""


def sweep(
    grid: tyro.conf.Positional[Path],
    out: Path = Path("runs/grid"),
    parts: tuple[str, ...] = (),
    workers: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    notebooks: Path = Path("book"),
    dry_run: Annotated[bool, Flag] = False,
) -> None:
    """Run all searches and evaluations of a grid here, one process each; what is finished is skipped.

    Safe to stop or to lose: a second call goes on where the first was. A failed job does not stop the others;
    its notebook stays, with the traceback, and the next call tries it again.

    Args:
        grid: The grid, a YAML file; workflow/grids has some.
        out: Parent of all run directories.
        parts: Only these parts of the grid.
        workers: Processes at a time; by default one per core, or one per GPU.
        device: auto (all GPUs if there are any), cpu, cuda, cuda:1, ...
        threads: CPU threads of each process; by default one, and all cores at size paper on a GPU.
        notebooks: Folder of one_search.ipynb and one_evaluation.ipynb.
        dry_run: Print the plan only.
    """
    prepare(threads=threads)
    chosen = _read(grid, parts)
    if dry_run:
        _show_plan(chosen, out, grid)
        _show_missing(chosen)
        return
    plans.refuse_if_impossible(chosen)
    _require_notebooks(chosen, notebooks)
    report = run_grid(chosen, out, notebooks=notebooks, workers=workers, device=device)
    report.raise_if_failed()
    print(report)


def plan(
    grid: tyro.conf.Positional[Path],
    out: Path = Path("runs/grid"),
    parts: tuple[str, ...] = (),
    check: Annotated[bool, Flag] = False,
    cluster: Annotated[bool, Flag] = False,
) -> None:
    """Print the jobs of a grid, what is done, what it costs (size paper) and what is missing for it here.

    Args:
        grid: The grid, a YAML file; workflow/grids has some.
        out: Parent of all run directories.
        parts: Only these parts of the grid.
        check: End with an error if something is missing.
        cluster: The jobs run on the nodes of a cluster: no GPU is needed here.
    """
    chosen = _read(grid, parts)
    _show_plan(chosen, out, grid)
    if check:
        plans.refuse_if_impossible(chosen, gpu_here=not cluster)
    else:
        _show_missing(chosen, gpu_here=not cluster)


def collect(
    source: tyro.conf.Positional[Path],
    target: Path | None = None,
    overwrite: Annotated[bool, Flag] = False,
    grid: Path | None = None,
    parts: tuple[str, ...] = (),
) -> None:
    """Print the results below a folder, and copy what is worth keeping of them.

    Args:
        source: Parent of run directories.
        target: Where to copy metrics, configurations, environments, cells and histories; by default nowhere.
        overwrite: Replace runs that are there with other outcomes.
        grid: End with an error if not all runs of this grid are there.
        parts: Only these parts of the grid.
    """
    planned = _read(grid, parts).jobs() if grid else []
    found = results.read(source) if target is None else results.collect(source, target, overwrite=overwrite)
    for problem in found.problems:
        print(f"skipped: {problem}")
    print(f"{len(found.rows)} runs below {source}")
    summary = results.summary(found.rows).dropna(axis="columns", how="all")
    if len(summary):
        print(summary.fillna("").to_string(index=False, float_format="{:.4f}".format))
    if lacking := [job.directory for job in planned if status(job, source).state != "finished"]:
        names = "".join(f"\n  - {name}" for name in lacking)
        raise ResultsError(f"{len(lacking)} of the {len(planned)} runs of {grid} are not finished:{names}")


def _read(path: Path, parts: tuple[str, ...]) -> Grid:
    grid = read_grid(path)
    return grid.only(parts) if parts else grid


def _show_plan(grid: Grid, out: Path, path: Path) -> None:
    console = Console(highlight=False)
    console.print(plans.plan_table(plans.plan(grid, out), f"{path}, size {grid.size}, in {out}"))
    if grid.size == "paper":
        console.print(f"\nGPU-hours are estimates for {plans.HARDWARE}:")
        for what, source in plans.SOURCES.items():
            console.print(f"  {what}: {source}", markup=False, soft_wrap=True)


def _show_missing(grid: Grid, *, gpu_here: bool = True) -> None:
    for item in plans.missing(grid, gpu_here=gpu_here):
        print(f"missing: {item}")


def _require_notebooks(grid: Grid, folder: Path) -> None:
    for name in dict.fromkeys(job.notebook for job in grid.jobs()):
        if not (folder / name).is_file():
            raise NotebookError(f"there is no notebook {folder / name}; --notebooks names its folder")
