"""Your pictures, your space: pictures to try with, and what a trained network says of some."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from ldarts_lib import ImageDataset, load_images
from ldarts_lib.evaluation.trained import TrainedNetwork
from ldarts_lib.files import write_atomically

OPERATION = '''"""An operation of one's own: weighs channels by what is in them (Hu et al., 2018)."""

from torch import nn

from ldarts_lib import register_operation


class Squeeze(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.shrink = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Sigmoid()
        )

    def forward(self, x):
        return self.shrink(x * self.weigh(x))


register_operation("squeeze", lambda channels, stride, affine: Squeeze(channels, stride))
'''
SPACE = """name: mine
import: [my_operations]
macro: stages
cells:
  normal:
    nodes: 2
    candidates: [none, skip_connect, nor_conv_3x3, squeeze]
"""


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


def write_space(folder: Path) -> Path:
    """Write a space of one's own and the module of its operation, and give the space's file."""
    for name, text in (("my_operations.py", OPERATION), ("my_space.yaml", SPACE)):
        (folder / name).write_text(text)
    return folder / "my_space.yaml"


def guesses(network: TrainedNetwork, images: ImageDataset, count: int = 16) -> list[str]:
    """What a network says of the first test pictures: class and probability, and the truth if it errs."""
    pictures, scale = images.test_images[:count], 255 if images.test_images.dtype == torch.uint8 else 1
    with torch.no_grad():
        shares, found = network(pictures.float() / scale).softmax(1).max(1)
    names, texts, truths = network.class_names, [], images.test_labels.tolist()
    for share, guess, truth in zip(shares.tolist(), found.tolist(), truths, strict=False):
        wrong = "" if guess == truth else f"\nnot {names[truth]}"
        texts.append(f"{names[guess]} {share:.0%}{wrong}")
    return texts
