"""Run directories: everything that one search or one training leaves behind.

============================  =====================================================================
``config.json``               the protocol, of a search or of a training
``environment.json``          versions, device, command line
``history.csv``               one row per finished epoch
``trajectory.npz``            of a search: architecture weights and cosines, one entry per finished epoch
``checkpoint.pt``             tensors to continue from, after the last finished epoch
``genotype.json``             the derived or trained cell, in the field's notation and as edges
``metrics.json``              the outcome; written last, so its presence means that the run is finished
============================  =====================================================================

Every file is written to a temporary name, flushed to the disk and renamed: a crash, a kill or a full disk
leaves the previous version intact.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pydantic import BaseModel

from ldarts_lib.bilevel.protocols import Protocol
from ldarts_lib.errors import LdartsError
from ldarts_lib.spaces.genotype import Genotype

CONFIG, ENVIRONMENT, HISTORY = "config.json", "environment.json", "history.csv"
CHECKPOINT, GENOTYPE, METRICS = "checkpoint.pt", "genotype.json", "metrics.json"
METRICS_VERSION = 1
"""Of the keys in ``metrics.json``; a reader of another version refuses them."""


class RunError(LdartsError, RuntimeError):
    """A run directory that cannot be used as asked; the message says why and what to do."""


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file so that it is either the old or the new one, never half.

    Raises:
        RunError: the disk is full or not writable; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        raise RunError(f"cannot write {path}: {error}; the previous version is intact") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


class RunDirectory:
    """The directory of one search or training.

    Use :meth:`create` for a new or an interrupted run, the constructor to read a run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path, protocol: BaseModel, *, resume: bool = False) -> RunDirectory:
        """Claim a directory for a protocol, all settings of what is to run.

        Raises:
            RunError: it holds another run and ``resume`` is off; or, with ``resume``, a run of another
                protocol (the settings that differ are named).
        """
        run = cls(path)
        if run.path.exists() and not run.path.is_dir():
            raise RunError(f"{run.path} is a file, not a directory")
        if (run.path / CONFIG).exists():
            if not resume:
                raise RunError(
                    f"{run.path} already holds a run; continue it with --resume or choose another directory"
                )
            run._require_same(protocol)
            return run
        try:
            run.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the directory {run.path}: {error.strerror}") from None
        for leftover in run.path.glob(".*.tmp"):
            leftover.unlink()
        if any(run.path.iterdir()):
            raise RunError(f"{run.path} is not empty and holds no run; choose another directory")
        write_json(run.path / CONFIG, protocol.model_dump(mode="json"))
        return run

    def _require_same(self, protocol: BaseModel) -> None:
        fields = type(protocol).model_fields.items()
        defaults = {name: field.default for name, field in fields if not field.is_required()}
        stored = defaults | self.read_json(CONFIG)  # a setting may be newer than the run
        asked = json.loads(protocol.model_dump_json())
        differing = sorted(key for key in stored.keys() | asked.keys() if stored.get(key) != asked.get(key))
        if differing:
            changes = ", ".join(f"{key}: {stored.get(key)!r} → {asked.get(key)!r}" for key in differing)
            raise RunError(f"{self.path} holds a run of another protocol ({changes}); it cannot be resumed")

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / METRICS).exists()

    @property
    def protocol(self) -> Protocol:
        """The protocol of a search."""
        return Protocol(**self.read_json(CONFIG))

    def read_json(self, name: str) -> dict[str, Any]:
        """One of the directory's JSON files.

        Raises:
            RunError: it is missing or damaged.
        """
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            raise RunError(f"{self.path} has no {name}") from None
        except ValueError as error:
            raise RunError(f"{self.path / name} is damaged: {error}") from None

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Record where and with which versions the search runs; a resumed run keeps its earlier ones."""
        earlier = self.read_json(ENVIRONMENT) if (self.path / ENVIRONMENT).exists() else None
        write_json(self.path / ENVIRONMENT, {**environment, **({"continues": earlier} if earlier else {})})

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write all rows; floats are written so that they are read back exactly."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path / HISTORY, lambda file: file.write(text.getvalue().encode()))

    def read_history(self) -> list[dict[str, Any]]:
        """All rows in the order of the epochs, numbers as they were; empty before the first epoch ended."""
        try:
            with (self.path / HISTORY).open(newline="") as file:
                return [{key: _number(text) for key, text in row.items()} for row in csv.DictReader(file)]
        except FileNotFoundError:
            return []

    @property
    def epochs(self) -> int:
        """How many epochs the history has; a glance, without reading them."""
        try:
            return max(self.path.joinpath(HISTORY).read_bytes().count(b"\n") - 1, 0)
        except FileNotFoundError:
            return 0

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Save tensors and plain values to continue from."""
        write_atomically(self.path / CHECKPOINT, lambda file: torch.save(dict(state), file))

    def read_checkpoint(self, device: torch.device | str = "cpu") -> dict[str, Any] | None:
        """The last checkpoint, None if there is none; only tensors and plain values are ever unpickled.

        Raises:
            RunError: it is truncated or damaged.
        """
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location=device, weights_only=True)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RunError(
                f"{path} is truncated or damaged ({reason}); delete the directory and search again"
            ) from error

    def write_outcome(self, genotype: Genotype, metrics: Mapping[str, Any]) -> None:
        """Write the genotype and, last of all, the metrics: the run is finished."""
        write_json(self.path / GENOTYPE, genotype_to_json(genotype))
        write_json(self.path / METRICS, {"version": METRICS_VERSION, **metrics})


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def genotype_to_json(genotype: Genotype) -> dict[str, Any]:
    """The notation of the field, and every cell's edges as records."""
    cells = {
        kind: [
            {"target": edge.target, "source": edge.source, "operation": edge.operation} for edge in cell.edges
        ]
        for kind, cell in genotype.cells.items()
    }
    return {"genotype": str(genotype), "cells": cells}
