"""What a sweep shows while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ldarts_book.grid.jobs import Job
from ldarts_lib.errors import RunError
from ldarts_lib.runs.directory import CONFIG, Run

End = Literal["finished", "failed", "skipped"]
_COLUMNS = ("finished", "running", "failed", "skipped", "waiting")


class Tally:
    """How many jobs are where, and how long the rest will take.

    Args:
        jobs: all jobs.
        places: how many run at a time.
    """

    def __init__(self, jobs: Sequence[Job], places: int) -> None:
        self.jobs, self.places = jobs, places
        self.states: dict[str, str] = {job.directory: "waiting" for job in jobs}
        self._began: dict[str, float] = {}
        self._seconds: dict[str, list[float]] = {}

    def started(self, job: Job) -> None:
        """A job begins."""
        self.states[job.directory] = "running"
        self._began[job.directory] = time.monotonic()

    def ended(self, job: Job, how: End) -> None:
        """A job ended, or was not begun at all."""
        self.states[job.directory] = how
        if how == "finished" and job.directory in self._began:
            self._seconds.setdefault(_sort(job), []).append(self.elapsed(job))

    def elapsed(self, job: Job) -> float:
        """Seconds since a job began; 0 if it did not."""
        now = time.monotonic()
        return now - self._began.get(job.directory, now)

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """Of each part, how many jobs are in each state."""
        found: dict[str, Counter[str]] = {}
        for job in self.jobs:
            found.setdefault(job.part, Counter())[self.states[job.directory]] += 1
        return found

    @property
    def ended_jobs(self) -> int:
        """How many jobs will not run any more."""
        return sum(state not in ("waiting", "running") for state in self.states.values())

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the jobs of the same sort (else of any) that ended here; None before the first."""
        every = [seconds for lengths in self._seconds.values() for seconds in lengths]
        if not every:
            return None
        left = 0.0
        for job in self.jobs:
            if self.states[job.directory] in ("waiting", "running"):
                lengths = self._seconds.get(_sort(job), every)
                left += max(sum(lengths) / len(lengths) - self.elapsed(job), 0.0)
        return left / self.places


def _sort(job: Job) -> str:
    return job.recipe or f"{job.space} {job.method}"


class SweepView:
    """Plain lines: one for each job that ends."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def begin(self, tally: Tally) -> None:
        """Jobs start now."""
        self._print(
            f"{len(tally.jobs)} jobs, {tally.ended_jobs} of them need nothing; {tally.places} at a time"
        )

    def show(self, tally: Tally, running: Mapping[Job, Path]) -> None:
        """Called several times a second, with the run directories of the running jobs."""

    def ended(self, tally: Tally, job: Job, how: End, reason: str = "") -> None:
        """A job ended."""
        place = f"{tally.ended_jobs}/{len(tally.jobs)}"
        detail = f": {reason}" if reason else f" in {tally.elapsed(job):.0f} s"
        self._print(f"{place} {how} {job.directory}{detail}{_left(tally)}")

    def close(self) -> None:
        """The sweep ended, or was interrupted."""

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveView(SweepView):
    """A table that is kept up to date; failures are printed above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def begin(self, tally: Tally) -> None:
        """Jobs start now."""
        self._live.start()

    def show(self, tally: Tally, running: Mapping[Job, Path]) -> None:
        """Draw the table again."""
        table = Table("part", *_COLUMNS, box=None)
        for part, counts in tally.counts.items():
            table.add_row(part, *(str(counts[state] or "") for state in _COLUMNS))
        lines = [Text(f"  {job.directory}  {_epoch(path)}") for job, path in running.items()]
        summary = f"{tally.ended_jobs} of {len(tally.jobs)}{_left(tally)}"
        self._live.update(Group(table, *lines, Text(summary)), refresh=True)

    def ended(self, tally: Tally, job: Job, how: End, reason: str = "") -> None:
        """Jobs that fail or are skipped get a line."""
        if how != "finished":
            super().ended(tally, job, how, reason)

    def close(self) -> None:
        """Leave the last table on the terminal."""
        self._live.stop()


def view() -> SweepView:
    """The view that fits standard output."""
    console = Console()
    return LiveView(console) if console.is_terminal else SweepView(console)


def _left(tally: Tally) -> str:
    seconds = tally.seconds_left
    if not seconds:
        return ""
    return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"


def _epoch(path: Path) -> str:
    """How far a run is: the epochs in its history, of those in its configuration."""
    run = Run(path)
    try:
        epochs = run.read_json(CONFIG).get("epochs")
    except RunError:
        return ""
    return f"epoch {run.epochs} of {epochs}" if epochs else ""
