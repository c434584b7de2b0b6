"""Data sets that must be downloaded.

CIFAR-10, CIFAR-100 and SVHN are fetched and read by torchvision (imported only when they are asked
for: the import takes a second), ImageNet16-120 is fetched by hand and read here.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ldarts_lib.errors import DatasetCorrupt, DatasetMissing

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10, SVHN

Split = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
Files = tuple[tuple[str, str], ...]

DOWNLOADED = ("cifar10", "cifar100", "svhn", "imagenet16-120")
IMAGENET16_CLASSES = 120
# Checksums: class ImageNet16 of AutoDL-Projects, the code of NAS-Bench-201.
IMAGENET16_TRAIN: Files = (
    ("train_data_batch_1", "27846dcaa50de8e21a7d1a35f30f0e91"),
    ("train_data_batch_2", "c7254a054e0e795c69120a5727050e3f"),
    ("train_data_batch_3", "4333d3df2e5ffb114b05d2ffc19b1e87"),
    ("train_data_batch_4", "1620cdf193304f4a92677b695d70d10f"),
    ("train_data_batch_5", "348b3c2fdbb3940c4e9e834affd3b18d"),
    ("train_data_batch_6", "6e765307c242a1b3d7d5ef9139b48945"),
    ("train_data_batch_7", "564926d8cbf8fc4818ba23d2faac7564"),
    ("train_data_batch_8", "f4755871f718ccb653440b9dd0ebac66"),
    ("train_data_batch_9", "bb6dd660c38c58552125b1a92f86b5d4"),
    ("train_data_batch_10", "8f03f34ac4b42271a294f91bf480f29b"),
)
IMAGENET16_TEST: Files = (("val_data", "3410e3017fdaefba8d5073aaa65e4bd6"),)


@dataclass(frozen=True)
class Download:
    """Where a data set comes from and which files it needs.

    Attributes:
        name: the data set.
        archive: what to fetch.
        url: from where.
        megabytes: how big it is.
        folder: where its files lie, below the data root.
        files: (file name, MD5) of each.
        automatic: whether :func:`download` can fetch it.
    """

    name: str
    archive: str
    url: str
    megabytes: int
    folder: str
    files: Files
    automatic: bool = True

    def present(self, root: Path) -> bool:
        """Whether all files are there (their contents are not read)."""
        return all((root / self.folder / name).is_file() for name, _ in self.files)

    def instructions(self, root: Path) -> str:
        """How to get it."""
        command = f", or run: ldarts data {self.name}" if self.automatic else ""
        return (
            f"fetch {self.archive} ({self.megabytes} MB) from {self.url} "
            f"so that its files lie in {root / self.folder}{command}"
        )

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
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "md5").hexdigest()
            if found != expected:
                raise DatasetCorrupt(
                    f"{self.name}: {path} has the MD5 checksum {found}, expected {expected}; "
                    f"delete it and {self.instructions(root)}"
                )


def download_of(name: str) -> Download:
    """The download of one of :data:`DOWNLOADED`."""
    if name in ("cifar10", "cifar100"):
        cifar = _cifar(name)
        files = tuple((file, md5) for file, md5 in (*cifar.train_list, *cifar.test_list))
        files += ((cifar.meta["filename"], cifar.meta["md5"]),)
        megabytes = 170 if name == "cifar10" else 169
        return Download(name, cifar.filename, cifar.url, megabytes, cifar.base_folder, files)
    if name == "svhn":
        splits = [_svhn().split_list[split] for split in ("train", "test")]
        files = tuple((file, md5) for _, file, md5 in splits)
        urls = " and ".join(url for url, _, _ in splits)
        return Download(name, " and ".join(file for file, _ in files), urls, 246, "", files)
    return Download(
        "imagenet16-120",
        "ImageNet16",
        "https://drive.google.com/open?id=1L0Lzq8rWpZLPfiQGd6QR8q5xLV88emU7 (the data of NAS-Bench-201)",
        1022,
        "ImageNet16",
        IMAGENET16_TRAIN + IMAGENET16_TEST,
        automatic=False,
    )


def download(name: str, root: Path) -> None:
    """Fetch CIFAR-10, CIFAR-100 or SVHN through torchvision, with its progress bar and checksums.

    Raises:
        DatasetMissing: the download failed; the message says why, and how to fetch it by hand.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        if name == "svhn":
            for split in ("train", "test"):
                _svhn()(str(root), split, download=True)
        else:
            _cifar(name)(str(root), download=True)
    except (OSError, RuntimeError) as error:  # torchvision's own errors are RuntimeErrors
        raise DatasetMissing(
            f"{name}: the download failed ({error}); {download_of(name).instructions(root)}"
        ) from error


def read(name: str, root: Path) -> tuple[Split, Split]:
    """The verified training and test split: images [n, 3, height, width] and labels from 0.

    Raises:
        DatasetMissing: a file is not there.
        DatasetCorrupt: a file is not the published one.
    """
    download_of(name).verify(root)
    if name == "imagenet16-120":
        folder = root / "ImageNet16"
        return _imagenet16(folder, IMAGENET16_TRAIN), _imagenet16(folder, IMAGENET16_TEST)
    if name == "svhn":
        splits = (_svhn()(str(root), split) for split in ("train", "test"))
        return tuple((np.ascontiguousarray(split.data), split.labels) for split in splits)
    splits = (_cifar(name)(str(root), train) for train in (True, False))
    return tuple(
        (np.ascontiguousarray(split.data.transpose(0, 3, 1, 2)), np.asarray(split.targets))
        for split in splits
    )


def data_root(root: str | os.PathLike | None = None) -> Path:
    """Where downloads lie: ``root``, else the variable LDARTS_DATA, else ~/.cache/ldarts."""
    chosen = root or os.environ.get("LDARTS_DATA") or Path.home() / ".cache" / "ldarts"
    return Path(chosen).expanduser()


def _cifar(name: str) -> type[CIFAR10]:
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def _svhn() -> type[SVHN]:
    from torchvision import datasets

    return datasets.SVHN


def _imagenet16(folder: Path, files: Files) -> Split:
    """The first 120 classes; the files number the classes from 1."""
    images, labels = [], []
    for name, _ in files:
        with (folder / name).open("rb") as file:
            batch = _ArraysOnly(file, encoding="latin1").load()
        targets = np.asarray(batch["labels"])
        wanted = (targets >= 1) & (targets <= IMAGENET16_CLASSES)
        images.append(np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 16, 16)[wanted])
        labels.append(targets[wanted] - 1)
    return np.concatenate(images), np.concatenate(labels).astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays and plain values; anything else in the file is refused."""

    ALLOWED = frozenset(
        {
            ("_codecs", "encode"),  # how Python 3 writes bytes in the oldest protocols
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "scalar"),
            ("numpy._core.numeric", "_frombuffer"),
        }
    )

    def find_class(self, module: str, name: str) -> object:
        current = module.replace("numpy.core.", "numpy._core.")  # the name before NumPy 2
        if (current, name) not in self.ALLOWED:
            raise DatasetCorrupt(f"imagenet16-120: a file refers to {module}.{name}; it may hold arrays only")
        return super().find_class(current, name)
