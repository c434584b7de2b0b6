"""Pictures of a folder as one array of bytes: decoded once, then read from a cache.

The short side is resized to the wanted size and the middle is cropped, turned as EXIF says; transparent
pixels are laid on white, 16 bits become 8. The channels are those that most pictures have, 1 (gray) or 3.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image, ImageOps

from ldarts_lib.datasets.downloads import data_root
from ldarts_lib.datasets.folders import Folder, listed, read_folder
from ldarts_lib.errors import DatasetCorrupt, ProtocolError, RunError
from ldarts_lib.files import locked, read_bytes, require_file, write_atomically
from ldarts_lib.progress import Bar
from ldarts_lib.settings import PictureSettings, validated

TEST_SHARE = 0.2
FINGERPRINT = 16
"""Digits of a fingerprint, of SHA-256."""
LARGEST = 2**28
"""Bytes of the file of a picture."""
_VERSION, _LEAST_STD = 2, 1 / 255

Array = npt.NDArray[Any]


def decoded(
    folder: str | os.PathLike,
    *,
    pixels: int = 32,
    channels_in: int | None = None,
    skip_unreadable: bool | None = False,
    root: str | os.PathLike | None = None,
) -> dict[str, Array]:
    """The pictures of a folder, decoded now or earlier with these settings, in one fixed random order.

    Without a test part, a fifth of each class, the same in every call, is kept for the test. Processes that
    begin at once wait for the one that decodes.

    Args:
        pixels: height and width.
        channels_in: 1 or 3; by default those that most pictures have.
        skip_unreadable: leave out what cannot be read, with a note, instead of refusing it.
        root: of the cache; by default that of the downloads.

    Returns:
        What :class:`~ldarts_lib.datasets.images.ImageDataset` has by the same names, images as uint8, and
        ``notes``, what a user should know, one line each.

    Raises:
        DatasetMissing, DatasetCorrupt: as :func:`~ldarts_lib.datasets.folders.read_folder`; or pictures
            cannot be read, which are named with the reason.
        ProtocolError: a setting is out of range, or they do not fit into the memory.
        RunError: the cache cannot be written.
    """
    given = {"pixels": pixels, "channels_in": channels_in, "skip_unreadable": bool(skip_unreadable)}
    settings = [*validated(PictureSettings, given | {"fingerprint": ""}).decoding.values()]
    found = read_folder(folder)
    files = [
        (str(path.absolute()), s.st_size, s.st_mtime_ns) for path, *_ in found.files for s in [path.stat()]
    ]
    key = hashlib.sha256(json.dumps([_VERSION, files, *settings]).encode()).hexdigest()[:FINGERPRINT]
    place = data_root(root) / "cache" / f"{found.root.resolve().name}-{key}"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the cache {place}: {error.strerror}; set LDARTS_DATA") from None
    path = place / "pictures.npz"
    if (kept := _read(path)) is None:
        with locked(place, wait=True):
            if (kept := _read(path)) is None:
                kept = _decode(found, *settings)
                write_atomically(path, lambda file: np.savez(file, **kept))
    return kept


def require_memory(name: str, shape: Sequence[int], free: int, where: str) -> None:
    """Check that pictures [n, channels, height, width] fit, twice: a search copies them into its halves.

    Raises:
        ProtocolError: the message says how many bytes they take, and what to lower.
    """
    count, channels, pixels, _ = shape
    if (needed := 2 * count * channels * pixels**2) > free:
        raise ProtocolError(
            f"{name}: {count:,} pictures of {channels}×{pixels}×{pixels} bytes take {needed:,} bytes with a "
            f"copy, but {where} has {free:,} free: lower pixels, set channels_in to 1, or take fewer pictures"
        )


def _decode(found: Folder, pixels: int, channels: int | None, skip: bool) -> dict[str, Array]:
    paths, *facts = zip(*found.files, strict=True)
    labels, tested = map(np.array, facts)
    name, bad, digest = found.root.resolve().name, {}, hashlib.sha256()
    with _threads() as pool:
        votes = Counter(pool.map(_channels, paths))
        channels = channels or (1 if votes[1] > votes[3] else 3)
        shape = len(paths), channels, pixels, pixels
        require_memory(name, shape, psutil.virtual_memory().available, "this machine")
        images = np.zeros(shape, np.uint8)
        read = pool.map(lambda path: read_picture(path, pixels, channels), paths)
        bar = Bar(read, f"decoding {name}", len(paths), unit="picture", leave=False)
        for number, (content, picture) in enumerate(bar):
            own = os.fsencode(paths[number].relative_to(found.root).as_posix())
            digest.update(hashlib.sha256(own).digest() + content)
            if isinstance(picture, str):
                bad[number] = f"{paths[number]} ({picture})"
            else:
                images[number] = picture
    if bad:
        some = f"{len(bad)} of {len(paths)} pictures cannot be read: {listed(bad.values())}"
        if not skip:
            raise DatasetCorrupt(f"{name}: {some}; mend or remove them, or skip them by --skip-unreadable")
        found.notes.append(f"{some}; left out")
    random = np.random.RandomState(0)
    labels[list(bad)] = -1
    if not tested.any():
        tested = _held_out(labels, random, found)
        share = (
            f"{tested.sum()} of {len(paths) - len(bad)} pictures, a fifth of each class and always the same"
        )
        found.notes.append(f"there is no test part; {share}, are kept for the test")
    training, test = (random.permutation(np.flatnonzero((labels >= 0) & part)) for part in (~tested, tested))
    if lost := [kept for label, kept in enumerate(found.classes) if label not in labels[training]]:
        raise DatasetCorrupt(f"{name}: classes without a readable picture: {listed(lost)}")
    kept = {"search_images": images[training], "search_labels": labels[training]}
    kept |= {"test_images": images[test], "test_labels": labels[test]}
    kept |= dict(zip(("mean", "std"), _statistics(kept["search_images"]), strict=True))
    told = {"class_names": found.classes, "fingerprint": digest.hexdigest()[:FINGERPRINT]}
    told["notes"] = [f"{name}: {note}" for note in found.notes]
    return kept | {key: np.array(text, str) for key, text in told.items()}


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that begins nothing more when an error or a signal ends its work."""
    with ThreadPoolExecutor() as pool:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _held_out(labels: Array, random: np.random.RandomState, found: Folder) -> Array:
    """Which pictures are kept for the test: of each class a fifth, but one at least."""
    tested = np.zeros(len(labels), bool)
    for label, name in enumerate(found.classes):
        members = np.flatnonzero(labels == label)
        if len(members) == 1:
            only = f"{found.root / name} has one picture only"
            raise DatasetCorrupt(f"{only}: a class needs one to train and one to test")
        tested[random.permutation(members)[: max(round(TEST_SHARE * len(members)), 1)]] = True
    return tested


def _statistics(images: Array) -> Array:
    """Mean and standard deviation of each channel, [2, 1, channels, 1, 1], from its histogram of bytes."""
    counts = [np.bincount(channel.ravel(), minlength=256) for channel in images.swapaxes(0, 1)]
    share, value = np.array(counts) / (images.size / len(counts)), np.arange(256) / 255
    # μ = Σ_v p(v) v, σ² = Σ_v p(v) (v − μ)²
    mean = share @ value
    std = (share * (value - mean[:, None]) ** 2).sum(1) ** 0.5
    return np.float32([mean, std.clip(_LEAST_STD)]).reshape(2, 1, -1, 1, 1)


def _channels(path: Path) -> int:
    """How many channels a picture has by its header, 1 or 3; 0 if it cannot be read."""
    try:
        require_file(path)
        with Image.open(path) as image:
            if image.mode != "P":
                return 1 if Image.getmodebase(image.mode) == "L" else 3
            red, green, blue = (image.getpalette()[first::3] for first in range(3))
            return 1 if red == green == blue else 3
    except Exception:
        return 0


def read_picture(path: Path, pixels: int, channels: int) -> tuple[bytes, Array | str]:
    """The checksum of a file, and its picture, uint8 [channels, pixels, pixels], or why it cannot be read."""
    content = b""
    try:
        content = read_bytes(path, LARGEST)
        with Image.open(BytesIO(content)) as image:
            image.draft(None, (2 * pixels, 2 * pixels))  # a large JPEG is decoded smaller, but not too small
            small = ImageOps.fit(_flat(image, channels), (pixels, pixels), Image.Resampling.BICUBIC)
        picture: Array | str = np.asarray(small).reshape(pixels, pixels, channels).transpose(2, 0, 1)
    except Image.UnidentifiedImageError:
        picture = "not a picture"
    except Exception as error:  # Pillow's plugins raise what they like
        picture = f"{error}" or type(error).__name__
    return hashlib.sha256(content).digest(), picture


def _flat(image: Image.Image, channels: int) -> Image.Image:
    """The upright picture, gray or in three colours, without transparency."""
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        values, top = np.asarray(image).astype(np.float64), 1 if image.mode == "F" else 2**16 - 1
        if not (values.min() >= 0 and values.max() <= top):  # nor NaN
            raise ValueError(f"values from {values.min():g} to {values.max():g}, expected 0 to {top}")
        image = Image.fromarray((values * (255 / top)).round().astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("L" if channels == 1 else "RGB")


def _read(path: Path) -> dict[str, Array] | None:
    """What was kept earlier; None if there is nothing, or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return dict(kept)
    except (OSError, ValueError, EOFError, BadZipFile):
        return None
