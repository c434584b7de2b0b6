"""Where cells of the DARTS space lie: published ones, random ones, and such without a convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pandas as pd

from ldarts_book.studies.judges import draw
from ldarts_lib.spaces.genotype import Cell, Edge, Genotype
from ldarts_lib.tables.surrogate import OPERATIONS, SPACE, estimate

FAMILIES = ("published", "random", "without a convolution")
AXIS = "estimated accuracy on CIFAR-10 (%)"


def _collapsed(operation: str) -> Genotype:
    """A cell with one operation everywhere; each node reads both inputs, as in most cells that collapsed."""
    nodes = SPACE.cells["normal"].output_nodes
    cell = Cell(2, tuple(Edge(node, source, operation) for node in nodes for source in (0, 1)), nodes)
    return Genotype(cell, cell)


def estimates(genotypes: Mapping[str, Genotype], *, draws: int = 5) -> pd.DataFrame:
    """The estimates of the given cells, of random ones and of those without a convolution.

    Given cells with an operation that the DARTS space lacks are left out.

    Returns:
        ``family`` (one of :data:`FAMILIES`), and the fields of
        :class:`~ldarts_lib.tables.surrogate.Estimate`, under the names of the cells; each family from its
        best to its worst.
    """
    known = {}
    for name, genotype in genotypes.items():
        if all({*cell.operations} <= {*OPERATIONS} for cell in genotype.cells.values()):
            known[name] = genotype
    drawn = {f"random cell, seed {seed}": draw(SPACE, seed) for seed in range(draws)}
    free = ("skip_connect", "max_pool_3x3", "avg_pool_3x3")
    collapsed = {f"{operation} everywhere": _collapsed(operation) for operation in free}
    parts = []
    for family, cells in zip(FAMILIES, (known, drawn, collapsed), strict=True):
        rows = [{"family": family, **asdict(estimate(cell))} for cell in cells.values()]
        if rows:
            parts.append(pd.DataFrame(rows, index=[*cells]).sort_values("accuracy", ascending=False))
    return pd.concat(parts)


def families(table: pd.DataFrame) -> dict[str, list[str]]:
    """The names of the rows of :func:`estimates` by their family."""
    return {family: list(rows) for family, rows in table.groupby("family", sort=False).groups.items()}


def middle_of_random_cells() -> float:
    """The median of the estimates of 200 random cells."""
    return float(np.median([estimate(draw(SPACE, seed)).accuracy for seed in range(200)]))
