"""A search that is shown epoch by epoch: its cells, what they are worth, and what its loss says of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ldarts_book import figures, studies
from ldarts_book.studies.judges import Found
from ldarts_lib.spaces.genotype import Cell
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.space import SPACES, CellSpace
from ldarts_lib.tables.chance import random_cell
from ldarts_lib.tables.computation import encode
from ldarts_lib.tables.tables import Table


def film(search: Found, benchmark: Table) -> figures.Film:
    """The derived cell of every epoch with its exact accuracy, and the validation loss."""
    space = SPACES["nasbench201"].cells["normal"]
    derived = [parse(row["genotype"]).normal for row in search.history]
    pairs = zip(derived, search.trajectory.weights["normal"], strict=True)
    found = [benchmark.query(row["genotype"]) for row in search.history]
    return figures.Film(
        cells=derived,
        weights=[edge_weights(cell, space, p) for cell, p in pairs],
        accuracies=[row["accuracy"] for row in found],
        std=[row["std"] for row in found],
        losses=[row["valid_loss"] for row in search.history],
        best=float(benchmark.frame["accuracy"].max()),
        random=random_cell(benchmark),
    )


def edge_weights(cell: Cell, space: CellSpace, weights: npt.ArrayLike) -> dict[tuple[int, int], float]:
    """The weight of the chosen operation on each edge of a derived cell, from p, [edges, operations]."""
    candidates = dict(zip(space.edges, space.candidates, strict=True))
    by_edge = dict(zip(space.edges, np.asarray(weights), strict=True))
    chosen = {(edge.target, edge.source): edge.operation for edge in cell.edges}
    return {
        edge: float(by_edge[edge][candidates[edge].index(operation)]) for edge, operation in chosen.items()
    }


def milestones(search: Found, benchmark: Table, count: int = 9) -> pd.DataFrame:
    """Evenly spaced epochs of a search, counted from 1: the cell, what it is worth, and the loss."""
    rows = pd.DataFrame(search.history)[["epoch", "valid_loss"]]
    rows["ops"] = [encode(parse(row["genotype"])) for row in search.history]
    judged = studies.LOOKED_UP.judge(rows, benchmark)
    places = np.unique(np.linspace(0, len(judged) - 1, count).round().astype(int))
    table = judged.iloc[places][["epoch", "ops", "skips", "convolutions", "accuracy", "regret", "valid_loss"]]
    return table.assign(epoch=table["epoch"] + 1).round(3).set_index("epoch")


def loss_against_accuracy(judged: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """How well the validation loss ranks the epochs of a search by the worth of their cells.

    Columns: the mean, smallest and largest Spearman correlation over the searches of a variant (-1 if a low
    loss always meant a good cell), and the mean accuracy of the cell at the lowest loss and at the end.
    """
    rows = {}
    for variant in variants:
        searches = [search for _, search in judged[judged["variant"] == variant].groupby("seed")]
        ranks = [s["valid_loss"].corr(s["accuracy"], method="spearman") for s in searches]
        lowest = [s.loc[s["valid_loss"].idxmin(), "accuracy"] for s in searches]
        last = [s.loc[s["epoch"].idxmax(), "accuracy"] for s in searches]
        rows[variant] = {
            "searches": len(searches),
            "mean rank correlation": np.nanmean(ranks),
            "smallest": np.nanmin(ranks),
            "largest": np.nanmax(ranks),
            "accuracy at the lowest loss": np.mean(lowest),
            "accuracy at the end": np.mean(last),
        }
    return pd.DataFrame(rows).T.round(3)
