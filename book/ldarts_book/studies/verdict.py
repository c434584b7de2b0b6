"""How the variants of a study compare: the cell that a rule picks of each search, means, intervals and tests.

Searches with one seed have much in common, such as the order of the images. So variants are compared seed by
seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

_RESAMPLES = 9999


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
    """The row that a rule picks of each search: one per variant and seed.

    Its ``seconds`` are those of the search up to the picked epoch, on one core; of searches that ran together
    each has its share. Where a record holds the last epochs only, these stand for all of them.
    """
    picked = []
    for _, search in judged.groupby(["variant", "seed"], sort=False):
        row = search[search["epoch"] == rule(search)]
        if "seconds" in row:
            row = row.assign(seconds=search["seconds"].mean() * (row["epoch"] + 1))
        picked.append(row)
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

    Columns: ``n`` (seeds), ``mean``, ``low``, ``high`` (of the accuracy; bootstrap, BCa), ``median``,
    ``worst``, ``best``, ``collapsed`` (searches that end without a convolution on a live path),
    ``collapse_low``, ``collapse_high`` (of their share; Wilson), and against the baseline on the same seeds
    ``gain`` with ``gain_low``, ``gain_high`` (bootstrap of the paired differences), ``p`` (Wilcoxon's
    signed-rank test) and ``p_collapse`` (McNemar's exact test); both tests are two-sided. If the results have
    them, also the means of ``regret`` and ``seconds``.

    Raises:
        ValueError: the baseline is not among the variants, or a variant has other seeds.
    """
    if baseline not in set(results["variant"]):
        raise ValueError(f"unknown baseline {baseline!r}; choose one of {list(results['variant'].unique())}")
    base = results[results["variant"] == baseline].set_index("seed").sort_index()
    rows = []
    for name, found in results.groupby("variant", sort=False):
        found = found.set_index("seed").sort_index()
        if not found.index.equals(base.index):
            raise ValueError(f"{name!r} has other seeds than {baseline!r}: {list(found.index)}")
        accuracy, dead = found["accuracy"], found["convolutions"] == 0
        gain = accuracy - base["accuracy"]
        low, high = mean_interval(accuracy)
        gain_low, gain_high = mean_interval(gain)
        share = stats.binomtest(int(dead.sum()), len(dead)).proportion_ci(method="wilson")
        rows.append(
            {
                "variant": name,
                "n": len(found),
                "mean": accuracy.mean(),
                "low": low,
                "high": high,
                "median": accuracy.median(),
                "worst": accuracy.min(),
                "best": accuracy.max(),
                "collapsed": int(dead.sum()),
                "collapse_low": share.low,
                "collapse_high": share.high,
                "gain": gain.mean(),
                "gain_low": gain_low,
                "gain_high": gain_high,
                "p": stats.wilcoxon(gain).pvalue if gain.any() else 1.0,
                "p_collapse": mcnemar(dead, base["convolutions"] == 0),
                **{column: found[column].mean() for column in ("regret", "seconds") if column in found},
            }
        )
    return pd.DataFrame(rows).set_index("variant")


def contrasts(results: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Variants against others than the common baseline, seed by seed.

    Args:
        results: of :func:`outcomes`.
        pairs: a variant and what it is compared with.

    Returns:
        One row per pair, index (variant, against): the columns of :func:`report`, and ``p_holm`` (``p``
        adjusted for the number of pairs).
    """
    rows = {
        (one, other): report(results[results["variant"].isin([one, other])], baseline=other).loc[one]
        for one, other in pairs
    }
    found = pd.DataFrame(rows).T.infer_objects()
    found.index.names = ["variant", "against"]
    return found.assign(p_holm=holm(found["p"].astype(float)))


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


def holm(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """p-values adjusted for their number, by the step-down method of Holm (1979).

    If all hypotheses hold, the chance that any adjusted value is below 0.05 is at most 0.05, however the
    tests depend on each other.
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(stepped, 1.0)[np.argsort(order, kind="stable")]


def mcnemar(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """The two-sided p-value of McNemar's exact test, for two yes-or-no results of the same seeds.

    Only the seeds on which they differ tell anything: if neither had more often *yes*, each of them would be
    as likely to differ one way as the other.
    """
    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    differ = int((one != other).sum())
    return float(stats.binomtest(int((one & ~other).sum()), differ).pvalue) if differ else 1.0


def readable(found: pd.DataFrame, baseline: str = "DARTS") -> pd.DataFrame:
    """A report in words: every mean with its interval in parentheses.

    Args:
        found: rows of :func:`report`, whose index ends with the variant.
        baseline: the one that they were compared with.
    """
    names = found.index.get_level_values("variant")
    rows = [
        {
            "collapsed": f"{row['collapsed']:.0f} of {row['n']:.0f} "
            f"({row['collapse_low']:.2f}, {row['collapse_high']:.2f})",
            "accuracy": f"{row['mean']:.3f} ({row['low']:.3f}, {row['high']:.3f})",
            "median": f"{row['median']:.3f}",
            "worst, best": f"{row['worst']:.3f}, {row['best']:.3f}",
            "gain": f"{row['gain']:+.3f} ({row['gain_low']:+.3f}, {row['gain_high']:+.3f})",
            "p": f"{row['p']:.3f}",
            "p of collapse": f"{row['p_collapse']:.3f}",
            **{
                column: f"{row[column]:{form}}"
                for column, form in (("regret", ".3f"), ("seconds", ".1f"))
                if column in row
            },
        }
        for row in found.to_dict("records")
    ]
    compared = ["gain", "p", "p of collapse"]
    words = pd.DataFrame(rows, index=found.index)
    words.loc[names == baseline, compared] = ""
    return words
