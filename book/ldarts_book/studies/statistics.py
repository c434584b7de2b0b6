"""How the variants of a study compare: the cell that a rule picks of each search, means, intervals and tests.

Searches with one seed have much in common, such as the order of the images. So variants are compared seed by
seed; where rows have the column ``setting``, within each setting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import integrate, stats


def before_two_skips(search: pd.DataFrame) -> int:
    """The rule of DARTS+ (Liang et al., 2019): stop before the cell has two skip connections.

    The first epoch if it has them at once, the last if it never does.
    """
    skips = search.set_index("epoch")["ops"].str.count("1")
    two = skips.index[skips >= 2]
    return max(two[0] - 1, skips.index[0]) if len(two) else skips.index[-1]


STOPPING: Mapping[str, Callable[[pd.DataFrame], int]] = {
    "lowest validation loss": lambda search: search.set_index("epoch")["valid_loss"].idxmin(),
    "before two skips": before_two_skips,
    "half the epochs": lambda search: search["epoch"].max() // 2,
}
"""Rules that stop a search early: each names an epoch, from a search's rows."""


def outcomes(
    judged: pd.DataFrame, rule: Callable[[pd.DataFrame], int] = lambda search: search["epoch"].max()
) -> pd.DataFrame:
    """The row that a rule picks of each search, by default its last; the only one where its judge keeps one.

    Its ``seconds`` are those of the search up to the picked epoch, on one core; of searches that ran together
    each has its share. Where a record holds the last epochs only, these stand for all of them.
    """
    if "epoch" not in judged:
        return judged
    searches = [search for _, search in judged.groupby(_keys(judged, "variant", "seed"), sort=False)]
    picked = [search[search["epoch"] == rule(search)] for search in searches]
    if "seconds" in judged:
        means = [search["seconds"].mean() for search in searches]
        rows = zip(picked, means, strict=True)
        picked = [row.assign(seconds=mean * (row["epoch"] + 1)) for row, mean in rows]
    return pd.concat(picked, ignore_index=True)


def with_stopping(judged: pd.DataFrame, of: str = "DARTS") -> pd.DataFrame:
    """The outcomes of all searches, and those of one variant under the early-stopping rules."""
    searches = judged[judged["variant"] == of]
    stopped = [outcomes(searches, rule).assign(variant=f"{of}, {name}") for name, rule in STOPPING.items()]
    return pd.concat([outcomes(judged), *stopped], ignore_index=True)


def last(rows: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """The rows of the last epochs of each search."""
    return rows.groupby(_keys(rows, "variant", "seed"), sort=False).tail(count).reset_index(drop=True)


def last_epochs(judged: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """What happens in searches: means over the seeds and the last epochs, one row per variant."""
    columns = [
        "train_alignment", "valid_alignment", "valid_projected_alignment", "entropy", "train_loss",
        "valid_loss", "convolutions", "skips",
    ]  # fmt: skip
    late = last(judged, count)
    return late.groupby(_keys(late, "variant"), sort=False)[columns].mean()


def deciders(epochs: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """Per variant and cell, on the batches of α: whose gradient is long, and who goes with the sum.

    Columns: ``norm`` and ``cosine with the sum`` (means over the seeds and the last epochs), ``longest`` and
    ``decides`` (searches in which the cell's mean over these epochs is the largest of all cells). Cells are
    counted from 1, next to the input.
    """
    late = last(epochs, count)
    means = late.groupby(["variant", "seed"], sort=False).mean(numeric_only=True)
    cells = sum(column.startswith("decision_") for column in means)
    tables = {}
    for name, ordinal in (("norm", "longest"), ("decision", "decides")):
        table = means[[f"{name}_{cell}" for cell in range(cells)]].set_axis(range(1, cells + 1), axis=1)
        tables[name] = table.groupby("variant", sort=False).mean().stack()
        first = table.idxmax(axis=1).groupby("variant", sort=False).value_counts()
        tables[ordinal] = first.reindex(tables[name].index, fill_value=0)
    found = pd.DataFrame(tables).rename(columns={"decision": "cosine with the sum"})
    found.index.names = ["variant", "cell"]
    return found


def report(results: pd.DataFrame, baseline: str = "DARTS") -> pd.DataFrame:
    """How searches end: one row per variant (and setting), with 95 % intervals.

    Columns: ``n`` (seeds), ``mean``, ``low``, ``high`` (of the accuracy; bootstrap, BCa), ``median``,
    ``worst``, ``best``, ``collapsed`` (as the judge defines it), ``collapse_low``, ``collapse_high`` (of
    their share; Wilson), and against the baseline on the same seeds ``gain`` with ``gain_low``, ``gain_high``
    (bootstrap of the paired differences), ``p`` (Wilcoxon's signed-rank test) and ``p_collapse`` (McNemar's
    exact test); both tests are two-sided. If the results have them, also the number of ``disconnected`` and
    the means of ``regret`` and ``seconds``.

    Raises:
        ValueError: the baseline is not among the variants, or a variant has seeds that it lacks.
    """
    if "setting" in results:
        by_setting = results.groupby("setting", sort=False)
        reports = {name: report(some.drop(columns="setting"), baseline) for name, some in by_setting}
        return pd.concat(reports, names=["setting"])
    if baseline not in set(results["variant"]):
        raise ValueError(f"unknown baseline {baseline!r}; choose one of {list(results['variant'].unique())}")
    variants = {
        name: found.set_index("seed").sort_index() for name, found in results.groupby("variant", sort=False)
    }
    base, rows = variants[baseline], {}
    for name, found in variants.items():
        if not found.index.isin(base.index).all():
            raise ValueError(f"{name!r} has other seeds than {baseline!r}: {list(found.index)}")
        accuracy, collapsed, same = found["accuracy"], found["collapsed"], base.loc[found.index]
        gain, count = accuracy - same["accuracy"], int(collapsed.sum())
        share = stats.binomtest(count, len(collapsed)).proportion_ci(method="wilson")
        (low, high), (gain_low, gain_high) = mean_interval(accuracy), mean_interval(gain)
        rows[name] = {
            "n": len(found),
            "mean": accuracy.mean(),
            "low": low,
            "high": high,
            "median": accuracy.median(),
            "worst": accuracy.min(),
            "best": accuracy.max(),
            "collapsed": count,
            "collapse_low": share.low,
            "collapse_high": share.high,
            "gain": gain.mean(),
            "gain_low": gain_low,
            "gain_high": gain_high,
            "p": signed_rank(gain),
            "p_collapse": _mcnemar(collapsed, same["collapsed"]),
            **found.filter(["disconnected"]).sum(),
            **found.filter(["regret", "seconds"]).mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def summary(judged: pd.DataFrame, baseline: str = "DARTS") -> pd.DataFrame:
    """The columns of :func:`report` and of :func:`last_epochs`."""
    found, late = report(outcomes(judged), baseline), last_epochs(judged)
    return found.join(late[[column for column in late if column not in found]])


def contrasts(results: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Variants against others than the common baseline: a :func:`report` with one row per pair.

    The index is (variant, against); ``p_holm`` is ``p`` adjusted for the number of pairs.
    """
    rows = {
        (one, other): report(results[results["variant"].isin([one, other])], baseline=other).loc[one]
        for one, other in pairs
    }
    found = pd.DataFrame(rows).T.infer_objects().rename_axis(["variant", "against"])
    return found.assign(p_holm=holm(found["p"].astype(float)))


_WORDS = {
    "collapsed": "{collapsed:.0f} of {n:.0f} ({collapse_low:.2f}, {collapse_high:.2f})",
    "accuracy": "{mean:.3f} ({low:.3f}, {high:.3f})",
    "median": "{median:.3f}",
    "worst, best": "{worst:.3f}, {best:.3f}",
    "gain": "{gain:+.3f} ({gain_low:+.3f}, {gain_high:+.3f})",
    "p": "{p:.3f}",
    "p of collapse": "{p_collapse:.3f}",
    "disconnected": "{disconnected:.0f}",
    "regret": "{regret:.3f}",
    "seconds": "{seconds:.1f}",
}


def readable(found: pd.DataFrame, baseline: str = "DARTS") -> pd.DataFrame:
    """A report in words: means with their intervals in parentheses; nothing is compared with itself."""
    absent = {"disconnected", "regret", "seconds"} - {*found}
    known = {name: text for name, text in _WORDS.items() if name not in absent}
    rows = [{name: text.format(**row) for name, text in known.items()} for row in found.to_dict("records")]
    words = pd.DataFrame(rows, index=found.index)
    words.loc[found.index.get_level_values("variant") == baseline, ["gain", "p", "p of collapse"]] = ""
    return words


def mean_interval(values: pd.Series) -> tuple[float, float]:
    """A 95 % interval of the mean by the bias-corrected bootstrap, with a fixed seed.

    Without spread it is the mean itself; of a single value it is not known (NaN).
    """
    if len(values) < 2:
        return np.nan, np.nan
    if values.nunique() == 1:
        return float(values.iloc[0]), float(values.iloc[0])
    found = stats.bootstrap((values.to_numpy(),), np.mean, rng=np.random.default_rng(0))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def signed_rank(differences: pd.Series) -> float:
    """The two-sided p-value of Wilcoxon's test."""
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def holm(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """p-values adjusted for their number, by the step-down method of Holm (1979).

    If all hypotheses hold, the chance that any adjusted value is below 0.05 is at most 0.05, however the
    tests depend on each other.
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    # adjusted p_(i) = max over j <= i of (m - j + 1) p_(j), at most 1
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(stepped, 1.0)[np.argsort(order, kind="stable")]


def _mcnemar(first: pd.Series, second: pd.Series) -> float:
    """The two-sided p-value of McNemar's exact test, for two yes-or-no results of the same seeds.

    Only the seeds on which they differ tell anything: if neither had more often *yes*, each of them would be
    as likely to differ one way as the other.
    """
    differ = int((first != second).sum())
    return float(stats.binomtest(int((first & ~second).sum()), differ).pvalue) if differ else 1.0


def optimism(settings: int, deviation: float, seeds: int) -> float:
    """How much too high the best mean of some equally good settings is expected to be.

    Args:
        settings: how many are compared.
        deviation: standard deviation of a search, around the mean of its setting.
        seeds: searches of each setting, whose mean is taken to be normal, and independent of the others.
    """
    if settings < 1 or seeds < 1:
        raise ValueError(f"give at least one setting and one seed, got {settings} and {seeds}")
    # γ_K = ∫ x K φ(x) Φ(x)^(K-1) dx, the expected largest of K standard normal numbers
    K, φ, Φ = settings, stats.norm.pdf, stats.norm.cdf
    γ, _ = integrate.quad(lambda x: x * K * φ(x) * Φ(x) ** (K - 1), -np.inf, np.inf)
    return deviation / seeds**0.5 * γ


def _keys(rows: pd.DataFrame, *names: str) -> list[str]:
    return [name for name in ("setting", *names) if name in rows]
