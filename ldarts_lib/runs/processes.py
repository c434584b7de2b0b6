"""Processes that work side by side and end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from ldarts_lib.errors import LdartsError
from ldarts_lib.runs.threads import cores, prepare, thread_count

if TYPE_CHECKING:
    import torch


class ProcessFailed(LdartsError, RuntimeError):
    """One of several processes raised an error or was killed; the message says which error or signal."""


@contextmanager
def process_pool(
    workers: int | None, device: torch.device | str, *, threads: int | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Processes of one CPU thread each, or as many as the user chose; at Ctrl-C they end at once.

    Args:
        workers: how many; by default one per core, and one on a GPU.
        device: where their work runs.
        threads: CPU threads of each.

    Raises:
        ValueError: less than one worker.
        ProcessFailed: one of them was killed, or ended by itself; so are the others then.
    """
    threads = threads or thread_count()
    usual = max(cores() // threads, 1) if str(device) == "cpu" else 1
    spawn = multiprocessing.get_context("spawn")
    leash, hand = spawn.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        usual if workers is None else workers, spawn, initializer=_start_worker, initargs=(leash, threads)
    )
    processes = pool._processes  # forgotten by a pool that breaks
    try:
        with hand, pool:
            try:
                yield pool
            except KeyboardInterrupt:
                hand.close()
                raise
    except BrokenProcessPool:
        codes = {process.exitcode for process in processes.values()}
        code = min(codes - {-signal.SIGTERM}, default=-signal.SIGTERM)  # by which the pool ends the others
        raise ProcessFailed(f"a worker process {ending(code)}") from None


def ending(code: int) -> str:
    """How a process ended that did not end well, by its exit code: the negative ones are signals."""
    if code >= 0:
        return f"ended with exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    name = known.get(-code, f"signal {-code}")
    remedy = " (for want of memory, most often: lower batch_size or channels, or run fewer processes)"
    return f"was killed by {name}{remedy if name == 'SIGKILL' else ''}"  # which Windows does not have


def _start_worker(leash: Connection, threads: int) -> None:
    from tqdm import tqdm

    prepare(threads=threads)
    tqdm.set_lock(threading.RLock())  # its own outlives a process that ends at once, and Python tells so
    signal.signal(signal.SIGINT, lambda *_: None)  # the parent decides; not ignored, which would be inherited
    threading.Thread(target=_end_with_parent, args=(leash,), daemon=True).start()


def _end_with_parent(leash: Connection) -> None:
    """Neither a killed nor an interrupted parent leaves a process behind that goes on computing."""
    wait([multiprocessing.parent_process().sentinel, leash])
    os._exit(1)
