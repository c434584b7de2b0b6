"""A grid, run by Snakemake on this machine or on a cluster: what is finished is skipped, the rest goes on.

Safe to stop at any moment: an interrupted job continues after its last epoch when the same grid is run again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
from rich.console import Console

from ldarts_book.grid import plan as plans
from ldarts_book.grid.grid import WORKFLOW, Grid, GridError, find_grid, read_grid
from ldarts_book.grid.plan import plan, plan_table, refuse_if_impossible, standing
from ldarts_lib.errors import LdartsError, require_known
from ldarts_lib.files import expanded, locked
from ldarts_lib.runs.signals import Terminated

PATIENCE = 7.0
"""Seconds that jobs have to end by themselves."""


class SweepFailed(LdartsError, RuntimeError):
    """Jobs of a grid are not finished; the message lists them, and where the notebooks of failed ones lie."""


def show_plan(
    name: str | Path,
    out: Path,
    parts: Sequence[str] = (),
    *,
    check: bool = False,
    missing: bool = True,
    gpu_here: bool = True,
) -> None:
    """Print what a grid consists of, how much of it is done, what it costs and what is missing here.

    Raises:
        GridError: something is missing, if ``check``.
    """
    grid, console = read_grid(name, parts), Console(highlight=False, markup=False)
    console.print(plan_table(plan(grid, out), f"{name}, size {grid.size}, in {out}"))
    if grid.size in plans.LARGE:
        console.print(f"\nGPU-hours are estimates for {plans.HARDWARE}:")
        for what, source in plans.SOURCES.items():
            console.print(f"  {what}: {source}", soft_wrap=True)
    if check:
        refuse_if_impossible(grid, gpu_here=gpu_here)
    for item in plans.obstacles(grid, gpu_here=gpu_here) if missing else ():
        print(f"missing: {item}")


def sweep(
    grid: str | Path,
    out: str | Path,
    *,
    parts: Sequence[str] = (),
    jobs: int | None = None,
    gpus: int | None = None,
    device: str = "auto",
    profile: str = "local",
    config: Sequence[str] = (),
    options: Sequence[str] = (),
) -> None:
    """Run all searches and evaluations of a grid and write its tables; ends with what ran.

    Args:
        grid: a YAML file, or the name of a grid that ships.
        out: parent of all run directories.
        jobs: at a time on this machine; by default one per core.
        gpus: of this machine, each for one job at a time; by default all that are visible.
        profile: local, or slurm.
        config: more settings of the Snakefile, as NAME=VALUE.
        options: of Snakemake itself.

    Raises:
        GridError: before anything runs.
        RunError: another process runs a grid there.
        SweepFailed: a job failed.
    """
    out, given = expanded(out), dict(setting.partition("=")[::2] for setting in config)
    for name, value in given.items():
        require_known("setting", name, ("parts", "device", "gpus", "imagenet_gpus", "notebooks", "grid"))
        if not (value.isdecimal() if "gpus" in name else value):
            raise GridError(
                f"--config {name}={value}: expected {'a number' if 'gpus' in name else 'a value'}"
            )
    given |= {"parts": ",".join(["", *parts])} if parts else {}  # alone, 12 is a number to Snakemake
    require_known("profile", profile, [folder.name for folder in (WORKFLOW / "profiles").iterdir()])
    chosen = read_grid(grid, [*filter(None, given.get("parts", "").split(","))])
    local = profile == "local"
    refuse_if_impossible(chosen, gpu_here=local)
    if find_spec("snakemake") is None:
        raise GridError("Snakemake is not installed: pip install 'snakemake>=9'")
    ids = [] if gpus == 0 or device == "cpu" else visible_gpus()
    if (gpus or 0) > len(ids):
        raise GridError(f"gpus = {gpus}: this process sees {len(ids)}")
    ids = ids[:gpus]
    given |= {"grid": str(find_grid(grid)), "device": device}
    if local:
        given.setdefault("gpus", str(min(len(ids), 1)))
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile")),
        *("--profile", str(WORKFLOW / "profiles" / profile), "--directory", str(out)),
        *(("--cores", str(jobs)) if jobs else ()),
        *(("--resources", f"gpu={max(len(ids), 1)}") if local else ()),
        *options,
        *("--config", *(f"{name}={value}" for name, value in given.items())),
    ]
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ",".join(ids)} if ids else {})
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        if local:  # nobody else is here: a lock of Snakemake's is that of one that was killed
            shutil.rmtree(out / ".snakemake" / "locks", ignore_errors=True)
        code = _run(command, environment)
    if not {"--dry-run", "-n", "--unlock"} & set(options):
        _report(chosen, out, f"{Path(grid).stem}, size {chosen.size}, in {out}", code)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run Snakemake to its end; when we are told to stop, it and its jobs end, by force after a while."""
    process = subprocess.Popen(command, env=environment)  # noqa: S603 -- a list, no shell
    try:
        return process.wait()
    except KeyboardInterrupt as stop:
        with suppress(psutil.NoSuchProcess):
            snakemake = psutil.Process(process.pid)
            running = [*snakemake.children(recursive=True), snakemake]
            if isinstance(stop, Terminated):  # Ctrl-C has reached all of them
                _tell(running, signal.SIGINT)
            _, left = psutil.wait_procs(running, PATIENCE)
            _tell(left, signal.SIGKILL)
        raise


def _tell(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _report(grid: Grid, out: Path, title: str, code: int) -> None:
    """Print what is finished and what is not; raise SweepFailed for the latter, whatever Snakemake says."""
    Console(highlight=False, markup=False).print(plan_table(plan(grid, out), title))
    lines = []
    for job in grid.jobs():
        state, reason = standing(job, out)
        if state != "finished":
            where = f"; see {out / job.executed}" if state == "failed" else ""
            lines.append(f"{state}: {job.directory}" + (f": {reason}" if reason else "") + where)
    if lines or code:
        unfinished = "\n".join(lines) or "all jobs are finished, but the tables could not be written"
        raise SweepFailed(f"Snakemake ended with exit code {code}\n{unfinished}")
