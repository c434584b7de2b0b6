"""Train a discrete architecture from scratch and measure it on the test images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldarts_lib.datasets import ImageDataset
from ldarts_lib.environment import seed_everything
from ldarts_lib.genotype import Genotype
from ldarts_lib.network import DiscreteNetwork
from ldarts_lib.protocols import Protocol


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


def standalone_accuracy(
    genotype: Genotype,
    protocol: Protocol,
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
    seed_everything(seed)
    network = DiscreteNetwork(
        protocol.search_space,
        genotype,
        channels=protocol.channels,
        depth=protocol.depth,
        classes=dataset.classes,
        channels_in=dataset.channels,
        reduction=protocol.reduction,
    ).to(dataset.search_images.device)
    optimizer = torch.optim.SGD(
        network.parameters(),
        recipe.learning_rate,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(recipe.epochs):
        cosine = 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * cosine
        for images, labels in dataset.search().epoch(recipe.batch_size, generator, augment=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        on_epoch()
    return _accuracy(network, *dataset.test().all()).item()


@torch.no_grad()
def _accuracy(network: DiscreteNetwork, images: Tensor, labels: Tensor) -> Tensor:
    network.eval()
    chunks = zip(images.split(512), labels.split(512), strict=True)
    hits = [(network(x).argmax(-1) == y).sum() for x, y in chunks]
    return torch.stack(hits).sum() / len(labels)
