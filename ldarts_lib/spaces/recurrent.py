"""The space of recurrent cells: eight nodes, each of which reads one node through one activation.

The rows of α are the edges in the order of their targets, its columns the candidate activations, both as in
``rnn/model_search.py`` and ``rnn/genotypes.py`` of the DARTS code (Liu et al., 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldarts_lib.spaces.genotype import Cell, Edge, Genotype, GenotypeError

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
}
"""What a node may do to what it reads; a search has ``none`` too, which gives zero and is never derived."""


@dataclass(frozen=True)
class RecurrentSpace:
    """The searchable recurrent cell, with the interface of :class:`~ldarts_lib.spaces.space.Space`.

    Node 0 is the state that the input and the hidden state make; the output is the mean of all other nodes.

    Attributes:
        name: how the command line and the run directory call it.
        nodes: number of intermediate nodes.
        candidates: on every edge, ``none`` first.
    """

    name: str = "ptb"
    nodes: int = 8
    candidates: tuple[str, ...] = ("none", *ACTIVATIONS)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All edges as (target, source), the rows of the architecture parameters."""
        return tuple((target, source) for target in range(1, self.nodes + 1) for source in range(target))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the architecture parameters α, (edges, operations)."""
        return len(self.edges), len(self.candidates)

    @property
    def cells(self) -> dict[str, RecurrentSpace]:
        """The one kind of cell, under the name of the kind that the regularizers align."""
        return {"normal": self}

    @property
    def output_nodes(self) -> tuple[int, ...]:
        """The nodes whose mean is the cell's output."""
        return tuple(range(1, self.nodes + 1))

    def discretize(self, weights: Mapping[str, npt.ArrayLike]) -> Genotype:
        """The genotype that architecture weights select: at each node the strongest pair (edge, activation).

        Args:
            weights: ``normal``: p = softmax(α), an array [edges, operations].

        Raises:
            ValueError: weights of another shape, or not finite.
        """
        matrix = np.asarray(weights.get("normal", ()), dtype=np.float64)
        if matrix.shape != self.shape:
            raise ValueError(f"normal: expected weights of shape {self.shape}, got {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise ValueError(f"normal: the weights are not finite: {matrix.tolist()}")
        choices = matrix[:, 1:]  # without none
        edges, first = [], 0
        for node in range(1, self.nodes + 1):
            incoming = choices[first : first + node]
            source, index = np.unravel_index(incoming.argmax(), incoming.shape)
            edges.append(Edge(node, int(source), self.candidates[1 + int(index)]))
            first += node
        return Genotype(Cell(1, tuple(edges), self.output_nodes))

    def validate(self, genotype: Genotype) -> None:
        """Raise :class:`~ldarts_lib.spaces.genotype.GenotypeError` if the genotype is not of this space."""
        cell = recurrent_cell(genotype)
        if cell.nodes != self.nodes or cell.output != self.output_nodes:
            raise GenotypeError(
                f"space {self.name!r}: expected {self.nodes} nodes, all of them in the output, "
                f"got {cell.nodes} nodes and the output {cell.output}"
            )


PTB = RecurrentSpace()


def recurrent_cell(genotype: Genotype) -> Cell:
    """The cell of a genotype that can be trained as a recurrent cell, of any number of nodes.

    Raises:
        GenotypeError: it is no recurrent cell, or it names an unknown activation.
    """
    cell = genotype.normal
    targets = [edge.target for edge in cell.edges]
    if genotype.reduce is not None or cell.inputs != 1 or targets != list(range(1, cell.nodes + 1)):
        raise GenotypeError(
            f"{genotype} is no recurrent cell: expected one input node, and one edge into each other node"
        )
    for edge in cell.edges:
        if edge.operation not in ACTIVATIONS:
            raise GenotypeError(f"{edge}: unknown activation; choose one of {', '.join(ACTIVATIONS)}")
    return cell
