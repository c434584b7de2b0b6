"""Search spaces as data: nodes, candidate operations per edge and cell kind, macro network, discretization.

A new space is a value of :class:`Space`, not a subclass. The seven that ship: ``nasbench201`` (Dong & Yang,
2020), ``darts`` (the seven operations without ``none`` of the Λ-DARTS code), ``darts8`` (the original eight
with ``none``, Liu et al., 2019) and ``s1`` ... ``s4`` (Zela et al., 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ldarts_lib.networks.macro import Macro, layout
from ldarts_lib.networks.operations import OPERATIONS
from ldarts_lib.spaces.genotype import Cell, Edge, Genotype, GenotypeError

Weights = Mapping[str, npt.ArrayLike]

_MACROS = {
    "stages": (("normal",), 1, ("last",), "argmax"),
    "chain": (("normal", "reduce"), 2, ("last", "concat"), "top2"),
}
"""Per macro network: cell kinds, input nodes and possible outputs of a cell, discretization."""


@dataclass(frozen=True)
class CellSpace:
    """The searchable cell of one kind.

    Attributes:
        inputs: number of input nodes; they are nodes 0 .. inputs-1.
        nodes: number of intermediate nodes; each reads all nodes before it.
        candidates: candidate operations per edge, in the order of :attr:`edges`, equally many on each.
        output: ``last`` (the last node is the output) or ``concat`` (all intermediate nodes).
    """

    inputs: int
    nodes: int
    candidates: tuple[tuple[str, ...], ...]
    output: Literal["last", "concat"]

    def __post_init__(self) -> None:
        if self.inputs < 1 or self.nodes < 1:
            raise ValueError(
                f"a cell needs at least one input and one intermediate node, "
                f"got {self.inputs} and {self.nodes}"
            )
        _check_name("output", self.output, ("last", "concat"))
        if len(self.candidates) != len(self.edges):
            raise ValueError(
                f"{self.inputs} input and {self.nodes} intermediate nodes make {len(self.edges)} edges, "
                f"but candidate operations are given for {len(self.candidates)}"
            )
        if len({len(names) for names in self.candidates}) != 1 or not self.candidates[0]:
            raise ValueError("every edge needs the same number of candidates, at least one")
        for (target, source), names in zip(self.edges, self.candidates, strict=True):
            unknown = sorted(set(names) - set(OPERATIONS))
            if unknown:
                raise ValueError(
                    f"edge {target}<-{source}: unknown operation {unknown[0]!r}; "
                    f"known are {sorted(OPERATIONS)}"
                )
            if len(set(names)) != len(names):
                raise ValueError(f"edge {target}<-{source}: an operation is listed twice in {names}")

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All edges as (target, source), the rows of the architecture parameters."""
        targets = range(self.inputs, self.inputs + self.nodes)
        return tuple((target, source) for target in targets for source in range(target))

    @property
    def operations(self) -> int:
        """Number of candidate operations on each edge."""
        return len(self.candidates[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of this kind's architecture parameters α, (edges, operations)."""
        return len(self.edges), self.operations

    @property
    def output_nodes(self) -> tuple[int, ...]:
        """The nodes that make up the cell's output."""
        last = self.inputs + self.nodes - 1
        return (last,) if self.output == "last" else tuple(range(self.inputs, last + 1))


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        name: how the command line and the run directory call it.
        cells: the searchable cell kinds; ``normal`` always, ``reduce`` in two-cell spaces.
        macro: how cells are stacked; ``stages``: three stages of normal cells with fixed reduction blocks
            between them (NAS-Bench-201); ``chain``: each cell reads the two before it, and the cells at one
            and two thirds of the depth are reduction cells (DARTS).
        discretization: ``argmax`` keeps the strongest operation of each edge; ``top2`` keeps, at each node,
            the two edges with the strongest operation other than ``none`` (DARTS).
        pooling_norm: whether the supernet normalizes the output of pooling operations by a BatchNorm
            without affine parameters, as DARTS does and NAS-Bench-201 does not.
    """

    name: str
    cells: Mapping[str, CellSpace]
    macro: Macro
    discretization: Literal["argmax", "top2"]
    pooling_norm: bool = True

    def __post_init__(self) -> None:
        _check_name("macro", self.macro, tuple(_MACROS))
        kinds, inputs, outputs, discretization = _MACROS[self.macro]
        where = f"the macro network {self.macro!r}"
        if set(self.cells) != set(kinds):
            raise ValueError(f"{where} needs the cell kinds {list(kinds)}")
        if self.discretization != discretization:
            raise ValueError(
                f"{where} needs the discretization {discretization!r}, not {self.discretization!r}"
            )
        for kind, cell in self.cells.items():
            if cell.inputs != inputs or cell.output not in outputs:
                raise ValueError(
                    f"{where} needs cells of {inputs} input nodes and the output {' or '.join(outputs)}, "
                    f"the {kind} cell has {cell.inputs} and {cell.output}"
                )

    @property
    def random(self) -> bool:
        """Whether a candidate operation draws random numbers."""
        return any("noise" in names for cell in self.cells.values() for names in cell.candidates)

    @property
    def separable(self) -> bool:
        """Whether a candidate operation is a separable or dilated convolution."""
        names = {name for cell in self.cells.values() for several in cell.candidates for name in several}
        return any(name.startswith(("sep_conv", "dil_conv")) for name in names)

    def layout(self, depth: int) -> tuple[str, ...]:
        """The searchable cells' kinds from input to output.

        Args:
            depth: cells per stage (``stages``) or in the whole network (``chain``).
        """
        return layout(self.macro, depth)

    @property
    def outputs(self) -> dict[str, int]:
        """Per cell kind the number of nodes that make up its output."""
        return {kind: len(cell.output_nodes) for kind, cell in self.cells.items()}

    def validate(self, genotype: Genotype) -> None:
        """Raise :class:`~ldarts_lib.spaces.genotype.GenotypeError` if the genotype is not of this space."""
        if set(genotype.cells) != set(self.cells):
            raise GenotypeError(
                f"space {self.name!r} has the cell kinds {sorted(self.cells)}, "
                f"the genotype has {sorted(genotype.cells)}"
            )
        for kind, cell in genotype.cells.items():
            _validate_cell(f"space {self.name!r}, {kind} cell", self.cells[kind], cell, self.discretization)

    def discretize(self, weights: Weights) -> Genotype:
        """The genotype that architecture weights select.

        Args:
            weights: per cell kind p = softmax(α), an array [edges, operations]. ``top2`` compares edges
                with each other, so that α itself can select other edges.

        Raises:
            ValueError: weights that are missing, of another shape or not finite.
        """
        choose = {"argmax": _strongest_of_each_edge, "top2": _two_strongest_edges}[self.discretization]
        cells = {}
        for kind, space in self.cells.items():
            matrix = np.asarray(weights.get(kind, ()), dtype=np.float64)
            if matrix.shape != space.shape:
                raise ValueError(f"{kind}: expected weights of shape {space.shape}, got {matrix.shape}")
            if not np.isfinite(matrix).all():
                raise ValueError(f"{kind}: the weights are not finite: {matrix.tolist()}")
            cells[kind] = Cell(space.inputs, tuple(choose(space, matrix)), space.output_nodes)
        return Genotype(**cells)


def _check_name(field: str, name: str, allowed: tuple[str, ...]) -> None:
    if name not in allowed:
        raise ValueError(f"unknown {field} {name!r}; choose one of {', '.join(allowed)}")


def _strongest_of_each_edge(space: CellSpace, matrix: npt.NDArray) -> list[Edge]:
    return [
        Edge(target, source, names[int(row.argmax())])
        for (target, source), names, row in zip(space.edges, space.candidates, matrix, strict=True)
    ]


def _two_strongest_edges(space: CellSpace, matrix: npt.NDArray) -> list[Edge]:
    chosen = []
    for node in range(space.inputs, space.inputs + space.nodes):
        ranked = []
        for (target, source), names, row in zip(space.edges, space.candidates, matrix, strict=True):
            if target == node:
                strength, best = max(
                    ((row[i], -i) for i, name in enumerate(names) if name != "none"),
                )
                ranked.append((-strength, source, names[-best]))
        chosen += [Edge(node, source, name) for _, source, name in sorted(ranked)[:2]]
    return chosen


def _validate_cell(where: str, space: CellSpace, cell: Cell, discretization: str) -> None:
    if cell.inputs != space.inputs or cell.nodes != space.nodes:
        raise GenotypeError(
            f"{where}: expected {space.inputs} input and {space.nodes} intermediate nodes, "
            f"got {cell.inputs} and {cell.nodes}"
        )
    if cell.output != space.output_nodes:
        raise GenotypeError(f"{where}: the output must be the nodes {space.output_nodes}, got {cell.output}")
    candidates = dict(zip(space.edges, space.candidates, strict=True))
    for edge in cell.edges:
        names = candidates[edge.target, edge.source]
        if edge.operation not in names:
            raise GenotypeError(f"{where}: {edge} is not among the candidates {names}")
    for node in range(space.inputs, space.inputs + space.nodes):
        sources = [edge.source for edge in cell.incoming(node)]
        expected = node if discretization == "argmax" else 2
        if len(sources) != expected or len(set(sources)) != expected:
            raise GenotypeError(f"{where}: node {node} must read {expected} different nodes, reads {sources}")


def _uniform(inputs: int, nodes: int, names: tuple[str, ...], output: Literal["last", "concat"]) -> CellSpace:
    edges = nodes * inputs + nodes * (nodes - 1) // 2
    return CellSpace(inputs, nodes, (names,) * edges, output)


def _chain(name: str, normal: CellSpace, reduce: CellSpace | None = None) -> Space:
    return Space(name, {"normal": normal, "reduce": reduce or normal}, macro="chain", discretization="top2")


_DARTS_OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
_SKIP, _MAX, _AVG = "skip_connect", "max_pool_3x3", "avg_pool_3x3"
_SEP3, _DIL3, _DIL5 = "sep_conv_3x3", "dil_conv_3x3", "dil_conv_5x5"

# fmt: off
_S1_NORMAL = CellSpace(
    inputs=2,
    nodes=4,
    output="concat",
    candidates=(
        (_SKIP, _DIL3), (_SKIP, _DIL5),
        (_SKIP, _DIL5), (_SKIP, _SEP3), (_SKIP, _DIL3),
        (_MAX, _SKIP), (_SKIP, _SEP3), (_SKIP, _SEP3), (_SKIP, _DIL3),
        (_SKIP, _SEP3), (_MAX, _SKIP), (_SKIP, _DIL3), (_DIL3, _DIL5), (_DIL3, _DIL5),
    ),
)
_S1_REDUCE = CellSpace(
    inputs=2,
    nodes=4,
    output="concat",
    candidates=(
        (_MAX, _AVG), (_MAX, _DIL3),
        (_MAX, _AVG), (_MAX, _AVG), (_SKIP, _DIL5),
        (_MAX, _AVG), (_MAX, _SEP3), (_SKIP, _DIL3), (_SKIP, _DIL5),
        (_MAX, _AVG), (_MAX, _AVG), (_SKIP, _DIL5), (_SKIP, _DIL5), (_SKIP, _DIL5),
    ),
)
# fmt: on

_NASBENCH201_OPERATIONS = ("none", _SKIP, "nor_conv_1x1", "nor_conv_3x3", _AVG)

SPACES: Mapping[str, Space] = {
    space.name: space
    for space in (
        Space(
            "nasbench201",
            {"normal": _uniform(1, 3, _NASBENCH201_OPERATIONS, "last")},
            macro="stages",
            discretization="argmax",
            pooling_norm=False,
        ),
        _chain("darts", _uniform(2, 4, _DARTS_OPERATIONS, "concat")),
        _chain("darts8", _uniform(2, 4, ("none", *_DARTS_OPERATIONS), "concat")),
        _chain("s1", _S1_NORMAL, _S1_REDUCE),
        _chain("s2", _uniform(2, 4, (_SKIP, _SEP3), "concat")),
        _chain("s3", _uniform(2, 4, ("none", _SKIP, _SEP3), "concat")),
        _chain("s4", _uniform(2, 4, ("noise", _SEP3), "concat")),
    )
}


def get_space(name: str) -> Space:
    """The space called ``name``.

    Raises:
        ValueError: no such space; the message lists those that exist.
    """
    if name not in SPACES:
        raise ValueError(f"unknown search space {name!r}; choose one of {', '.join(SPACES)}")
    return SPACES[name]
