"""Where the training of an architecture takes its images from: tensors on the device, or folders of files.

Every draw depends on the protocol's seed and the number of the epoch alone, so that a training can be
continued after any epoch, and several processes that share a batch see what one process would; but the crops
and colours of ImageNet depend on the process and on the number of its workers, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ldarts_lib.datasets.batches import cutout
from ldarts_lib.datasets.catalogue import IMAGENET
from ldarts_lib.datasets.imagenet import PIXELS, Folders
from ldarts_lib.datasets.images import ImageDataset, load_images
from ldarts_lib.errors import ProtocolError
from ldarts_lib.evaluation.protocols import TrainingProtocol, require_pixels
from ldarts_lib.runs.threads import cores

TEST_BATCH, TEST_BATCH_OF_FILES = 512, 128
"""Images at a time when nothing is learned."""

BATCHES, PATHS, NOISE = 0, 1, 2
"""Streams of random numbers."""


class TrainingImages(Protocol):
    """Training and test images in batches [batch, channels, height, width] with labels [batch]."""

    classes: int
    channels: int
    pixels: int
    training_count: int
    test_count: int

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of each batch of an epoch, counted from 0; all batches are full."""

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of the test images."""


def random_stream(seed: int, epoch: int, stream: int, rank: int = 0) -> torch.Generator:
    """A generator on the CPU that differs between seeds, epochs, streams and processes."""
    state = np.random.SeedSequence((seed, epoch, stream, rank)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


class TensorImages:
    """A data set that lies on the device.

    Args:
        dataset: the images.
        protocol: batches, cutout, resolution and seed.
        part: number of this process and number of processes.
    """

    def __init__(self, dataset: ImageDataset, protocol: TrainingProtocol, part: tuple[int, int]) -> None:
        self.dataset, self.protocol = _first(dataset, protocol.images), protocol
        self.rank, self.world = part
        self.classes, self.channels = dataset.classes, dataset.channels
        self.pixels = protocol.resolution or dataset.size
        self.training_count, self.test_count = (
            len(self.dataset.search_labels),
            len(self.dataset.test_labels),
        )

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of each batch; crops, flips and cutout are drawn for the whole batch."""
        generator = random_stream(self.protocol.seed, epoch, BATCHES)
        batches = self.dataset.search().epoch(self.protocol.batch_size, generator, augment=True)
        for images, labels in batches:
            images = self._resized(images)
            if self.protocol.cutout:
                images = cutout(images, self.protocol.cutout, generator)
            yield images[self.rank :: self.world], labels[self.rank :: self.world]

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of the test images."""
        images, labels = self.dataset.test().all()
        images, labels = images[self.rank :: self.world], labels[self.rank :: self.world]
        for some, theirs in zip(images.split(TEST_BATCH), labels.split(TEST_BATCH), strict=True):
            yield self._resized(some), theirs

    def _resized(self, images: Tensor) -> Tensor:
        if images.shape[-1] == self.pixels:
            return images
        return functional.interpolate(images, size=self.pixels, mode="bilinear", antialias=True)


def _first(dataset: ImageDataset, count: int | None) -> ImageDataset:
    """The data set with at most so many training and test images."""
    parts = ("search_images", "search_labels", "test_images", "test_labels")
    return replace(dataset, **{name: getattr(dataset, name)[:count] for name in parts})


class FolderImages:
    """ImageNet, read from files by worker processes.

    Args:
        folders: the images.
        protocol: batches and seed.
        part: number of this process and number of processes.
        device: where the batches go.
    """

    channels = 3

    def __init__(
        self, folders: Folders, protocol: TrainingProtocol, part: tuple[int, int], device: torch.device
    ) -> None:
        self.folders, self.protocol, self.device = folders, protocol, device
        self.rank, self.world = part
        self.classes = folders.classes
        self.pixels = protocol.resolution or PIXELS
        self.training = _spread(len(folders.training), protocol.images)
        self.testing = _spread(len(folders.testing), protocol.images)
        self.training_count, self.test_count = len(self.training), len(self.testing)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of each batch; the last batch is filled up from the start of the order."""
        seed, size = self.protocol.seed, self.protocol.batch_size
        order = torch.randperm(self.training_count, generator=random_stream(seed, epoch, BATCHES))
        order = torch.cat([order, order[: -len(order) % size]])[self.rank :: self.world]
        order = self.training[order]
        workers = random_stream(seed, epoch, BATCHES, 1 + self.rank)
        yield from self._moved(self.folders.epoch(order, size // self.world, workers))

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of the test images."""
        order = self.testing[self.rank :: self.world]
        yield from self._moved(self.folders.test(order, TEST_BATCH_OF_FILES))

    def _moved(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in batches:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


def _spread(images: int, count: int | None) -> Tensor:
    """Positions of so many images, evenly spread over the classes; of all if None."""
    return torch.linspace(0, images - 1, min(count or images, images)).round().long()


def training_images(
    protocol: TrainingProtocol,
    device: torch.device,
    *,
    part: tuple[int, int] = (0, 1),
    dataset: ImageDataset | None = None,
) -> TrainingImages:
    """The images of a training protocol.

    Args:
        protocol: all settings.
        device: where the images or the batches lie.
        part: number of this process and number of processes.
        dataset: the images, if they are loaded already.

    Raises:
        ProtocolError: the batch is larger than the data set or cannot be shared out, or the network cannot
            read images of this size.
        DatasetMissing, DatasetCorrupt: as :func:`~ldarts_lib.datasets.images.load_images`.
    """
    found: TrainingImages
    if protocol.dataset == IMAGENET:
        workers = min(max(cores() // part[1], 1), 16)
        folders = Folders(pixels=protocol.resolution or PIXELS, workers=workers)
        found = FolderImages(folders, protocol, part, device)
    else:
        loaded = dataset.to(device) if dataset else load_images(protocol.dataset, device=device)
        found = TensorImages(loaded, protocol, part)
    if protocol.batch_size > found.training_count:
        raise ProtocolError(
            f"batch_size = {protocol.batch_size} is larger than the {found.training_count} training images "
            f"of {protocol.dataset}"
        )
    if protocol.batch_size % part[1]:
        raise ProtocolError(f"batch_size = {protocol.batch_size} cannot be shared by {part[1]} devices")
    try:
        require_pixels(found.pixels, protocol.stem, auxiliary=protocol.auxiliary > 0)
    except ValueError as error:
        raise ProtocolError(f"{protocol.dataset}: {error}") from None
    return found
