"""ImageNet (ILSVRC 2012) as a folder of JPEG files, read by worker processes: it does not fit on a device.

Workers hand over bytes, a quarter of what float32 takes in the memory that processes share. The folders
``train`` and ``val`` hold one folder of images per class. Crops, flips and colours of training images, and
the central crop of test images, are those of the Λ-DARTS code.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ldarts_lib.datasets.catalogue import IMAGENET
from ldarts_lib.datasets.downloads import data_root
from ldarts_lib.datasets.folders import matched
from ldarts_lib.errors import DatasetCorrupt, DatasetMissing
from ldarts_lib.files import require_file

PIXELS = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SORT = (
    "put the pictures of each class into a folder that is named like the class, as the script valprep.sh of "
    "https://github.com/soumith/imagenetloader.torch does for those of val"
)


class PictureFiles:
    """Pictures that are read when they are asked for, with the positions of their classes."""

    def __init__(self, samples: list[tuple[Path, int]], classes: list[str], transform: Any) -> None:
        self.samples, self.classes, self.transform = samples, classes, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> tuple[Any, int]:
        path, label = self.samples[position]
        try:
            require_file(path)
            with Image.open(path) as image:
                picture = image.convert("RGB")
        except Exception as error:  # Pillow's plugins raise what they like
            raise DatasetCorrupt(f"the picture {path} cannot be read: {error}") from None
        return self.transform(picture), label


def folders() -> tuple[Path, Path]:
    """The folders of the training and of the test images, below the data root.

    Raises:
        DatasetMissing: a folder is missing or empty; the message says what belongs where.
    """
    home = data_root() / IMAGENET
    for folder in (home / "train", home / "val"):
        if not folder.is_dir() or not any(folder.iterdir()):
            raise DatasetMissing(
                f"ImageNet is not here: {folder} should hold one folder of JPEG files per class "
                "(ILSVRC 2012, about 145 GB, from https://image-net.org after registration, by hand)"
            )
    return home / "train", home / "val"


def central_crop(pixels: int) -> Callable[[Image.Image], Any]:
    """What makes of a picture the middle of it, as bytes [3, pixels, pixels]."""
    from torchvision import transforms

    sizes = transforms.Resize(round(pixels * 256 / 224)), transforms.CenterCrop(pixels)
    return transforms.Compose([*sizes, transforms.PILToTensor()])


def in_unit_scale(images: Tensor) -> Tensor:
    """Bytes in the scale 0..1, as float32."""
    return images.float().div(255)


def standardized(images: Tensor) -> Tensor:
    """Bytes [batch, 3, height, width] with ImageNet's means 0 and standard deviations 1."""
    mean, std = (torch.tensor(x, device=images.device).view(-1, 1, 1) for x in (MEAN, STD))
    return in_unit_scale(images).sub_(mean).div_(std)


def image_folders(pixels: int = PIXELS) -> tuple[PictureFiles, PictureFiles]:
    """The training images, randomly changed, and the test images: bytes [3, pixels, pixels].

    The classes of both are those of the training, matched by name.

    Raises:
        DatasetMissing: as :func:`folders`.
        DatasetCorrupt: as :func:`~ldarts_lib.datasets.folders.matched`.
    """
    classes, (training, test), _ = matched(folders(), _SORT)
    from torchvision import transforms

    augmented = [
        transforms.RandomResizedCrop(pixels),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2),
        transforms.PILToTensor(),
    ]
    return (
        PictureFiles(training, classes, transforms.Compose(augmented)),
        PictureFiles(test, classes, central_crop(pixels)),
    )
