"""How many searches a machine finishes: one process for each, or several packed into one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.search import search_all

METHODS = ("darts", "lambda")


@dataclass(frozen=True)
class Throughput:
    """One line of the table.

    Attributes:
        method: of the searches.
        together: searches in a pack; 1 is one process for each.
        searches: how many were made.
        epochs: of each.
        seconds: until all had ended, processes started and everything saved.
        ratio: how many times as many searches in the same time as one by one.
    """

    method: str
    together: int
    searches: int
    epochs: int
    seconds: float
    ratio: float


def throughput(
    together: Sequence[int] = (1, 10),
    *,
    searches: int = 20,
    epochs: int = 25,
    methods: Sequence[str] = METHODS,
    size: str = "demo",
    workers: int | None = None,
    device: torch.device | str = "cpu",
) -> list[Throughput]:
    """Make the same searches one by one and packed, one after the other.

    Args:
        together: numbers of searches in a pack; the first is what the others are compared with.
        searches: seeds of each method.
        epochs: of each search; the demonstration has 80.
        methods: of the protocol.
        size: the preset of the searches.
        workers, device: as for :func:`~ldarts_lib.bilevel.search.search_all`.
    """
    rows: list[Throughput] = []
    for method in methods:
        protocols = {
            str(seed): protocol(method=method, size=size, epochs=epochs, seed=seed)
            for seed in range(searches)
        }
        taken: list[float] = []
        for count in together:
            with tempfile.TemporaryDirectory() as folder:
                begin = time.perf_counter()
                search_all(protocols, Path(folder), workers=workers, device=device, together=count)
                taken.append(time.perf_counter() - begin)
            rows.append(Throughput(method, count, searches, epochs, taken[-1], taken[0] / taken[-1]))
    return rows
