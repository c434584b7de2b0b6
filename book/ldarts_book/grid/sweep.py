"""Running a grid on one machine: one process a notebook, several at a time, only what is not finished.

Safe to stop at any moment: finished jobs are skipped by the next call, interrupted ones go on after their
last epoch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import torch

from ldarts_book.grid.grid import Grid
from ldarts_book.grid.jobs import Job
from ldarts_book.grid.locks import alone
from ldarts_book.grid.status import Status, status
from ldarts_book.grid.view import SweepView, Tally, view
from ldarts_lib.errors import LdartsError
from ldarts_lib.runs.environment import resolve_device
from ldarts_lib.runs.processes import ending
from ldarts_lib.runs.threads import VARIABLE, cores, count

POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0
"""How long a process that is told to end may take before it is killed."""


class PlacesError(LdartsError, ValueError):
    """A number of workers that this machine has no place for."""


class SweepFailed(LdartsError, RuntimeError):
    """Some jobs of a grid failed; the message lists them and where their notebooks lie."""


@dataclass(frozen=True)
class Failure:
    """A job that failed.

    Attributes:
        job: the job.
        reason: in one line.
        notebook: the executed notebook with the traceback; None if nothing was executed.
    """

    job: Job
    reason: str
    notebook: Path | None


@dataclass
class Report:
    """What :func:`run_grid` did.

    Attributes:
        earlier: jobs that were finished before.
        finished: jobs that were run to their end.
        failed: jobs that failed.
        skipped: jobs that need one that failed.
    """

    earlier: list[Job] = field(default_factory=list)
    finished: list[Job] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    skipped: list[Job] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{len(self.finished)} jobs finished, {len(self.earlier)} had been finished earlier"]
        for failure in self.failed:
            kept = f"; see {failure.notebook}" if failure.notebook else ""
            lines.append(f"failed: {failure.job.directory}: {failure.reason}{kept}")
        lines += [f"skipped: {job.directory}, for it needs one that failed" for job in self.skipped]
        return "\n".join(lines)

    def raise_if_failed(self) -> None:
        """Raises SweepFailed if a job did."""
        if self.failed:
            raise SweepFailed(str(self))


@dataclass(frozen=True)
class Slot:
    """Where one job at a time runs: the notebook's ``device`` and its process's environment variables."""

    device: str
    environment: dict[str, str]


def slots(workers: int | None, device: str) -> list[Slot]:
    """The places for jobs: on a CPU one per core with one thread each, on GPUs one per GPU.

    Args:
        workers: how many; by default all cores or GPUs.
        device: as for :func:`~ldarts_lib.runs.environment.resolve_device`; ``auto`` and ``cuda`` mean all
        GPUs.

    Raises:
        PlacesError: less than one worker, or more than there are GPUs.
        DeviceUnavailable: there is no such device.
    """
    if workers is not None and workers < 1:
        raise PlacesError(f"workers must be at least 1, got {workers}")
    where = resolve_device(device)
    if where.type == "cpu":
        return [Slot("cpu", {VARIABLE: str(count())})] * (workers or max(cores() // count(), 1))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    places = [Slot("cuda", {"CUDA_VISIBLE_DEVICES": name}) for name in names]
    if where.type == "mps":
        places = [Slot("mps", {})]
    elif device not in ("auto", "cuda"):
        places = [places[where.index]]
    if workers is not None and workers > len(places):
        raise PlacesError(f"workers = {workers}, but one runs on each GPU, and there are {len(places)}")
    return places[:workers]


@dataclass
class _Running:
    job: Job
    slot: Slot
    process: subprocess.Popen
    log: IO[str]

    def reason(self) -> str:
        """The signal that killed it, or the last line that it printed, without the name of the program."""
        if self.process.returncode < 0:
            return f"its process {ending(self.process.returncode)}"
        self.log.seek(0)
        lines = [line for line in self.log.read().splitlines() if line.strip()]
        errors = [line for line in lines if "error: " in line]
        last = (errors or lines or [f"it {ending(self.process.returncode)}"])[-1]
        return last.removeprefix("ldarts: error: ").strip()


class _Sweep:
    def __init__(
        self,
        grid: Grid,
        out: Path,
        notebooks: Path,
        places: Sequence[Slot],
        shown: SweepView,
        lock: IO[str] | None,
    ) -> None:
        self.jobs, self.out, self.notebooks, self.shown = grid.jobs(), out, notebooks, shown
        self.free, self.report, self.lock = list(places), Report(), lock
        self.running: list[_Running] = []
        self.waiting: list[Job] = []
        self.tally = Tally(self.jobs, len(places))

    def _sort(self, job: Job, found: Status) -> None:
        if found.state == "finished":
            self.report.earlier.append(job)
            self.tally.ended(job, "finished")
        elif found.state == "unusable":
            self._fail(job, found.reason)
        else:
            self.waiting.append(job)

    def run(self) -> Report:
        try:
            for job in self.jobs:
                self._sort(job, status(job, self.out))
            self.shown.begin(self.tally)
            while self._start_what_can():
                time.sleep(POLL_SECONDS)
                for one in [one for one in self.running if one.process.poll() is not None]:
                    self._end(one)
                self.shown.show(self.tally, {one.job: self.out / one.job.directory for one in self.running})
        finally:
            self.shown.close()
            _stop([one.process for one in self.running])
        return self.report

    def _start_what_can(self) -> bool:
        """Start what is ready, skip what never will be; whether anything runs."""
        done = {job.directory for job in [*self.report.earlier, *self.report.finished]}
        lost = {failure.job.directory for failure in self.report.failed}
        for job in list(self.waiting):
            if lost.intersection(job.needs):
                self.waiting.remove(job)
                self.report.skipped.append(job)
                lost.add(job.directory)
                self.tally.ended(job, "skipped")
                self.shown.ended(self.tally, job, "skipped", "it needs a job that failed")
            elif self.free and done.issuperset(job.needs):
                self.waiting.remove(job)
                self._start(job, self.free.pop(0))
        return bool(self.running)

    def _start(self, job: Job, slot: Slot) -> None:
        parameters = json.dumps({**job.parameters(self.out), "device": slot.device})
        command = [sys.executable, "-m", "ldarts_book.grid.onejob", "--leashed"]
        log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed when the process ends
        process = subprocess.Popen(
            [*command, str(self.notebooks / job.notebook), str(self.out / job.executed), parameters],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TQDM_DISABLE": "1", **slot.environment},
            start_new_session=True,
            pass_fds=[self.lock.fileno()] if self.lock else [],
        )
        self.running.append(_Running(job, slot, process, log))
        self.tally.started(job)

    def _end(self, one: _Running) -> None:
        self.running.remove(one)
        self.free.append(one.slot)
        found, code = status(one.job, self.out), one.process.returncode
        if code == 0 and found.state == "finished":
            self.report.finished.append(one.job)
            self.tally.ended(one.job, "finished")
            self.shown.ended(self.tally, one.job, "finished")
        else:
            silent = found.reason or "the notebook ran to its end, but left no metrics.json"
            self._fail(one.job, one.reason() if code else silent)
        one.log.close()
        if one.process.stdin:
            one.process.stdin.close()

    def _fail(self, job: Job, reason: str) -> None:
        notebook = self.out / job.executed
        self.report.failed.append(Failure(job, reason, notebook if notebook.exists() else None))
        self.tally.ended(job, "failed")
        self.shown.ended(self.tally, job, "failed", reason)


def run_grid(
    grid: Grid,
    out: Path | str,
    *,
    notebooks: Path | str,
    workers: int | None = None,
    device: str = "auto",
) -> Report:
    """Run all jobs of a grid that are not finished.

    A job that fails does not stop the others; those that need it are skipped. Its notebook is kept, with the
    traceback, and the next call tries it again. All processes end with this one, however it ends. They
    inherit its lock, so that the next call waits for those that are still ending.

    Args:
        grid: the grid.
        out: its directory.
        notebooks: the folder of the two job notebooks, that of the book.
        workers, device: as for :func:`slots`.

    Raises:
        PlacesError, DeviceUnavailable: as :func:`slots`.
        FolderBusy: another sweep runs in that directory.
    """
    places = slots(workers, device)
    with alone(Path(out)) as lock:
        return _Sweep(grid, Path(out), Path(notebooks).resolve(), places, view(), lock).run()


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """End processes, by force those that do not within :data:`GRACE_SECONDS`."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
