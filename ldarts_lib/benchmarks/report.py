"""What the table Digits-201 says: landmarks, noise, the worth of random search, and NAS-Bench-201 beside it.

Functions take the table of :func:`~ldarts_lib.benchmarks.tables.digits201`, one row per computation, or some
of its rows. Means over cells weight each row with the strings that it stands for (column ``cells``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import stats

from ldarts_lib.benchmarks import nasbench201
from ldarts_lib.benchmarks.computation import classes, computation
from ldarts_lib.benchmarks.tables import digits201
from ldarts_lib.environment import environment
from ldarts_lib.runs import write_atomically, write_json

LANDMARKS: Mapping[str, str] = {
    "3x3 everywhere, skip on 3<-0": "333133",
    "3x3 everywhere": "333333",
    "1x1 everywhere": "222222",
    "pool everywhere": "444444",
    "skip everywhere": "111111",
}
"""Cells that :func:`landmarks` names; Λ-DARTS, β-DARTS and DrNAS report the first, found on CIFAR-10."""

REAL: Mapping[str, str] = {
    "CIFAR-10": "cifar10_test",
    "CIFAR-100": "cifar100_test",
    "ImageNet16-120": "imagenet16_test",
}
"""The data sets of NAS-Bench-201, and the column that a search is judged by."""

DISCONNECTED = "0"
"""The computation of all cells whose input does not reach the output."""
TOPS = (10, 100, 1000)


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


def expected_best(
    chosen_by: npt.ArrayLike,
    cells: npt.ArrayLike,
    tries: int,
    judged_by: npt.ArrayLike | None = None,
) -> float:
    """What random search finds: the expected worth of the best of some cells, drawn with replacement.

    With F(a) the share of cells of at most the accuracy a, the best of k has an accuracy of at most a with
    probability F(a)^k. Among equally good ones each cell is taken with the same probability.

    Args:
        chosen_by: accuracies of the rows, by which the best is chosen, [rows].
        cells: number of cells that each row stands for, [rows].
        tries: k, how many cells are drawn.
        judged_by: what the chosen one is worth, [rows]; by default its accuracy.

    Raises:
        ValueError: less than one try.
    """
    if tries < 1:
        raise ValueError(f"tries must be at least 1, got {tries}")
    rows = pd.DataFrame({"accuracy": np.asarray(chosen_by), "cells": np.asarray(cells)})
    rows["worth"] = rows["cells"] * np.asarray(chosen_by if judged_by is None else judged_by)
    levels = rows.groupby("accuracy").sum()
    at_most = levels["cells"].cumsum() / levels["cells"].sum()
    probability = np.diff(at_most**tries, prepend=0.0)
    return float(probability @ (levels["worth"] / levels["cells"]))


def random_search(table: pd.DataFrame, tries: Sequence[int]) -> pd.DataFrame:
    """The outcome of random search with so many cells.

    Columns: ``best`` (expected accuracy of the best, chosen by the table's accuracies), ``regret`` (what the
    best of the table has more), and ``by one seed`` (expected accuracy of the cell that is best in a single
    training, judged by the other ones; the mean over all seeds that can choose).

    Raises:
        ValueError: less than one try, or fewer than two seeds.
    """
    seeds = _seeds(table)
    if seeds.shape[1] < 2:
        raise ValueError(f"expected at least two seeds, got {list(seeds)}")
    rows = []
    for k in tries:
        best = expected_best(table["accuracy"], table["cells"], k)
        honest = [
            expected_best(seeds[one], table["cells"], k, seeds.drop(columns=one).mean(axis=1))
            for one in seeds
        ]
        rows.append(
            {
                "best": best,
                "regret": table["accuracy"].max() - best,
                "by one seed": np.mean(honest),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(tries, name="cells tried"))


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


def against_nasbench201(table: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
    """How far Digits-201 and NAS-Bench-201 rank cells alike, and NAS-Bench-201 itself on its data sets.

    Rows compare ``first`` with ``second`` over ``which`` strings: all, or only the *connected* ones, whose
    input reaches their output (on NAS-Bench-201 they are those above chance). The last rows give the scale:
    data sets of NAS-Bench-201 with each other; and CIFAR-10 with itself, over pairs of strings that compute
    the same, its own noise ceiling.

    Args:
        table: Digits-201.
        real: as :func:`ldarts_lib.benchmarks.nasbench201.read` returns it.

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


def twins(real: pd.DataFrame, column: str) -> tuple[pd.Series, pd.Series]:
    """The accuracies of two strings of each connected computation, with trainings of their own.

    They differ by the noise of NAS-Bench-201. Strings that agree in every accuracy share their trainings and
    count as one; a computation with a single training is left out.

    Args:
        real: as :func:`ldarts_lib.benchmarks.nasbench201.read` returns it.
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


def record(source: str | Path, out: str | Path) -> pd.DataFrame:
    """Compare the table that ships with a file of NAS-Bench-201, and write the outcome for the book.

    Args:
        source: as for :func:`ldarts_lib.benchmarks.nasbench201.convert`; the converted table is not kept.
        out: where ``against_nasbench201.csv`` and ``provenance.json`` are written.

    Returns:
        The comparison as it was written, rounded to three decimals.

    Raises:
        BenchmarkMissing: the source or the table of Digits-201 is not there.
        BenchmarkCorrupt: the source is no complete NAS-Bench-201.
        RunError: a file cannot be written.
    """
    table = digits201()
    with TemporaryDirectory() as root:
        real = nasbench201.convert(source, root)
    found, folder = against_nasbench201(table, real).round(3), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    text = found.to_csv(index=False, lineterminator="\n")
    write_atomically(folder / "against_nasbench201.csv", lambda file: file.write(text.encode()))
    shipped = files("ldarts_data") / "digits201" / "table.csv"
    facts = {
        "command": f'ldarts_lib.benchmarks.report.record("{Path(source).name}", "data/recorded/digits201")',
        "date": datetime.now(UTC).date().isoformat(),
        "nasbench201": [str(fact) for fact in nasbench201.known_facts(real)],
        "digits201_sha256": hashlib.sha256(shipped.read_bytes()).hexdigest(),
        "environment": environment(torch.device("cpu")),
    }
    write_json(folder / "provenance.json", facts)
    return found


def _seeds(table: pd.DataFrame) -> pd.DataFrame:
    return table.filter(like="accuracy_")


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
