"""Is the finite difference the exact gradient and noise? Means over batches, of both and of what they do.

With x_i a vector of batch i, E_i the exact gradient, products of means are taken between different batches,
so that no batch shares its noise with itself: ⟨x̄, ȳ⟩ is the mean of ⟨x_i, y_j⟩ over i ≠ j. All is in float64.
A row has scene, seed, vector, measure, value. The vectors are ``exact``, the ε0 of the differences and
``control``, the exact gradient for another direction of p; for steps also ``noise``. Measures:

* ``inner``, ``square``: ⟨x̄, Ē⟩ and ⟨x̄, x̄⟩; ``single``, ``same``: the means of ⟨x_i, x_i⟩ and ⟨x_i, E_i⟩;
* ``mean S``, ``single S``: how far Λ rises on other batches after a step of length S along x̄ or one x_i, and
  ``slope VECTOR``: what the mean of another vector on other batches foretells of it, ⟨ȳ, x̄⟩ / ‖x̄‖.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ldarts_book.studies.study import StudyError
from ldarts_book.studies.writing import write_provenance, write_table
from ldarts_lib.bilevel.alignment import layer_alignment
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.packed import PackedSearch
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.regularizers import Regularizer, perturbation, regularized_gradients
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.datasets.downloads import COPIES
from ldarts_lib.datasets.images import ImageDataset, load_images
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet, architecture_weights

STEPS, SLOPE = (0.01, 0.03, 0.1, 0.3), 0.01
EXACT, CONTROL = Regularizer(estimator="exact"), Regularizer("random", "exact")


@dataclass(frozen=True)
class Scene:
    """Supernets of some seeds after some epochs of DARTS; steps are tried on the last batches."""

    seeds: Sequence[int]
    epochs: int
    epsilons: Sequence[float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    batches: int = 80
    tried: int = 0


def _scenes() -> Iterator[tuple[str, Scene]]:
    decades, smooth = tuple(10.0**k for k in range(-6, 1)), {"activation": "gelu"}
    for epochs in (1, 10, 40):
        yield f"ReLU, epochs = {epochs}", Scene(range(240, 250), epochs, decades, tried=20)
        yield f"GELU, epochs = {epochs}", Scene(range(240, 250), epochs, decades, smooth, batches=20)
    paper = {"dataset": "cifar10", "size": "paper", "batch_size": 16, "epoch_steps": 200}
    for space, own in (("nasbench201", {}), ("s2", {}), ("s2", {**smooth, "supernet": "reference"})):
        for steps in (0, 200):
            for seed in (240, 241):
                name = f"{space}{' gelu' if own else ''}, steps = {steps}, seed {seed}"
                settings = {"space": space} | paper | own
                yield name, Scene([seed], steps // 200, decades[2:6], settings, batches=20)


SCENES: Mapping[str, Scene] = dict(_scenes())
"""The parts of the record: of the miniature, and at published size."""


def make_secants(out: str | Path, scenes: Sequence[str] = (), device: torch.device | str = "cpu") -> None:
    """What ``ldarts study secants`` does: make the parts that are not there."""

    def rows(name: str) -> pd.DataFrame:
        return scene_rows(SCENES[name], device).assign(scene=name)

    make_parts("secants", out, {name: partial(rows, name) for name in SCENES}, scenes, device)


def make_parts(
    study: str,
    out: str | Path,
    parts: Mapping[str, Callable[[], pd.DataFrame]],
    chosen: Sequence[str] = (),
    device: torch.device | str = "cpu",
) -> None:
    """Make the parts of a record that are not there, each in a file of its own."""
    if unknown := [name for name in chosen if name not in parts]:
        raise StudyError(f"{study}: unknown variant {unknown[0]!r}; choose from {'; '.join(parts)}")
    for name in chosen or parts:
        if not (path := _file(Path(out), name)).exists():
            print(f"{study}:", name)
            write_table(parts[name](), path)
            write_provenance(path.parent, f'ldarts study {study} --variants "{name}"', torch.device(device))


def recorded_parts(
    study: str, parts: Iterable[str], record: str | Path | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """The recorded rows of a study that is made in parts, and the commands that make the other parts."""
    folder = Path(record or str(files("ldarts_data") / "recorded")) / study
    paths = {name: _file(folder, name) for name in parts}
    made = [pd.read_csv(path) for path in paths.values() if path.exists()]
    left = [name for name, path in paths.items() if not path.exists()]
    commands = [f'ldarts study {study} --variants "{name}" --record data/recorded' for name in left]
    return pd.concat(made, ignore_index=True) if made else pd.DataFrame(), commands


def _file(folder: Path, name: str) -> Path:
    return folder / f"{'-'.join(name.replace(',', '').replace('= ', '').lower().split())}.csv.gz"


def scene_rows(scene: Scene, device: torch.device | str = "cpu") -> pd.DataFrame:
    """The rows of a scene."""
    net, weights, halves = _networks(scene, device)
    draws = [torch.Generator().manual_seed(seed) for seed in scene.seeds]
    size, sums = int(scene.settings.get("batch_size", 64)), Sums()
    batches = [_batch(halves, size, draws) for _ in range(scene.batches)]
    for place, batch in enumerate(batches):
        found = vectors(net, batch, weights, scene.epsilons, control=scene.tried > 0)
        sums.add(found, half=2 * place // scene.batches)
    values = sums.measures()
    if scene.tried:
        values |= rises(net, weights, batches[-scene.tried :], sums)
    rows = [
        (seed, *what, float(f"{value:.4g}"))
        for what, each in values.items()
        for seed, value in zip(scene.seeds, each.tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "vector", "measure", "value"])


class Sums:
    """Of vectors of batches, [networks, entries], by halves, and of their products within a batch."""

    def __init__(self) -> None:
        self.count, self.within, self.single = 0, {}, {}
        self.halves: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})

    def add(self, found: Mapping[str, Tensor], half: int) -> None:
        """One more batch; the first half gives directions, on the second they are tried."""
        self.count, self.single = self.count + 1, self.single if half else found
        for name, x in found.items():
            self.halves[half][name] = self.halves[half].get(name, 0) + x
            products = torch.stack([(x * x).sum(-1), (x * found["exact"]).sum(-1)])
            self.within[name] = self.within.get(name, 0) + products

    def measures(self) -> dict[tuple[str, str], Tensor]:
        """``inner``, ``square``, ``single`` and ``same`` of each vector."""
        found, n = {}, self.count
        total = {name: x + self.halves[1][name] for name, x in self.halves[0].items()}
        for name, x in total.items():
            single, same = self.within[name]
            # ⟨x̄, ȳ⟩ = (⟨Σx_i, Σy_j⟩ − Σ⟨x_i, y_i⟩) / n(n−1)
            found[name, "inner"] = ((x * total["exact"]).sum(-1) - same) / (n * (n - 1))
            found[name, "square"] = ((x * x).sum(-1) - single) / (n * (n - 1))
            found |= {(name, "single"): single / n, (name, "same"): same / n}
        return found


def vectors(
    net: Supernet, batch: Batch, weights: Mapping[str, Tensor], epsilons: Sequence[float], *, control: bool
) -> dict[str, Tensor]:
    """``exact``, the central differences and ``control`` of a batch, [networks, entries]."""
    found, exact = regularized_gradients(net, batch, weights, EXACT, update_statistics=False)
    directions, length = perturbation(EXACT, found.cells)
    result = {"exact": _rows(net, exact)}
    if control:
        _, other = regularized_gradients(net, batch, weights, CONTROL, update_statistics=False)
        result["control"] = _rows(net, other)
    for epsilon in epsilons:
        ends = (gradients(net, batch, moved(weights, directions, t)).weights for t in (epsilon, -epsilon))
        ahead, behind = (_rows(net, end) for end in ends)
        result[f"{epsilon:g}"] = (ahead - behind) * length.view(-1, 1) / (2 * epsilon)
    return result


def moved(weights: Mapping[str, Tensor], directions: Mapping[str, Tensor], t: float) -> dict[str, Tensor]:
    """p + t d, leaves."""
    return {k: (w.detach() + t * directions.get(k, 0.0)).requires_grad_() for k, w in weights.items()}


def rises(
    net: Supernet, weights: Mapping[str, Tensor], batches: Sequence[Batch], sums: Sums
) -> dict[tuple[str, str], Tensor]:
    """How far Λ rises on batches, by the directions of the first half, and what the second half foretells."""
    start, found = [p.detach().clone() for p in net.parameters()], {}

    def aligned(move: Tensor) -> Tensor:
        parts = move.split([p.numel() // net.copies for p in start], 1)
        with torch.no_grad():
            for parameter, origin, part in zip(net.parameters(), start, parts, strict=True):
                parameter.copy_(origin + part.reshape(origin.shape))
        every = (gradients(net, b, weights, of_parameters=False).cells["normal"] for b in batches)
        return sum(layer_alignment(g.flatten(-2).movedim(0, -2)) for g in every).view(-1) / len(batches)

    (ahead, behind), draw = sums.halves, torch.Generator().manual_seed(0)
    noise = torch.randn(ahead["exact"].shape, generator=draw, dtype=torch.float64)
    base = aligned(torch.zeros_like(noise))
    names = [name for name in ahead if name in ("exact", "control") or 1e-4 <= float(name) <= 0.1]
    for kind, held in (("mean", ahead), ("single", sums.single)):
        for name in (*names, "noise"):
            v = torch.nn.functional.normalize(held.get(name, noise), dim=-1)
            for step in (*STEPS, -SLOPE) if kind == "mean" else STEPS:
                found[name, f"{kind} {step:g}"] = aligned(step * v) - base
            for foretelling in names if kind == "mean" else ():
                slope = (behind[foretelling] * v).sum(-1) / (sums.count // 2)
                found[name, f"slope {foretelling}"] = slope
    return found


def _networks(scene: Scene, device: torch.device | str) -> tuple[Supernet, dict[str, Tensor], list[Any]]:
    """The supernets in float64, p of each cell, and the images and labels of each seed that train ω."""
    own = {"method": "darts", "dataset": "noisy-digits", **scene.settings}
    every = [protocol(**own, seed=seed) for seed in scene.seeds]
    images = pictures(device) if own["dataset"] == "cifar10" else load_images(own["dataset"], device=device)
    states = [SearchState(one, images, device) for one in every]
    runner = PackedSearch(states, images) if len(states) > 1 else states[0]
    for epoch in range(scene.epochs):
        runner.run_epoch(epoch)
    net = runner.bilevel.supernet.double().train()
    alphas = {kind: alpha.detach().double() for kind, alpha in runner.bilevel.alphas.items()}
    return net, architecture_weights(alphas, net.layout), [state.training.all() for state in states]


def pictures(device: torch.device | str = "cpu") -> ImageDataset:
    """CIFAR-10, or the copies of 12,000 of its pictures in the folder of the variable LDARTS_TEST_DATA."""
    path = Path(os.environ.get("LDARTS_TEST_DATA", "")) / COPIES
    if not path.is_file():
        return load_images("cifar10", device=device)
    with np.load(path) as held:
        every = {
            f"{ours}_{what}": torch.from_numpy(held[f"{theirs}_{what}"]).to(device)
            for ours, theirs in (("search", "train"), ("test", "test"))
            for what in ("images", "labels")
        }
    parts = {n: x.long() if x.dim() == 1 else x.movedim(-1, 1).contiguous() for n, x in every.items()}
    return replace(load_images("cifar10-small", device=device), name="cifar10", **parts)


def _batch(halves: Sequence[Any], size: int, draws: Sequence[torch.Generator]) -> Batch:
    chosen = [torch.randperm(len(half[1]), generator=g)[:size] for half, g in zip(halves, draws, strict=True)]
    images, labels = zip(*((x[i], y[i]) for (x, y), i in zip(halves, chosen, strict=True)), strict=True)
    return Batch(torch.cat(images, 1).double(), torch.stack(labels) if len(labels) > 1 else labels[0])


def _rows(net: Supernet, tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(net.copies, -1) for t in tensors], 1)
