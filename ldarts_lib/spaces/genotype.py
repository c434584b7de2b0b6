"""Genotypes: discrete cells as immutable values, in the notations of the field.

NAS-Bench-201 writes a cell as ``|op~source|+|op~source|op~source|+...`` (Dong & Yang, 2020), DARTS as
``Genotype(normal=[('op', source), ...], normal_concat=range(2, 6), reduce=..., reduce_concat=...)``, and a
recurrent cell as ``Genotype(recurrent=[('activation', source), ...], concat=range(1, 9))`` (Liu et al.,
2019). :mod:`~ldarts_lib.spaces.notations` reads these and others.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ldarts_lib.errors import LdartsError, SpaceError

Kind = Literal["nasbench201", "darts", "recurrent"]

OPERATION_NAMES = (
    "none", "noise", "skip_connect", "avg_pool_3x3", "max_pool_3x3", "nor_conv_1x1", "nor_conv_3x3",
    "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "conv_7x1_1x7", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
"""What an edge between images may do; :mod:`ldarts_lib.networks.operations` builds it."""

REGISTERED: dict[str, str] = {}
"""Operations of users' own, and the modules that register them."""

ACTIVATION_NAMES = ("tanh", "relu", "sigmoid", "identity")
"""What a node of a recurrent cell may do to what it reads."""


def operation_names() -> tuple[str, ...]:
    """:data:`OPERATION_NAMES`, and the operations that were registered."""
    return (*OPERATION_NAMES, *REGISTERED)


def register_name(name: str, module: str) -> None:
    """Make an operation known that a module registers; a notebook or script may register it again.

    Raises:
        SpaceError: it is no identifier, or another operation has that name.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)):
        raise SpaceError(f"operation {name!r}: expected letters, digits and underscores, first no digit")
    again = REGISTERED.get(name) == module == "__main__"
    if name in (*operation_names(), *ACTIVATION_NAMES) and not again:
        raise SpaceError(f"there is an operation {name!r} already; choose another name")
    REGISTERED[name] = module


class GenotypeError(LdartsError, ValueError):
    """A genotype that cannot be read, or that does not fit the search space."""


@dataclass(frozen=True, order=True)
class Edge:
    """One chosen operation: it reads node ``source`` and is summed into node ``target``."""

    target: int
    source: int
    operation: str

    def __str__(self) -> str:
        return f"{self.operation} on edge {self.target}<-{self.source}"


@dataclass(frozen=True)
class Cell:
    """A discrete cell.

    Attributes:
        inputs: number of input nodes (1 in NAS-Bench-201 and in a recurrent cell, 2 in DARTS); they are nodes
            0 .. inputs-1.
        edges: the chosen operations, in the order of their target nodes.
        output: the nodes that are concatenated (in a recurrent cell averaged) to the cell's output.
    """

    inputs: int
    edges: tuple[Edge, ...]
    output: tuple[int, ...]

    def __post_init__(self) -> None:
        targets = [edge.target for edge in self.edges]
        if targets != sorted(targets):
            raise GenotypeError("the edges of a cell must be ordered by their target node")
        for edge in self.edges:
            if edge.target < self.inputs:
                raise GenotypeError(f"{edge}: node {edge.target} is an input")
            if not 0 <= edge.source < edge.target:
                raise GenotypeError(
                    f"{edge}: node {edge.target} can read the nodes 0..{edge.target - 1} only"
                )
        unknown = sorted(set(self.output) - set(range(self.inputs + self.nodes)))
        if unknown or not self.output:
            raise GenotypeError(
                f"the output concatenates the nodes {list(self.output)}, but the cell has the nodes "
                f"0..{self.inputs + self.nodes - 1}"
            )

    @property
    def nodes(self) -> int:
        """Number of intermediate nodes, those that receive edges."""
        last = max((edge.target for edge in self.edges), default=self.inputs - 1)
        return last + 1 - self.inputs

    @property
    def operations(self) -> tuple[str, ...]:
        """The chosen operations, one per edge."""
        return tuple(edge.operation for edge in self.edges)

    def incoming(self, node: int) -> tuple[Edge, ...]:
        """The edges that end in ``node``."""
        return tuple(edge for edge in self.edges if edge.target == node)


@dataclass(frozen=True)
class Genotype:
    """A discrete architecture: its normal cell and, in two-cell spaces, its reduction cell.

    ``str(genotype)`` is the notation of the field, which :func:`parse` reads back.

    Examples:
        >>> from ldarts_lib import Genotype, parse
        >>> cell = parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|")
        >>> cell.kind, cell.count("skip_connect")
        ('nasbench201', 1)
        >>> cell == Genotype(cell.normal)
        True
    """

    normal: Cell
    reduce: Cell | None = None

    @property
    def cells(self) -> dict[str, Cell]:
        """The cells under their names, ``normal`` and, if there is one, ``reduce``."""
        return {"normal": self.normal} | ({"reduce": self.reduce} if self.reduce else {})

    @property
    def kind(self) -> Kind:
        """The family that the architecture is of, which says what network is built of it.

        Of one input node, a recurrent cell is what has one edge into each node, and activations on them or
        more than its last node as the output.

        Raises:
            GenotypeError: two input nodes, but no reduction cell.
        """
        cell = self.normal
        if self.reduce:
            return "darts"
        if cell.inputs > 1:
            raise GenotypeError(f"{self} has no reduction cell: write Genotype(normal=[...], reduce=[...])")
        single = [edge.target for edge in cell.edges] == list(range(1, 1 + cell.nodes))
        more = cell.output != (cell.nodes,) or set(cell.operations) <= set(ACTIVATION_NAMES)
        return "recurrent" if single and more else "nasbench201"

    def require(self, *kinds: Kind) -> None:
        """Check that a network can be built of the architecture.

        Raises:
            GenotypeError: it is of none of these kinds, or an operation is unknown; it is named.
        """
        if self.kind not in kinds:
            raise GenotypeError(f"{self} is no {' or '.join(kinds)} cell")
        known = ACTIVATION_NAMES if self.kind == "recurrent" else operation_names()
        for name, cell in self.cells.items():
            fed = {*range(cell.inputs), *(edge.target for edge in cell.edges)}
            if idle := sorted({*(edge.source for edge in cell.edges), *cell.output} - fed):
                raise GenotypeError(f"{name} cell: node {idle[0]} is read, but reads no node")
            for edge in cell.edges:
                if edge.operation not in known:
                    raise GenotypeError(
                        f"{name} cell: unknown operation {edge}; choose one of {', '.join(known)}"
                    )

    def count(self, operation: str) -> int:
        """How many edges of all cells carry ``operation``."""
        return sum(cell.operations.count(operation) for cell in self.cells.values())

    def as_json(self) -> dict[str, Any]:
        """The notation of the field, and every cell's edges as records: what ``genotype.json`` holds."""
        cells = {kind: [asdict(edge) for edge in cell.edges] for kind, cell in self.cells.items()}
        return {"genotype": str(self), "cells": cells}

    def __str__(self) -> str:
        if self.reduce or self.normal.inputs > 1:
            cells = self.cells.items()
            fields = (f"{name}={_pairs(cell)}, {name}_concat={_output(cell)}" for name, cell in cells)
            return f"Genotype({', '.join(fields)})"
        if self.kind == "recurrent":
            return f"Genotype(recurrent={_pairs(self.normal)}, concat={_output(self.normal)})"
        nodes = (self.normal.incoming(node) for node in range(1, 1 + self.normal.nodes))
        return "+".join(f"|{'|'.join(f'{e.operation}~{e.source}' for e in edges)}|" for edges in nodes)


def _pairs(cell: Cell) -> str:
    """Pairs, or triples (operation, target, source) where the nodes do not read one edge per input node."""
    usual = [cell.inputs + place // cell.inputs for place in range(cell.inputs * cell.nodes)]
    triples = [edge.target for edge in cell.edges] != usual
    edges = (f"({e.operation!r}, {f'{e.target}, ' * triples}{e.source})" for e in cell.edges)
    return f"[{', '.join(edges)}]"


def _output(cell: Cell) -> str:
    first, last = cell.output[0], cell.output[-1]
    contiguous = cell.output == tuple(range(first, last + 1))
    return f"range({first}, {last + 1})" if contiguous else str(list(cell.output))
