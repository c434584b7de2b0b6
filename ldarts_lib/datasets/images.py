"""Data sets as tensors on the device: four without a download, the four of the experiments, a small one.

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
``cifar10-small``   10       4,000 (16×16; fixed halves)  2,000
==================  =======  ===========================  ===========

Means, standard deviations, crops and flips of the next four are those of the official Λ-DARTS code
(SVHN is flipped too); the first four are standardized by their own search images and never changed.
``cifar10-small`` are the first 200 pictures of each class of CIFAR-10 for ω, the next 200 for α, and the
first 200 test pictures, averaged over 2×2 pixels, and treated like CIFAR-10.
A folder of pictures is a data set, too (:mod:`~ldarts_lib.datasets.folders`): standardized by its training
part, cropped and flipped as CIFAR is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ldarts_lib.datasets import catalogue, downloads, embedded
from ldarts_lib.datasets.batches import Augmentation, Batches
from ldarts_lib.datasets.decoded import FINGERPRINT, decoded, require_memory
from ldarts_lib.errors import DatasetCorrupt, UnknownName
from ldarts_lib.progress import Bar

Halves = Literal["seeded", "stored", "listed"]
PADDING = 4
"""Of pictures of one's own, as of CIFAR."""
_CIFAR10 = 10, (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
_FACTS = {  # classes, mean, standard deviation, padding
    "cifar10": (*_CIFAR10, 4),
    "cifar10-small": (*_CIFAR10, 2),
    "cifar100": (100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), 4),
    "svhn": (10, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), 4),
    "imagenet16-120": (
        downloads.IMAGENET16_CLASSES,
        (122.68 / 255, 116.66 / 255, 104.01 / 255),
        (63.22 / 255, 61.26 / 255, 65.09 / 255),
        2,
    ),
}


@dataclass(frozen=True)
class ImageDataset:
    """A data set on one device.

    Examples:
        >>> images, labels = torch.zeros(6, 3, 28, 28, dtype=torch.uint8), torch.tensor([0, 1, 2] * 2)
        >>> half = torch.full((1, 3, 1, 1), 0.5)
        >>> parts = images[:3], labels[:3], images[3:], labels[3:]
        >>> mine = ImageDataset("mine", 3, *parts, half, half, Augmentation(padding=4))
        >>> mine.channels, mine.size, mine.class_names
        (3, 28, ('0', '1', '2'))

    Attributes:
        search_images, search_labels: what a search may use: [n, channels, height, width] (uint8,
            or float32 in the scale 0..1) and [n] (int64).
        test_images, test_labels: what it may not use.
        mean, std: [1, channels, 1, 1] in the scale 0..1.
        augmentation: random changes of training images.
        class_names: by default the numbers of the classes.
        fingerprint: of the content; by default that of the tensors, for a built-in data set empty.
        folder: where its pictures lie; empty if it is not made of pictures.
        source: of a download, the file that it is made of.

    Raises:
        DatasetCorrupt: shapes, types, labels or values do not fit; the message names them.
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
    class_names: tuple[str, ...] = ()
    fingerprint: str = ""
    folder: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        names = self.class_names or tuple(map(str, range(self.classes)))
        problems = [f"{len(names)} class_names for {self.classes} classes"] * (len(names) != self.classes)
        problems += [f"{part}_{problem}" for part in ("search", "test") for problem in self._problems(part)]
        if problems:
            raise DatasetCorrupt(f"{self.name}: {problems[0]}")
        object.__setattr__(self, "class_names", names)
        if self.name not in catalogue.DATASETS and not self.fingerprint:
            digest = hashlib.sha256()
            for tensor in (self.search_images, self.search_labels, self.test_images, self.test_labels):
                digest.update(tensor.cpu().contiguous().numpy())
            object.__setattr__(self, "fingerprint", digest.hexdigest()[:FINGERPRINT])

    def _problems(self, part: str) -> Iterator[str]:
        images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
        shape, kind = tuple(images.shape), images.dtype
        if len(shape) != 4 or shape[1:] != (self.channels, self.size, self.size) or self.size % 4:
            wanted = "[n, channels, height, width], height and width equal and a multiple of 4"
            yield f"images have the shape {shape}; expected {wanted}, alike in both parts"
        if kind != torch.uint8 and not kind.is_floating_point:
            yield f"images are {kind}; expected uint8 or float32"
        if labels.dtype != torch.int64 or labels.shape != shape[:1]:
            yield f"labels are {labels.dtype} {tuple(labels.shape)}; expected torch.int64 {shape[:1]}"
        elif len(labels):
            bounded = [(labels, "labels", self.classes - 1, f", as there are {self.classes} classes")]
            if kind.is_floating_point and self.name not in embedded.EMBEDDED:  # noise leaves the scale
                bounded.append((images, "images", 1, " (or uint8, 0 to 255)"))
            for tensor, what, top, why in bounded:
                low, high = (bound.item() for bound in tensor.aminmax())
                if not 0 <= low <= high <= top:
                    yield f"{what} reach from {low:g} to {high:g}; expected 0 to {top}{why}"

    def describe(self) -> dict[str, Any]:
        """What a run directory keeps of it, as ``images.json``: JSON, without the images."""
        told = ("name", "classes", "class_names", "channels", "size", "fingerprint", "folder", "source")
        facts = {name: getattr(self, name) for name in told if name != "source" or self.source}
        counts = {"search": len(self.search_labels), "test": len(self.test_labels)}
        numbers = {name: getattr(self, name).flatten().tolist() for name in ("mean", "std")}
        return facts | {"class_names": list(self.class_names), "counts": counts} | numbers

    @property
    def facts(self) -> dict[str, Any]:
        """What the settings of a search or a training on these images say of them."""
        if not self.fingerprint:
            return {"dataset": self.name}
        facts = {"dataset": self.name, "fingerprint": self.fingerprint, "pictures": len(self.search_labels)}
        cut = {"folder": self.folder, "pixels": self.size, "flip": self.augmentation.flip}
        return facts | (cut if self.folder else {})

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
        return self._batches(slice(None))

    def test(self) -> Batches:
        """The test images, which are never augmented."""
        facts = {"mean": self.mean, "std": self.std, "augmentation": Augmentation()}
        return Batches(self.test_images, self.test_labels, **facts)

    def halves(
        self, how: Halves = "seeded", *, fraction: float = 0.5, seed: int = 0
    ) -> tuple[Batches, Batches]:
        """The search images in two parts: for the weights ω and the architecture parameters α.

        The embedded sets are stored in random order, ``cifar10-small`` with its classes in turn; they are
        cut where they stand. The others are shuffled by the seed first.

        Args:
            how: ``stored`` cuts all where they stand; ``listed`` are the halves of NAS-Bench-201.
            fraction: share of the images that trains ω.

        Raises:
            ValueError: one part would be empty.
            DatasetMissing, DatasetCorrupt: the lists are not at hand, or others.
        """
        if how == "listed":
            return tuple(self._batches(torch.tensor(part)) for part in downloads.listed_halves(self.name))
        count = len(self.search_labels)
        first = round(fraction * count) if 0 < fraction < 1 else 0
        if not 0 < first < count:
            empty = f"a fraction of {fraction} leaves one part of {count} images empty"
            raise ValueError(f"{empty}; choose one between 0 and 1")
        order = torch.arange(count)
        if how == "seeded" and self.name not in (*embedded.EMBEDDED, downloads.SMALL):
            order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        parts = order.to(self.search_labels.device).split([first, count - first])
        return tuple(self._batches(part) for part in parts)

    def divided(self, held_out: float) -> ImageDataset:
        """A share of its search images, the same for every seed, in the place of the test images."""
        kept, out = self.halves(fraction=1 - held_out)
        tests = {"test_images": out.images, "test_labels": out.labels}
        return replace(self, search_images=kept.images, search_labels=kept.labels, **tests)

    def _batches(self, part: Tensor | slice) -> Batches:
        facts = {"mean": self.mean, "std": self.std, "augmentation": self.augmentation}
        return Batches(self.search_images[part], self.search_labels[part], **facts)


def load_images(
    name: str,
    *,
    device: torch.device | str = "cpu",
    root: str | os.PathLike | None = None,
    download: bool = False,
    flip: bool | None = None,
    **decoding: Any,
) -> ImageDataset:
    """A data set as tensors on a device.

    Examples:
        >>> images = load_images("noisy-digits")
        >>> images.search_images.shape, len(images.test_labels)
        (torch.Size([1000, 1, 8, 8]), 4000)

    Args:
        name: one of :data:`~ldarts_lib.datasets.catalogue.DATASETS`, or a folder with one folder of pictures
            per class, or with such folders in ``train`` and ``test``.
        root: folder of the downloads; by default the variable LDARTS_DATA or ~/.cache/ldarts.
        download: whether to download it if it is missing.
        flip: of a folder, whether training pictures are mirrored at random; by default they are.
        decoding: of a folder, ``pixels``, ``channels_in`` and ``skip_unreadable`` of
            :func:`~ldarts_lib.datasets.decoded.decoded`.

    Raises:
        UnknownName: no such data set or folder.
        DatasetMissing: a file is missing; the message says what to fetch, from where, to where.
        DatasetCorrupt: a file has another checksum than the published one.
    """
    if folder := catalogue.own_folder(name):
        return _own(folder, device, flip is not False, root=root, **decoding)
    if name not in catalogue.DATASETS:
        possible = f"{', '.join(catalogue.DATASETS)}, or a folder with one folder of pictures per class"
        raise UnknownName(f"unknown data set {name!r}; choose one of {possible}")
    if name in embedded.EMBEDDED:
        return _embedded(name, device)
    folder = downloads.data_root(root)
    if download:
        downloads.download_of(name).fetch(folder)
    arrays = (np.ascontiguousarray(array) for split in downloads.read(name, folder) for array in split)
    images, labels, test_images, test_labels = (torch.as_tensor(array).to(device) for array in arrays)
    classes, *facts, padding = _FACTS[name]
    mean, std = (torch.tensor(values, device=device).view(1, -1, 1, 1) for values in facts)
    parts = images, labels.long(), test_images, test_labels.long(), mean, std
    change, source = Augmentation(padding, flip=True), downloads.download_of(name).archive
    return ImageDataset(name, classes, *parts, change, source=source)


def _own(folder: Path, device: torch.device | str, flip: bool, **how: Any) -> ImageDataset:
    found, where = decoded(folder, **how), torch.device(device)
    name, names = catalogue.recorded_name(str(folder)), tuple(found.pop("class_names").tolist())
    if where.type == "cuda":
        require_memory(name, found["search_images"].shape, torch.cuda.mem_get_info(where)[0], str(where))
    for note in found.pop("notes").tolist():
        _say(note)
    told = {"fingerprint": found.pop("fingerprint").item(), "folder": str(folder.resolve())}
    told |= {part: torch.from_numpy(array).to(where) for part, array in found.items()}
    change = Augmentation(PADDING, flip=flip)
    return ImageDataset(name, len(names), augmentation=change, class_names=names, **told)


@cache
def _say(note: str) -> None:
    """Once in a process."""
    Bar.write(note)


def _embedded(name: str, device: torch.device | str) -> ImageDataset:
    arrays = embedded.digits() if name == "digits" else embedded.mnist_digits(name)
    cuts = (torch.tensor(array, device=device).tensor_split([embedded.SEARCH_IMAGES]) for array in arrays)
    (images, test_images), (labels, test_labels) = cuts
    facts = images.mean().view(1, 1, 1, 1), images.std().view(1, 1, 1, 1), Augmentation()
    return ImageDataset(name, 10, images, labels, test_images, test_labels, *facts)
