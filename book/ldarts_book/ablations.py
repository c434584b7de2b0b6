"""The strength of the regularizer: what the seeds for choosing say, and how far a choice flatters itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import integrate, stats

from ldarts_book.studies import demonstration
from ldarts_book.studies.variants import FORMS, at, value


def strengths(judged: pd.DataFrame) -> pd.DataFrame:
    """Every form at every strength, index (form, strength); DARTS stands for λ = 0.

    Args:
        judged: rows of the group ``strengths`` that :func:`ldarts_book.studies.study.judge` has judged.

    Returns:
        The columns of :func:`ldarts_book.studies.demonstration.summary`.
    """
    found = demonstration.summary(judged)
    rows = {}
    for form, (_, steps) in FORMS.items():
        rows[form, 0.0] = found.loc["DARTS"]
        rows |= {(form, value(step)): found.loc[at(form, step)] for step in steps}
    table = pd.DataFrame(rows).T.infer_objects()
    table.index.names = ["form", "strength"]
    return table


def choose(table: pd.DataFrame) -> dict[str, float]:
    """The strength above zero of each form whose searches have the highest mean.

    Args:
        table: of :func:`strengths`.
    """
    positive = table[table.index.get_level_values("strength") > 0]
    return {form: rows["mean"].idxmax()[1] for form, rows in positive.groupby(level="form", sort=False)}


def optimism(settings: int, deviation: float, seeds: int) -> float:
    """How much too high the mean of the best of some equally good settings is expected to be.

    Args:
        settings: how many are compared.
        deviation: standard deviation of a search, around the mean of its setting.
        seeds: searches of each setting, whose mean is taken to be normal, and independent of the others.

    Raises:
        ValueError: less than one setting or seed.
    """
    if settings < 1 or seeds < 1:
        raise ValueError(f"give at least one setting and one seed, got {settings} and {seeds}")

    def integrand(x: float) -> float:
        return x * settings * stats.norm.pdf(x) * stats.norm.cdf(x) ** (settings - 1)

    largest, _ = integrate.quad(integrand, -np.inf, np.inf)
    return deviation / seeds**0.5 * largest
