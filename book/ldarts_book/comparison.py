"""Digits-201 beside NAS-Bench-201: how far they rank cells alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ldarts_book.groundtruth import DISCONNECTED, expand
from ldarts_lib.tables.computation import classes

REAL: Mapping[str, str] = {
    "CIFAR-10": "cifar10_test",
    "CIFAR-100": "cifar100_test",
    "ImageNet16-120": "imagenet16_test",
}
"""The data sets of NAS-Bench-201, and the column that a search is judged by."""

TOPS = (10, 100, 1000)
"""The numbers of best strings whose overlap is reported."""


def against_nasbench201(table: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
    """How far Digits-201 and NAS-Bench-201 rank cells alike, and NAS-Bench-201 itself on its data sets.

    Rows compare ``first`` with ``second`` over ``which`` strings: all, or only the *connected* ones, whose
    input reaches their output (on NAS-Bench-201 they are those above chance). The last rows give the scale:
    data sets of NAS-Bench-201 with each other; and CIFAR-10 with itself, over pairs of strings that compute
    the same, its own noise ceiling.

    Args:
        table: Digits-201.
        real: the frame of NAS-Bench-201 (:func:`ldarts_lib.tables.tables.open_table`).

    Returns:
        ``first``, ``second``, ``which``, ``cells`` (how many are compared), ``Spearman``, ``Kendall`` (τ-b)
        and ``top 10`` ... (the share of :func:`top_overlap`; NaN for the pairs).
    """
    digits = expand(table)
    real = real.loc[digits.index]
    connected = (digits["computation"] != DISCONNECTED).to_numpy()
    ours = {("Digits-201", name): (digits["accuracy"], real[column]) for name, column in REAL.items()}
    theirs = {
        (one, other): (real[REAL[one]], real[REAL[other]])
        for one, other in (("CIFAR-10", "CIFAR-100"), ("CIFAR-10", "ImageNet16-120"))
    }
    rows = []
    for (one, other), (first, second) in (ours | theirs).items():
        for which, chosen in (("all", slice(None)), ("connected", connected)):
            names = {"first": one, "second": other, "which": which}
            overlap = {f"top {k}": top_overlap(first[chosen], second[chosen], k) for k in TOPS}
            rows.append(names | _correlations(first[chosen], second[chosen]) | overlap)
    names = {"first": "CIFAR-10", "second": "CIFAR-10", "which": "pairs that compute the same"}
    rows.append(names | _correlations(*twins(real, REAL["CIFAR-10"])))
    return pd.DataFrame(rows)


def top_overlap(first: pd.Series, second: pd.Series, k: int) -> float:
    """The share of the best k by one accuracy that are among the best k by the other.

    Ties at the border are broken at random: the result is the expectation. Unrelated accuracies of n cells
    give k/n.

    Args:
        first, second: accuracies of the same cells, [n].
        k: from 1 to n.

    Raises:
        ValueError: k is not in this range.
    """
    if not 1 <= k <= len(first):
        raise ValueError(f"k must be from 1 to {len(first)}, got {k}")
    return float((_chance_of_top(first, k) * _chance_of_top(second, k)).sum() / k)


def twins(real: pd.DataFrame, column: str) -> tuple[pd.Series, pd.Series]:
    """The accuracies of two strings of each connected computation, with trainings of their own.

    They differ by the noise of NAS-Bench-201. Strings that agree in every accuracy share their trainings and
    count as one; a computation with a single training is left out.

    Args:
        real: the frame of NAS-Bench-201 (:func:`ldarts_lib.tables.tables.open_table`).
        column: which accuracy.

    Returns:
        The first and the last string of each, under the keys of the computations.
    """
    accuracies = real.drop(columns="index")
    keys = pd.Series({ops: key for key, several in classes().items() for ops in several}, name="computation")
    trained = accuracies.assign(computation=keys).drop_duplicates()
    trained = trained[trained["computation"] != DISCONNECTED].sort_index()
    several = trained[trained.duplicated("computation", keep=False)].groupby("computation")[column]
    return several.first(), several.last()


def _correlations(first: pd.Series, second: pd.Series) -> dict[str, float]:
    return {
        "cells": len(first),
        "Spearman": stats.spearmanr(first, second).statistic,
        "Kendall": stats.kendalltau(first, second).statistic,
    }


def _chance_of_top(values: pd.Series, k: int) -> npt.NDArray[np.float64]:
    """How probably each value is among the best k, if ties are broken at random."""
    first = values.rank(method="min", ascending=False).to_numpy()
    last = values.rank(method="max", ascending=False).to_numpy()
    return np.clip((k - first + 1) / (last - first + 1), 0, 1)
