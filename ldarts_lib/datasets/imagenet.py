"""ImageNet (ILSVRC 2012) as a folder of JPEG files, read by worker processes: it does not fit on a device.

The folders ``train`` and ``val`` hold one folder of images per class. Crops, flips and colours of training
images, and the central crop of test images, are those of the Λ-DARTS code.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ldarts_lib.datasets.catalogue import IMAGENET
from ldarts_lib.datasets.downloads import data_root
from ldarts_lib.errors import DatasetMissing

PIXELS = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def folders(root: str | os.PathLike | None = None) -> tuple[Path, Path]:
    """The folders of the training and of the test images.

    Args:
        root: folder of the downloads; by default the variable LDARTS_DATA or ~/.cache/ldarts.

    Raises:
        DatasetMissing: a folder is missing or has no class; the message says what belongs where.
    """
    home = data_root(root) / IMAGENET
    for folder in (home / "train", home / "val"):
        if not folder.is_dir() or not any(folder.iterdir()):
            raise DatasetMissing(
                f"ImageNet is not here: {folder} should hold one folder of JPEG files per class "
                "(ILSVRC 2012, about 145 GB, from https://image-net.org after registration, by hand)"
            )
    return home / "train", home / "val"


class Folders:
    """The images of the folders in batches, standardized.

    Args:
        root: see :func:`folders`.
        pixels: height and width of the batches' images.
        workers: processes that read images; 0 for this one itself.

    Raises:
        DatasetMissing: as :func:`folders`.
    """

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        *,
        pixels: int = PIXELS,
        workers: int = 0,
    ) -> None:
        from torchvision import transforms
        from torchvision.datasets import ImageFolder

        training, test = folders(root)
        standard = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        self.workers = workers
        augmented = [
            transforms.RandomResizedCrop(pixels),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2),
            *standard,
        ]
        central = [transforms.Resize(round(pixels * 256 / 224)), transforms.CenterCrop(pixels), *standard]
        self.training = ImageFolder(training, transforms.Compose(augmented))
        self.testing = ImageFolder(test, transforms.Compose(central))
        self.classes = len(self.training.classes)

    def epoch(
        self, order: Tensor, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of augmented training images in a given order, on the CPU.

        Args:
            order: indices of images.
            batch_size: images of a batch.
            generator: seeds the workers' augmentation.
        """
        yield from self._loader(self.training, order, batch_size, generator)

    def test(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of test images in a given order, on the CPU."""
        yield from self._loader(self.testing, order, batch_size, torch.Generator())

    def _loader(
        self, images: Dataset, order: Tensor, batch_size: int, generator: torch.Generator
    ) -> DataLoader:
        return DataLoader(
            images,
            batch_size,
            sampler=order.tolist(),
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            generator=generator,
        )
