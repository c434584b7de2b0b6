"""What the table Digits-201 says: landmarks, noise, how far it can be trusted, and beside NAS-Bench-201.

Functions take the frame of Digits-201 (:func:`~ldarts_lib.tables.tables.open_table`), one row per
computation, or some of its rows. Means over cells weight each row with the strings that it stands for
(column ``cells``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ldarts_lib.tables.computation import classes, computation

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

REAL: Mapping[str, str] = {
    "CIFAR-10": "cifar10_test",
    "CIFAR-100": "cifar100_test",
    "ImageNet16-120": "imagenet16_test",
}
"""The data sets of NAS-Bench-201, and the column that a search is judged by."""

TOPS = (10, 100, 1000)
"""The numbers of best strings whose overlap is reported."""


def landmarks(table: pd.DataFrame) -> pd.DataFrame:
    """The best cell, the cells of :data:`LANDMARKS`, the worst connected cell, and the disconnected one.

    A cell is connected if its input reaches its output.

    Returns:
        ``ops``, ``cells`` (strings that compute the same), ``accuracy``, ``std`` and ``place`` (1 for the
        best computation), under the names of the cells, from the best to the worst.
    """
    connected = table["accuracy"].drop(DISCONNECTED)
    keys = {
        "best": connected.idxmax(),
        **{name: computation(ops).key for name, ops in LANDMARKS.items()},
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
    weighted = table.assign(total=table["accuracy"] * table["cells"])
    found = weighted.groupby(applied_convolutions(table)).agg(
        computations=("cells", "size"),
        cells=("cells", "sum"),
        lowest=("accuracy", "min"),
        mean=("total", "sum"),
        highest=("accuracy", "max"),
    )
    return found.assign(mean=found["mean"] / found["cells"])


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
    """
    seeds = table.filter(like="accuracy_").rename(columns=lambda name: name.removeprefix("accuracy_"))
    rows = {
        f"{one} and {other}": {"Pearson": stats.pearsonr(seeds[one], seeds[other]).statistic}
        | _rank_correlations(seeds[one], seeds[other])
        for one, other in combinations(seeds, 2)
    }
    return pd.DataFrame(rows).T.rename_axis("seeds")


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
    """Accuracies of new trainings, [cells, seeds], beside those of the table.

    Returns:
        ``computation``, ``table``, ``again`` (mean over the seeds), ``difference`` and ``z`` (the difference
        in units of the standard deviation that the noise of both means gives it), under the digits ``ops``.
    """
    new = np.asarray(accuracies, dtype=float)
    keys = [computation(one).key for one in ops]
    found = {"computation": keys, "table": table.loc[keys, "accuracy"].to_numpy(), "again": new.mean(1)}
    difference = found["again"] - found["table"]
    seeds = table.filter(like="accuracy_").shape[1]
    expected = noise(table) * np.sqrt(1 / new.shape[1] + 1 / seeds)
    return pd.DataFrame(
        found | {"difference": difference, "z": difference / expected}, pd.Index(ops, name="ops")
    )


def again() -> pd.DataFrame:
    """Ten rows drawn at random and trained again with other seeds: the record of :func:`retrained`."""
    record = files("ldarts_data") / "recorded" / "digits201" / "again.csv"
    return pd.read_csv(str(record), dtype={"ops": str}, index_col="ops")


def against_nasbench201(table: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
    """How far Digits-201 and NAS-Bench-201 rank cells alike, and NAS-Bench-201 itself on its data sets.

    Rows compare ``first`` with ``second`` over ``which`` strings: all, or only the *connected* ones, whose
    input reaches their output (on NAS-Bench-201 they are those above chance). The last rows give the scale:
    data sets of NAS-Bench-201 with each other; and CIFAR-10 with itself, over pairs of strings that compute
    the same, its own noise ceiling.

    Args:
        table: Digits-201.
        real: the frame of NAS-Bench-201.

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

    def compare(one: str, other: str, which: str, first: pd.Series, second: pd.Series) -> dict[str, object]:
        names = {"first": one, "second": other, "which": which, "cells": len(first)}
        return names | _rank_correlations(first, second)

    for names, (first, second) in (ours | theirs).items():
        for which, chosen in (("all", slice(None)), ("connected", connected)):
            both = first[chosen], second[chosen]
            rows.append(compare(*names, which, *both) | {f"top {k}": top_overlap(*both, k) for k in TOPS})
    pairs = twins(real, REAL["CIFAR-10"])
    rows.append(compare("CIFAR-10", "CIFAR-10", "pairs that compute the same", *pairs))
    return pd.DataFrame(rows)


def top_overlap(first: pd.Series, second: pd.Series, k: int) -> float:
    """The share of the best k by one accuracy that are among the best k by the other, [n] accuracies each.

    Ties at the border are broken at random: the result is the expectation. Unrelated accuracies of n cells
    give k/n.
    """
    return float((_chance_of_top(first, k) * _chance_of_top(second, k)).sum() / k)


def twins(real: pd.DataFrame, column: str) -> tuple[pd.Series, pd.Series]:
    """An accuracy of two strings of each connected computation, with trainings of their own.

    They differ by the noise of NAS-Bench-201. Strings that agree in every accuracy share their trainings and
    count as one; a computation with a single training is left out.

    Returns:
        The first and the last string of each, under the keys of the computations.
    """
    accuracies = real.drop(columns="index")
    keys = pd.Series({ops: key for key, several in classes().items() for ops in several}, name="computation")
    trained = accuracies.assign(computation=keys).drop_duplicates()
    trained = trained[trained["computation"] != DISCONNECTED].sort_index()
    several = trained[trained.duplicated("computation", keep=False)].groupby("computation")[column]
    return several.first(), several.last()


def _rank_correlations(first: pd.Series, second: pd.Series) -> dict[str, float]:
    return {
        "Spearman": stats.spearmanr(first, second).statistic,
        "Kendall": stats.kendalltau(first, second).statistic,
    }


def _chance_of_top(values: pd.Series, k: int) -> npt.NDArray[np.float64]:
    """How probably each value is among the best k, if ties are broken at random."""
    first = values.rank(method="min", ascending=False).to_numpy()
    last = values.rank(method="max", ascending=False).to_numpy()
    return np.clip((k - first + 1) / (last - first + 1), 0, 1)
