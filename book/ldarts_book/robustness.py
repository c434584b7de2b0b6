"""How robust is the story: DARTS and Λ-DARTS with one setting changed at a time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd

from ldarts_book import studies
from ldarts_lib import open_table, parse

TIMES = "times the learning rate of α"


def summarize(judged: pd.DataFrame) -> pd.DataFrame:
    """One row per setting and method, each compared with its own DARTS.

    The columns are those of :func:`~ldarts_book.studies.statistics.summary`.

    ``convolutions`` are those of the last cells; ``p_holm`` is ``p`` adjusted for the number of settings.
    """
    last = studies.outcomes(judged).groupby(["setting", "variant"])
    summary = studies.summary(judged).assign(convolutions=last["convolutions"].mean())
    compared = summary.index.get_level_values("variant") != "DARTS"
    summary.loc[compared, "p_holm"] = studies.holm(summary.loc[compared, "p"])
    return summary


def overall(judged: pd.DataFrame) -> pd.Series:
    """What Λ-DARTS gains over DARTS in all settings: one comparison instead of one per setting.

    Searches of one seed have much in common in all settings, such as the order of the images, so gains are
    averaged over the settings first; ``gain`` with its interval and ``p`` are over the seeds alone.
    """
    accuracy = studies.outcomes(judged).set_index(["variant", "setting", "seed"])["accuracy"].unstack("seed")
    gains = (accuracy.loc["Λ-DARTS"] - accuracy.loc["DARTS"]).loc[judged["setting"].unique()].mean()
    low, high = studies.mean_interval(gains)
    found = {"n": len(gains), "gain": gains.mean(), "gain_low": low, "gain_high": high}
    return pd.Series(found | {"p": studies.signed_rank(gains)})


def known(name: str) -> pd.DataFrame:
    """What is recorded of a study, on the seeds that all recorded variants have; no rows without DARTS."""
    rows = studies.judged(name) if studies.is_recorded(name) else pd.DataFrame({"variant": []})
    keys = [key for key in ("setting", "seed") if key in rows]
    alike = rows.groupby(keys or "variant")["variant"].transform("nunique")
    return rows[(alike == rows["variant"].nunique()) & ("DARTS" in set(rows["variant"]))]


def compared(judged: pd.DataFrame) -> pd.DataFrame:
    """A report without the rows of DARTS, by setting and variant."""
    return studies.report(studies.outcomes(judged)).drop(index="DARTS", level="variant")


def by_rate(judged: pd.DataFrame) -> pd.DataFrame:
    """A report by setting and variant, with the column :data:`TIMES`, the number in a setting."""
    found = studies.report(studies.outcomes(judged)).reset_index()
    return found.assign(**{TIMES: found["setting"].str.split("× ").str[1].map(Fraction).map(float)})


def rank_correlations(judged: pd.DataFrame) -> pd.Series:
    """Of each pair of recipes how alike they rank cells, and of each pair of trainings of the table.

    The latter have one recipe and differ by noise alone. Random search is left out: one of them chose its
    cells. The index has the kinds of pair, ``recipes`` and ``trainings``.
    """
    searched = judged[judged["variant"] != "random search"]
    by_recipe = searched.pivot(index=["variant", "seed", "ops"], columns="setting", values="accuracy")
    known, cells = open_table("digits-201"), by_recipe.index.get_level_values("ops")
    again = pd.DataFrame([known.query(parse(ops)) for ops in cells]).filter(regex=r"^accuracy_\d")
    pairs = {}
    for kind, accuracies in (("recipes", by_recipe), ("trainings", again)):
        ranks = accuracies.corr("spearman").to_numpy()
        pairs[kind] = pd.Series(ranks[np.triu_indices(len(ranks), 1)])
    return pd.concat(pairs).droplevel(1)


def smallest_p(seeds: int) -> float:
    """The least two-sided p-value of the signed-rank test: all differences have one sign."""
    return min(1.0, 2 / 2**seeds)


def describe(summary: pd.DataFrame, together: pd.Series) -> str:
    """What :func:`summarize` and :func:`overall` found, in two sentences."""
    gains = summary.xs("Λ-DARTS", level="variant")["gain"]
    return (
        f"Over {len(gains)} settings and {together['n']:.0f} seeds, Λ-DARTS gains "
        f"{together['gain']:+.3f} over DARTS ({together['gain_low']:+.3f} to {together['gain_high']:+.3f}), "
        f"p = {together['p']:.3f}; the least that so many seeds can give is {smallest_p(together['n']):.3f}. "
        f"The mean gain is above zero in {(gains > 0).sum()} of the {len(gains)} settings."
    )


def in_words(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary in words, as :func:`~ldarts_book.studies.statistics.readable` writes them."""
    words = studies.readable(summary)
    return words[["collapsed", "accuracy", "gain", "p"]].assign(
        **{
            "p (Holm)": summary["p_holm"].map("{:.3f}".format).where(words["p"] != "", ""),
            "convolutions": summary["convolutions"].map("{:.1f}".format),
            "Λ": summary["valid_alignment"].map("{:+.2f}".format),
        }
    )
