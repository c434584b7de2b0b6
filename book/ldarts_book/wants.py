"""What the cells of a search want: who pulls hard, and who has its way."""

from __future__ import annotations

import pandas as pd
from torch import Tensor

from ldarts_book import studies
from ldarts_book.studies.theory import cells, copies, drawn, searched
from ldarts_lib.bilevel.protocols import SearchProtocol


def first_gradients(settings: SearchProtocol) -> Tensor:
    """g of a search before its first step, on a batch of α: [cells, edges×operations]."""
    state = searched(settings)
    supernet = state.bilevel.supernet
    return cells(supernet, drawn(state.validation), copies(supernet, state.bilevel.alphas)).flatten(1)


def deciders(epochs: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """Per variant and cell, on the batches of α: whose gradient is long, and who goes with the sum.

    Columns: ``norm`` and ``cosine with the sum`` (means over the seeds and the last epochs), ``longest`` and
    ``decides`` (searches in which the cell's mean over these epochs is the largest of all cells). Cells are
    counted from 1, next to the input.
    """
    late = studies.last(epochs, count)
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
