"""Making Digits-201: every computation that a cell of NAS-Bench-201 can express, trained on ``noisy-digits``.

The networks are those of the demonstration. Cells that compute the same are trained once, as the cell with
the fewest operations among them. And what a search costs, in such trainings.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from ldarts_book.studies.design import Settings
from ldarts_book.studies.judges import drawn_cells
from ldarts_book.studies.study import COSTED, FRESH, STUDIES
from ldarts_book.studies.writing import write_provenance, write_table
from ldarts_lib.bilevel.packed import run_packed
from ldarts_lib.bilevel.perturbation import select_by_perturbation
from ldarts_lib.bilevel.protocols import SearchProtocol, protocol
from ldarts_lib.bilevel.search import search
from ldarts_lib.datasets.images import load_images
from ldarts_lib.evaluation.standalone import Recipe, standalone_accuracies, standalone_accuracy
from ldarts_lib.evaluation.training import network_sizes
from ldarts_lib.files import require_place
from ldarts_lib.networks.sizes import sizes
from ldarts_lib.progress import Bar
from ldarts_lib.runs.processes import process_pool
from ldarts_lib.spaces.literals import decode
from ldarts_lib.tables.computation import classes, computation

CELLS_AT_ONCE = 8
SEEDS_AT_ONCE = 3
PROTOCOL: SearchProtocol = protocol("nasbench201", "noisy-digits", "darts", "demo")


def representatives() -> dict[str, tuple[str, ...]]:
    """The digits of the cell that is trained, and those of all cells that compute the same.

    The cell has the fewest operations other than ``none``, so that no edge of it is dead.
    """
    found = {min(cells, key=lambda ops: (-ops.count("0"), ops)): cells for cells in classes().values()}
    return dict(sorted(found.items()))


def make(
    out: str | Path,
    *,
    seeds: int = 3,
    recipe: Recipe | None = None,
    workers: int | None = None,
    device: torch.device | str = "cpu",
    cells: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Trains all cells and writes ``table.csv`` and ``provenance.json``; returns the table.

    Results are kept in small files below ``out/parts``, each written at once: killed at any time, a second
    call goes on; with more seeds it adds the missing ones.

    Args:
        seeds: networks of each cell, with the seeds 0, 1, ...
        recipe: training settings; a directory holds results of one recipe.
        workers: processes at a time; by default one per core, and one on a GPU.
        cells: digits of the cells to train; by default all representatives.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    require_place(Path(out) / "table.csv")
    recipe, known = recipe or Recipe(), representatives()
    chosen = sorted(cells or known)
    if unknown := sorted(set(chosen) - set(known)):
        raise ValueError(f"{unknown[0]!r} is not among the {len(known):,} cells that are trained")
    jobs = [
        (ops, several, Path(out) / "parts" / f"{ops[0]}-{ops[-1]}-seeds-{several[0]}-{several[-1]}.csv")
        for several in _split(range(seeds), SEEDS_AT_ONCE)
        for ops in _split(chosen, CELLS_AT_ONCE)
    ]
    missing = [job for job in jobs if not job[2].exists()]
    # Large and small cells alike, so that the remaining time is right.
    random.Random(0).shuffle(missing)  # noqa: S311 -- no secret
    total, rest = (sum(len(ops) * len(several) for ops, several, _ in some) for some in (jobs, missing))
    with (
        Bar(total=total, initial=total - rest, desc="training", unit="network", smoothing=0.05) as bar,
        process_pool(workers, device) as pool,
    ):
        for done in as_completed([pool.submit(_train, *job, recipe, device) for job in missing]):
            bar.update(done.result())
    table = _assemble(pd.concat(pd.read_csv(path, dtype={"ops": str}) for _, _, path in jobs))
    write_table(table, Path(out) / "table.csv")
    facts = {
        "cells": len(table),
        "seeds": seeds,
        "recipe": vars(recipe),
        "protocol": PROTOCOL.model_dump(include={"space", "dataset", "channels", "depth", "reduction"}),
        "core_hours": round(float(table["seconds"].sum()) * seeds / 3600, 2),
        "mean_accuracy": round(float(np.mean(table.filter(like="accuracy_"))), 5),
    }
    write_provenance(Path(out), f"ldarts study digits201 --seeds {seeds}", torch.device(device), **facts)
    return table


def measure_costs(
    out: Path, variants: Sequence[str] = (), size: str = "demo", cells: int = 10
) -> pd.DataFrame:
    """Adds to ``costs.csv``: a search of each method, alone, in turns with trainings of random cells.

    All is done in this process; ``seconds`` of CPU time of the search and of a ``training``, the mean of its
    turn, and their ``ratio``, under the name of the ``variant``. And ``packed``, the seconds of each of ten
    searches in a pack, from an eighth of the epochs.
    """
    images, path = load_images(PROTOCOL.dataset), out / "costs.csv"
    train = [partial(standalone_accuracy, decode(ops), PROTOCOL, images) for ops in drawn_cells(0, cells)]
    table, selected = pd.read_csv(path) if path.exists() else None, STUDIES["perturbation"].variants
    for name, own in Bar(COSTED.items(), "measuring", unit="method"):
        if name in variants or not variants:
            one, selection = protocol(size=size, seed=FRESH[0], **own), 0.0
            with TemporaryDirectory() as folder:
                seconds = _cpu_seconds(partial(search, one, folder, progress=False))
                if name in selected:
                    selection = _cpu_seconds(partial(select_by_perturbation, folder, progress=False))
            training = sum(map(_cpu_seconds, train)) / cells
            packed = _packed_seconds({**own, "epochs": max(one.epochs // 8, 1)}, size) * one.epochs
            row = {"variant": name, "seconds": seconds + selection, "packed": packed + selection}
            row |= {"training": training, "ratio": row["seconds"] / training}
            table = pd.concat([table, pd.DataFrame([row]).round(3)]).drop_duplicates("variant", keep="last")
            write_table(table, path)
    command = f"ldarts study costs --size {size}"
    write_provenance(out, command, torch.device("cpu"), seed=FRESH[0], cells=drawn_cells(0, cells))
    return table


def _packed_seconds(settings: Settings, size: str) -> float:
    """CPU seconds of an epoch of each of ten searches that run together."""
    several = [protocol(size=size, seed=seed, **settings) for seed in FRESH[:10]]
    with TemporaryDirectory() as folder:
        outs = [Path(folder) / str(one.seed) for one in several]
        return _cpu_seconds(partial(run_packed, several, outs)) / len(several) / several[0].epochs


def _cpu_seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _split(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _train(
    ops: list[str], seeds: Sequence[int], path: Path, recipe: Recipe, device: torch.device | str
) -> int:
    clock = time.process_time if torch.device(device).type == "cpu" else time.perf_counter
    begin = clock()
    images, genotypes = load_images(PROTOCOL.dataset, device=device), [decode(digits) for digits in ops]
    accuracies = standalone_accuracies(genotypes, PROTOCOL, images, recipe, seeds=seeds)
    seconds = (clock() - begin) / accuracies.numel()
    rows = [
        {"ops": digits, "seed": seed, "accuracy": f"{accuracy:.5f}", "seconds": f"{seconds:.2f}"}
        for digits, row in zip(ops, accuracies.tolist(), strict=True)
        for seed, accuracy in zip(seeds, row, strict=True)
    ]
    write_table(pd.DataFrame(rows), path)
    return len(rows)


def _assemble(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per cell: what it computes, how many cells do, its size, its accuracies and its time."""
    accuracies = rows.pivot(index="ops", columns="seed", values="accuracy").add_prefix("accuracy_")
    images = load_images(PROTOCOL.dataset)
    network = network_sizes(PROTOCOL, images) | {"resolution": images.search().all()[0].shape[-1]}
    facts = []
    for ops in accuracies.index:
        key, found = computation(ops).key, sizes(decode(ops), **network)
        flops = 2 * found.multiply_adds  # of one image; a multiply and an add are two
        size = {"parameters": found.parameters, "flops": flops}
        facts.append({"computation": key, "cells": len(classes()[key]), **size})
    seconds = rows.groupby("ops")["seconds"].mean().round(2)
    return pd.DataFrame(facts, accuracies.index).assign(seconds=seconds).join(accuracies).reset_index()
