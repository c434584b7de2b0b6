"""The paper's benchmark at the size of two cores: its searches beside Figure 1, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ldarts_book import figures, published, studies
from ldarts_lib.tables.tables import open_table

SKIPS, BEST = "111111", "333133"
"""The cells that the paper's DARTS and its Λ-DARTS end with."""


def proxy_searches(name: str) -> pd.DataFrame:
    """The judged rows of a study; none where it was not run."""
    return studies.judged(name) if studies.is_recorded(name) else pd.DataFrame()


def answers(judged: pd.DataFrame) -> pd.DataFrame:
    """What a study of this benchmark answers, a row per (setting and) variant.

    Columns: ``searches``, ``mean`` (test accuracy, %); how many searches end as ``all skip``, have
    ``collapsed`` (no convolution), are ``as published`` (not below the paper's Λ-DARTS); means of ``Λ`` (α
    batches, last epoch), of the accuracy at the lowest validation loss (``by loss``) and of ``seconds``;
    ``τ``, Kendall's, of the last validation loss and the accuracy (-1: the loss knows).
    """
    if judged.empty:
        return judged
    ends = studies.outcomes(judged)
    early = studies.outcomes(judged, studies.STOPPING["lowest validation loss"])
    goal = open_table("nasbench201").frame.at[BEST, "cifar10_test"]
    ends = ends.assign(
        **{"all skip": ends["ops"] == SKIPS, "as published": ends["accuracy"] >= goal},
        **{"by loss": early["accuracy"], "Λ": ends["valid_alignment"]},
    )
    searches = ends.groupby([key for key in ("setting", "variant") if key in ends], sort=False)
    losses = searches[["valid_loss", "accuracy"]]
    τ = losses.apply(lambda one: one["valid_loss"].corr(one["accuracy"], method="kendall", min_periods=2))
    found = searches["accuracy"].agg(searches="count", mean="mean")
    found = found.join(searches[["all skip", "collapsed", "as published"]].sum())
    return found.join(searches[["Λ", "by loss", "seconds"]].mean()).assign(τ=τ)


def best_of_drawn(tries: Sequence[int] = (1, 3, 10)) -> pd.Series:
    """Of so many cells drawn uniformly the best by validation accuracy: its expected test accuracy (%)."""
    table = open_table("nasbench201").frame
    by, worth = table["cifar10_valid"], table["cifar10_test"]
    found = [studies.expected_best(by, np.ones(len(table)), k, worth) for k in tries]
    return pd.Series(found, pd.Index(tries, name="random cells"), name="test accuracy (%)")


def beside_figure1(ours: pd.DataFrame, alignment: str, accuracy: str) -> Figure:
    """The paper's Figure 1, and beside it the same methods of ours, whose panels have these titles."""
    table = published.numbers.figure1().rename(columns={"method": "variant", "accuracy": "theirs"})
    for column, error in (("alignment", "alignment_error"), ("theirs", "accuracy_error")):
        ends = {"low": table[column] - table[error], "high": table[column] + table[error]}
        table = table.assign(**{f"{column}_{end}": values for end, values in ends.items()})
    if len(ours):
        table = pd.concat([table, ours[ours["variant"].isin(table["variant"])]])
    titles = {
        "alignment": "Λ, Figure 1 of the paper",
        "valid_alignment": alignment,
        "theirs": "CIFAR-10 accuracy (%), Figure 1",
        "accuracy": accuracy,
    }
    return figures.curves(
        table.rename(columns={"epoch": "epoch of the search"}),
        {column: title for column, title in titles.items() if column in table},
        x="epoch of the search",
        spread="half",
        bounds={column: (f"{column}_low", f"{column}_high") for column in ("alignment", "theirs")},
    )
