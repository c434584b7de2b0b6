"""The long computations that the book records, as commands: ``digits201``, ``study`` and ``robustness``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from ldarts_book.studies import kinds as alignable
from ldarts_book.studies import robustness as grids
from ldarts_book.studies import study as studies
from ldarts_book.studies import verdict
from ldarts_book.studies.variants import CHOOSING, SEEDS, Group
from ldarts_lib.files import write_atomically, write_json
from ldarts_lib.runs.environment import device_report, environment, resolve_device
from ldarts_lib.runs.threads import prepare
from ldarts_lib.settings import Size
from ldarts_lib.tables.digits201 import make
from ldarts_lib.tables.tables import Benchmark, open_benchmark

SettingName = Literal[tuple(grids.SETTINGS)]

DIGITS = 4
"""Significant digits that a recorded study keeps."""


def digits201(
    out: Path = Path("runs/digits201"),
    seeds: int = 3,
    workers: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Train every computation of NAS-Bench-201's cells on noisy-digits: the table Digits-201 (CPU hours).

    Safe to kill: a second call goes on. The table that ships is a copy of OUT/table.csv.

    Args:
        out: Directory of the results.
        seeds: Networks of each cell; with more than before only the new ones are trained.
        workers: Processes at a time; by default one per core.
        device: cpu, cuda, cuda:1, ...
        threads: CPU threads of each process; by default one.
    """
    prepare(threads=threads)
    where = resolve_device(device)
    print(device_report(where))
    table = make(out, seeds=seeds, workers=workers, device=where)
    print(f"{len(table):,} computations, {seeds} seeds each: {out / 'table.csv'}")


def study(
    groups: tuple[Group, ...] = get_args(Group),
    out: Path = Path("runs/study"),
    first_seed: int | None = None,
    seeds: int | None = None,
    size: Size = "demo",
    workers: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Search with every variant of some groups and many seeds, judged by Digits-201.

    Safe to kill: a second call goes on. A search that several groups compare is made once.

    Args:
        groups: demonstration (DARTS, Λ-DARTS, finite differences, a control), differences (what the finite
            difference does: lengths, noise, smooth activations), precision (the same in float64), strengths
            (λ of each form, on the seeds for choosing), chosen (the best of these on fresh seeds), lengths
            (number of epochs), ablations (one setting of Λ-DARTS changed at a time).
        out: Parent of the run directories; OUT/GROUP has epochs.csv.gz and provenance.json of each group.
        first_seed: The smallest seed; by default each group has its own seeds, most of them 10 to 29.
        seeds: Number of seeds; by default all of the group.
        size: Preset of the searches: smoke, demo or paper.
        workers: Processes at a time; by default one per core.
        device: cpu, cuda, cuda:1, ...
        threads: CPU threads of each process; by default one.
    """
    prepare(threads=threads)
    benchmark, where = _judge_and_device(device)
    chosen = {group: _seeds(SEEDS[group], first_seed, seeds) for group in groups}
    found = studies.run_groups(chosen, out, size=size, workers=workers, device=where)
    for group, epochs in found.items():
        given = {"first-seed": first_seed, "seeds": seeds}
        options = "".join(f" --{name} {value}" for name, value in given.items() if value is not None)
        command = f"ldarts study --groups {group} --size {size}{options}"
        kept = epochs if group == "demonstration" else studies.last(epochs)
        record(kept, out / group, command=command, device=where)
        judged = studies.judge(epochs, benchmark)
        for choosing, part in judged.groupby(judged["seed"].isin(CHOOSING)):
            title = f"{group}, {'seeds for choosing' if choosing else 'fresh seeds'}"
            Console().print(as_table(verdict.report(verdict.with_stopping(part)), title=title))


def _seeds(usual: Sequence[int], first: int | None, count: int | None) -> Sequence[int]:
    if first is None:
        return usual[:count]
    return range(first, first + (len(usual) if count is None else count))


def robustness(
    out: Path = Path("runs/robustness"),
    first_seed: int = grids.SEEDS.start,
    seeds: int = len(grids.SEEDS),
    settings: tuple[SettingName, ...] = tuple(grids.SETTINGS),
    size: Size = "demo",
    workers: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
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
        threads: CPU threads of each process; by default one.
    """
    prepare(threads=threads)
    benchmark, where = _judge_and_device(device)
    chosen = range(first_seed, first_seed + seeds)
    epochs = grids.run(settings, chosen, out, size=size, workers=workers, device=where)
    options = f"--first-seed {first_seed} --seeds {seeds} --settings {' '.join(settings)} --size {size}"
    facts = {"settings": list(settings), "kept_epochs": studies.LAST}
    record(epochs, out, command=f"ldarts robustness {options}", device=where, **facts)
    judged = studies.judge(epochs, benchmark)
    print(grids.readable(grids.summarize(judged)).to_string())
    print(grids.describe(grids.overall(grids.gains(judged))))


def kinds(
    out: Path = Path("runs/kinds"),
    first_seed: int = alignable.SEEDS.start,
    seeds: int = len(alignable.SEEDS),
    size: Size = "demo",
    workers: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Align normal cells or all of them: searches in S2, what they find trained from scratch.

    Safe to kill: a second call goes on.

    Args:
        out: Parent of the run directories, and where outcomes.csv and provenance.json are written.
        first_seed: The smallest seed.
        seeds: Number of seeds of each variant.
        size: Preset of the searches: smoke, demo or paper.
        workers: Processes at a time; by default one per core.
        device: cpu, cuda, cuda:1, ...
        threads: CPU threads of each process; by default one.
    """
    prepare(threads=threads)
    where = resolve_device(device)
    print(device_report(where))
    chosen = range(first_seed, first_seed + seeds)
    found = alignable.run(chosen, out, size=size, workers=workers, device=where)
    write_atomically(
        out / "outcomes.csv",
        lambda file: rounded(found).to_csv(file, index=False, lineterminator="\n"),
    )
    command = f"ldarts kinds --first-seed {first_seed} --seeds {seeds} --size {size}"
    write_provenance(found, out, command=command, device=where, trainings=alignable.TRAININGS)
    Console().print(as_table(verdict.report(found), title="S2"))


def record(epochs: pd.DataFrame, out: Path, *, command: str, device: torch.device, **more: Any) -> None:
    """Write a study's rows and their provenance, with more facts if there are any."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(
        out / "epochs.csv.gz",
        lambda file: rounded(epochs).to_csv(
            file, index=False, lineterminator="\n", compression={"method": "gzip", "mtime": 0}
        ),
    )
    write_provenance(epochs, out, command=command, device=device, **more)


def rounded(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with :data:`DIGITS` significant digits."""
    floats = rows.select_dtypes("float").columns
    short = rows[floats].map(lambda value: float(f"{value:.{DIGITS - 1}e}"))
    return rows.assign(**short)


def write_provenance(
    rows: pd.DataFrame, out: Path, *, command: str, device: torch.device, **more: Any
) -> None:
    """Say beside a record how it was made."""
    facts = {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "variants": sorted(rows["variant"].unique()),
        "seeds": sorted(map(int, rows["seed"].unique())),
        **more,
        "environment": {key: value for key, value in environment(device).items() if key != "command"},
    }
    write_json(out / "provenance.json", facts)


def _judge_and_device(device: str) -> tuple[Benchmark, torch.device]:
    """What judges a study, opened before hours of searching, and where it runs."""
    benchmark, where = open_benchmark("digits-201"), resolve_device(device)
    print(device_report(where))
    return benchmark, where


def as_table(report: pd.DataFrame, title: str) -> Table:
    """A study's report as a table for the terminal."""
    words = verdict.readable(report)
    table = Table("variant", *words.columns, box=None, title=title)
    for name, row in words.iterrows():
        table.add_row(str(name), *row)
    return table
