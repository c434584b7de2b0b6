"""The strength of the regularizer: what the seeds for choosing say, and how many cells are worse."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from ldarts_book import studies


def strengths(judged: pd.DataFrame) -> pd.DataFrame:
    """Every form at every strength, index (form, strength); DARTS stands for λ = 0.

    The columns are those of :func:`~ldarts_book.studies.statistics.summary`.
    """
    found = studies.summary(judged)
    rows: dict[tuple[str, float], pd.Series] = {}
    for (form, strength), name in studies.STRENGTHS.items():
        rows.setdefault((form, 0.0), found.loc["DARTS"])
        rows[form, strength] = found.loc[name]
    return pd.DataFrame(rows).T.infer_objects().rename_axis(["form", "strength"])


def choose(table: pd.DataFrame) -> list[str]:
    """The variant of each form above λ = 0 whose searches have the highest mean, from :func:`strengths`."""
    positive = table[table.index.get_level_values("strength") > 0]
    return [studies.STRENGTHS[best] for best in positive.groupby(level="form", sort=False)["mean"].idxmax()]


def share_below(table: pd.DataFrame, accuracies: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The share of all cells that are worse than an accuracy; of equally good ones half of them count.

    A cell drawn at random has one half on average, whatever the distribution.

    Args:
        table: with the columns ``accuracy`` and ``cells``.
        accuracies: what is compared, [n].
    """
    levels = table.groupby("accuracy")["cells"].sum()
    upto = np.concatenate([[0], levels.cumsum() / levels.sum()])
    places = (np.searchsorted(levels.index, accuracies, side) for side in ("left", "right"))
    return sum(upto[place] for place in places) / 2
