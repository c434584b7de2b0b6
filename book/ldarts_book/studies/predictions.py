"""What the theory foretells, measured along searches: what each cell asks of each edge, in the mean.

Searches are repeated, ten seeds as one pack, and looked at after some epochs (``state`` is ``search``). After
the last one ω is held, and α goes on along the mean gradient of its half (``at rest``), without decay and
with a falling rate. A row has variant, seed, state, epoch, half, edge, operation, p, and

* ``g_0``, ``g_1``, …: of each cell the mean over all images of the half, in batches, of g_l = ∂𝓛/∂p;
* ``square``: the mean over the batches of F², where F = J(p) Σ_l g_l is what α follows;
* ``batches``, ``batches_felt``: the mean over the batches of Λ, and of Λ of J(p) g on this edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ldarts_book.studies.design import folder
from ldarts_book.studies.secants import make_parts
from ldarts_book.studies.study import EDGE_CHOSEN, FRESH, SHOWN, VARIANTS
from ldarts_lib.bilevel.alignment import edge_alignments, felt, layer_alignment
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.half_steps import Bilevel, softmax_backward
from ldarts_lib.bilevel.packed import PackedSearch
from ldarts_lib.bilevel.protocols import SearchProtocol, protocol
from ldarts_lib.bilevel.state import SearchState, floating_type
from ldarts_lib.datasets.batches import Batches
from ldarts_lib.datasets.images import load_images
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import architecture_weights

BY_EDGE = f"Λ-DARTS, by edge, λ = {EDGE_CHOSEN:g}".replace(", λ = 1", "")
COMPARED = (*SHOWN, "Λ-DARTS, ε0 = 0.0001, λ = 1/4", "Λ-DARTS, sign form", BY_EDGE)
"""The variants that are compared in the miniature, in the strengths that were chosen."""
OFTEN = "Λ-DARTS, looked at often"
"""Whether eight looks are enough to foretell where α goes."""
_NINE, _FIFTEEN = ({"depth": depth, "reduction": "residual"} for depth in (3, 5))


@dataclass(frozen=True)
class Watch:
    """Ten searches of a variant, and after how many epochs they are looked at; they end with the last."""

    variant: str
    first_seed: int
    settings: Mapping[str, Any]
    epochs: Sequence[int] = (0, 1, 5, 10, 20, 40, 60, 80)
    moves: int = 200
    seeds: int = 10
    halves: Sequence[str] = ("train", "valid")


_ALL = (
    *(Watch(name, first, VARIANTS[name]) for name in COMPARED for first in (FRESH[0], FRESH[10])),
    *(Watch(f"{name}, nine cells", 240, VARIANTS[name] | _NINE) for name in SHOWN),
    Watch("DARTS, fifteen cells", 240, VARIANTS["DARTS"] | _FIFTEEN, (0, 1, 10), moves=0),
    Watch(OFTEN, FRESH[0], VARIANTS["Λ-DARTS"], (0, 1, 5, *range(10, 81, 2)), moves=0, halves=("valid",)),
)
WATCHES: Mapping[str, Watch] = {folder({"variant": w.variant, "seed": w.first_seed}): w for w in _ALL}
"""The parts of the record."""


def make_predictions(out: str | Path, names: Sequence[str] = (), device: torch.device | str = "cpu") -> None:
    """What ``ldarts study predictions`` does: make the parts that are not there."""
    parts = {name: partial(watch_rows, watch, device) for name, watch in WATCHES.items()}
    make_parts("predictions", out, parts, names, device)


def watch_rows(watch: Watch, device: torch.device | str = "cpu") -> pd.DataFrame:
    """The rows of a part."""
    seeds = range(watch.first_seed, watch.first_seed + watch.seeds)
    every = [protocol(**watch.settings, seed=seed) for seed in seeds]
    images = load_images(every[0].dataset, device=device)
    states = [SearchState(one, images, device) for one in every]
    runner, rows = PackedSearch(states, images), []
    halves = {"train": [s.training for s in states], "valid": [s.validation for s in states]}
    for epoch in range(max(watch.epochs) + 1):
        if epoch in watch.epochs:
            for name in watch.halves:
                found = wishes(runner.bilevel, halves[name], every[0])
                rows.append(found.assign(state="search", epoch=epoch, half=name))
        if epoch < max(watch.epochs):
            runner.run_epoch(epoch)
    if watch.moves:
        come_to_rest(runner.bilevel, halves["valid"], every[0], watch.moves)
        found = wishes(runner.bilevel, halves["valid"], every[0])
        rows.append(found.assign(state="at rest", epoch=epoch, half="valid"))
    keys = ["variant", "seed", "state", "epoch", "half", "edge", "operation"]
    table = pd.concat(rows).assign(variant=watch.variant, seed=lambda rows: rows["seed"] + watch.first_seed)
    return table.set_index(keys).map(lambda value: float(f"{value:.4g}")).reset_index()


def wishes(bilevel: Bilevel, halves: Sequence[Batches], settings: SearchProtocol) -> pd.DataFrame:
    """What the cells of packed networks ask for on all images of a half; ``seed`` counts the networks."""
    g = _gradients(bilevel, halves, settings).double()
    p = bilevel.alphas["normal"].detach().double().softmax(-1)
    each = p.unsqueeze(1).expand_as(g)
    found = {"p": p} | {f"g_{cell}": mean for cell, mean in enumerate(g.mean(0).unbind(1))}
    found["square"] = felt(g, each).sum(2).square().mean(0)
    found["batches"] = layer_alignment(g.flatten(-2)).mean(0).view(-1, 1, 1)
    found["batches_felt"] = edge_alignments(g, each).mean(0).unsqueeze(-1)
    index = pd.MultiIndex.from_product(map(range, p.shape), names=["seed", "edge", "operation"])
    flat = {name: x.expand(p.shape).flatten().cpu().numpy() for name, x in found.items()}
    return pd.DataFrame(flat, index).reset_index()


def come_to_rest(bilevel: Bilevel, halves: Sequence[Batches], settings: SearchProtocol, moves: int) -> None:
    """Move α along the mean gradient of a half while ω stays."""
    alpha, (group,) = bilevel.alphas["normal"], bilevel.alpha_optimizer.param_groups
    rate, group["weight_decay"] = group["lr"], 0.0
    for move in range(moves):
        mean = _gradients(bilevel, halves, settings).mean(0).movedim(1, 0)
        alpha.grad = softmax_backward(alpha, mean)
        group["lr"] = rate * (1 - move / moves)
        bilevel.alpha_optimizer.step()


def _gradients(bilevel: Bilevel, halves: Sequence[Batches], settings: SearchProtocol) -> Tensor:
    """g on every batch of a half: [batches, networks, cells, edges, operations]."""
    net, size, found = bilevel.supernet.train(), settings.batch_size, []
    weights = architecture_weights(bilevel.alphas, net.layout)
    draws = [half.epoch(size, torch.Generator().manual_seed(0), augment=False) for half in halves]
    for parts in zip(*draws, strict=True):
        images, labels = zip(*parts, strict=True)
        batch = Batch(torch.cat(images, 1).to(floating_type(settings)), torch.stack(labels))
        found.append(gradients(net, batch, weights, of_parameters=False).cells["normal"].movedim(0, 1))
    return torch.stack(found)
