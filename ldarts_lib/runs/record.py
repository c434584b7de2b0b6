"""The one loop: epochs of a search or a training, recorded so that it can be stopped at any moment.

Whatever runs for epochs is a :class:`State`: it knows how to make an epoch, what to keep of it and what came
out. :func:`record` does the rest, by one rule: a finished run of the same settings is left as it is, an
interrupted one goes on after its last epoch (on a CPU bit for bit as if it had not been interrupted), and a
directory that holds anything else is refused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import BaseModel
from torch import Tensor

from ldarts_lib.errors import LdartsError, RunError
from ldarts_lib.files import write_json
from ldarts_lib.progress import Bar
from ldarts_lib.runs.directory import Row, Run
from ldarts_lib.runs.environment import arithmetic, environment
from ldarts_lib.runs.threads import limited

OnStep = Callable[..., object]
"""Called during an epoch with the units that were made since the last call, or without anything for one."""


class Diverged(LdartsError, RuntimeError):
    """The loss is no longer a number; the message says when. The last checkpoint is of the epoch before."""


class OutOfMemory(LdartsError, RuntimeError):
    """The device or the computer has too little memory; the message says which settings to lower."""


_LACK = re.compile(r"out of memory|can't allocate memory|not enough memory|ALLOC_FAILED", re.IGNORECASE)
_LOWER = ("batch_size", "channels", "units", "cells")


class State(Protocol):
    """Everything that changes during a run, and what is known after it.

    Attributes:
        title: what the progress bar says.
        epochs: how many the run has.
        steps: units of the progress bar per epoch.
        unit: what they are.
        ended: whether it comes to its end before its last epoch.
        files: JSON files that a run gets before its first epoch, by name.
    """

    title: str
    epochs: int
    steps: int
    unit: str = "step"
    ended: bool = False
    files: Mapping[str, Mapping[str, Any]] = {}

    def run_epoch(self, epoch: int, on_step: OnStep) -> Row:
        """One epoch, counted from 0; returns its row of the history, which has ``seconds``.

        Raises:
            Diverged: a loss is NaN or infinite (see :func:`require_finite`).
        """

    def checkpoint(self) -> dict[str, Any]:
        """Tensors and plain values from which :meth:`restore` continues; without the key ``epoch``."""

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Become the state after the epoch of a checkpoint, whose tensors lie on the CPU."""

    def outcome(self, rows: Sequence[Row]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """After the last epoch what ``genotype.json`` and ``metrics.json`` (but for the seconds) hold."""

    def shown(self, row: Row) -> Mapping[str, str]:
        """What the progress bar shows of an epoch."""

    def save(self, run: Run) -> None:
        """Write further files of a run, after each epoch and before its checkpoint; none by default."""


def record(
    out: str | Path,
    settings: BaseModel,
    begin: Callable[[], State],
    *,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Run:
    """Bring a run to its end: from the beginning, from where it was interrupted, or from where it ended.

    Args:
        settings: what tells this run from others.
        begin: makes the state before the first step; not called if the run is finished.

    Raises:
        RunError: the directory cannot be used or written.
        Diverged: a loss is NaN or infinite.
        OutOfMemory: memory does not suffice.
    """
    run = Run(out)
    if not run.finished_with(settings):
        with _lack_of_memory(settings, device):
            state = begin()
        with begun(out, settings, device):
            run_epochs([run], [state], progress=progress)
    return run


@contextmanager
def begun(out: str | Path, settings: BaseModel, device: torch.device | str, **facts: Any) -> Iterator[Run]:
    """A claimed run directory that says on what it runs (and ``facts``), with the CPU threads of its size."""
    limits = limited(getattr(settings, "size", None)), _lack_of_memory(settings, device)
    with Run.claim(out, settings) as run, limits[0], limits[1]:
        with arithmetic(getattr(settings, "precision", "float32")):  # as in each step
            run.write_environment({**environment(torch.device(device)), **facts})
        yield run


@contextmanager
def _lack_of_memory(settings: BaseModel, device: torch.device | str) -> Iterator[None]:
    """What CUDA, torch's CPU allocator, NumPy and Python say of it becomes one error of ours."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemory) or not (isinstance(error, MemoryError) or _LACK.search(str(error))):
            raise
        asked = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
        what = f"out of memory on {device}" + (f", where {asked[1]} more were needed" if asked else "")
        lower = " or ".join(f"{name} (now {value})" for name, value in settings if name in _LOWER)
        if getattr(settings, "checkpoint_cells", True) is False:
            lower += ", or set checkpoint_cells"
        if "auxiliary" in type(settings).model_fields:
            lower += ", or share each batch among more devices (devices)"
        raise OutOfMemory(f"{what}; lower {lower or 'its size'}, in another directory") from error


def run_epochs(
    runs: Sequence[Run],
    states: Sequence[State],
    together: Callable[[Sequence[State]], Callable[[int], Sequence[Row]]] | None = None,
    *,
    progress: bool = False,
    writes: bool = True,
    save_seconds: float = 0.0,
) -> None:
    """The epochs that are left of one run, or of several whose epochs are made together.

    Args:
        runs: see :func:`begun`.
        states: of each, before its first step.
        together: makes of states after the same epoch what makes the next epoch of all of them, counted from
            0, and gives the row of each; only needed for more than one.
        progress: whether to show a progress bar, of a single run.
        writes: whether this process writes; of several that share one run only one does.
        save_seconds: saves that would follow the last one sooner than this are left out.
    """
    alike: dict[int, list[tuple[Run, State, list[Row]]]] = {}
    for run, state in zip(runs, states, strict=True):
        rows = _restored(run, state)
        for name, content in state.files.items() if writes else ():
            write_json(run.path / name, content)
        alike.setdefault(len(rows), []).append((run, state, rows))
    for begun, group in alike.items():
        first, last_save = group[0][1], time.monotonic()
        step = together([state for _, state, _ in group]) if len(group) > 1 else None
        units = {"total": first.epochs * first.steps, "initial": begun * first.steps, "unit": first.unit}
        with Bar(desc=first.title, disable=not progress, **units) as bar:
            for epoch in range(begun, first.epochs):
                if all(state.ended for _, state, _ in group):
                    break
                made = step(epoch) if step else [first.run_epoch(epoch, bar.update)]
                bar.set_postfix({"epoch": epoch + 1, **first.shown(made[0])})
                for (_, _, rows), row in zip(group, made, strict=True):
                    rows.append(row)
                over = epoch + 1 == first.epochs or all(state.ended for _, state, _ in group)
                due = over or time.monotonic() - last_save >= save_seconds
                if writes and due:
                    for one in group:
                        _save(*one)
                    last_save = time.monotonic()
        for run, state, rows in group if writes else ():
            genotype, metrics = state.outcome(rows)
            seconds = sum(float(row["seconds"]) for row in rows)
            run.write_outcome(genotype, {**metrics, "seconds": round(seconds, 3)})


def _restored(run: Run, state: State) -> list[Row]:
    """The history up to the last checkpoint, to which the state is brought."""
    saved = run.read_checkpoint()
    if saved is None:
        return []
    rows = (saved.get("history") or run.read_history())[: saved.get("epoch", -1) + 1]  # not in older ones
    if not rows or len(rows) <= saved["epoch"]:
        raise RunError(
            f"{run.path}: the history has {len(rows)} epochs, the checkpoint {saved.get('epoch', -1) + 1}; "
            "delete the directory and begin again"
        )
    run.restore_history(rows)
    restored(run, state, saved)
    return rows


def restored(run: Run, state: State, saved: Mapping[str, Any]) -> None:
    """Bring a state to a checkpoint of the run.

    Raises:
        RunError: it is no checkpoint of such a run.
    """
    try:
        state.restore(saved)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        why, *_ = (*str(error).splitlines(), type(error).__name__)
        why = f"it has no {why}" if isinstance(error, KeyError) else why
        raise RunError(f"{run.path}: the checkpoint is of another run or version ({why})") from None


def _save(run: Run, state: State, rows: list[Row]) -> None:
    """The checkpoint comes last: what is newer than it is cut off when the run goes on."""
    run.write_history(rows)
    state.save(run)
    run.write_checkpoint({"epoch": rows[-1]["epoch"], "history": rows, **state.checkpoint()})


def require_finite(losses: Tensor, epoch: int, part: str, remedy: str) -> None:
    """Stop a run whose loss is no longer a number.

    Args:
        losses: of the steps of an epoch, [steps], or one loss of all of it, a scalar.
        epoch: counted from 0.
        part: of the data.
        remedy: a setting that may help, smaller.
    """
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        step = f", step {bad[0].item()}" if losses.dim() else ""
        raise Diverged(
            f"the {part} loss is {losses[tuple(bad[0])].item()} in epoch {epoch}{step} (counted from 0); "
            f"the checkpoint of the last good epoch is kept. A smaller {remedy} may help"
        )
