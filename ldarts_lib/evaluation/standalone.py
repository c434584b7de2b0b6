"""Stand-alone accuracy: train a discrete architecture with a small recipe and test it; many side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ldarts_lib.datasets.images import ImageDataset, load_images
from ldarts_lib.fast.packed import PackedNetwork
from ldarts_lib.networks.discrete import DiscreteNetwork
from ldarts_lib.networks.macro import Reduction
from ldarts_lib.runs.environment import seed_everything
from ldarts_lib.runs.processes import process_pool
from ldarts_lib.runs.threads import limited
from ldarts_lib.spaces.genotype import Genotype
from ldarts_lib.spaces.space import Space


class Searched(Protocol):
    """What a search protocol says of the network that its cell is for."""

    search_space: Space
    dataset: str
    size: str
    channels: int
    depth: int
    reduction: Reduction


@dataclass(frozen=True)
class Recipe:
    """How a discrete network is trained: SGD with Nesterov momentum, cosine schedule to zero.

    The defaults suit the digits (20 epochs of 1,000 images, a second or two of CPU).
    """

    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def rate(self, epoch: int) -> float:
        """Learning rate in an epoch, counted from 0."""
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))


def standalone_accuracy(
    genotype: Genotype,
    protocol: Searched,
    dataset: ImageDataset,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    on_epoch: Callable[[], object] = lambda: None,
) -> float:
    """Stand-alone test accuracy of a genotype, between 0 and 1.

    The network has the channels, depth and reduction blocks of the protocol; it is trained on all search
    images (both halves) and tested after the last epoch.

    Args:
        genotype: the architecture.
        protocol: the search that it comes from.
        dataset: the images; the network is trained on their device.
        recipe: training settings.
        seed: seed of the initial weights, the batches and the augmentation.
        on_epoch: called after each epoch, for a progress bar.
    """
    recipe = recipe or Recipe()
    network = initial_network(genotype, protocol, dataset, seed).to(dataset.search_images.device)
    optimizer = _optimizer(network, recipe)
    generator = torch.Generator().manual_seed(seed)
    with limited(protocol.size):
        for epoch in range(recipe.epochs):
            optimizer.param_groups[0]["lr"] = recipe.rate(epoch)
            for images, labels in dataset.search().epoch(recipe.batch_size, generator, augment=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(images), labels).backward()
                optimizer.step()
            on_epoch()
        return _accuracy(lambda x: network.eval()(x)[None], 1, *dataset.test().all()).item()


def standalone_accuracies(
    genotypes: Sequence[Genotype],
    protocol: Searched,
    dataset: ImageDataset,
    recipe: Recipe | None = None,
    *,
    seeds: Sequence[int] = (0,),
) -> Tensor:
    """Stand-alone test accuracies of many genotypes and seeds, trained side by side as one network.

    Each number is that of :func:`standalone_accuracy` up to rounding: the same initial weights, the same
    batches. Only for spaces with the macro network ``stages``; several times faster where networks are small.

    Args:
        genotypes: the architectures.
        protocol, dataset, recipe: as for :func:`standalone_accuracy`.
        seeds: of the initial weights, the batches and the augmentation.

    Returns:
        [genotypes, seeds], float64, between 0 and 1.
    """
    recipe = recipe or Recipe()
    packed = PackedNetwork(protocol.search_space, genotypes, len(seeds), **_sizes(protocol, dataset))
    packed.load([initial_network(g, protocol, dataset, seed) for g in genotypes for seed in seeds])
    packed.to(dataset.search_images.device)
    optimizer = _optimizer(packed, recipe)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    with limited(protocol.size):
        for epoch in range(recipe.epochs):
            optimizer.param_groups[0]["lr"] = recipe.rate(epoch)
            batches = (dataset.search().epoch(recipe.batch_size, g, augment=True) for g in generators)
            for several in zip(*batches, strict=True):
                images = torch.cat([images for images, _ in several], 1)
                labels = torch.stack([labels for _, labels in several]).repeat(len(genotypes), 1)
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(packed(images).flatten(0, 1), labels.flatten())
                (packed.networks * loss).backward()  # the sum of the networks' losses
                optimizer.step()
        found = _accuracy(packed.eval(), packed.networks, *dataset.test().all())
    return found.view(len(genotypes), len(seeds)).cpu()


def evaluate_all(
    genotypes: Mapping[str, Genotype],
    protocols: Mapping[str, Searched],
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
        recipe, seed: as for :func:`standalone_accuracy`.
        workers, device: as for :func:`~ldarts_lib.runs.processes.process_pool`.

    Returns:
        Test accuracies, between 0 and 1, under the keys of ``genotypes``.
    """
    jobs = [(genotype, protocols[name], recipe, seed, device) for name, genotype in genotypes.items()]
    with process_pool(workers, device) as pool:
        accuracies = tqdm(pool.map(_train, jobs), total=len(jobs), desc="training from scratch", unit="cell")
        return dict(zip(genotypes, accuracies, strict=True))


def _train(job: tuple[Genotype, Searched, Recipe | None, int, torch.device]) -> float:
    genotype, protocol, recipe, seed, device = job
    images = load_images(protocol.dataset, device=device)
    return standalone_accuracy(genotype, protocol, images, recipe, seed=seed)


def initial_network(
    genotype: Genotype, protocol: Searched, dataset: ImageDataset, seed: int
) -> DiscreteNetwork:
    """The network that :func:`standalone_accuracy` trains, before its first step, on the CPU."""
    seed_everything(seed)
    return DiscreteNetwork(protocol.search_space, genotype, **_sizes(protocol, dataset))


def _sizes(protocol: Searched, dataset: ImageDataset) -> dict[str, Any]:
    settings = protocol.model_dump(include={"channels", "depth", "reduction"})
    return settings | {"classes": dataset.classes, "channels_in": dataset.channels}


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    return torch.optim.SGD(
        network.parameters(),
        recipe.learning_rate,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )


@torch.no_grad()
def _accuracy(networks: Callable[[Tensor], Tensor], count: int, images: Tensor, labels: Tensor) -> Tensor:
    """Shares of right answers, [networks]; ``networks`` maps images to [networks, batch, classes]."""
    hits = torch.zeros(count, dtype=torch.float64, device=images.device)
    for x, y in zip(images.split(512), labels.split(512), strict=True):
        hits += (networks(x).argmax(-1) == y).sum(-1)
    return hits / len(labels)
