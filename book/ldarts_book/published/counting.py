"""What a cell is made of, in numbers: operations without weights, depth, and the size of its network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ldarts_lib.networks.sizes import sizes
from ldarts_lib.spaces.genotype import Cell, Genotype

WITHOUT_WEIGHTS = ("none", "skip_connect", "avg_pool_3x3", "max_pool_3x3", "noise")
"""Operations that learn nothing."""


def depth(cell: Cell) -> int:
    """The number of edges on the longest path from an input node to any other; ``none`` counts as an edge."""
    longest = dict.fromkeys(range(cell.inputs), 0)
    for node in range(cell.inputs, cell.inputs + cell.nodes):
        longest[node] = max((longest[edge.source] + 1 for edge in cell.incoming(node)), default=0)
    return max(longest.values())


def count(genotypes: Mapping[str, Genotype], **network: Any) -> pd.DataFrame:
    """One row per architecture: what its cells hold, and how large its network is.

    Columns: for each kind of cell ``KIND skips`` and ``KIND depth`` (:func:`depth`), ``with weights`` (edges
    of all kinds whose operation learns), ``parameters (M)`` and ``multiply-adds (M)``, both in millions and
    without the auxiliary head; ``network`` are arguments of :func:`ldarts_lib.networks.sizes.sizes`.
    """
    rows = {}
    for name, genotype in genotypes.items():
        row: dict[str, float] = {}
        for kind, cell in genotype.cells.items():
            row[f"{kind} skips"] = cell.operations.count("skip_connect")
            row[f"{kind} depth"] = depth(cell)
        operations = [operation for cell in genotype.cells.values() for operation in cell.operations]
        row["with weights"] = sum(operation not in WITHOUT_WEIGHTS for operation in operations)
        found = sizes(genotype, **network)
        millions = {"parameters (M)": found.parameters / 1e6, "multiply-adds (M)": found.multiply_adds / 1e6}
        rows[name] = row | millions
    table = pd.DataFrame(rows).T
    whole = [column for column in table if not column.endswith("(M)")]
    return table.astype(dict.fromkeys(whole, int))
