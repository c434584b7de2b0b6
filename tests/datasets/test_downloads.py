"""Data sets on disk, as small copies in the real formats: read, missing, broken, downloaded."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets as tv

from ldarts_lib.datasets import downloads
from ldarts_lib.datasets.batches import Augmentation
from ldarts_lib.datasets.catalogue import DATASETS, fetch, status
from ldarts_lib.datasets.corpus import TEXTS
from ldarts_lib.datasets.images import load_images
from ldarts_lib.errors import DatasetCorrupt, DatasetMissing

TRAIN, TEST = 12, 6  # images per file of the small copies
LOADABLE = ("cifar10", "cifar100", "svhn", "imagenet16-120")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def write_pickle(path: Path, content: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return hashlib.md5(path.read_bytes()).hexdigest()


def pixels(count: int, size: int, seed: int) -> np.ndarray:
    shape = (count, 3 * size * size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def small_cifar(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar = {"cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100}[name]
    key, classes = ("labels", 10) if name == "cifar10" else ("fine_labels", 100)
    for listing, count in (("train_list", TRAIN), ("test_list", TEST)):
        files = []
        for seed, (file, _) in enumerate(getattr(cifar, listing)):
            labels = [(n * 7 + seed) % classes for n in range(count)]
            content = {"data": pixels(count, 32, seed), key: labels}
            files.append([file, write_pickle(root / cifar.base_folder / file, content)])
        monkeypatch.setattr(cifar, listing, files)
    names = [str(number) for number in range(classes)]
    content = {cifar.meta["key"]: names}
    md5 = write_pickle(root / cifar.base_folder / cifar.meta["filename"], content)
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": md5})


def small_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = {}
    for split, count in (("train", TRAIN), ("test", TEST)):
        url, file, _ = tv.SVHN.split_list[split]
        images = pixels(count, 32, count).reshape(count, 32, 32, 3).transpose(1, 2, 3, 0)
        digits = np.arange(1, count + 1)[:, None] % 10
        savemat(root / file, {"X": images, "y": np.where(digits == 0, 10, digits)})
        listing[split] = [url, file, hashlib.md5((root / file).read_bytes()).hexdigest()]
    monkeypatch.setattr(tv.SVHN, "split_list", listing)


def small_imagenet16(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [1, 120, 121, 1000, 2, 60]
    for listing in ("IMAGENET16_TRAIN", "IMAGENET16_TEST"):
        files = []
        for seed, (file, _) in enumerate(getattr(downloads, listing)):
            content = {"data": pixels(6, 16, seed), "labels": labels, "mean": np.zeros(768)}
            files.append((file, write_pickle(root / "ImageNet16" / file, content)))
        monkeypatch.setattr(downloads, listing, tuple(files))


@pytest.fixture
def small_copy(tmp_path, monkeypatch):
    """Make a small copy of a download, with its checksums in place of the published ones."""

    def make(name: str) -> Path:
        if name == "svhn":
            small_svhn(tmp_path, monkeypatch)
        elif name == "imagenet16-120":
            small_imagenet16(tmp_path, monkeypatch)
        else:
            small_cifar(name, tmp_path, monkeypatch)
        return tmp_path

    return make


def files_of(name: str, root: Path) -> list[Path]:
    source = downloads.download_of(name)
    return [root / source.folder / file for file, _ in source.files]


@pytest.mark.parametrize(
    ("name", "classes", "size", "search_images", "test_images", "padding"),
    [
        ("cifar10", 10, 32, 5 * TRAIN, TEST, 4),
        ("cifar100", 100, 32, TRAIN, TEST, 4),
        ("svhn", 10, 32, TRAIN, TEST, 4),
        ("imagenet16-120", 120, 16, 40, 4, 2),
    ],
)
def test_a_download_becomes_tensors(small_copy, name, classes, size, search_images, test_images, padding):
    data = load_images(name, root=small_copy(name))
    assert (data.name, data.classes, data.channels, data.size) == (name, classes, 3, size)
    assert data.search_images.shape == (search_images, 3, size, size)
    assert data.test_images.shape == (test_images, 3, size, size)
    for images, labels in (
        (data.search_images, data.search_labels),
        (data.test_images, data.test_labels),
    ):
        assert images.dtype == torch.uint8 and images.is_contiguous()
        assert labels.dtype == torch.int64 and len(labels) == len(images)
    assert data.augmentation == Augmentation(padding=padding, flip=True)
    assert data.mean.shape == data.std.shape == (1, 3, 1, 1)
    assert data.std.min() > 0.1 and data.mean.max() < 0.6
    images, _ = next(data.search().epoch(4, generator(), augment=True))
    assert images.shape == (4, 3, size, size) and images.dtype == torch.float32


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_imagenet16_reads_arrays_of_every_pickle_protocol(small_copy, monkeypatch, protocol):
    root = small_copy("imagenet16-120")
    path = root / "ImageNet16" / "val_data"
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()), protocol=protocol))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(downloads, "IMAGENET16_TEST", (("val_data", md5),))
    assert len(load_images("imagenet16-120", root=root).test()) == 4


def test_halves_of_a_downloaded_set_partition_a_seeded_shuffle(small_copy):
    data = load_images("cifar10", root=small_copy("cifar10"))
    halves = data.halves(fraction=0.25, seed=1)
    assert [len(half) for half in halves] == [15, 45]
    rows = torch.cat([half.images for half in halves]).flatten(1)
    assert not torch.equal(rows, data.search_images.flatten(1))
    assert sorted(rows.tolist()) == sorted(data.search_images.flatten(1).tolist())
    again, other = (data.halves(fraction=0.25, seed=seed)[0].images for seed in (1, 2))
    assert torch.equal(halves[0].images, again) and not torch.equal(again, other)
    for half in halves:  # each image keeps its label
        places = (half.images.flatten(1)[:, None] == data.search_images.flatten(1)).all(-1)
        assert torch.equal(data.search_labels[places.int().argmax(1)], half.labels)


def test_test_images_are_never_augmented(small_copy):
    data = load_images("cifar10", root=small_copy("cifar10"))
    images, labels = next(data.test().epoch(TEST, generator(), augment=True))
    stored, stored_labels = data.test().all()
    order = torch.randperm(TEST, generator=generator())
    assert torch.equal(images, stored[order]) and torch.equal(labels, stored_labels[order])


@pytest.mark.parametrize("name", LOADABLE)
def test_a_missing_file_says_what_to_fetch_from_where_to_where(small_copy, name):
    root = small_copy(name)
    missing = files_of(name, root)[-1]
    missing.unlink()
    source = downloads.download_of(name)
    with pytest.raises(FileNotFoundError) as error:
        load_images(name, root=root)
    assert isinstance(error.value, DatasetMissing)
    message = str(error.value)
    for part in (missing, source.url, f"{source.megabytes} MB", root / source.folder):
        assert str(part) in message
    assert (f"ldarts data {name}" in message) == (name != "imagenet16-120")


@pytest.mark.parametrize("name", LOADABLE)
@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_corrupt_file_names_both_checksums(small_copy, name, damage):
    root = small_copy(name)
    path = files_of(name, root)[0]
    content = path.read_bytes()
    expected = hashlib.md5(content).hexdigest()
    changed = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes({"truncated": content[:-100], "changed": changed, "empty": b""}[damage])
    found = hashlib.md5(path.read_bytes()).hexdigest()
    for call in (load_images, fetch):
        with pytest.raises(DatasetCorrupt) as error:
            call(name, root=root)
        assert all(part in str(error.value) for part in (str(path), found, expected))


def test_the_published_checksums_have_the_right_form():
    for name in LOADABLE:
        files = downloads.download_of(name).files
        assert all(len(md5) == 32 and int(md5, 16) for _, md5 in files)
        assert len(set(files)) == len(files)
    assert len(downloads.IMAGENET16_TRAIN) == 10


def test_a_failed_download_says_how_to_fetch_by_hand(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", offline)
    with pytest.raises(DatasetMissing, match=r"no route to host.*www\.cs\.toronto\.edu"):
        load_images("cifar10", root=tmp_path, download=True)
    with pytest.raises(DatasetMissing, match=r"no route to host.*ufldl\.stanford\.edu"):
        fetch("svhn", root=tmp_path)
    with pytest.raises(DatasetMissing, match=r"drive\.google\.com"):
        fetch("imagenet16-120", root=tmp_path)


def test_nothing_is_downloaded_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "download", lambda *_: pytest.fail("a download"))
    with pytest.raises(DatasetMissing):
        load_images("cifar10", root=tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_a_download_is_fetched_once(small_copy, tmp_path, monkeypatch, name):
    source = small_copy(name)
    target = tmp_path / "target"
    asked = []

    def copy(asked_name: str, root: Path) -> None:
        asked.append(asked_name)
        shutil.copytree(source, root, ignore=lambda *_: {"target"})

    monkeypatch.setattr(downloads, "download", copy)
    assert len(load_images(name, root=target, download=True).test()) == TEST
    record = fetch(name, root=target)
    load_images(name, root=target, download=True)
    assert asked == [name]
    assert record.present and record.location.startswith(str(target))


def test_status_tells_what_is_present_without_loading(small_copy, monkeypatch):
    root = small_copy("svhn")
    monkeypatch.setattr(downloads, "read", lambda *_: pytest.fail("a data set was loaded"))
    records = status(root)
    assert tuple(record.name for record in records) == (*DATASETS, *TEXTS)
    assert {record.name for record in records if record.present} == {
        "noisy-digits",
        "clean-digits",
        "noisier-digits",
        "digits",
        "svhn",
        "civics",
    }
    assert all(record.how and record.megabytes for record in records if not record.present)


def test_the_root_is_the_argument_the_variable_or_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "variable"))
    assert downloads.data_root("~/here") == Path.home() / "here"
    assert downloads.data_root() == tmp_path / "variable"
    monkeypatch.delenv("LDARTS_DATA")
    assert downloads.data_root() == Path.home() / ".cache" / "ldarts"
