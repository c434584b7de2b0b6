"""Which data sets there are, which of them are here, and how to get the others; nothing is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ldarts_lib.datasets import corpus, downloads
from ldarts_lib.datasets.embedded import EMBEDDED
from ldarts_lib.errors import require_known

DATASETS: tuple[str, ...] = (*EMBEDDED, *downloads.DOWNLOADED)
"""Images that fit on a device."""
IMAGENET = "imagenet"
"""Images in folders of files."""


@dataclass(frozen=True)
class Status:
    """Whether a data set can be loaded here: for ``ldarts info``.

    Attributes:
        name: the data set.
        present: whether its files are there.
        location: where they are or belong.
        megabytes: size of the download; 0 for what ships.
        how: how to get it.
    """

    name: str
    present: bool
    location: str
    megabytes: int
    how: str


def status(root: str | os.PathLike | None = None) -> list[Status]:
    """The state of all images that fit on a device and of all texts with a name."""
    folder = downloads.data_root(root)
    found = [Status(name, True, f"inside the package {package}", 0, "") for name, package in EMBEDDED.items()]
    for source in map(downloads.download_of, downloads.DOWNLOADED):
        where, how = str(folder / source.folder), source.instructions(folder)
        found.append(Status(source.name, source.present(folder), where, source.megabytes, how))
    found.append(Status("civics", True, "inside the package ldarts_data", 0, ""))
    ptb = corpus.folder_of("ptb", root)
    present, how = corpus.present(ptb), corpus.ptb_instructions(ptb)
    return [*found, Status("ptb", present, str(ptb), corpus.PTB_MEGABYTES, how)]


def fetch(name: str, root: str | os.PathLike | None = None) -> Status:
    """Download images if they are missing, and verify their checksums.

    Raises:
        UnknownName: no such data set.
        DatasetMissing: they cannot be fetched automatically; the message says how to get them.
        DatasetCorrupt: a file has another checksum than the published one.
    """
    require_known("data set", name, DATASETS)
    if name in downloads.DOWNLOADED:
        folder = downloads.data_root(root)
        download_if_missing(name, folder)
        downloads.download_of(name).verify(folder)
    return next(record for record in status(root) if record.name == name)


def download_if_missing(name: str, folder: Path) -> None:
    """Fetch a data set that is not there, if that can be done automatically."""
    source = downloads.download_of(name)
    if source.automatic and not source.present(folder):
        downloads.download(name, folder)
