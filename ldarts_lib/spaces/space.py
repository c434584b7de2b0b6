"""Search spaces as data: nodes, candidate operations per edge and cell, macro network, discretization.

A new space is a value of :class:`Space`, not a subclass. Those of images are ``nasbench201`` (Dong & Yang,
2020), ``darts`` (the seven operations without ``none`` of the Λ-DARTS code), ``darts8`` (the original eight
with ``none``, Liu et al., 2019) and ``s1`` ... ``s4`` (Zela et al., 2020); :data:`PTB` is that of recurrent
cells (Liu et al., 2019). Rows and columns of α are in the order of the published codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ldarts_lib.errors import require_known
from ldarts_lib.spaces.genotype import (
    ACTIVATION_NAMES,
    OPERATION_NAMES,
    Cell,
    Edge,
    Genotype,
    GenotypeError,
    operation_names,
)

Macro = Literal["stages", "chain", "recurrent"]

MACROS: Mapping[str, tuple[tuple[str, ...], int, tuple[str, ...], int | None]] = {
    "stages": (("normal",), 1, ("last",), None),
    "chain": (("normal", "reduce"), 2, ("last", "concat"), 2),
    "recurrent": (("normal",), 1, ("concat",), 1),
}
"""Per macro network: the names of the cells, their input nodes and possible outputs, the edges kept."""


@dataclass(frozen=True)
class CellSpace:
    """The searchable cell of one kind.

    Attributes:
        inputs: number of input nodes; they are nodes 0 .. inputs-1.
        nodes: number of intermediate nodes; each reads all nodes before it.
        candidates: operations per edge, in the order of :attr:`edges`, equally many on each.
        output: the ``last`` node, or all intermediate nodes (``concat``; averaged in a recurrent cell).
    """

    inputs: int
    nodes: int
    candidates: tuple[tuple[str, ...], ...]
    output: Literal["last", "concat"]

    def __post_init__(self) -> None:
        if len(self.candidates) != len(self.edges):
            made = f"{self.inputs} input and {self.nodes} intermediate nodes make {len(self.edges)} edges"
            raise ValueError(f"{made}, but candidate operations are given for {len(self.candidates)}")
        if len({len(names) for names in self.candidates}) != 1 or not self.candidates[0]:
            raise ValueError("every edge needs the same number of candidates, at least one")
        for (target, source), names in zip(self.edges, self.candidates, strict=True):
            for name in names:
                known = (*operation_names(), *ACTIVATION_NAMES)
                require_known(f"operation on edge {target}<-{source}:", name, known)
            if len(set(names)) != len(names):
                raise ValueError(f"edge {target}<-{source}: an operation is listed twice in {names}")
            if set(names) == {"none"}:
                raise ValueError(f"edge {target}<-{source} needs an operation other than none")

    @classmethod
    def uniform(
        cls, inputs: int, nodes: int, names: tuple[str, ...], output: Literal["last", "concat"]
    ) -> CellSpace:
        """A cell with the same candidate operations on every edge."""
        return cls(inputs, nodes, (names,) * sum(range(inputs, inputs + nodes)), output)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All edges as (target, source), the rows of the architecture parameters."""
        targets = range(self.inputs, self.inputs + self.nodes)
        return tuple((target, source) for target in targets for source in range(target))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of this cell's architecture parameters α, (edges, operations)."""
        return len(self.edges), len(self.candidates[0])

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
        cells: the searchable cells; ``normal`` always, ``reduce`` in two-cell spaces.
        macro: how cells are stacked; ``stages``: three stages of normal cells with fixed reduction blocks
            between them (NAS-Bench-201); ``chain``: each cell reads the two before it, and the cells at one
            and two thirds of the depth are reduction cells (DARTS); ``recurrent``: in a language model.
        pooling_norm: whether the supernet normalizes the output of pooling operations by a BatchNorm
            without affine parameters, as DARTS does and NAS-Bench-201 does not.
        keep: edges that a node of a discrete cell keeps, or ``all``; by default the macro network's rule.

    Examples:
        >>> from ldarts_lib import SPACES, Space
        >>> space = Space("mine", {"normal": SPACES["nasbench201"].cells["normal"]}, macro="stages")
        >>> space.cells["normal"].shape  # of α: edges, candidate operations
        (6, 5)
        >>> str(space.discretize({"normal": [[0.1, 0.6, 0.1, 0.1, 0.1]] * 6}))
        '|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|'
    """

    name: str
    cells: Mapping[str, CellSpace]
    macro: Macro
    pooling_norm: bool = True
    keep: int | Literal["all"] | None = None

    def __post_init__(self) -> None:
        require_known("macro", self.macro, MACROS)
        kinds, inputs, outputs, _ = MACROS[self.macro]
        if self.keep not in (None, "all") and (type(self.keep) is not int or self.keep < 1):
            raise ValueError(f"{self.keep!r}: expected a number of edges to keep from 1, or 'all'")
        where = f"the macro network {self.macro!r}"
        if set(self.cells) != set(kinds):
            raise ValueError(f"{where} needs the cell kinds {list(kinds)}")
        for kind, cell in self.cells.items():
            if cell.inputs != inputs or cell.output not in outputs:
                needed = f"{where} needs cells of {inputs} input nodes and the output {' or '.join(outputs)}"
                raise ValueError(f"{needed}, the {kind} cell has {cell.inputs} and {cell.output}")

    @property
    def kept(self) -> int | None:
        """How many edges each node of a discrete cell keeps, those with the strongest operations other than
        ``none`` (DARTS); None for all, each with its strongest operation (NAS-Bench-201).
        """
        kept = MACROS[self.macro][-1] if self.keep is None else self.keep
        return None if kept == "all" else kept

    @property
    def operations(self) -> set[str]:
        """The candidate operations of all edges."""
        return {name for cell in self.cells.values() for names in cell.candidates for name in names}

    @property
    def registered(self) -> list[str]:
        """The operations of a user's own."""
        return sorted(self.operations - {*OPERATION_NAMES, *ACTIVATION_NAMES})

    @property
    def random(self) -> bool:
        """Whether an operation draws random numbers; of registered ones, networks find out themselves."""
        return "noise" in self.operations

    @property
    def separable(self) -> bool:
        """Whether an operation is a separable or dilated convolution."""
        known = self.operations - {*self.registered}
        return any(name.startswith(("sep_conv", "dil_conv")) for name in known)

    def layout(self, depth: int) -> tuple[str, ...]:
        """The names of the searchable cells from input to output, see :func:`layout`."""
        return layout(self.macro, depth)

    @property
    def outputs(self) -> dict[str, int]:
        """Per cell the number of nodes that make up its output."""
        return {kind: len(cell.output_nodes) for kind, cell in self.cells.items()}

    def validate(self, genotype: Genotype) -> None:
        """Raise :class:`~ldarts_lib.spaces.genotype.GenotypeError` if the genotype is not of this space."""
        if set(genotype.cells) != set(self.cells):
            ours = f"space {self.name!r} has the cell kinds {sorted(self.cells)}"
            raise GenotypeError(f"{ours}, the genotype has {sorted(genotype.cells)}")
        for kind, cell in genotype.cells.items():
            _validate_cell(f"space {self.name!r}, {kind} cell", self.cells[kind], cell, self.kept)

    def discretize(self, weights: Mapping[str, npt.ArrayLike]) -> Genotype:
        """The genotype that architecture weights select, per cell p = softmax(α), [edges, operations].

        Where edges are compared with each other, α itself could select others.

        Raises:
            ValueError: weights that are missing, of another shape or not finite.
        """
        cells = {}
        for kind, space in self.cells.items():
            matrix = np.asarray(weights.get(kind, ()), dtype=np.float64)
            if matrix.shape != space.shape:
                raise ValueError(f"{kind}: expected weights of shape {space.shape}, got {matrix.shape}")
            if not np.isfinite(matrix).all():
                raise ValueError(f"{kind}: the weights are not finite: {matrix.tolist()}")
            edges = _strongest_edges(space, matrix, self.kept)
            cells[kind] = Cell(space.inputs, tuple(edges), space.output_nodes)
        return Genotype(**cells)


def layout(macro: Macro, depth: int) -> tuple[str, ...]:
    """The names of the cells from input to output, ``depth`` in each of the ``stages`` or in all.

    Those at one and two thirds of a ``chain`` are reduction cells.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    if macro != "chain":
        return ("normal",) * (3 * depth if macro == "stages" else depth)
    reductions = {depth // 3, 2 * depth // 3}
    return tuple("reduce" if i in reductions else "normal" for i in range(depth))


def _strongest_edges(space: CellSpace, p: npt.NDArray, kept: int | None) -> list[Edge]:
    """Of equal weights the earlier source and the earlier operation win, as in the DARTS code."""
    chosen, rows = [], list(zip(space.edges, space.candidates, p, strict=True))
    for node in range(space.inputs, space.inputs + space.nodes):
        ranked = []
        for (_, source), names, row in (row for row in rows if row[0][0] == node):
            # strength of edge e: max_o p[e, o], over o ≠ none if edges compete ("Search as optimization")
            strength, best = max((row[o], -o) for o, name in enumerate(names) if name != "none" or not kept)
            ranked.append((-strength, source, names[-best]))
        if kept:
            ranked = sorted(ranked)[:kept]
        chosen += [Edge(node, source, name) for _, source, name in ranked]
    return chosen


def _validate_cell(where: str, space: CellSpace, cell: Cell, kept: int | None) -> None:
    expected, got = (space.inputs, space.nodes, space.output_nodes), (cell.inputs, cell.nodes, cell.output)
    for what, *both in zip(("input nodes", "intermediate nodes", "output nodes"), expected, got, strict=True):
        if both[0] != both[1]:
            raise GenotypeError(f"{where}: expected {both[0]} {what}, got {both[1]}")
    candidates = dict(zip(space.edges, space.candidates, strict=True))
    for edge in cell.edges:
        names = candidates[edge.target, edge.source]
        if edge.operation not in names:
            raise GenotypeError(f"{where}: {edge} is not among the candidates {names}")
    for node in range(space.inputs, space.inputs + space.nodes):
        sources = [edge.source for edge in cell.incoming(node)]
        expected = min(kept or node, node)
        if len(sources) != expected or len(set(sources)) != expected:
            raise GenotypeError(f"{where}: node {node} must read {expected} different nodes, reads {sources}")


def _chain(name: str, normal: CellSpace, reduce: CellSpace | None = None) -> Space:
    return Space(name, {"normal": normal, "reduce": reduce or normal}, macro="chain")


_SKIP, _MAX, _AVG = "skip_connect", "max_pool_3x3", "avg_pool_3x3"
_SEP3, _DIL3, _DIL5 = "sep_conv_3x3", "dil_conv_3x3", "dil_conv_5x5"
_DARTS_OPERATIONS = (_MAX, _AVG, _SKIP, _SEP3, "sep_conv_5x5", _DIL3, _DIL5)

# fmt: off
_S1_NORMAL = CellSpace(inputs=2, nodes=4, output="concat", candidates=(
    (_SKIP, _DIL3), (_SKIP, _DIL5),
    (_SKIP, _DIL5), (_SKIP, _SEP3), (_SKIP, _DIL3),
    (_MAX, _SKIP), (_SKIP, _SEP3), (_SKIP, _SEP3), (_SKIP, _DIL3),
    (_SKIP, _SEP3), (_MAX, _SKIP), (_SKIP, _DIL3), (_DIL3, _DIL5), (_DIL3, _DIL5),
))
_S1_REDUCE = CellSpace(inputs=2, nodes=4, output="concat", candidates=(
    (_MAX, _AVG), (_MAX, _DIL3),
    (_MAX, _AVG), (_MAX, _AVG), (_SKIP, _DIL5),
    (_MAX, _AVG), (_MAX, _SEP3), (_SKIP, _DIL3), (_SKIP, _DIL5),
    (_MAX, _AVG), (_MAX, _AVG), (_SKIP, _DIL5), (_SKIP, _DIL5), (_SKIP, _DIL5),
))
# fmt: on

_NASBENCH201 = CellSpace.uniform(1, 3, ("none", _SKIP, "nor_conv_1x1", "nor_conv_3x3", _AVG), "last")

SPACES: Mapping[str, Space] = {
    space.name: space
    for space in (
        Space("nasbench201", {"normal": _NASBENCH201}, macro="stages", pooling_norm=False),
        _chain("darts", CellSpace.uniform(2, 4, _DARTS_OPERATIONS, "concat")),
        _chain("darts8", CellSpace.uniform(2, 4, ("none", *_DARTS_OPERATIONS), "concat")),
        _chain("s1", _S1_NORMAL, _S1_REDUCE),
        _chain("s2", CellSpace.uniform(2, 4, (_SKIP, _SEP3), "concat")),
        _chain("s3", CellSpace.uniform(2, 4, ("none", _SKIP, _SEP3), "concat")),
        _chain("s4", CellSpace.uniform(2, 4, ("noise", _SEP3), "concat")),
    )
}
"""The search spaces of images, by their names.

Examples:
    >>> from ldarts_lib import SPACES
    >>> list(SPACES)
    ['nasbench201', 'darts', 'darts8', 's1', 's2', 's3', 's4']
"""

PTB = Space(
    "ptb", {"normal": CellSpace.uniform(1, 8, ("none", *ACTIVATION_NAMES), "concat")}, macro="recurrent"
)
"""The space of recurrent cells: eight nodes, each of which reads one node through one activation.

Node 0 is the state that the input and the hidden state make; ``none`` gives zero.
"""
