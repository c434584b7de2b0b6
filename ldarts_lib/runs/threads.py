"""How many CPU threads a computation has: the one place that decides it.

One at the sizes smoke and demo: operations this small only lose by being shared out among cores, and a
result must not depend on how many there are. At larger sizes the cores that this process may really use.
``--threads N`` of a command or the environment variable ``LDARTS_THREADS``, by which a process hands its
number on to those that it starts, overrides both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ldarts_lib.errors import LdartsError

VARIABLE = "LDARTS_THREADS"
SMALL = (None, "smoke", "demo")
"""Sizes of one thread; None is what has no size."""
LIBRARIES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Where OpenMP, MKL and OpenBLAS read their number when they are loaded."""


class ThreadsError(LdartsError, ValueError):
    """A number of threads that is none."""


def cores() -> int:
    """Cores that this process may really use: its affinity and the quota of its container count."""
    from joblib import cpu_count  # takes longer to import than all the rest

    return cpu_count()


def thread_count(size: str | None = None) -> int:
    """Threads of a computation of that size.

    Raises:
        ThreadsError: ``LDARTS_THREADS`` is not a number of 1 to 1024.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return 1 if size in SMALL else cores()
    if not given.isdecimal() or len(given) > 4 or not 1 <= int(given) <= 1024:
        raise ThreadsError(f"threads = {given:.20}: expected 1 to 1,024 (of --threads or of {VARIABLE})")
    return int(given)


def prepare(size: str | None = None, threads: int | None = None) -> None:
    """Give this process, and those that it starts, the threads of a size or as many as the user chose.

    Best before torch is loaded.

    Raises:
        ThreadsError: less than one thread, or as :func:`thread_count`.
    """
    if threads is not None:
        os.environ[VARIABLE] = str(threads)
    number = thread_count(size)
    os.environ.update(dict.fromkeys(LIBRARIES, str(number)))
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(number)
    else:
        # A thread that spins while it waits takes the core of the one it waits for, as soon as another
        # process needs a core too: an epoch then takes many times as long. Read when OpenMP is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def limited(size: str | None) -> Iterator[None]:
    """Within it, torch computes with the threads of that size."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(thread_count(size))
    try:
        yield
    finally:
        torch.set_num_threads(before)
