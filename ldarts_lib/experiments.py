"""The long computations that the book records, as commands: ``digits201``, ``study`` and ``robustness``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from ldarts_lib import robustness as grids
from ldarts_lib import study as studies
from ldarts_lib import verdict
from ldarts_lib.benchmarks.digits201 import make
from ldarts_lib.benchmarks.tables import Benchmark, open_benchmark
from ldarts_lib.environment import device_report, environment, resolve_device
from ldarts_lib.protocols import Size
from ldarts_lib.runs import write_atomically, write_json

SettingName = Literal[tuple(grids.SETTINGS)]

DIGITS = 4
"""Significant digits that a recorded study keeps."""


def digits201(
    out: Path = Path("runs/digits201"),
    seeds: int = 3,
    workers: int | None = None,
    device: str = "cpu",
) -> None:
    """Train every computation of NAS-Bench-201's cells on noisy-digits: the table Digits-201 (CPU hours).

    Safe to kill: a second call goes on. The table that ships is a copy of OUT/table.csv.

    Args:
        out: Directory of the results.
        seeds: Networks of each cell; with more than before only the new ones are trained.
        workers: Processes at a time; by default one per core.
        device: cpu, cuda, cuda:1, ...
    """
    where = resolve_device(device)
    print(device_report(where))
    table = make(out, seeds=seeds, workers=workers, device=where)
    print(f"{len(table):,} computations, {seeds} seeds each: {out / 'table.csv'}")


def study(
    group: studies.Group = "demonstration",
    out: Path | None = None,
    first_seed: int = 10,
    seeds: int = 20,
    size: Size = "demo",
    workers: int | None = None,
    device: str = "cpu",
) -> None:
    """Search with every variant of a group and many seeds, judged by Digits-201.

    Safe to kill: a second call goes on.

    Args:
        group: demonstration (DARTS, Λ-DARTS, finite differences, a control), differences (what the finite
            difference does: lengths, float64, noise, smooth activations), or ablations.
        out: Parent of the run directories, and where epochs.csv.gz and provenance.json are written; by
            default runs/study/GROUP.
        first_seed: The smallest seed.
        seeds: Number of seeds.
        size: Preset of the searches: smoke, demo or paper.
        workers: Processes at a time; by default one per core.
        device: cpu, cuda, cuda:1, ...
    """
    benchmark, where = _judge_and_device(device)
    chosen = range(first_seed, first_seed + seeds)
    out = out or Path("runs/study") / group
    epochs = studies.run(studies.variants(size, group), chosen, out, workers=workers, device=where)
    command = f"ldarts study --group {group} --first-seed {first_seed} --seeds {seeds} --size {size}"
    record(epochs, out, command=command, device=where)
    report = verdict.report(verdict.with_stopping(studies.judge(epochs, benchmark)))
    Console().print(as_table(report))


def robustness(
    out: Path = Path("runs/robustness"),
    first_seed: int = grids.SEEDS.start,
    seeds: int = len(grids.SEEDS),
    settings: tuple[SettingName, ...] = tuple(grids.SETTINGS),
    size: Size = "demo",
    workers: int | None = None,
    device: str = "cpu",
) -> None:
    """Search with DARTS and Λ-DARTS around the demonstration, one setting changed at a time.

    Safe to kill: a second call goes on. Cells are judged by Digits-201, whatever they were searched on.

    Args:
        out: Parent of the run directories, and where epochs.csv.gz and provenance.json are written.
        first_seed: The smallest seed.
        seeds: Number of seeds of each setting and method.
        settings: The changes; a change of the epochs overrides those of the size.
        size: Preset that they change: smoke, demo or paper.
        workers: Processes at a time; by default one per core.
        device: cpu, cuda, cuda:1, ...
    """
    benchmark, where = _judge_and_device(device)
    chosen = range(first_seed, first_seed + seeds)
    epochs = grids.run(settings, chosen, out, size=size, workers=workers, device=where)
    options = f"--first-seed {first_seed} --seeds {seeds} --settings {' '.join(settings)} --size {size}"
    facts = {"settings": list(settings), "kept_epochs": grids.LAST}
    record(epochs, out, command=f"ldarts robustness {options}", device=where, **facts)
    judged = studies.judge(epochs, benchmark)
    print(grids.readable(grids.summarize(judged)).to_string())
    print(grids.describe(grids.overall(grids.gains(judged))))


def record(epochs: pd.DataFrame, out: Path, *, command: str, device: torch.device, **more: Any) -> None:
    """Write a study's rows and their provenance, with more facts if there are any."""
    rounded = epochs.copy()
    floats = rounded.select_dtypes("float").columns
    rounded[floats] = rounded[floats].map(lambda value: float(f"{value:.{DIGITS - 1}e}"))
    write_atomically(
        out / "epochs.csv.gz",
        lambda file: rounded.to_csv(
            file, index=False, lineterminator="\n", compression={"method": "gzip", "mtime": 0}
        ),
    )
    facts = {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "variants": sorted(epochs["variant"].unique()),
        "seeds": sorted(map(int, epochs["seed"].unique())),
        **more,
        "environment": environment(device),
    }
    write_json(out / "provenance.json", facts)


def _judge_and_device(device: str) -> tuple[Benchmark, torch.device]:
    """What judges a study, opened before hours of searching, and where it runs."""
    benchmark, where = open_benchmark("digits-201"), resolve_device(device)
    print(device_report(where))
    return benchmark, where


def as_table(report: pd.DataFrame) -> Table:
    """A study's report as a table for the terminal."""
    words = verdict.readable(report)
    table = Table("variant", *words.columns, box=None)
    for name, row in words.iterrows():
        table.add_row(str(name), *row)
    return table
