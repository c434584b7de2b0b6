"""The paper's benchmark at the size of two cores: its searches beside Figure 1, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ldarts_book import published, studies
from ldarts_lib.tables.tables import open_table

SKIPS, BEST = "111111", "333133"
"""The cells that the paper's DARTS and its Λ-DARTS end with."""


def answers(judged: pd.DataFrame) -> pd.DataFrame:
    """What a study of this benchmark answers, a row per (setting and) variant.

    Columns: ``searches``; ``mean``, ``worst`` and ``best`` (test accuracy, %); how many searches end as
    ``all skip``, have ``collapsed`` (no convolution), are ``as published`` (not below the paper's Λ-DARTS);
    means of ``Λ`` (α batches, last epoch), of the accuracy at the lowest validation loss (``by loss``) and of
    ``seconds``; ``tau``, Kendall's, of the last validation loss and the accuracy (-1: a low loss knows).
    """
    ends = studies.outcomes(judged)
    early = studies.outcomes(judged, studies.STOPPING["lowest validation loss"])
    goal = open_table("nasbench201").frame.at[BEST, "cifar10_test"]
    ends = ends.assign(
        **{"all skip": ends["ops"] == SKIPS, "as published": ends["accuracy"] >= goal},
        **{"by loss": early["accuracy"], "Λ": ends["valid_alignment"]},
    )
    searches = ends.groupby([key for key in ("setting", "variant") if key in ends], sort=False)
    names = {"searches": "count", "mean": "mean", "worst": "min", "best": "max"}
    found = searches["accuracy"].agg(**names)
    found = found.join(searches[["all skip", "collapsed", "as published"]].sum())
    losses = searches[["valid_loss", "accuracy"]]
    tau = losses.apply(lambda one: one["valid_loss"].corr(one["accuracy"], method="kendall", min_periods=2))
    return found.join(searches[["Λ", "by loss", "seconds"]].mean()).assign(tau=tau)


def random_search(tries: Sequence[int] = (1, 3, 10)) -> pd.Series:
    """Of so many cells drawn uniformly the best by validation accuracy: its expected test accuracy (%)."""
    table = open_table("nasbench201").frame
    by, worth = table["cifar10_valid"], table["cifar10_test"]
    found = [studies.expected_best(by, np.ones(len(table)), k, worth) for k in tries]
    return pd.Series(found, pd.Index(tries, name="random cells"), name="test accuracy (%)")


def beside_figure1(ours: pd.DataFrame, percent: float = 1.0) -> pd.DataFrame:
    """The paper's curves (``alignment`` and ``theirs``, with ends) above searches of ours (``accuracy``)."""
    theirs = published.numbers.figure1().rename(columns={"method": "variant", "accuracy": "theirs"})
    for column, name in (("alignment", "alignment"), ("theirs", "accuracy")):
        for end, sign in (("low", -1), ("high", 1)):
            theirs[f"{name}_{end}"] = theirs[column] + sign * theirs[f"{name}_error"]
    if len(ours):
        ours = ours[ours["variant"].isin(theirs["variant"])].assign(accuracy=percent * ours["accuracy"])
    return pd.concat([theirs, ours]).rename(columns={"epoch": "epoch of the search"})
