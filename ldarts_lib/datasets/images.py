"""Data sets as tensors on the device: four that need no download, and the four of the experiments.

==================  =======  ===========================  ===========
name                classes  search images                test images
==================  =======  ===========================  ===========
``noisy-digits``    10       1,000 (the demonstration)    4,000
``clean-digits``    10       1,000 (the same, no noise)   4,000
``noisier-digits``  10       1,000 (twice the noise)      4,000
``digits``          10       1,000                        797
``cifar10``         10       50,000                       10,000
``cifar100``        100      50,000                       10,000
``svhn``            10       73,257 (without ``extra``)   26,032
``imagenet16-120``  120      151,700                      6,000
==================  =======  ===========================  ===========

Means, standard deviations, crops and flips of the last four are those of the official Λ-DARTS code
(SVHN is flipped too); the first four are standardized by their own search images and never changed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ldarts_lib.datasets import catalogue, downloads, embedded
from ldarts_lib.datasets.batches import Augmentation, Batches
from ldarts_lib.errors import require_known

_CIFAR_SIZED = Augmentation(padding=4, flip=True)


@dataclass(frozen=True)
class _Statistics:
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation


_STATISTICS = {
    "cifar10": _Statistics(
        10,
        (0.49139968, 0.48215827, 0.44653124),
        (0.24703233, 0.24348505, 0.26158768),
        _CIFAR_SIZED,
    ),
    "cifar100": _Statistics(100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), _CIFAR_SIZED),
    "svhn": _Statistics(10, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), _CIFAR_SIZED),
    "imagenet16-120": _Statistics(
        downloads.IMAGENET16_CLASSES,
        (122.68 / 255, 116.66 / 255, 104.01 / 255),
        (63.22 / 255, 61.26 / 255, 65.09 / 255),
        Augmentation(padding=2, flip=True),
    ),
}


@dataclass(frozen=True)
class ImageDataset:
    """A data set on one device.

    Attributes:
        name: one of :data:`~ldarts_lib.datasets.catalogue.DATASETS`.
        classes: number of classes.
        search_images, search_labels: what a search may use: [n, channels, height, width] (uint8,
            or float32 in the scale 0..1) and [n] (int64).
        test_images, test_labels: what it may not use.
        mean, std: [1, channels, 1, 1] in the scale 0..1.
        augmentation: random changes of training images.
    """

    name: str
    classes: int
    search_images: Tensor
    search_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: Tensor
    std: Tensor
    augmentation: Augmentation

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.search_images.shape[1]

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return self.search_images.shape[-1]

    def to(self, device: torch.device | str) -> ImageDataset:
        """The same data set on another device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    def search(self) -> Batches:
        """All search images, for the training of a derived architecture."""
        return self._batches(self.search_images, self.search_labels, self.augmentation)

    def test(self) -> Batches:
        """The test images, which are never augmented."""
        return self._batches(self.test_images, self.test_labels, Augmentation())

    def halves(
        self, *, fraction: float = 0.5, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> tuple[Batches, Batches]:
        """The search images in two parts: for the weights ω and the architecture parameters α.

        The embedded sets are stored in random order and cut where they stand; the others are
        shuffled by the seed first.

        Args:
            fraction: share of the images that trains ω.
            seed: seed of the shuffle.
            dtype: floating type of the batches.

        Raises:
            ValueError: one part would be empty.
        """
        count = len(self.search_labels)
        first = round(fraction * count) if 0 < fraction < 1 else 0
        if not 0 < first < count:
            raise ValueError(
                f"a fraction of {fraction} leaves one part of {count} images empty; "
                "choose one between 0 and 1"
            )
        order = torch.arange(count)
        if self.name not in embedded.EMBEDDED:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        order = order.to(self.search_labels.device)
        training, validation = (
            self._batches(self.search_images[part], self.search_labels[part], self.augmentation, dtype)
            for part in (order[:first], order[first:])
        )
        return training, validation

    def _batches(
        self,
        images: Tensor,
        labels: Tensor,
        augmentation: Augmentation,
        dtype: torch.dtype = torch.float32,
    ) -> Batches:
        return Batches(images, labels, mean=self.mean, std=self.std, augmentation=augmentation, dtype=dtype)


def load_images(
    name: str,
    *,
    device: torch.device | str = "cpu",
    root: str | os.PathLike | None = None,
    download: bool = False,
) -> ImageDataset:
    """A data set as tensors on a device.

    Examples:
        >>> images = load_images("noisy-digits")
        >>> images.search_images.shape, len(images.test_labels)
        (torch.Size([1000, 1, 8, 8]), 4000)

    Args:
        name: one of :data:`~ldarts_lib.datasets.catalogue.DATASETS`.
        device: where the images live.
        root: folder of the downloads; by default the variable LDARTS_DATA or ~/.cache/ldarts.
        download: whether to download it if it is missing.

    Raises:
        UnknownName: no such data set.
        DatasetMissing: a file is missing; the message says what to fetch, from where, to where.
        DatasetCorrupt: a file has another checksum than the published one.
    """
    require_known("data set", name, catalogue.DATASETS)
    if name in embedded.EMBEDDED:
        return _embedded(name, device)
    facts, folder = _STATISTICS[name], downloads.data_root(root)
    if download:
        catalogue.download_if_missing(name, folder)
    tensors = [torch.as_tensor(array).to(device) for split in downloads.read(name, folder) for array in split]
    tensors[1], tensors[3] = tensors[1].long(), tensors[3].long()
    mean, std = (torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (facts.mean, facts.std))
    return ImageDataset(name, facts.classes, *tensors, mean, std, facts.augmentation)


def _embedded(name: str, device: torch.device | str) -> ImageDataset:
    images, labels = (torch.tensor(array, device=device) for array in embedded.arrays(name))
    cut = embedded.SEARCH_IMAGES
    pool = images[:cut]
    mean, std = pool.mean().view(1, 1, 1, 1), pool.std().view(1, 1, 1, 1)
    return ImageDataset(name, 10, pool, labels[:cut], images[cut:], labels[cut:], mean, std, Augmentation())
