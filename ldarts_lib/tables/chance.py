"""What chance finds, in a table whose rows stand for so many ``cells``: the floor below every search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ldarts_lib.tables.tables import Table


def references(benchmark: Table, seconds: float) -> dict[str, float]:
    """What searches are held against: a random cell, random search of equal cost, and the best cell.

    Random search trains as many random cells once as the seconds allow, and takes the best of them.
    """
    table = benchmark.frame
    tries = max(int(seconds / np.average(table["seconds"], weights=table["cells"])), 1)
    return {
        "random cell": random_cell(benchmark),
        "random search": random_search(table, [tries])["by one seed"].item(),
        "best cell": float(table["accuracy"].max()),
    }


def random_cell(benchmark: Table) -> float:
    """The mean accuracy of a cell drawn at random from all 15,625."""
    table = benchmark.frame
    return float((table["accuracy"] * table["cells"]).sum() / table["cells"].sum())


def random_search(table: pd.DataFrame, tries: Sequence[int]) -> pd.DataFrame:
    """The outcome of random search with so many cells.

    Columns: ``best`` (expected accuracy of the best, chosen by the table's accuracies), ``regret`` (what the
    best of the table has more), and ``by one seed`` (expected accuracy of the cell that is best in a single
    training, judged by the other ones; the mean over all seeds that can choose).
    """
    seeds = table.filter(like="accuracy_")
    if seeds.shape[1] < 2:
        raise ValueError(f"expected at least two seeds, got {list(seeds)}")
    rows = []
    for k in tries:
        best = expected_best(table["accuracy"], table["cells"], k)
        others = {one: seeds.drop(columns=one).mean(axis=1) for one in seeds}
        honest = [expected_best(seeds[one], table["cells"], k, mean) for one, mean in others.items()]
        regret = table["accuracy"].max() - best
        rows.append({"best": best, "regret": regret, "by one seed": np.mean(honest)})
    return pd.DataFrame(rows, index=pd.Index(tries, name="cells tried"))


def expected_best(
    chosen_by: npt.ArrayLike, cells: npt.ArrayLike, tries: int, judged_by: npt.ArrayLike | None = None
) -> float:
    """The expected worth of the best of some cells, drawn with replacement; ties are broken at random.

    Args:
        chosen_by: accuracies of the rows, by which the best is chosen, [rows].
        cells: number of cells that each row stands for, [rows].
        tries: k, how many cells are drawn.
        judged_by: what the chosen one is worth, [rows]; by default its accuracy.
    """
    if tries < 1:
        raise ValueError(f"tries must be at least 1, got {tries}")
    rows = pd.DataFrame({"accuracy": np.asarray(chosen_by), "cells": np.asarray(cells)})
    rows["worth"] = rows["cells"] * np.asarray(chosen_by if judged_by is None else judged_by)
    levels = rows.groupby("accuracy").sum()
    # P(best of k ≤ a) = F(a)^k, where F(a) is the share of cells of at most the accuracy a
    at_most = levels["cells"].cumsum() / levels["cells"].sum()
    probability = np.diff(at_most**tries, prepend=0.0)
    return float(probability @ (levels["worth"] / levels["cells"]))
