"""Pictures in folders, one per class: which there are, matched by the names of the classes.

Left out is what is hidden, as the files ``._*`` and ``.DS_Store`` of macOS and the folders
``.ipynb_checkpoints`` are, and what is no picture by the end of its name, such as ``Thumbs.db``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ldarts_lib.errors import DatasetCorrupt, DatasetMissing
from ldarts_lib.files import expanded

TRAINING, TESTS = "train", ("test", "valid", "val")
SHAPE = "a folder with one folder of pictures per class, or with such folders in train and test"
_NO_CLASSES = ("__MACOSX", "@eaDir", "__pycache__")
"""Folders that systems leave behind."""
SHOWN = 10
"""How many bad files a message names."""
_OTHERS = 10_000
"""Files that are no pictures; with more, and few pictures, another folder must be meant."""


@dataclass(frozen=True)
class Folder:
    """The pictures of a folder.

    Attributes:
        classes: names of the class folders of the training part, sorted.
        files: each picture, the position of its class, and whether it is of the test part.
        notes: what a user should know of it, one line each.
    """

    root: Path
    classes: list[str]
    files: list[tuple[Path, int, bool]]
    notes: list[str]


def read_folder(folder: str | os.PathLike) -> Folder:
    """Find the pictures of a folder (:data:`SHAPE`; the test part may be called valid or val, or be missing).

    Raises:
        DatasetMissing: there is no such folder, or no training part.
        DatasetCorrupt: as :func:`matched`, or there is one class only.
    """
    root = expanded(folder)
    if not root.is_dir():
        raise DatasetMissing(f"there is no folder {root}; pictures are {SHAPE}")
    names = {path.name for path in _folders(root)}
    if names and names <= {*TESTS}:
        raise DatasetMissing(f"{root} has {listed(sorted(names))}, but no {TRAINING}; pictures are {SHAPE}")
    # a class may be called train, too
    split = TRAINING in names and (names <= {TRAINING, *TESTS} or bool(_folders(root / TRAINING)))
    used = [TRAINING, *(name for name in TESTS if name in names)][:2] if split else [""]
    tops = [root / name for name in used]
    classes, parts, notes = matched(tops)
    if len(classes) == 1:
        raise DatasetCorrupt(f"{root} has one class only, {classes[0]}; to choose takes two or more")
    if split and (aside := sorted(names.difference(used))):
        notes.append(f"left aside: {listed(aside)} (used: {' and '.join(used)})")
    files = [(path, label, tested > 0) for tested, part in enumerate(parts) for path, label in part]
    if others := sum(len(_visible(top)) for top in tops) - len(files):
        notes.append(f"left out: {others} files that are no pictures, or lie outside the class folders")
    return Folder(root, classes, files, notes)


def matched(
    tops: Sequence[Path],
    how: str = "put the pictures of each class into a folder that is named like the class",
) -> tuple[list[str], list[list[tuple[Path, int]]], list[str]]:
    """The class folders of a training part and, if there is one, of a test part, matched by name.

    Args:
        how: what to do if pictures lie flat.

    Returns:
        The training's classes, sorted; of each part the pictures, in torchvision's order, with the positions
        of their classes; what is not tested.

    Raises:
        DatasetCorrupt: a part has no class folders, an empty one, or one that the training lacks.
    """
    classes, found, notes = [], [], []
    for top in tops:
        part = {path.name: pictures_in(path) for path in _folders(top)}
        if not part:
            flat = len(pictures_in(top))
            raise DatasetCorrupt(f"{top} has {f'{flat} pictures but ' * (flat > 0)}no class folders: {how}")
        if empty := [str(top / name) for name, pictures in part.items() if not pictures]:
            raise DatasetCorrupt(f"class folders without a picture: {listed(empty)}; fill or remove them")
        classes = classes or list(part)
        if extra := [str(top / name) for name in part if name not in classes]:
            problem = f"classes to test that have no training pictures: {listed(extra)}"
            raise DatasetCorrupt(f"{problem}; those are {listed(classes)}")
        if missing := [name for name in classes if name not in part]:
            notes.append(f"{top} has no pictures of {listed(missing)}: not tested")
        number = {name: position for position, name in enumerate(classes)}
        found.append([(path, number[name]) for name, pictures in part.items() for path in pictures])
    return classes, found, notes


def listed(names: Iterable[str]) -> str:
    """The first of many names, and how many there are."""
    names = list(names)
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def pictures_in(folder: Path) -> list[Path]:
    """All pictures in a folder, at any depth, by the ends of their names; none is opened."""
    return [path for path in _visible(folder) if path.suffix.lower() in _suffixes()]


def _folders(part: Path) -> list[Path]:
    return [path for path in sorted(part.iterdir()) if path.is_dir() and _seen(path.name)]


def _visible(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden; a folder to which links lead again counts once."""
    found, known, pictures, others = [], set(), 0, 0
    for where, inside, names in os.walk(folder, followlinks=True):
        place = os.stat(where)
        if (place.st_dev, place.st_ino) in known:
            inside.clear()
            continue
        known.add((place.st_dev, place.st_ino))
        inside[:] = sorted(filter(_seen, inside))
        found.append((where, sorted(name for name in names if not name.startswith("."))))
        more = sum(os.path.splitext(name)[1].lower() in _suffixes() for name in names)
        pictures, others = pictures + more, others + len(names) - more
        if others > max(_OTHERS, 10 * pictures):
            raise DatasetCorrupt(f"{folder} has more than {_OTHERS:,} files that are no pictures")
    return [Path(where) / name for where, names in sorted(found) for name in names]


def _seen(name: str) -> bool:
    return not name.startswith(".") and name not in _NO_CLASSES


@cache
def _suffixes() -> set[str]:
    from PIL import Image

    return {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
