"""Searches that differ only in their seed, side by side in one process as one packed supernet.

Each search has its own weights, architecture parameters, batches and gradients, and ends in a run directory
of its own, as if it had run alone; only the roundings differ.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ldarts_lib.bilevel.gradients import Batch, scale_copies, total_lengths
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.measurements import measure
from ldarts_lib.bilevel.protocols import Protocol, ProtocolError
from ldarts_lib.bilevel.search import (
    SearchResult,
    SearchState,
    execution,
    floating_type,
    metrics,
    supernet_sizes,
)
from ldarts_lib.datasets import ImageDataset, load
from ldarts_lib.fast.packed import PackedSupernet
from ldarts_lib.runs.directory import RunDirectory
from ldarts_lib.runs.environment import arithmetic, environment
from ldarts_lib.runs.threads import limited

Slot = tuple[Optimizer, Tensor]

SAVE_SECONDS = 15.0
"""The most that an interruption costs, beside an epoch: saving many searches after each would cost more."""


def can_pack(protocol: Protocol) -> bool:
    """Whether searches of this protocol can run side by side in one supernet.

    They need the fast supernet in full precision, cells in stages, and a first-order method.
    """
    return (
        protocol.search_space.macro == "stages"
        and protocol.supernet == "fast"
        and protocol.precision in ("float32", "float64")
        and protocol.method != "darts-2nd"
        and not protocol.cuda_graph
    )


def search_together(
    protocols: Sequence[Protocol],
    outs: Sequence[str | Path],
    *,
    device: torch.device | str = "cpu",
) -> list[SearchResult]:
    """Run searches that differ only in their seed, as one; each ends in its own run directory.

    Finished runs are read; interrupted ones are continued, bit for bit on a CPU unless the interruption fell
    into the saving of an epoch: then those that stand at the same epoch go on together.

    Args:
        protocols: the searches.
        outs: their run directories.
        device: where they run.

    Raises:
        ProtocolError: they differ in more than the seed, or cannot be packed.
        RunError, SearchDiverged: as :func:`~ldarts_lib.bilevel.search.search`.
    """
    if len({p.model_dump_json(exclude={"seed"}) for p in protocols}) > 1:
        raise ProtocolError("searches that run together may differ in nothing but the seed")
    if not can_pack(protocols[0]):
        raise ProtocolError(f"searches of this protocol cannot run together: {protocols[0]}")
    images = load(protocols[0].dataset, device=device)
    runs = [RunDirectory.create(out, p, resume=True) for p, out in zip(protocols, outs, strict=True)]
    states = [SearchState.start(p, images, device) for p in protocols]
    histories = [state.restore(run) for state, run in zip(states, runs, strict=True)]
    unfinished = [place for place, run in enumerate(runs) if not run.finished]
    for begun in sorted({len(histories[place]) for place in unfinished}):
        places = [place for place in unfinished if len(histories[place]) == begun]
        own = [[each[place] for place in places] for each in (states, runs, histories)]
        with limited(protocols[0].size):
            _search(*own, images, device)
    return [state.result(run, rows) for state, run, rows in zip(states, runs, histories, strict=True)]


class PackedBilevel(Bilevel):
    """Both half-steps of several searches; the gradient of each is clipped by itself."""

    def clip(self) -> None:
        gradients = [parameter.grad for parameter in self.parameters]
        lengths = total_lengths(gradients, self.supernet.copies)
        scale_copies(gradients, (self.protocol.clip / (lengths + 1e-6)).clamp_max(1.0))


class PackedSearch:
    """Several :class:`~ldarts_lib.bilevel.search.SearchState` whose steps are made together.

    After each epoch the states hold the truth again, and can be saved one by one.
    """

    def __init__(self, states: Sequence[SearchState], images: ImageDataset) -> None:
        self.states = list(states)
        singles = [state.bilevel for state in states]
        first = singles[0]
        supernet = PackedSupernet(
            first.protocol.search_space,
            [single.supernet.generator for single in singles],
            classes=images.classes,
            channels_in=images.channels,
            **supernet_sizes(first.protocol),
            **execution(first.protocol),
        ).to(images.search_images.device, floating_type(first.protocol))
        supernet.load([single.supernet for single in singles])
        alphas = {
            kind: torch.stack([single.alphas[kind].detach() for single in singles]).requires_grad_()
            for kind in first.alphas
        }
        self.bilevel = PackedBilevel(supernet, alphas, first.protocol)
        self._load_optimizers()

    def run_epoch(self, epoch: int) -> list[dict[str, Any]]:
        """One epoch of all searches; returns the row of each history."""
        begin = time.perf_counter()
        self.bilevel.start_epoch(epoch)
        self.bilevel.supernet.train()
        measured = []
        for pairs in zip(*(state.pairs() for state in self.states), strict=True):
            batches = [_side_by_side(half) for half in zip(*pairs, strict=True)]
            found = self.bilevel.step(*batches)
            measured.append(torch.stack([measure(g, b) for g, b in zip(found, batches, strict=True)]))
        of_each = torch.stack(measured, 1).double().cpu().unbind(2)
        self._unload()
        seconds = (time.perf_counter() - begin) / len(self.states)
        return [s.summarize(epoch, one, seconds) for s, one in zip(self.states, of_each, strict=True)]

    @torch.no_grad()
    def _unload(self) -> None:
        self.bilevel.supernet.unload([state.bilevel.supernet for state in self.states])
        for (optimizer, packed), singles in self._slots():
            for part, (other, single) in zip(
                packed.reshape(len(singles), *singles[0][1].shape), singles, strict=True
            ):
                single.copy_(part)
                other.state[single] = {}
            for key, value in optimizer.state[packed].items():
                for copy, (other, single) in enumerate(singles):
                    own = value.reshape(len(singles), *single.shape)[copy] if value.dim() else value
                    other.state[single][key] = own.clone()

    def _load_optimizers(self) -> None:
        for (optimizer, packed), singles in self._slots():
            earlier = [other.state[single] for other, single in singles if other.state.get(single)]
            if earlier:
                optimizer.state[packed] = {
                    key: torch.stack([one[key] for one in earlier]).reshape(packed.shape)
                    if value.dim()
                    else value.clone()
                    for key, value in earlier[0].items()
                }

    def _slots(self) -> Iterator[tuple[Slot, list[Slot]]]:
        """Every packed tensor that an optimizer moves, and its parts in the single searches."""
        ours, theirs = self.bilevel, [state.bilevel for state in self.states]
        for place, parameter in enumerate(ours.parameters):
            parts = [(other.weight_optimizer, other.parameters[place]) for other in theirs]
            yield (ours.weight_optimizer, parameter), parts
        for kind, alpha in ours.alphas.items():
            yield (ours.alpha_optimizer, alpha), [(o.alpha_optimizer, o.alphas[kind]) for o in theirs]


def _search(
    states: list[SearchState],
    runs: list[RunDirectory],
    histories: list[list[dict[str, Any]]],
    images: ImageDataset,
    device: torch.device | str,
) -> None:
    """Searches that stand at the same epoch, to their end."""
    protocol = states[0].protocol
    begun = len(histories[0])
    packed = PackedSearch(states, images) if len(states) > 1 else None
    for run in runs:
        run.write_environment(environment(torch.device(device)))
    saved = time.monotonic()
    for epoch in range(begun, protocol.epochs):
        with arithmetic(protocol.precision):
            rows = packed.run_epoch(epoch) if packed else [states[0].run_epoch(epoch, lambda: None)]
        for history, row in zip(histories, rows, strict=True):
            history.append(row)
        if epoch + 1 == protocol.epochs or time.monotonic() - saved >= SAVE_SECONDS:
            for state, run, history in zip(states, runs, histories, strict=True):
                state.save(run, history)
            saved = time.monotonic()
    for state, run, history in zip(states, runs, histories, strict=True):
        run.write_outcome(state.genotype(), metrics(state.protocol, history))


def _side_by_side(batches: Sequence[Batch]) -> Batch:
    images, labels = ([getattr(batch, field) for batch in batches] for field in ("images", "labels"))
    return Batch(torch.cat(images, 1), torch.stack(labels))
