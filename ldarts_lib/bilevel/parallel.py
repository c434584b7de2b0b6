"""Many independent searches, one process each, as many at a time as there are cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from ldarts_lib.bilevel.packed import can_pack, search_together
from ldarts_lib.bilevel.protocols import Protocol
from ldarts_lib.bilevel.search import SearchResult, search
from ldarts_lib.datasets import load
from ldarts_lib.evaluation.small import Recipe, standalone_accuracy
from ldarts_lib.runs.directory import RunDirectory
from ldarts_lib.runs.processes import ProcessFailed, ending
from ldarts_lib.runs.threads import cores, count, prepare
from ldarts_lib.spaces.genotype import Genotype

POLL_SECONDS = 2.0


def search_all(
    protocols: Mapping[str, Protocol],
    out: str | Path,
    *,
    workers: int | None = None,
    device: torch.device | str = "cpu",
    together: int = 1,
) -> dict[str, SearchResult]:
    """Run searches side by side; the bar counts the epochs of all of them.

    Finished runs are read, interrupted ones continued, so that a second call picks up where the first was
    stopped. A process has one CPU thread: two searches on two cores are faster than one on both.

    Args:
        protocols: the searches; the key is the name of the run directory below ``out``.
        out: parent of the run directories.
        workers: processes at a time; by default one per core, and one on a GPU.
        device: where each search runs.
        together: how many searches that differ only in their seed run as one packed supernet, see
            :mod:`ldarts_lib.bilevel.packed`; more are faster where networks are small, and round differently.

    Returns:
        The results under the keys of ``protocols``, in their order.

    Raises:
        ValueError: less than one worker, or less than one search together.
        RunError, SearchDiverged: as :func:`~ldarts_lib.bilevel.search.search`; other searches are finished
        first.
    """
    if together < 1:
        raise ValueError(f"together must be at least 1, got {together}")
    paths = {name: Path(out) / name for name in protocols}
    if finished := sum(RunDirectory(path).finished for path in paths.values()):
        tqdm.write(f"{out}: {finished} of {len(paths)} searches finished earlier, read again")
    epochs = sum(p.epochs for p in protocols.values())
    with tqdm(total=epochs, desc="searching", unit="epoch") as bar, process_pool(workers, device) as pool:
        futures = {
            pool.submit(_searches, [protocols[n] for n in names], [paths[n] for n in names], device): names
            for names in _packs(protocols, together)
        }
        _watch(set(futures), list(paths.values()), bar)
        found = {
            n: one for future, names in futures.items() for n, one in zip(names, future.result(), strict=True)
        }
    return {name: found[name] for name in protocols}


def _packs(protocols: Mapping[str, Protocol], together: int) -> list[list[str]]:
    """The names of searches that one process runs as one."""
    alike: dict[str, list[str]] = {}
    for name, p in protocols.items():
        settings = p.model_dump_json(exclude={"seed"}) if together > 1 and can_pack(p) else name
        alike.setdefault(settings, []).append(name)
    return [names[i : i + together] for names in alike.values() for i in range(0, len(names), together)]


def _searches(protocols: list[Protocol], paths: list[Path], device: torch.device | str) -> list[SearchResult]:
    if len(protocols) > 1:
        return search_together(protocols, paths, device=device)
    return [search(protocols[0], paths[0], resume=True, device=device, progress=False)]


def evaluate_all(
    genotypes: Mapping[str, Genotype],
    protocols: Mapping[str, Protocol],
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    workers: int | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Train discrete architectures from scratch side by side.

    Args:
        genotypes: the architectures.
        protocols: under the same keys, the searches that they come from; they set the data set and the size
            of the network.
        recipe, seed: as for :func:`~ldarts_lib.evaluation.small.standalone_accuracy`.
        workers, device: as for :func:`search_all`.

    Returns:
        Test accuracies, between 0 and 1, under the keys of ``genotypes``.
    """
    jobs = [(genotype, protocols[name], recipe, seed, device) for name, genotype in genotypes.items()]
    with process_pool(workers, device) as pool:
        accuracies = tqdm(
            pool.map(_accuracy, jobs), total=len(jobs), desc="training from scratch", unit="cell"
        )
        return dict(zip(genotypes, accuracies, strict=True))


def _accuracy(job: tuple[Genotype, Protocol, Recipe | None, int, torch.device]) -> float:
    genotype, protocol, recipe, seed, device = job
    images = load(protocol.dataset, device=device)
    return standalone_accuracy(genotype, protocol, images, recipe, seed=seed)


@contextmanager
def process_pool(
    workers: int | None, device: torch.device | str, *, threads: int | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Processes of one CPU thread each, or as many as the user chose, which end with this one.

    Args:
        workers: how many; by default one per core, and one on a GPU.
        device: where their work runs.
        threads: CPU threads of each.

    Raises:
        ValueError: less than one worker.
        ProcessFailed: one of them was killed, or ended by itself; so are the others then.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    threads = threads or count()
    usual = max(cores() // threads, 1) if torch.device(device).type == "cpu" else 1
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers or usual, spawn, initializer=_start_worker, initargs=(threads,))
    processes = pool._processes  # forgotten by a pool that breaks
    try:
        with pool:
            yield pool
    except BrokenProcessPool:
        codes = {process.exitcode for process in processes.values()}
        code = min(codes - {-signal.SIGTERM}, default=-signal.SIGTERM)  # by which the pool ends the others
        raise ProcessFailed(f"a worker process {ending(code)}") from None


def _start_worker(threads: int) -> None:
    prepare(threads=threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent leaves no process behind that goes on computing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _watch(pending: set[Future], paths: list[Path], bar: tqdm) -> None:
    """Show the epochs that the run directories hold until all searches have ended."""
    while pending:
        _, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
        bar.n = sum(RunDirectory(path).epochs for path in paths)
        bar.refresh()
