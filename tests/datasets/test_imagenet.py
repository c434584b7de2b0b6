"""ImageNet's folders: classes are matched by name, what is hidden is left out, what is bad is named."""

import shutil

import pytest
import torch

from classfolders import class_folders, flat
from ldarts_lib.datasets.imagenet import image_folders
from ldarts_lib.errors import DatasetCorrupt
from ldarts_lib.evaluation.images import training_images
from ldarts_lib.evaluation.protocols import training_protocol
from ldarts_lib.spaces.published import published


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A small ImageNet of three classes."""
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path))
    for part, count in (("train", 6), ("val", 2)):
        class_folders(tmp_path / "imagenet" / part, count=count, end="JPEG", size=40)
    return tmp_path / "imagenet"


def labels(part):
    return {path.parent.name: label for path, label in part.samples}


def test_the_classes_of_both_parts_are_those_of_the_training(home):
    shutil.rmtree(home / "val" / "a")
    training, test = image_folders(32)
    assert labels(training) == {"a": 0, "b": 1, "c": 2} and labels(test) == {"b": 1, "c": 2}
    assert (len(training), len(test), test.classes) == (18, 4, ["a", "b", "c"])
    assert test[0][0].shape == (3, 32, 32) and test[0][1] == 1


def test_what_systems_leave_behind_is_left_out(home):
    shutil.copytree(home / "val" / "a", home / "val" / ".ipynb_checkpoints")
    (home / "train" / ".ipynb_checkpoints").mkdir()
    (home / "train" / "b" / "._000.JPEG").write_bytes(b"\0\5\26\7" + b"\0" * 100)
    assert [len(part) for part in image_folders(32)] == [18, 6]


FAULTS = {
    "extra": (lambda home: shutil.copytree(home / "val/a", home / "val/d"), "val/d; those are a, b, c"),
    "empty": (lambda home: [path.unlink() for path in (home / "val/c").iterdir()], "a picture: .*val/c"),
    "flat": (lambda home: flat(home / "val"), "val has 6 pictures but no class folders: .*valprep.sh"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_what_does_not_fit_is_refused_by_the_folder(home, change, message):
    change(home)
    with pytest.raises(DatasetCorrupt, match=message):
        image_folders(32)


def test_a_truncated_picture_is_one_line_that_names_it(home):
    path = home / "train" / "b" / "000.JPEG"
    path.write_bytes(path.read_bytes()[:900])
    small = {"channels": 8, "auxiliary": 0, "resolution": 32, "batch_size": 18, "images": None}
    chosen = training_protocol("V2", published("DARTS_V2"), "imagenet", "imagenet", "smoke", **small)
    images = training_images(chosen, torch.device("cpu"))
    with pytest.raises(DatasetCorrupt) as caught:
        list(images.epoch(0))
    assert str(caught.value).startswith(f"the picture {path} cannot be read: ")
    assert len(str(caught.value).splitlines()) == 1
