"""A search that is shown epoch by epoch: its cells, what they are worth, and what its loss says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ldarts_book import studies
from ldarts_book.figures.frames import Curves, draw_frame, edge_weights, frame_alt_texts
from ldarts_book.studies.chance import random_cell
from ldarts_book.studies.judges import Found
from ldarts_lib.spaces.genotype import Cell, parse
from ldarts_lib.spaces.space import SPACES
from ldarts_lib.tables.computation import encode
from ldarts_lib.tables.tables import Benchmark


def cells(search: Found) -> list[Cell]:
    """The derived cell after each epoch."""
    return [parse(row["genotype"]).normal for row in search.history]


def weights(search: Found) -> list[dict[tuple[int, int], float]]:
    """After each epoch the architecture weight of each edge's chosen operation."""
    space = SPACES["nasbench201"].cells["normal"]
    pairs = zip(cells(search), search.trajectory.weights["normal"], strict=True)
    return [edge_weights(cell, space, p) for cell, p in pairs]


def curves(search: Found, benchmark: Benchmark) -> Curves:
    """The exact accuracy of the derived cell and the validation loss, with their references."""
    rows = [benchmark.query(row["genotype"]) for row in search.history]
    return Curves(
        [row["accuracy"] for row in rows],
        [row["valid_loss"] for row in search.history],
        best=float(benchmark.table["accuracy"].max()),
        random=random_cell(benchmark),
        std=[row["std"] for row in rows],
    )


def frames(search: Found, benchmark: Benchmark) -> tuple[list[Any], list[tuple[str, str]]]:
    """A figure and a description of every epoch, for the scrubber."""
    shown, derived = curves(search, benchmark), cells(search)
    drawn = [
        draw_frame(cell, edges, shown, epoch)
        for epoch, (cell, edges) in enumerate(zip(derived, weights(search), strict=True), start=1)
    ]
    return drawn, [frame_alt_texts(cell, shown, epoch) for epoch, cell in enumerate(derived, start=1)]


def milestones(search: Found, benchmark: Benchmark, count: int = 9) -> pd.DataFrame:
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
