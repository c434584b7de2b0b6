"""Stand-alone accuracy: train a discrete architecture with a small recipe and test it; many side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ldarts_lib.datasets.images import ImageDataset
from ldarts_lib.datasets.own import images_of
from ldarts_lib.evaluation.training import network_sizes
from ldarts_lib.fast.packed import PackedNetwork
from ldarts_lib.networks.discrete import DiscreteNetwork
from ldarts_lib.networks.macro import Reduction
from ldarts_lib.progress import Bar
from ldarts_lib.runs.environment import seed_everything
from ldarts_lib.runs.processes import process_pool
from ldarts_lib.runs.threads import limited
from ldarts_lib.spaces.genotype import Genotype
from ldarts_lib.spaces.space import Space

Pairs = Iterable[tuple[Tensor, Tensor]]


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
        # η (1 + cos πt/T) / 2
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))


def standalone_accuracy(
    genotype: Genotype,
    protocol: Searched,
    dataset: ImageDataset,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
) -> float:
    """Stand-alone test accuracy of a genotype, between 0 and 1.

    The network has the channels, depth and reduction blocks of the protocol; it is trained on all search
    images (both halves) and tested after the last epoch.

    Args:
        dataset: the images; the network is trained on their device.
        seed: of the initial weights, the batches and the augmentation.
    """
    recipe = recipe or Recipe()
    network = initial_network(genotype, protocol, dataset, seed).to(dataset.search_images.device)
    generator, batches = torch.Generator().manual_seed(seed), dataset.search()
    with limited(protocol.size):
        _fit(
            network,
            recipe,
            lambda: batches.epoch(recipe.batch_size, generator, augment=True),
            lambda images, labels: cross_entropy(network(images), labels),
        )
        return _accuracy(lambda images: network(images)[None], 1, dataset).item()


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

    Returns:
        [genotypes, seeds], float64, between 0 and 1.
    """
    recipe = recipe or Recipe()
    sizes = network_sizes(protocol, dataset)
    packed = PackedNetwork(protocol.search_space, genotypes, len(seeds), **sizes)
    packed.load([initial_network(g, protocol, dataset, seed) for g in genotypes for seed in seeds])
    packed.to(dataset.search_images.device)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        batches = (dataset.search().epoch(recipe.batch_size, g, augment=True) for g in generators)
        for several in zip(*batches, strict=True):
            labels = torch.stack([labels for _, labels in several]).repeat(len(genotypes), 1)
            yield torch.cat([images for images, _ in several], 1), labels

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        # Σ_n L_n, so that each network has its own gradient: N times the mean over all N networks
        return packed.networks * cross_entropy(packed(images).flatten(0, 1), labels.flatten())

    with limited(protocol.size):
        _fit(packed, recipe, epoch, loss)
        found = _accuracy(packed, packed.networks, dataset)
    return found.view(len(genotypes), len(seeds)).cpu()


def evaluate_all(
    genotypes: Mapping[str, Genotype],
    protocols: Mapping[str, Searched],
    recipe: Recipe | None = None,
    *,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """The :func:`standalone_accuracy` of each genotype, trained side by side in processes.

    Args:
        protocols: under the same keys, the searches that they come from.
    """
    jobs = [(genotype, protocols[name], recipe, device) for name, genotype in genotypes.items()]
    with process_pool(None, device) as pool:
        found = pool.map(_train, *zip(*jobs, strict=True))
        accuracies = Bar(found, total=len(jobs), desc="training from scratch", unit="cell")
        return dict(zip(genotypes, accuracies, strict=True))


def _train(cell: Genotype, protocol: Searched, recipe: Recipe | None, device: torch.device | str) -> float:
    return standalone_accuracy(cell, protocol, images_of(protocol, device), recipe)


def initial_network(
    genotype: Genotype, protocol: Searched, dataset: ImageDataset, seed: int
) -> DiscreteNetwork:
    """The network that :func:`standalone_accuracy` trains, before its first step, on the CPU."""
    seed_everything(seed)
    return DiscreteNetwork(protocol.search_space, genotype, **network_sizes(protocol, dataset))


def _fit(
    network: nn.Module,
    recipe: Recipe,
    batches: Callable[[], Pairs],
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Train a network, or a pack of them, and leave it in evaluation mode."""
    optimizer = torch.optim.SGD(
        network.parameters(),
        recipe.learning_rate,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    for epoch in range(recipe.epochs):
        optimizer.param_groups[0]["lr"] = recipe.rate(epoch)
        for images, labels in batches():
            optimizer.zero_grad()
            loss(images, labels).backward()
            optimizer.step()
    network.eval()


@torch.no_grad()
def _accuracy(networks: Callable[[Tensor], Tensor], count: int, dataset: ImageDataset) -> Tensor:
    """Shares of right answers, [networks]; ``networks`` maps images to [networks, batch, classes]."""
    images, labels = dataset.test().all()
    hits = torch.zeros(count, dtype=torch.float64, device=images.device)
    for x, y in zip(images.split(512), labels.split(512), strict=True):
        hits += (networks(x).argmax(-1) == y).sum(-1)
    return hits / len(labels)
