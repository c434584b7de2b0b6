"""The command ``bench``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from ldarts_book import speed as benchmarks
from ldarts_book.precision import precision_effects
from ldarts_book.throughput import throughput
from ldarts_lib.files import write_json
from ldarts_lib.runs.environment import device_report, resolve_device
from ldarts_lib.runs.threads import cores, prepare
from ldarts_lib.spaces.space import SPACES

SpaceName = Literal[tuple(SPACES)]


def bench(
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    spaces: tuple[SpaceName, ...] = benchmarks.SPACES,
    rounds: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    json: Path | None = None,
    precision: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    together: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Measure the search step: reference against fast and batched supernet, for each regularizer.

    Seconds are the median of the measured steps, ratios that of the rounds; in each, all take turns.

    Args:
        quick: Small networks (C = 8, 5 cells or one per stage, 16x16 images, batch 32), under a minute; two
            processes side by side on a CPU.
        spaces: Search spaces.
        rounds: Measured steps of each candidate; by default 3, and 1 with --quick.
        threads: CPU threads; by default one, as each of several searches side by side has.
        device: cpu, cuda, cuda:1, ...
        json: Also write the rows to this file.
        precision: Measure instead what lower precision does to Λ and to the gradients.
        together: Measure instead how many small searches end in a given time, one by one and packed.
    """
    where = resolve_device(device)
    prepare(threads=threads)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
    print(device_report(where))
    if precision:
        names = ("space", "precision", "Λ", "Λ in float64", "cells", "loss", "regularizer")
        table = Table(
            *names, box=None, title="One batch: Λ, and relative errors of gradients against float64"
        )
        _show_plainly(table, precision_effects(spaces, device=where), json, ".2g")
        return
    if together:
        names = ("method", "together", "searches", "epochs", "seconds", "ratio")
        table = Table(*names, box=None, title="Searches of the demonstration, in processes of one thread")
        _show_plainly(table, throughput(device=where), json, ".2f")
        return
    rows = benchmarks.benchmark(
        scale=benchmarks.QUICK if quick else benchmarks.OFFICIAL,
        spaces=spaces,
        rounds=(1 if quick else 3) if rounds is None else rounds,
        checkpoints=not quick,
        workers=2 if quick and torch.get_num_threads() == 1 and where.type == "cpu" and cores() > 1 else 1,
        device=where,
    )
    columns = ("space", "supernet", "regularizer", "seconds", "n", "ratio", "MiB", "calls")
    table = Table(*columns, box=None, title="One search step; ratio: reference / this one")
    for row in rows:
        name = f"{row.implementation}, checkpoints" if row.checkpoint else row.implementation
        numbers = (f"{row.seconds:.3f}", str(row.n), f"{row.ratio:.2f}", f"{row.peak_memory_mb:.0f}")
        table.add_row(row.space, name, row.regularizer, *numbers, f"{row.operator_calls:,}")
    _show(table, [asdict(row) for row in rows], json)


def _show_plainly(table: Table, rows: Sequence[Any], json: Path | None, digits: str) -> None:
    records = [asdict(row) for row in rows]
    for record in records:
        table.add_row(*(f"{v:{digits}}" if isinstance(v, float) else str(v) for v in record.values()))
    _show(table, records, json)


def _show(table: Table, records: list[dict[str, Any]], json: Path | None) -> None:
    Console().print(table)
    if json is not None:
        write_json(json, records)
        print(f"rows: {json}")
