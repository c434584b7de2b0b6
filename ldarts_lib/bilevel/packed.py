"""Searches that differ only in their seed, side by side in one process as one packed supernet.

Each search has its own weights, architecture parameters, batches and gradients, and ends in a run directory
of its own, as if it had run alone; only the roundings differ.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.bilevel.state import SearchState, fast_settings, floating_type, measure
from ldarts_lib.datasets.images import ImageDataset
from ldarts_lib.datasets.own import images_of
from ldarts_lib.errors import ProtocolError
from ldarts_lib.fast.packed import PackedSupernet
from ldarts_lib.networks.batches import Batch
from ldarts_lib.runs.directory import Row, Run
from ldarts_lib.runs.record import begun, run_epochs

SAVE_SECONDS = 1.5
"""The most that an interruption costs for each search, beside an epoch: saving many after each costs more."""


def can_pack(protocol: SearchProtocol) -> bool:
    """Whether its searches can be packed: stages, built-in operations, fast, full precision, first order."""
    return (
        protocol.search_space.macro == "stages"
        and not protocol.search_space.registered
        and protocol.supernet == "fast"
        and protocol.precision in ("float32", "float64")
        and protocol.method != "darts-2nd"
        and not (protocol.cuda_graph or protocol.clip_alpha)
        and protocol.new_remedy().packs
    )


def run_packed(
    protocols: Sequence[SearchProtocol], outs: Sequence[str | Path], *, device: torch.device | str = "cpu"
) -> None:
    """Run searches that differ only in their seed, as one; each ends in its own run directory.

    Finished runs are left as they are; interrupted ones go on, bit for bit on a CPU unless the interruption
    fell into the saving of an epoch: then those that stand at the same epoch go on together.

    Raises:
        ProtocolError: they differ in more than the seed, or cannot be packed.
        RunError, Diverged: as :func:`~ldarts_lib.bilevel.search.search`.
    """
    if len({p.model_dump_json(exclude={"seed"}) for p in protocols}) > 1:
        raise ProtocolError("searches that run together may differ in nothing but the seed")
    if not can_pack(protocols[0]):
        raise ProtocolError(f"searches of this protocol cannot run together: {protocols[0]}")
    left = [(p, out) for p, out in zip(protocols, outs, strict=True) if not Run(out).finished_with(p)]
    if not left:
        return
    images = images_of(protocols[0], device)
    states = [SearchState(p, images, device) for p, _ in left]
    with ExitStack() as stack:
        runs = [stack.enter_context(begun(out, p, device)) for p, out in left]
        run_epochs(
            runs,
            states,
            lambda alike: PackedSearch(alike, images).run_epoch,
            save_seconds=SAVE_SECONDS * len(left),
        )


class PackedSearch:
    """Several :class:`~ldarts_lib.bilevel.state.SearchState` whose steps are made together.

    After each epoch the states hold the truth again, and can be saved one by one.
    """

    def __init__(self, states: Sequence[SearchState], images: ImageDataset) -> None:
        self.states, singles = states, [state.bilevel for state in states]
        protocol = states[0].protocol
        supernet = PackedSupernet(
            protocol.search_space,
            [single.supernet.generator for single in singles],
            classes=images.classes,
            channels_in=images.channels,
            **fast_settings(protocol),
        ).to(images.search_images.device, floating_type(protocol))
        supernet.load([single.supernet for single in singles])
        alphas = {
            kind: torch.stack([single.alphas[kind].detach() for single in singles]).requires_grad_()
            for kind in singles[0].alphas
        }
        self.bilevel = Bilevel(supernet, alphas, protocol)
        for name in singles[0].remedy.kept:
            self.bilevel.remedy.kept[name] = torch.stack([single.remedy.kept[name] for single in singles])
        for optimizer, packed, parts in self._slots():
            if earlier := [own.state[single] for own, single in parts if own.state.get(single)]:
                # m = (m_1, ..., m_n): the moments of a pack are those of its networks side by side, for SGD
                # and Adam work entry by entry; the number of steps is one for all
                optimizer.state[packed] = {
                    key: torch.stack([one[key] for one in earlier]).reshape(packed.shape)
                    if value.dim()
                    else value.clone()
                    for key, value in earlier[0].items()
                }

    def run_epoch(self, epoch: int) -> list[Row]:
        """One epoch of all searches; returns the row of each history."""
        begin = time.perf_counter()
        self.bilevel.start_epoch(epoch)
        self.bilevel.supernet.train()
        measured = []
        for pairs in zip(*(state.pairs() for state in self.states), strict=True):
            batches = [_side_by_side(half) for half in zip(*pairs, strict=True)]
            measured.append(measure(self.bilevel.step(*batches), batches))
        self.bilevel.remedy.after_epoch(self.bilevel, epoch, batches[1])
        of_each = torch.stack(measured, 1).double().cpu().unbind(2)  # [2, steps, copies, numbers]
        self._unload()
        seconds = (time.perf_counter() - begin) / len(self.states)
        return [s.summarize(epoch, one, seconds) for s, one in zip(self.states, of_each, strict=True)]

    @torch.no_grad()
    def _unload(self) -> None:
        self.bilevel.supernet.unload([state.bilevel.supernet for state in self.states])
        for name, packed in self.bilevel.remedy.kept.items():
            for state, part in zip(self.states, packed, strict=True):
                state.bilevel.remedy.kept[name] = part.clone()
        for optimizer, packed, parts in self._slots():
            for copy, (own, single) in enumerate(parts):
                single.copy_(_part(packed, copy, single))
                own.state[single] = {
                    key: _part(value, copy, single).clone() for key, value in optimizer.state[packed].items()
                }

    def _slots(self) -> Iterator[tuple[Optimizer, Tensor, list[tuple[Optimizer, Tensor]]]]:
        """Every packed tensor, what moves it, and the same of its parts in the single searches."""
        ours, theirs = self.bilevel, [state.bilevel for state in self.states]
        for place, parameter in enumerate(ours.parameters):
            parts = [(other.weight_optimizer, other.parameters[place]) for other in theirs]
            yield ours.weight_optimizer, parameter, parts
        for kind, alpha in ours.alphas.items():
            yield ours.alpha_optimizer, alpha, [(o.alpha_optimizer, o.alphas[kind]) for o in theirs]


def _part(packed: Tensor, copy: int, like: Tensor) -> Tensor:
    """What belongs to one of the networks; a number belongs to all."""
    return packed.reshape(-1, *like.shape)[copy] if packed.dim() else packed


def _side_by_side(batches: Sequence[Batch]) -> Batch:
    inputs, targets = ([getattr(batch, field) for batch in batches] for field in ("inputs", "targets"))
    return Batch(torch.cat(inputs, 1), torch.stack(targets))
