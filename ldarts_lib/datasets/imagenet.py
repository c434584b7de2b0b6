"""ImageNet (ILSVRC 2012) as a folder of JPEG files, read by worker processes: it does not fit on a device.

The folders ``train`` and ``val`` hold one folder of images per class. Crops, flips and colours of training
images, and the central crop of test images, are those of the Λ-DARTS code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ldarts_lib.datasets.catalogue import IMAGENET
from ldarts_lib.datasets.downloads import data_root
from ldarts_lib.errors import DatasetMissing

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder

PIXELS = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def folders() -> tuple[Path, Path]:
    """The folders of the training and of the test images, below the data root.

    Raises:
        DatasetMissing: a folder is missing or has no class; the message says what belongs where.
    """
    home = data_root() / IMAGENET
    for folder in (home / "train", home / "val"):
        if not folder.is_dir() or not any(folder.iterdir()):
            raise DatasetMissing(
                f"ImageNet is not here: {folder} should hold one folder of JPEG files per class "
                "(ILSVRC 2012, about 145 GB, from https://image-net.org after registration, by hand)"
            )
    return home / "train", home / "val"


def image_folders(pixels: int = PIXELS) -> tuple[ImageFolder, ImageFolder]:
    """The training images, randomly changed, and the test images: standardized, [3, pixels, pixels].

    Raises:
        DatasetMissing: as :func:`folders`.
    """
    training, test = folders()
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    standard = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    augmented = [
        transforms.RandomResizedCrop(pixels),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2),
        *standard,
    ]
    central = [transforms.Resize(round(pixels * 256 / 224)), transforms.CenterCrop(pixels), *standard]
    return (
        ImageFolder(training, transforms.Compose(augmented)),
        ImageFolder(test, transforms.Compose(central)),
    )
