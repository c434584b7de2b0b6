"""Your own images: pictures to try with, and what a trained network says of those of the test."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from ldarts_lib import ImageDataset, load_images
from ldarts_lib.evaluation.trained import TrainedNetwork
from ldarts_lib.files import write_atomically


def write_digits(folder: Path, count: int = 500) -> Path:
    """Write digits that ship as PNG files of 8×8 pixels, one folder per class, and give the folder."""
    images = load_images("digits")
    first = zip(images.search_images[:count], images.search_labels[:count].tolist(), strict=True)
    for number, (image, label) in enumerate(first):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((255 * image[0]).byte().numpy())
        write_atomically(path, lambda file, picture=picture: picture.save(file, "png"))
    return folder


def asked(network: TrainedNetwork, images: ImageDataset) -> pd.DataFrame:
    """What a network says of the test pictures: a row for each, in their order.

    Columns: ``guess``, its ``probability``, the ``truth``, and whether the guess is ``right``.
    """
    scale = 255 if images.test_images.dtype == torch.uint8 else 1
    with torch.no_grad():
        shares, found = network(images.test_images.float() / scale).softmax(1).max(1)
    names = [[network.class_names[index] for index in row] for row in (found, images.test_labels)]
    rows = pd.DataFrame(dict(zip(("guess", "truth"), names, strict=True)))
    return rows.assign(probability=shares.tolist(), right=rows["guess"] == rows["truth"])


def predicted() -> pd.DataFrame:
    """What the network of the chapter's recorded run says, as :func:`asked`."""
    path = files("ldarts_data") / "recorded" / "yours" / "images.csv"
    return pd.read_csv(str(path), dtype={"guess": str, "truth": str})


def captions(said: pd.DataFrame) -> list[str]:
    """Each answer in a few characters, and the truth if it is wrong."""
    truths = ("" if right else f"\nnot {truth}" for right, truth in zip(said.right, said.truth, strict=True))
    rows = zip(said.guess, said.probability, truths, strict=True)
    return [f"{guess} {share:.0%}{truth}" for guess, share, truth in rows]
