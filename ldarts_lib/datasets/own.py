"""What the settings of a search or a training say of one's own pictures, and the pictures that they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from ldarts_lib.datasets import catalogue
from ldarts_lib.datasets.decoded import decoded
from ldarts_lib.datasets.images import ImageDataset, load_images
from ldarts_lib.errors import DatasetCorrupt, DatasetMissing
from ldarts_lib.settings import PictureSettings

_Settings = TypeVar("_Settings", bound=PictureSettings)


def images_of(settings: PictureSettings, device: torch.device | str = "cpu") -> ImageDataset:
    """The images that the settings of a search or a training are made for.

    Raises:
        DatasetMissing, DatasetCorrupt: as :func:`load_images`; or pictures of one's own are known by their
            name only, or have changed.
    """
    if settings.fingerprint is None:
        return load_images(settings.dataset, device=device)
    if not settings.folder:
        raise DatasetMissing(f"where the pictures {settings.dataset!r} lie is not known: give their folder")
    images = load_images(settings.folder, device=device, flip=settings.flip, **settings.decoding)
    if images.fingerprint != settings.fingerprint:
        change = f"fingerprint {settings.fingerprint}, now {images.fingerprint}"
        raise DatasetCorrupt(f"the pictures in {settings.folder} have changed ({change}): begin anew")
    return images


def with_pictures(make: Callable[[Mapping[str, Any]], _Settings], dataset: str | ImageDataset) -> _Settings:
    """Settings for a data set with a name, for a folder of pictures, or for images that are loaded already.

    Args:
        make: makes settings of what they say of the images. For a folder that is twice: before its pictures
            are decoded, so that other bad settings are found at once, and after.
    """
    if isinstance(dataset, ImageDataset):
        return make(dataset.facts)
    if not (folder := catalogue.own_folder(dataset)):
        return make({"dataset": dataset})
    facts = {"dataset": catalogue.recorded_name(dataset), "folder": str(folder.resolve())}
    facts |= {"pixels": PictureSettings.PIXELS, "flip": True}
    found = decoded(folder, **make(facts | {"fingerprint": ""}).decoding)
    counted = {"fingerprint": found["fingerprint"].item(), "pictures": len(found["search_labels"])}
    return make(facts | counted)
