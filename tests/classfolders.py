"""Small folders of pictures: each class has a colour of its own, so that labels can be read off."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = dict(zip("abcd", [(220, 60, 40), (50, 200, 70), (40, 80, 220), (230, 90, 200)], strict=True))


def write_pictures(folder: Path, count: int, name: str = "", end: str = "png", size: int = 12) -> None:
    """So many noisy pictures of the colour of a class, by default that of the folder's name."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(count)
    for number in range(count):
        pixels = np.array(COLOURS[name or folder.name]) + random.normal(0, 20, (size, size + 4, 3))
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(folder / f"{number:03d}.{end}")


def class_folders(root: Path, classes: str = "abc", count: int = 10, **how) -> Path:
    """A folder with these class folders."""
    root.mkdir(parents=True, exist_ok=True)
    for name in classes:
        write_pictures(root / name, count, **how)
    return root


def class_of(picture: np.ndarray) -> str:
    """The class whose colour is nearest to the mean of a picture [3, height, width] in 0..255."""
    mean = np.asarray(picture, float).mean((1, 2))
    return min(COLOURS, key=lambda name: abs(mean - COLOURS[name]).sum())


def flat(folder: Path) -> None:
    """Take the pictures out of the class folders."""
    for path in folder.glob("*/*"):
        path.rename(folder / f"{path.parent.name}{path.name}")
    for path in folder.glob("?"):
        path.rmdir()
