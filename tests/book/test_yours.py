"""What the chapter on one's own pictures and spaces begins with."""

from __future__ import annotations

import sys

import torch
from torch import nn

from ldarts_book import yours
from ldarts_lib import SPACES, load_images
from ldarts_lib.spaces.definition import read_space
from ldarts_lib.spaces.genotype import REGISTERED


def test_digits_are_written_as_pictures_of_their_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "data"))
    folder = yours.write_digits(tmp_path / "digits", 200)
    assert len([*folder.glob("[0-9]/*.png")]) == 200
    images, shipped = load_images(str(folder), pixels=8, flip=False), load_images("digits")
    assert images.class_names == tuple("0123456789")
    bytes_of = (255 * shipped.search_images[:200]).byte().flatten(1).tolist()
    truth = {tuple(image): label for image, label in zip(bytes_of, shipped.search_labels, strict=False)}
    for image, label in zip(images.test_images, images.test_labels, strict=True):
        assert truth[tuple(image.flatten().tolist())] == label


def test_the_space_has_an_operation_that_weighs_channels(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    space = read_space(yours.write_space(tmp_path))
    assert space.name not in SPACES and space.cells["normal"].shape == (3, 4)
    assert REGISTERED["squeeze"] == "my_operations"
    weigh = sys.modules["my_operations"].Squeeze(3, stride=2)
    nn.init.zeros_(weigh.weigh[1].weight)
    nn.init.constant_(weigh.weigh[1].bias, 0)
    assert torch.equal(weigh(torch.full((1, 3, 4, 4), 2.0)), torch.ones(1, 3, 2, 2))  # σ(0) = 1/2


def test_a_guess_names_the_truth_where_it_errs():
    class Always(nn.Module):
        class_names = tuple("abcdefghij")

        def forward(self, images):
            return torch.eye(10)[7].log().expand(len(images), 10)

    images = load_images("digits")
    for said, label in zip(yours.guesses(Always(), images, 9), images.test_labels, strict=False):
        assert said == "h 100%" + ("" if label == 7 else f"\nnot {'abcdefghij'[label]}")
