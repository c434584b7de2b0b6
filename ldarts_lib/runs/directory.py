"""Run directories: everything that one search or one training leaves behind.

============================  =====================================================================
``config.json``               all settings of the search or the training
``environment.json``          versions, device, command line
``images.json``               of images: name, classes, shape, mean and deviation, fingerprint
``history.csv``               one row per finished epoch
``trajectory.npz``            of a search: architecture weights and cosines, one entry per finished epoch
``checkpoint.pt``             tensors to continue from, after the last finished epoch, the history, a digest
``genotype.json``             the derived or trained cell, in the field's notation and as edges
``metrics.json``              the outcome; written last, so its presence means that the run is finished
============================  =====================================================================

``ldarts discretize RUN --selection perturbation`` adds ``genotype-perturbation.json``.
Every file is the old or the new one, never half: a crash, a kill or a full disk loses an epoch at most.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from warnings import catch_warnings

from pydantic import BaseModel

from ldarts_lib.errors import RunError
from ldarts_lib.files import (
    expanded,
    locked,
    make_folder,
    read_bytes,
    read_json,
    read_text,
    require_file,
    require_place,
    write_atomically,
    write_json,
)
from ldarts_lib.runs.contents import (
    CONFIG,
    ENVIRONMENT,
    GENOTYPE,
    METRICS,
    METRICS_VERSION,
    MODELS,
    Epoch,
    digest,
    require_whole,
)
from ldarts_lib.runs.metrics import read_metrics

HISTORY, CHECKPOINT = "history.csv", "checkpoint.pt"
Row = dict[str, Any]
"""What the history says of one epoch: name of the column → number or text."""


class Run:
    """The directory of one search or training, to be read; :meth:`claim` is for who writes it.

    Examples:
        >>> run = Run("runs/never-begun")
        >>> run.finished, run.epochs, run.read_history()
        (False, 0, [])
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expanded(path)

    @classmethod
    @contextmanager
    def claim(cls, path: str | Path, settings: BaseModel) -> Iterator[Run]:
        """A new directory, or that of an interrupted or finished run of the same settings, for us alone.

        Raises:
            RunError: as :meth:`finished_with`, or it cannot be made, or another process works in it.
        """
        run = cls(path)
        run.finished_with(settings)
        make_folder(run.path)
        with locked(run.path):
            run.finished_with(settings)
            if not (run.path / CONFIG).exists():
                write_json(run.path / CONFIG, settings.model_dump(mode="json"))
            yield run

    def finished_with(self, settings: BaseModel) -> bool:
        """Whether a run of these settings came to its end here; False if there is none yet.

        Raises:
            RunError: the directory holds a run of other settings, which are named, or something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a directory")
        if (self.path / CONFIG).exists():
            self._require_same(settings)
        elif self.path.exists() and any(not file.name.startswith(".") for file in self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and holds no run; choose another directory")
        if not self.finished:
            require_place(self.path / CONFIG)
        return self.finished

    def _require_same(self, settings: BaseModel) -> None:
        fields = type(settings).model_fields.items()
        defaults = {name: field.default for name, field in fields if not field.is_required()}
        stored = defaults | self.read_json(CONFIG)  # a setting may be newer than the run
        asked = json.loads(settings.model_dump_json())
        differing = sorted(key for key in stored.keys() | asked.keys() if stored.get(key) != asked.get(key))
        if differing:
            changes = ", ".join(f"{key}: {stored.get(key)!r} → {asked.get(key)!r}" for key in differing)
            raise RunError(f"{self.path} holds another run ({changes}); choose another directory")

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / METRICS).exists()

    @property
    def epochs(self) -> int:
        """How many epochs the history has; a glance, without reading them."""
        history = self.path / HISTORY
        return read_bytes(history).count(b"\n") - 1 if history.exists() else 0

    def read_json(self, name: str) -> dict[str, Any]:
        """One of the directory's JSON files, checked (:mod:`ldarts_lib.runs.contents`).

        Raises:
            RunError: as :func:`~ldarts_lib.files.read_json`, or keys are missing, or values are impossible.
        """
        content = read_json(self.path / name)
        require_whole(self.path / name, content, MODELS.get(name))
        if name == METRICS:
            read_metrics(self.path / name)
        return content

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Record where and with which versions it runs; a run that goes on keeps its earlier ones."""
        earlier = {"continues": self.read_json(ENVIRONMENT)} if (self.path / ENVIRONMENT).exists() else {}
        write_json(self.path / ENVIRONMENT, {**environment, **earlier})

    def write_history(self, rows: Sequence[Row]) -> None:
        """Write all rows; floats are written so that they are read back exactly."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path / HISTORY, lambda file: file.write(text.getvalue().encode()))

    def read_history(self) -> list[Row]:
        """All rows in the order of the epochs, numbers as they were; empty before the first epoch ended.

        Raises:
            RunError: the file is damaged, and so is the checkpoint, which holds the same rows.
        """
        try:
            return self._rows()
        except RunError as error:
            try:
                rows = (self.read_checkpoint() or {})["history"]
            except (RunError, KeyError):
                raise error from None
            print(f"{error}; its rows are taken from {CHECKPOINT}", file=sys.stderr)
            return rows

    def _rows(self) -> list[Row]:
        path = self.path / HISTORY
        if not path.exists():
            return []
        try:
            read = csv.DictReader(io.StringIO(read_text(path), newline=""), restkey="", restval="")
            rows = [{key: _number(text) for key, text in row.items()} for row in read]
        except (csv.Error, TypeError, ValueError) as error:
            raise RunError(f"{path} is damaged: {error}") from None
        for epoch, row in enumerate(rows):
            require_whole(path, row, Epoch)
            if row["epoch"] != epoch or "" in row:
                raise RunError(f"{path} is damaged: line {epoch + 2} is not that of epoch {epoch}")
        return rows

    def restore_history(self, rows: Sequence[Row]) -> None:
        """Let the history begin with the rows of a checkpoint; what does not is replaced, with a note."""
        with suppress(RunError):
            if self._rows()[: len(rows)] == rows:
                return
        print(f"{self.path / HISTORY} is damaged; it is replaced from {CHECKPOINT}", file=sys.stderr)
        self.write_history(rows)

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Save tensors and plain values to continue from, with a digest of them and of the settings."""
        import torch  # who only reads a history need not load it

        whole = {"digest": self._digest(state), **state}
        write_atomically(self.path / CHECKPOINT, lambda file: torch.save(whole, file))

    def read_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, on the CPU, None if there is none; nothing in it is ever executed.

        Raises:
            RunError: it is truncated or damaged, or is that of another run.
        """
        state = self.read_tensors(CHECKPOINT)
        if state is not None and state.pop("digest", None) != self._digest(state):
            raise RunError(
                f"{self.path / CHECKPOINT} is damaged, or does not belong to the settings in {CONFIG}: its "
                "digest is another; delete the directory and begin again"
            )
        return state

    def read_tensors(self, name: str, remedy: str = "delete the directory") -> dict[str, Any] | None:
        """What was saved in a file, on the CPU, None if there is none; nothing in it is ever executed.

        Raises:
            RunError: it is truncated or damaged.
        """
        import torch

        path = self.path / name
        if not path.exists():
            return None
        require_file(path)
        try:
            with catch_warnings(action="ignore"):  # of what is no state
                return dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            reason, *_ = (*str(error).splitlines(), type(error).__name__)
            raise RunError(f"{path} is damaged ({reason}); {remedy} and begin again") from error

    def _digest(self, state: Mapping[str, Any]) -> str:
        return digest([self.read_json(CONFIG) if (self.path / CONFIG).exists() else {}, dict(state)])

    def write_outcome(self, genotype: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
        """Write the genotype and, last of all, the metrics: the run is finished."""
        write_json(self.path / GENOTYPE, genotype)
        write_json(self.path / METRICS, {"version": METRICS_VERSION, **metrics})


def _number(text: str) -> int | float | str | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None
