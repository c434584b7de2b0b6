"""What the table Digits-201 says: landmarks, noise, and how far it can be trusted.

Functions take the frame of Digits-201 (:func:`~ldarts_lib.tables.tables.open_table`), one row per
computation, or some of its rows. Means over cells weight each row with the strings that it stands for
(column ``cells``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ldarts_book.studies import digits201 as digits201
from ldarts_lib.evaluation.standalone import Recipe as Recipe
from ldarts_lib.evaluation.standalone import standalone_accuracies as standalone_accuracies
from ldarts_lib.evaluation.standalone import standalone_accuracy as standalone_accuracy
from ldarts_lib.tables.computation import classes, computation
from ldarts_lib.tables.computation import decode as decode

LANDMARKS: Mapping[str, str] = {
    "3x3 everywhere, skip on 3<-0": "333133",
    "3x3 everywhere": "333333",
    "1x1 everywhere": "222222",
    "pool everywhere": "444444",
    "skip everywhere": "111111",
}
"""Cells that :func:`landmarks` names; Λ-DARTS, β-DARTS and DrNAS report the first, found on CIFAR-10."""

DISCONNECTED = "0"
"""The computation of all cells whose input does not reach the output."""


def landmarks(table: pd.DataFrame) -> pd.DataFrame:
    """The best cell, the cells of :data:`LANDMARKS`, the worst connected cell, and the disconnected one.

    A cell is connected if its input reaches its output.

    Returns:
        ``ops``, ``cells`` (strings that compute the same), ``accuracy``, ``std`` and ``place`` (1 for the
        best computation), under the names of the cells, from the best to the worst.

    Raises:
        KeyError: the table does not hold one of them.
    """
    connected = table["accuracy"].drop(DISCONNECTED)
    named = {name: computation(ops).key for name, ops in LANDMARKS.items()}
    keys = {
        "best": connected.idxmax(),
        **named,
        "worst connected": connected.idxmin(),
        "disconnected": DISCONNECTED,
    }
    places = table["accuracy"].rank(method="min", ascending=False).astype(int)
    found = table.assign(place=places).loc[list(keys.values())].set_axis(list(keys))
    return found[["ops", "cells", "accuracy", "std", "place"]].sort_values("place", kind="stable")


def expand(table: pd.DataFrame) -> pd.DataFrame:
    """One row per string instead of one per computation: 15,625 rows for the whole table.

    Returns:
        The columns of the table but ``ops`` and ``cells``, and ``computation``, under the strings ``ops`` in
        ascending order.
    """
    strings = {ops: key for key in table.index for ops in classes()[key]}
    keys = [strings[ops] for ops in sorted(strings)]
    rows = table.drop(columns=["ops", "cells"]).loc[keys].rename_axis("computation").reset_index()
    return rows.set_axis(pd.Index(sorted(strings), name="ops"))


def applied_convolutions(table: pd.DataFrame) -> pd.Series:
    """The number of convolutions on paths from the input to the output, of each row."""
    return table["ops"].map(lambda ops: len(computation(ops).applied)).rename("convolutions")


def by_convolutions(table: pd.DataFrame) -> pd.DataFrame:
    """The accuracies by the number of applied convolutions.

    Columns: ``computations``, ``cells`` (strings), ``lowest``, ``mean`` (over strings) and ``highest``.
    """
    applied = applied_convolutions(table)
    groups = table.groupby(applied)
    total = (table["accuracy"] * table["cells"]).groupby(applied).sum()
    return pd.DataFrame(
        {
            "computations": groups.size(),
            "cells": groups["cells"].sum(),
            "lowest": groups["accuracy"].min(),
            "mean": total / groups["cells"].sum(),
            "highest": groups["accuracy"].max(),
        }
    )


def explained_by_convolutions(table: pd.DataFrame) -> float:
    """The share of the variance over strings that lies between the numbers of applied convolutions."""
    groups = by_convolutions(table)
    mean = np.average(table["accuracy"], weights=table["cells"])
    between = np.average((groups["mean"] - mean) ** 2, weights=groups["cells"])
    return float(between / np.average((table["accuracy"] - mean) ** 2, weights=table["cells"]))


def seed_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """How far two trainings of all cells agree: the noise ceiling of whatever is compared with one training.

    Columns: ``Pearson``, ``Spearman`` and ``Kendall`` (τ-b), one row per pair of seeds, each computation
    counted once.

    Raises:
        ValueError: the table has fewer than two seeds.
    """
    seeds = _seeds(table)
    pairs = list(combinations(seeds, 2))
    if not pairs:
        raise ValueError(f"expected at least two seeds, got {list(seeds)}")
    rows = [
        {
            "Pearson": stats.pearsonr(seeds[one], seeds[other]).statistic,
            "Spearman": stats.spearmanr(seeds[one], seeds[other]).statistic,
            "Kendall": stats.kendalltau(seeds[one], seeds[other]).statistic,
        }
        for one, other in pairs
    ]
    names = [" and ".join(name.removeprefix("accuracy_") for name in pair) for pair in pairs]
    return pd.DataFrame(rows, index=pd.Index(names, name="seeds"))


def reliability(correlation: float, seeds: Sequence[int]) -> pd.Series:
    """The correlation of two means of k trainings, from that of two trainings.

    The formula of Spearman and Brown, k·r / (1 + (k - 1)·r). Its root is the correlation of the mean with the
    expected accuracy, and so the largest that anything without noise can have with the mean.

    Args:
        correlation: r, for instance the mean of the column ``Pearson`` of :func:`seed_correlations`.
        seeds: the numbers k.
    """
    k = np.asarray(seeds)
    found = k * correlation / (1 + (k - 1) * correlation)
    return pd.Series(found, index=pd.Index(k, name="seeds"), name="reliability")


def noise(table: pd.DataFrame) -> float:
    """The standard deviation of a single training: the root of the mean variance over the seeds."""
    return float(np.sqrt((table["std"] ** 2).mean()))


def retrained(table: pd.DataFrame, ops: Sequence[str], accuracies: npt.ArrayLike) -> pd.DataFrame:
    """Accuracies of new trainings beside those of the table.

    Args:
        table: the table.
        ops: six digits of each cell.
        accuracies: [cells, seeds], between 0 and 1.

    Returns:
        ``computation``, ``table``, ``again`` (mean over the seeds), ``difference`` and ``z`` (the difference
        in units of the standard deviation that the noise of both means gives it), under the digits.

    Raises:
        ValueError: there are not as many rows as cells.
    """
    again = np.asarray(accuracies, dtype=float)
    if again.ndim != 2 or len(again) != len(ops):
        raise ValueError(f"expected accuracies [{len(ops)}, seeds], got {list(again.shape)}")
    keys = [computation(one).key for one in ops]
    known = table.loc[keys, "accuracy"].to_numpy()
    difference = again.mean(1) - known
    expected = noise(table) * np.sqrt(1 / again.shape[1] + 1 / _seeds(table).shape[1])
    return pd.DataFrame(
        {
            "computation": keys,
            "table": known,
            "again": again.mean(1),
            "difference": difference,
            "z": difference / expected,
        },
        index=pd.Index(ops, name="ops"),
    )


def _seeds(table: pd.DataFrame) -> pd.DataFrame:
    return table.filter(like="accuracy_")
