"""Data sets on disk, as small copies in the real formats: read, missing, broken, downloaded."""

from __future__ import annotations

import hashlib
import json
import pickle
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
LABELS = [1, 120, 121, 1000, 2, 60]  # of a file of ImageNet16, which counts from 1
KEPT = [0, 1, 4, 5]
SHIPPED = {"noisy-digits", "clean-digits", "noisier-digits", "digits", "civics"}


def write_pickle(path: Path, content: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return hashlib.md5(path.read_bytes()).hexdigest()


def pixels(count: int, size: int, seed: int) -> np.ndarray:
    shape = (count, 3, size, size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def small_cifar(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar = {"cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100}[name]
    key, classes = ("labels", 10) if name == "cifar10" else ("fine_labels", 100)
    for listing, count in (("train_list", TRAIN), ("test_list", TEST)):
        files = []
        for seed, (file, _) in enumerate(getattr(cifar, listing)):
            labels = [(n * 7 + seed) % classes for n in range(count)]
            content = {"data": pixels(count, 32, seed).reshape(count, -1), key: labels}
            files.append([file, write_pickle(root / cifar.base_folder / file, content)])
        monkeypatch.setattr(cifar, listing, files)
    content = {cifar.meta["key"]: [str(number) for number in range(classes)]}
    md5 = write_pickle(root / cifar.base_folder / cifar.meta["filename"], content)
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": md5})


def small_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = {}
    for split, count in (("train", TRAIN), ("test", TEST)):
        url, file, _ = tv.SVHN.split_list[split]
        digits = np.arange(1, count + 1)[:, None] % 10
        content = {"X": pixels(count, 32, 0).transpose(2, 3, 1, 0), "y": np.where(digits == 0, 10, digits)}
        savemat(root / file, content)
        listing[split] = [url, file, hashlib.md5((root / file).read_bytes()).hexdigest()]
    monkeypatch.setattr(tv.SVHN, "split_list", listing)


def small_imagenet16(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for listing in ("IMAGENET16_TRAIN", "IMAGENET16_TEST"):
        files = []
        for seed, (file, _) in enumerate(getattr(downloads, listing)):
            data = pixels(6, 16, seed).reshape(6, -1)
            content = {"data": data, "labels": LABELS, "mean": np.zeros(768)}
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
            small_cifar(name.removesuffix("-small"), tmp_path, monkeypatch)
        return tmp_path

    monkeypatch.setenv("LDARTS_DATA", str(tmp_path))
    monkeypatch.delenv("LDARTS_TEST_DATA", raising=False)
    return make


def files_of(name: str, root: Path) -> list[Path]:
    source = downloads.download_of(name)
    return [root / source.folder / file for file, _ in source.files]


@pytest.mark.parametrize(
    ("name", "classes", "files", "kept", "labels", "padding"),
    [
        ("cifar10", 10, 5, range(TRAIN), [0, 7, 4, 1, 8, 5], 4),
        ("cifar100", 100, 1, range(TRAIN), [0, 7, 14, 21, 28, 35], 4),
        ("svhn", 10, 1, range(TRAIN), [1, 2, 3, 4, 5, 6], 4),
        ("imagenet16-120", 120, 10, KEPT, [0, 119, 1, 59], 2),
    ],
)
def test_a_download_becomes_tensors(small_copy, name, classes, files, kept, labels, padding):
    data, size = load_images(name, root=small_copy(name)), 16 if len(kept) == 4 else 32
    count = 6 if size == 16 else TRAIN
    expected = np.concatenate([pixels(count, size, seed)[list(kept)] for seed in range(files)])
    assert torch.equal(data.search_images, torch.from_numpy(expected))
    assert data.search_images.is_contiguous()
    assert data.search_labels[: len(labels)].tolist() == data.test_labels.tolist() == labels
    assert data.search_labels.dtype == data.test_labels.dtype == torch.int64
    assert (data.name, data.classes, data.channels, data.size) == (name, classes, 3, size)
    assert data.augmentation == Augmentation(padding=padding, flip=True)
    assert data.mean.shape == data.std.shape == (1, 3, 1, 1)
    assert data.std.min() > 0.1 and data.mean.max() < 0.6


STANDARDIZED = {
    "cifar10": ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "imagenet16-120": ((0.481098, 0.457490, 0.407882), (0.247922, 0.240235, 0.255255)),
}
"""``utils.py`` of the Λ-DARTS code, in the scale 0..1."""


@pytest.mark.parametrize("name", STANDARDIZED)
def test_the_numbers_by_which_a_download_is_standardized(small_copy, name):
    data = load_images(name, root=small_copy(name))
    for found, expected in zip((data.mean, data.std), STANDARDIZED[name], strict=True):
        assert found.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    images, _ = data.search().all()
    expected = (data.search_images / 255 - data.mean) / data.std
    torch.testing.assert_close(images, expected)


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


def test_halves_are_also_as_stored_or_as_nasbench201_lists_them(small_copy, monkeypatch, tmp_path):
    data = load_images("cifar10", root=small_copy("cifar10"))
    assert torch.equal(data.halves("stored", seed=1)[0].images, data.search_images[:30])
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path))
    with pytest.raises(
        DatasetMissing, match=r"cifar-split\.txt is missing; fetch .* in NAS-Bench201/configs"
    ):
        data.halves("listed")
    lists = {"train": ["int", ["0", "2", "5"]], "valid": ["int", ["1", "3"]]}
    (tmp_path / "cifar-split.txt").write_text(text := json.dumps(lists))
    with pytest.raises(DatasetCorrupt, match=r"cifar-split\.txt has the MD5 checksum"):
        data.halves("listed")
    monkeypatch.setitem(
        downloads.LISTS, "cifar10", ("cifar-split.txt", hashlib.md5(text.encode()).hexdigest())
    )
    of_weights, of_alpha = data.halves("listed")
    assert torch.equal(of_weights.images, data.search_images[[0, 2, 5]])
    assert torch.equal(of_alpha.labels, data.search_labels[[1, 3]])


def copies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, torch.Tensor]:
    """The file of decoded copies, with few pictures; returns those of the training part."""
    images, labels = pixels(60, 32, 9), np.arange(60, dtype=np.uint8) // 6
    parts = {"train": (images, labels), "test": (images[::3], labels[::3])}
    held = {f"{part}_images": x.transpose(0, 2, 3, 1) for part, (x, _) in parts.items()}
    np.savez(folder / downloads.COPIES, **held, **{f"{part}_labels": y for part, (_, y) in parts.items()})
    monkeypatch.setenv("LDARTS_TEST_DATA", str(folder))
    content = (folder / downloads.COPIES).read_bytes()
    monkeypatch.setattr(downloads, "_COPIES_MD5", hashlib.md5(content).hexdigest())
    return torch.from_numpy(images), torch.from_numpy(labels)


def by_class(images: torch.Tensor, labels: torch.Tensor, part: slice = slice(None)) -> dict[int, list]:
    return {label: images[labels == label][part].tolist() for label in labels.unique().tolist()}


@pytest.mark.parametrize("copied", [False, True])
def test_small_pictures_are_the_first_of_each_class_averaged(small_copy, tmp_path, monkeypatch, copied):
    monkeypatch.setattr(downloads, "SMALL_PICTURES", (4, 1))
    data = load_images("cifar10", root=small_copy("cifar10"))
    images, labels = copies(tmp_path, monkeypatch) if copied else (data.search_images, data.search_labels)
    small, averaged = load_images(downloads.SMALL), torch.nn.functional.avg_pool2d(images.double(), 2).round()
    assert by_class(small.search_images, small.search_labels) == by_class(averaged, labels, slice(4))
    for seed in (0, 1):  # the halves are fixed: the first of each class for ω, the others for α
        for half, part in zip(small.halves(seed=seed), (slice(2), slice(2, 4)), strict=True):
            assert by_class(half.images, half.labels) == by_class(averaged, labels, part)
    assert len(small.test_labels) == (10 if copied else TEST) and small.search_images.is_contiguous()
    assert torch.equal(small.mean, data.mean) and small.augmentation == Augmentation(padding=2, flip=True)
    (record,) = (one for one in status() if one.name == downloads.SMALL)
    assert record.present and record == fetch(downloads.SMALL)
    source = "cifar10_pictures.npz" if copied else "cifar-10-python.tar.gz"
    assert small.describe()["source"] == source
    monkeypatch.setattr(downloads, "_COPIES_MD5", "another")
    if copied:
        with pytest.raises(DatasetCorrupt, match=rf"cifar10-small: .*{source} has the MD5 .* another"):
            load_images(downloads.SMALL)


def test_test_images_are_never_augmented(small_copy):
    data = load_images("cifar10", root=small_copy("cifar10"))
    images, labels = next(data.test().epoch(TEST, torch.Generator().manual_seed(0), augment=True))
    stored, stored_labels = data.test().all()
    order = torch.randperm(TEST, generator=torch.Generator().manual_seed(0))
    assert torch.equal(images, stored[order]) and torch.equal(labels, stored_labels[order])


@pytest.mark.parametrize("name", downloads.DOWNLOADED)
def test_a_missing_file_says_what_to_fetch_from_where_to_where(small_copy, name):
    root = small_copy(name)
    missing = files_of(name, root)[-1]
    missing.unlink()
    source = downloads.download_of(name)
    with pytest.raises(DatasetMissing) as error:
        load_images(name)
    message = str(error.value)
    for part in (missing, source.url, f"{source.megabytes} MB", root / source.folder):
        assert str(part) in message
    assert (f"ldarts data {name}" in message) == (name != "imagenet16-120")


@pytest.mark.parametrize("name", ["svhn", "imagenet16-120"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_corrupt_file_names_both_checksums(small_copy, name, damage):
    path = files_of(name, small_copy(name))[0]
    content = path.read_bytes()
    expected = hashlib.md5(content).hexdigest()
    changed = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes({"truncated": content[:-100], "changed": changed, "empty": b""}[damage])
    found = hashlib.md5(path.read_bytes()).hexdigest()
    for call in (load_images, fetch):
        with pytest.raises(DatasetCorrupt) as error:
            call(name)
        assert all(part in str(error.value) for part in (str(path), found, expected))


class Exploit:
    def __reduce__(self):
        return (print, ("owned",))


def test_a_pickle_that_is_not_the_published_one_is_not_executed(small_copy, capsys):
    write_pickle(small_copy("imagenet16-120") / "ImageNet16" / "val_data", Exploit())
    with pytest.raises(DatasetCorrupt):
        load_images("imagenet16-120")
    assert "owned" not in capsys.readouterr().out


def test_what_only_a_reader_may_fetch_says_how(tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path))
    with pytest.raises(DatasetMissing, match=r"train_data_batch_1 is missing.*1022 MB.*drive\.google\.com"):
        fetch("imagenet16-120")


def test_status_tells_what_is_present_without_loading(small_copy, monkeypatch):
    small_copy("svhn")
    monkeypatch.setattr(downloads, "read", lambda *_: pytest.fail("a data set was loaded"))
    found = {record.name: record for record in status()}
    assert tuple(found) == (*DATASETS, *TEXTS)
    assert {name for name, record in found.items() if record.present} == SHIPPED | {"svhn"}
    assert all(record.how and record.megabytes for record in found.values() if not record.present)


def test_the_root_is_the_argument_the_variable_or_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "variable"))
    assert downloads.data_root("~/here") == Path.home() / "here"
    assert downloads.data_root() == tmp_path / "variable"
    monkeypatch.delenv("LDARTS_DATA")
    assert downloads.data_root() == Path.home() / ".cache" / "ldarts"
