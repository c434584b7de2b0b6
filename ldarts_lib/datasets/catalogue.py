"""Which data sets there are, which of them are here, and how to get the others; nothing is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ldarts_lib.datasets import corpus, downloads
from ldarts_lib.datasets.embedded import EMBEDDED
from ldarts_lib.errors import require_known
from ldarts_lib.files import expanded

DATASETS: tuple[str, ...] = (*EMBEDDED, *downloads.DOWNLOADED)
"""Images that fit on a device."""
IMAGENET = "imagenet"
"""Images in folders of files."""


def own_folder(name: str) -> Path | None:
    """The folder of pictures of one's own that is meant, where there is one and the name is not built in."""
    folder = expanded(name)
    return folder if name not in (*DATASETS, IMAGENET) and name and os.path.isdir(folder) else None


def recorded_name(dataset: str) -> str:
    """What a data set is called where results are recorded: its name, or that of its folder."""
    if not (folder := own_folder(dataset)):
        return Path(dataset).name
    name = folder.resolve().name
    return f"own-{name}" if name in (*DATASETS, IMAGENET, *corpus.TEXTS) else name


@dataclass(frozen=True)
class Status:
    """Whether a data set can be loaded here: for ``ldarts info``.

    Attributes:
        location: where its files are or belong.
        megabytes: size of the download; 0 for what ships.
        how: how to get it.
    """

    name: str
    present: bool
    location: str
    megabytes: int = 0
    how: str = ""


def status() -> list[Status]:
    """The state of all images that fit on a device and of all texts with a name."""
    root, ptb = downloads.data_root(), corpus.folder_of("ptb")
    ships = EMBEDDED | {"civics": "ldarts_data"}
    *images, civics = [Status(name, True, f"inside the package {where}") for name, where in ships.items()]
    for one in map(downloads.download_of, downloads.DOWNLOADED):
        where, how = str(root / one.folder), one.instructions(root)
        images.append(Status(one.name, one.present(root), where, one.megabytes, how))
    how = corpus.ptb_instructions(ptb)
    return [*images, civics, Status("ptb", corpus.present(ptb), str(ptb), corpus.PTB_MEGABYTES, how)]


def fetch(name: str) -> Status:
    """Download images if they are missing, and verify their checksums.

    Raises:
        UnknownName: no such data set.
        DatasetMissing: they cannot be fetched automatically; the message says how to get them.
        DatasetCorrupt: a file has another checksum than the published one.
    """
    require_known("data set", name, DATASETS)
    if name in downloads.DOWNLOADED:
        root, source = downloads.data_root(), downloads.download_of(name)
        source.fetch(root)
        source.verify(root)
    return next(record for record in status() if record.name == name)
