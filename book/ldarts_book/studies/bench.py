"""The benchmark of the search step: reference against fast and batched supernet.

A step is a whole one: α half-step, ω half-step with its regularizer, clip and both optimizers, on random
images. The reference is the textbook: every edge and operation a module call of its own, and an α half-step
that differentiates everything, as the official code does.

Seconds are CPU time of the process, all its threads together, or on a GPU the time between two events of
the device. The candidates of a space and a regularizer take turns, and each round gives one ratio; rounds go
on until the 95 % interval of every mean ratio is within ±5 %, or time is up.
"""

from __future__ import annotations

import math
import statistics
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from scipy import stats
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ldarts_lib.bilevel.cuda_graph import WARM_UP_STEPS, GraphedBilevel
from ldarts_lib.bilevel.gradients import Gradients, gradients
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.errors import ProtocolError
from ldarts_lib.fast.supernet import FastSupernet
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet, initial_alphas
from ldarts_lib.progress import Bar
from ldarts_lib.runs.processes import process_pool
from ldarts_lib.runs.threads import cores

Implementation = Literal["reference", "fast", "batched", "graphed"]
"""The last one on a GPU only: the batched one as a CUDA graph."""
Cost = Literal["none", "central", "forward", "exact"]
SPACES = ("darts", "s2", "nasbench201")
COLUMNS = ("space", "supernet", "regularizer", "seconds", "n", "ratio", "±%", "MiB", "calls")
MEBIBYTE, PRECISION = 2**20, 0.05
FEWEST = 5  # rounds before an interval is believed


@dataclass(frozen=True)
class Scale:
    """The size of the networks: channels, depth per macro network, height and width, batch."""

    channels: int
    depths: Mapping[str, int]
    size: int
    batch: int


OFFICIAL = Scale(16, {"stages": 5, "chain": 8}, 32, 64)
QUICK = Scale(8, {"stages": 1, "chain": 5}, 16, 16)


@dataclass(frozen=True)
class Row:
    """One line of the table: space, implementation, and the estimator of the regularizer's gradient, or none.

    Attributes:
        checkpoint: whether each cell is computed again in the backward pass.
        seconds, fastest, slowest: median, least and most of the n measured steps.
        ratio: mean (geometric) of the rounds: the reference's seconds, with this regularizer, by this one's.
        uncertainty: half its 95 % interval, relative; None after a single round.
        peak_memory_mb: largest sum of the tensors of one step beyond what existed before, in MiB.
        operator_calls, kernel_calls: of PyTorch in one step, with and without views and allocations.
    """

    space: str
    implementation: str
    regularizer: str
    checkpoint: bool
    seconds: float
    fastest: float
    slowest: float
    n: int
    ratio: float
    uncertainty: float | None
    peak_memory_mb: float
    operator_calls: int
    kernel_calls: int

    @property
    def cells(self) -> tuple[str, ...]:
        """The line as text, for the table with the head :data:`COLUMNS`."""
        name = f"{self.implementation}, checkpoints" if self.checkpoint else self.implementation
        width = "?" if self.uncertainty is None else f"{100 * self.uncertainty:.0f}"
        steps = f"{self.seconds:.3f}", str(self.n), f"{self.ratio:.2f}", width
        used = f"{self.peak_memory_mb:.0f}", f"{self.operator_calls:,}"
        return self.space, name, self.regularizer, *steps, *used


class TextbookBilevel(Bilevel):
    """The α half-step as in the official code, which finds all weight gradients and drops them."""

    def architecture_gradients(self, validation: Batch, weights: Mapping[str, Tensor]) -> Gradients:
        return gradients(self.supernet, validation, weights)


def measured(
    spaces: Sequence[str], rounds: int | None, *, quick: bool, batch: int | None, device: torch.device
) -> list[Row]:
    """The benchmark of the chapter, or a quick one of small networks, on a CPU in two processes."""
    alone = not quick or torch.get_num_threads() > 1 or device.type != "cpu" or cores() == 1
    scale = QUICK if quick else OFFICIAL
    return benchmark(
        scale=replace(scale, batch=batch or scale.batch),
        spaces=spaces or (SPACES[:0:-1] if quick else SPACES),  # first those that leave time to others
        implementations=get_args(Implementation)[: 4 if device.type == "cuda" else 2 if quick else 3],
        costs=("none", "central", "exact") if quick else get_args(Cost),
        rounds=rounds,
        minutes=0.75 if quick else 25,
        checkpoints=not quick,
        workers=1 if alone else 2,
        device=device,
    )


def unsettled(rows: Sequence[Row]) -> str:
    """What to say if an interval is wider than ±5 %; nothing if none is."""
    wide = sum(row.uncertainty is None or row.uncertainty > PRECISION for row in rows)
    return f"±5 % was not reached in time for {wide} of {len(rows)} rows; see --rounds" if wide else ""


def benchmark(
    *,
    scale: Scale = OFFICIAL,
    spaces: Sequence[str] = SPACES,
    implementations: Sequence[Implementation] = get_args(Implementation)[:3],
    costs: Sequence[Cost] = get_args(Cost),
    rounds: int | None = None,
    minutes: float = 25,
    checkpoints: bool = True,
    workers: int = 1,
    device: torch.device | str = "cpu",
) -> list[Row]:
    """Measure every combination; the implementations of a space and a cost take turns, round by round.

    Args:
        implementations, costs: ``reference`` must be among the former, the ratios are to it.
        rounds: measured steps of each candidate, after the one that counts calls and memory; None for as many
            as an interval of ±5 % takes, if they fit into the ``minutes`` (all together, by the clock).
        checkpoints: whether to measure the fast supernet with a checkpoint per cell, too (``central``).
        workers: processes side by side, with one thread each if there are several.
    """
    if rounds is not None and rounds < 1:
        raise ProtocolError(f"rounds = {rounds}: expected at least 1")
    pairs = [(space, cost) for space in spaces for cost in costs]
    begin, share = time.monotonic(), minutes * 60 * workers / len(pairs)
    tasks = [(*pair, begin + share * (k // workers + 1)) for k, pair in enumerate(pairs)]
    measure = partial(
        _measure,
        scale=scale,
        implementations=tuple(implementations),
        rounds=rounds,
        checkpoints=checkpoints,
        device=torch.device(device),
    )
    rows = []
    with ExitStack() as stack:
        run = map if workers == 1 else stack.enter_context(process_pool(workers, device)).map
        for found in Bar(run(measure, tasks), total=len(tasks), desc="measuring", unit="regularizer"):
            rows += found
    return rows


def _measure(
    task: tuple[str, Cost, float],
    *,
    scale: Scale,
    implementations: Sequence[Implementation],
    rounds: int | None,
    checkpoints: bool,
    device: torch.device,
) -> list[Row]:
    space, cost, deadline = task
    keys = [(implementation, False) for implementation in implementations]
    if checkpoints and cost == "central" and "fast" in implementations:
        keys.append(("fast", True))
    draw = torch.Generator().manual_seed(0)
    batches = [random_batch(scale, draw, device) for _ in range(2)]
    problems = {key: problem_of(space, scale, key[0], cost, key[1], device) for key in keys}
    seconds: dict[tuple[Implementation, bool], list[float]] = {key: [] for key in keys}
    usage = {}
    for key, problem in problems.items():
        for _ in range(WARM_UP_STEPS + 1 if key[0] == "graphed" else 0):
            problem.step(*batches)
        with Usage() as usage[key]:
            problem.step(*batches)
    reference = seconds["reference", False]
    while True:
        begin = time.monotonic()
        for key, problem in problems.items():
            seconds[key].append(timed(lambda problem=problem: problem.step(*batches), device))
        ratios = {key: mean_ratio(reference, own) for key, own in seconds.items()}
        done, now = len(reference), time.monotonic()
        settled = done >= FEWEST and all(half <= PRECISION for _, half in ratios.values())
        if done == rounds or (rounds is None and (settled or now + (now - begin) > deadline)):
            break
    rows = []
    for key, own in seconds.items():
        ratio, half = ratios[key]
        steps = statistics.median(own), min(own), max(own), done, ratio, half if done > 1 else None
        used = usage[key].peak / MEBIBYTE, usage[key].calls, usage[key].kernels
        rows.append(Row(space, key[0], cost, key[1], *steps, *used))
    return rows


def mean_ratio(reference: Sequence[float], own: Sequence[float]) -> tuple[float, float]:
    """The mean of the logarithm of the rounds' ratios, as a ratio, and half of Student's 95 % interval."""
    logs = [math.log(r / s) for r, s in zip(reference, own, strict=True)]
    n, ratio = len(logs), math.exp(statistics.fmean(logs))
    return ratio, float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(logs) / n**0.5 if n > 1 else math.inf


def random_batch(scale: Scale, draw: torch.Generator, device: torch.device) -> Batch:
    """Noise in place of pictures."""
    images = torch.randn(scale.batch, 3, scale.size, scale.size, generator=draw)
    return Batch(images.to(device), torch.randint(10, (scale.batch,), generator=draw).to(device))


def problem_of(
    space: str,
    scale: Scale,
    implementation: Implementation,
    cost: Cost,
    checkpoint: bool,
    device: torch.device,
) -> Bilevel | GraphedBilevel:
    """What makes the steps of a space, all buffers of its optimizers included."""
    torch.manual_seed(0)
    described = protocol(space).search_space
    depth = scale.depths[described.macro]
    sizes = {"channels": scale.channels, "depth": depth, "classes": 10}
    sizes["generator"] = torch.Generator(device).manual_seed(0)
    if implementation == "reference":
        supernet, bilevel = Supernet(described, **sizes), TextbookBilevel
    else:
        strategy = "separate" if implementation == "fast" else "batched"
        supernet = FastSupernet(described, strategy=strategy, checkpoint=checkpoint, **sizes)
        bilevel = Bilevel
    settings = {"method": "darts"} if cost == "none" else {"method": "lambda", "estimator": cost}
    chosen = protocol(space, "cifar10", size="paper", depth=depth, ramp="constant", **settings)
    problem = bilevel(supernet.to(device).train(), initial_alphas(described, device=device), chosen)
    problem.start_epoch(0)
    for optimizer in (problem.weight_optimizer, problem.alpha_optimizer):
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()  # creates momentum and the like, which is not measured
        optimizer.zero_grad()
    if implementation == "graphed":
        problem = GraphedBilevel(problem)
        problem.start_epoch(0)
    return problem


def timed(step: Callable[[], object], device: torch.device) -> float:
    """Seconds of a step: of the process, or on a GPU of the device."""
    if device.type != "cuda":
        begin = time.process_time()
        step()
        return time.process_time() - begin
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    step()
    after.record()
    torch.cuda.synchronize(device)
    return before.elapsed_time(after) / 1000


class Usage(TorchDispatchMode):
    """Counts operator calls, and the bytes of all tensors that are alive at once."""

    ALLOCATIONS = frozenset(["empty", "empty_strided", "new_empty"])

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.kernels = self.alive = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        self.kernels += not function.is_view and function.overloadpacket.__name__ not in self.ALLOCATIONS
        result = function(*args, **(kwargs or {}))
        if not function.is_view and not function._schema.is_mutable:
            for tensor in result if isinstance(result, list | tuple) else (result,):
                if isinstance(tensor, Tensor):
                    self._remember(tensor.untyped_storage())
        return result

    def _remember(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.alive -= size
