"""Pictures in folders, one per class: which there are, matched by the names of the classes.

A folder of pictures has one folder per class, or ``train`` and ``test`` (or ``valid``, ``val``) with such
folders. Left out is what is hidden, as the files ``._*`` and ``.DS_Store`` of macOS and the folders
``.ipynb_checkpoints`` are, and what is no picture by the end of its name, such as ``Thumbs.db``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ldarts_lib.errors import DatasetCorrupt, DatasetMissing

TRAINING, TESTS = "train", ("test", "valid", "val")
SHAPE = "a folder with one folder of pictures per class, or with such folders in train and test"
_NO_CLASSES = ("__MACOSX", "@eaDir", "__pycache__")
"""Folders that systems leave behind."""
_NO_PICTURES = {".pdf", ".ps", ".eps", ".mpg", ".mpeg", ".h5", ".hdf", ".bufr", ".grib", ".wmf", ".emf"}
"""What Pillow names among its formats, but cannot read by itself."""
SHOWN = 10
"""How many bad files a message names."""


@dataclass(frozen=True)
class Folder:
    """The pictures of a folder.

    Attributes:
        training, test: the classes by name, and their pictures; without a test part ``test`` is empty.
        notes: what a user should know of it, one line each.
    """

    root: Path
    training: Mapping[str, list[Path]]
    test: Mapping[str, list[Path]]
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[tuple[Path, int, bool]]:
        """All pictures, with the number of their class, and whether they are of the test part."""
        number = {name: position for position, name in enumerate(self.training)}
        parts = [(part, name) for part in (self.training, self.test) for name in part]
        return [(path, number[name], part is self.test) for part, name in parts for path in part[name]]


def read_folder(folder: str | os.PathLike) -> Folder:
    """Find the pictures of a folder; none is opened.

    Raises:
        DatasetMissing: there is no such folder.
        DatasetCorrupt: it has no class folders, or one class only, an empty class, or one that only the test
            part has; the message names the folders.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DatasetMissing(f"there is no folder {root}; pictures are {SHAPE}")
    names = {path.name for path in _folders(root)}
    if names and names <= {*TESTS}:
        raise DatasetMissing(f"{root} has {listed(sorted(names))}, but no {TRAINING}; pictures are {SHAPE}")
    # a class may be called train, too
    split = TRAINING in names and (names <= {TRAINING, *TESTS} or bool(_folders(root / TRAINING)))
    tops = [root / TRAINING, *(root / name for name in TESTS if name in names)][:2] if split else [root]
    training, test = (classes_of(top) for top in tops) if len(tops) == 2 else (classes_of(tops[0]), {})
    if len(training) == 1:
        raise DatasetCorrupt(f"{root} has one class only, {listed(training)}; to choose takes two or more")
    notes = match_classes(tops[1], training, test) if test else []
    if split and (aside := sorted(names - {top.name for top in tops})):
        notes.append(f"left aside: {listed(aside)} (used: {' and '.join(top.name for top in tops)})")
    used = sum(len(pictures) for part in (training, test) for pictures in part.values())
    if others := sum(len(_visible(top)) for top in tops) - used:
        notes.append(f"left out: {others} files that are no pictures, or lie outside the class folders")
    return Folder(root, training, test, notes)


def classes_of(part: Path, how: str = "") -> dict[str, list[Path]]:
    """The class folders in a folder, sorted by name, and the pictures in each, in torchvision's order.

    Args:
        how: what to do if the pictures lie flat; by default in general words.

    Raises:
        DatasetCorrupt: there are none, or one has no picture.
    """
    classes = {path.name: pictures_in(path) for path in _folders(part)}
    if not classes:
        flat = len(pictures_in(part))
        found = f"{flat} pictures but no class folders" if flat else "no class folders"
        how = how or "put the pictures of each class into a folder that is named like the class"
        raise DatasetCorrupt(f"{part} has {found}: {how}")
    if empty := [str(part / name) for name, pictures in classes.items() if not pictures]:
        raise DatasetCorrupt(f"class folders without a picture: {listed(empty)}; fill or remove them")
    return classes


def match_classes(part: Path, training: Collection[str], test: Collection[str]) -> list[str]:
    """Check the classes of a test part against those of the training; what is not tested is noted.

    Raises:
        DatasetCorrupt: the test part has a class that the training lacks.
    """
    if extra := [name for name in test if name not in training]:
        folders, known = listed(str(part / name) for name in extra), listed(training)
        raise DatasetCorrupt(f"classes to test that have no training pictures: {folders}; those are {known}")
    missing = [name for name in training if name not in test]
    return [f"{part} has no pictures of {listed(missing)}: not tested"] if missing else []


def listed(names: Iterable[str]) -> str:
    """The first of many names, and how many there are."""
    names = list(names)
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _folders(part: Path) -> list[Path]:
    return [path for path in sorted(part.iterdir()) if path.is_dir() and _seen(path.name)]


def pictures_in(folder: Path) -> list[Path]:
    """All pictures in a folder, at any depth, by the ends of their names; none is opened."""
    return [path for path in _visible(folder) if path.suffix.lower() in _suffixes()]


def _visible(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden."""
    found = []
    for where, _, names in sorted(os.walk(folder, followlinks=True)):
        if all(map(_seen, Path(where).relative_to(folder).parts)):
            found += [Path(where) / name for name in sorted(names) if not name.startswith(".")]
    return found


def _seen(name: str) -> bool:
    return not name.startswith(".") and name not in _NO_CLASSES


@cache
def _suffixes() -> set[str]:
    from PIL import Image

    readable = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    return readable - _NO_PICTURES
