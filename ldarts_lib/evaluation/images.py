"""Where the training of an architecture takes its images from: tensors on the device, or folders of files.

Every draw depends on the protocol's seed and the number of the epoch alone, so that a training can be
continued after any epoch, and several processes that share a batch see what one process would; but the crops
and colours of ImageNet depend on the process and on the number of its workers, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from ldarts_lib.datasets.batches import cutout
from ldarts_lib.datasets.catalogue import IMAGENET
from ldarts_lib.datasets.imagenet import MEAN, PIXELS, STD, image_folders, standardized
from ldarts_lib.datasets.images import ImageDataset
from ldarts_lib.datasets.own import images_of
from ldarts_lib.errors import DatasetCorrupt, ProtocolError
from ldarts_lib.evaluation.protocols import TrainingProtocol
from ldarts_lib.runs.threads import cores

TEST_BATCH, TEST_BATCH_OF_FILES = 512, 128
"""Images at a time when nothing is learned."""

WORKERS, AHEAD = 16, 1
"""At most so many processes read ImageNet, each so many batches ahead."""

BATCHES, PATHS, NOISE = 0, 1, 2
"""Streams of random numbers."""


def random_stream(seed: int, epoch: int, stream: int, rank: int = 0) -> torch.Generator:
    """A generator on the CPU that differs between seeds, epochs, streams and processes."""
    state = np.random.SeedSequence((seed, epoch, stream, rank)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


class TensorImages:
    """Images that lie on the device; ``part`` is the number of this process and that of all."""

    def __init__(self, dataset: ImageDataset, protocol: TrainingProtocol, part: tuple[int, int]) -> None:
        dataset = dataset.divided(protocol.held_out) if protocol.held_out else dataset
        parts = ("search_images", "search_labels", "test_images", "test_labels")
        few = {name: getattr(dataset, name)[: protocol.images] for name in parts}
        self.dataset, self.protocol = replace(dataset, **few), protocol
        self.mine = slice(part[0], None, part[1])
        self.classes, self.channels = dataset.classes, dataset.channels
        self.pixels = protocol.resolution or dataset.size
        self.training_count, self.test_count = len(few["search_labels"]), len(few["test_labels"])
        self.facts = self.dataset.describe()

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        # crops, flips and cutout are drawn for the batch of all processes
        generator = random_stream(self.protocol.seed, epoch, BATCHES)
        batches = self.dataset.search().epoch(self.protocol.batch_size, generator, augment=True)
        for images, labels in batches:
            images = resized(images, self.pixels)
            if self.protocol.cutout:
                images = cutout(images, self.protocol.cutout, generator)
            yield images[self.mine], labels[self.mine]

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = (whole[self.mine] for whole in self.dataset.test().all())
        for some, theirs in zip(images.split(TEST_BATCH), labels.split(TEST_BATCH), strict=True):
            yield resized(some, self.pixels), theirs


def resized(images: Tensor, pixels: int) -> Tensor:
    """Square images [batch, channels, height, width] with this height and width."""
    if images.shape[-1] == pixels:
        return images
    return functional.interpolate(images, size=pixels, mode="bilinear", antialias=True)


class FolderImages:
    """ImageNet, read from files by worker processes; the batches go to ``device``."""

    channels = 3

    def __init__(self, protocol: TrainingProtocol, part: tuple[int, int], device: torch.device) -> None:
        self.protocol, (self.rank, self.world) = protocol, part
        self.mine = slice(self.rank, None, self.world)
        self.device, self.pixels = device, protocol.resolution or PIXELS
        self.training, self.testing = image_folders(self.pixels)
        self.classes, names = len(self.training.classes), self.training.classes
        self.facts = {"name": IMAGENET, "class_names": names, "channels": 3, "size": self.pixels}
        self.facts |= {"mean": MEAN, "std": STD, "fingerprint": ""}
        self.training_count, self.test_count = (
            min(protocol.images or len(images), len(images)) for images in (self.training, self.testing)
        )

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        seed, size = self.protocol.seed, self.protocol.batch_size
        order = torch.randperm(self.training_count, generator=random_stream(seed, epoch, BATCHES))
        order = torch.cat([order, order[: -len(order) % size]])
        chosen = _spread(self.training, self.training_count)[order][self.mine]
        changes = random_stream(seed, epoch, BATCHES, 1 + self.rank)
        return self._batches(self.training, chosen, size // self.world, changes)

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        chosen = _spread(self.testing, self.test_count)[self.mine]
        return self._batches(self.testing, chosen, TEST_BATCH_OF_FILES, torch.Generator())

    def _batches(
        self, images: Dataset, chosen: Tensor, size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of some images in this order; the generator seeds the workers' augmentation."""
        loader = DataLoader(
            images,
            size,
            sampler=chosen.tolist(),
            num_workers=min(max(cores() // self.world, 1), WORKERS),
            prefetch_factor=AHEAD,
            pin_memory=torch.cuda.is_available(),
            generator=generator,
        )
        try:
            for batch, labels in loader:
                labels = labels.to(self.device, non_blocking=True)
                yield standardized(batch.to(self.device, non_blocking=True)), labels
        except DatasetCorrupt as error:  # a worker adds its traceback, which ends with what we said
            raise DatasetCorrupt(str(error).splitlines()[-1].partition("DatasetCorrupt: ")[2]) from None


def _spread(images: Dataset, count: int) -> Tensor:
    """Positions of so many images, evenly spread over the classes."""
    return torch.linspace(0, len(images) - 1, count).round().long()


TrainingImages = TensorImages | FolderImages
"""Images in batches [batch, channels, height, width] with labels [batch]: ``epoch(NUMBER)`` gives this
process's part of each training batch of an epoch, all of one size, ``test()`` its part of the test images.
``facts`` is what a run directory keeps of them, in ``images.json``."""


def training_images(
    protocol: TrainingProtocol,
    device: torch.device,
    *,
    part: tuple[int, int] = (0, 1),
    dataset: ImageDataset | None = None,
) -> TrainingImages:
    """The images of a training protocol.

    Args:
        part: number of this process and number of processes.

    Raises:
        ProtocolError: the batch is larger than the data set or cannot be shared out, or the network cannot
            read images of this size.
        DatasetMissing, DatasetCorrupt: as :func:`~ldarts_lib.datasets.images.load_images`.
    """
    if protocol.dataset == IMAGENET:
        found: TrainingImages = FolderImages(protocol, part, device)
    else:
        loaded = dataset.to(device) if dataset else images_of(protocol, device)
        found = TensorImages(loaded, protocol, part)
    if protocol.batch_size > found.training_count:
        raise ProtocolError(
            f"batch_size = {protocol.batch_size} is larger than the {found.training_count} training images "
            f"of {protocol.dataset}"
        )
    if protocol.batch_size % part[1]:
        raise ProtocolError(f"batch_size = {protocol.batch_size} cannot be shared by {part[1]} devices")
    protocol.require_pixels(found.pixels)
    return found
