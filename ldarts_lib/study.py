"""The demonstration as an experiment: many seeds of each variant, judged by exact accuracies.

A *variant* is a protocol under a name. What a study keeps of each search is one row per epoch, with the six
digits of the derived cell (:func:`~ldarts_lib.benchmarks.computation.encode`); everything else is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from ldarts_lib.benchmarks.computation import computation, encode
from ldarts_lib.benchmarks.tables import Benchmark
from ldarts_lib.genotype import parse
from ldarts_lib.parallel import search_all
from ldarts_lib.protocols import Protocol, protocol

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "DARTS": {"method": "darts"},
    "Λ-DARTS": {"method": "lambda"},
    "Λ-DARTS, sign form": {"method": "lambda-sign"},
    "Λ-DARTS, ε0 = 0.1": {"method": "lambda", "estimator": "central", "epsilon": 0.1},
    "Λ-DARTS, ε0 = 0.01": {"method": "lambda", "estimator": "central", "epsilon": 1e-2},
    "Λ-DARTS, ε0 = 0.001": {"method": "lambda", "estimator": "central", "epsilon": 1e-3},
    "Λ-DARTS, ε0 = 0.0001": {"method": "lambda", "estimator": "central", "epsilon": 1e-4},
    "random direction": {"method": "lambda-random"},
}
"""The demonstration's variants; without an ε0 the regularizer's gradient is exact."""

KEPT = (
    "train_loss",
    "valid_loss",
    "train_alignment",
    "valid_alignment",
    "train_projected_alignment",
    "valid_projected_alignment",
    "entropy",
)
TOGETHER = 10
"""Seeds of one variant that are searched as one packed supernet."""
_RESAMPLES = 9999


def variants(size: str = "demo", **overrides: Any) -> dict[str, Protocol]:
    """The protocols of :data:`VARIANTS` at a size, with single settings overridden in all of them."""
    return {name: protocol(size=size, **(settings | overrides)) for name, settings in VARIANTS.items()}


def run(
    protocols: Mapping[str, Protocol],
    seeds: Sequence[int],
    out: str | Path,
    *,
    workers: int | None = None,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """Search with every variant and seed, side by side; interrupted studies continue.

    Args:
        protocols: the variants.
        seeds: of the searches.
        out: parent of the run directories.
        workers, device: as for :func:`~ldarts_lib.parallel.search_all`.

    Returns:
        One row per epoch: ``variant``, ``seed``, ``epoch``, ``ops`` and the columns :data:`KEPT` of the
        history.
    """
    names = {(name, seed): f"{slug(name)}-seed{seed}" for name in protocols for seed in seeds}
    searches = {names[name, seed]: protocols[name].model_copy(update={"seed": seed}) for name, seed in names}
    results = search_all(searches, out, workers=workers, device=device, together=TOGETHER)
    rows = [
        {
            "variant": name,
            "seed": seed,
            "epoch": row["epoch"],
            "ops": encode(parse(row["genotype"])),
            **{column: row[column] for column in KEPT},
        }
        for (name, seed), folder in names.items()
        for row in results[folder].history
    ]
    return pd.DataFrame(rows)


def slug(name: str) -> str:
    """A variant's name as part of a folder's name."""
    text = name.replace("Λ", "lambda").replace("ε0", "eps").lower()
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in text).split())


def judge(epochs: pd.DataFrame, benchmark: Benchmark) -> pd.DataFrame:
    """A study's rows with what the benchmark knows of each derived cell.

    Adds ``accuracy`` and ``regret`` (in the benchmark's unit), ``skips`` (skip connections among the six
    edges) and ``convolutions`` (applications on paths from input to output; without any, the search has
    collapsed).
    """
    known = {
        ops: {
            "accuracy": float(benchmark.table.at[benchmark.key(ops), benchmark.target]),
            "skips": ops.count("1"),
            "convolutions": len(computation(ops).applied),
        }
        for ops in epochs["ops"].unique()
    }
    judged = epochs.join(pd.DataFrame.from_dict(known, orient="index"), on="ops")
    return judged.assign(regret=benchmark.table[benchmark.target].max() - judged["accuracy"])


def last_epoch(search: pd.DataFrame) -> int:
    """The usual choice: the cell that the search ends with."""
    return int(search["epoch"].max())


def lowest_validation_loss(search: pd.DataFrame) -> int:
    """Early stopping as one would train a network: the epoch of the lowest validation loss."""
    return int(search.set_index("epoch")["valid_loss"].idxmin())


def before_two_skips(search: pd.DataFrame) -> int:
    """The rule of DARTS+ (Liang et al., 2019): stop before the cell has two skip connections.

    The first epoch if it has them at once, the last if it never does.
    """
    skips = search.set_index("epoch")["ops"].str.count("1")
    two = skips.index[skips >= 2]
    return max(int(two[0]) - 1, int(skips.index[0])) if len(two) else int(skips.index[-1])


def half_time(search: pd.DataFrame) -> int:
    """The cell in the middle of the search."""
    return int(search["epoch"].max()) // 2


STOPPING: Mapping[str, Callable[[pd.DataFrame], int]] = {
    "lowest validation loss": lowest_validation_loss,
    "before two skips": before_two_skips,
    "half the epochs": half_time,
}
"""Rules that stop a search early: each names an epoch, from a search's rows."""


def outcomes(judged: pd.DataFrame, rule: Callable[[pd.DataFrame], int] = last_epoch) -> pd.DataFrame:
    """The row that a rule picks of each search: one per variant and seed."""
    picked = [
        search[search["epoch"] == rule(search)]
        for _, search in judged.groupby(["variant", "seed"], sort=False)
    ]
    return pd.concat(picked, ignore_index=True)


def with_stopping(judged: pd.DataFrame, of: str = "DARTS") -> pd.DataFrame:
    """The outcomes of all searches, and those of one variant under the early-stopping rules."""
    stopped = [
        outcomes(judged[judged["variant"] == of], rule).assign(variant=f"{of}, {name}")
        for name, rule in STOPPING.items()
    ]
    return pd.concat([outcomes(judged), *stopped], ignore_index=True)


def report(results: pd.DataFrame, baseline: str = "DARTS") -> pd.DataFrame:
    """One row per variant, with 95 % intervals.

    Columns: ``n`` (seeds), ``mean``, ``low``, ``high`` (of the accuracy; bootstrap, BCa), ``worst``,
    ``best``, ``collapsed`` (searches that end without a convolution on a live path), ``collapse_low``,
    ``collapse_high`` (of their share; Wilson), and against the baseline on the same seeds ``gain`` with
    ``gain_low``, ``gain_high`` (bootstrap of the paired differences) and ``p`` (Wilcoxon's signed-rank test,
    two-sided).

    Raises:
        ValueError: the baseline is not among the variants, or a variant has other seeds.
    """
    if baseline not in set(results["variant"]):
        raise ValueError(f"unknown baseline {baseline!r}; choose one of {list(results['variant'].unique())}")
    base = results[results["variant"] == baseline].set_index("seed")["accuracy"]
    rows = []
    for name, found in results.groupby("variant", sort=False):
        accuracy = found.set_index("seed")["accuracy"]
        if not accuracy.index.sort_values().equals(base.index.sort_values()):
            raise ValueError(f"{name!r} has other seeds than {baseline!r}: {sorted(accuracy.index)}")
        low, high = mean_interval(accuracy)
        collapsed = int((found["convolutions"] == 0).sum())
        share = stats.binomtest(collapsed, len(found)).proportion_ci(method="wilson")
        gain = accuracy - base.reindex(accuracy.index)
        gain_low, gain_high = mean_interval(gain)
        rows.append(
            {
                "variant": name,
                "n": len(found),
                "mean": accuracy.mean(),
                "low": low,
                "high": high,
                "worst": accuracy.min(),
                "best": accuracy.max(),
                "collapsed": collapsed,
                "collapse_low": share.low,
                "collapse_high": share.high,
                "gain": gain.mean(),
                "gain_low": gain_low,
                "gain_high": gain_high,
                "p": stats.wilcoxon(gain).pvalue if gain.any() else 1.0,
            }
        )
    return pd.DataFrame(rows).set_index("variant")


def mean_interval(values: pd.Series) -> tuple[float, float]:
    """A 95 % interval of the mean by the bias-corrected bootstrap, with a fixed seed.

    Without spread it is the mean itself; of a single value it is not known (NaN).
    """
    if len(values) < 2:
        return np.nan, np.nan
    if values.nunique() == 1:
        return float(values.iloc[0]), float(values.iloc[0])
    found = stats.bootstrap(
        (values.to_numpy(),), np.mean, n_resamples=_RESAMPLES, rng=np.random.default_rng(0)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
