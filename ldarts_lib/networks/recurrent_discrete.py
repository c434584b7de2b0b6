"""The language model of a discrete recurrent cell."""

from __future__ import annotations

import torch
from torch import Tensor

from ldarts_lib.networks.batches import Inputs, Prediction
from ldarts_lib.networks.recurrent import ACTIVATIONS, Dropouts, LanguageModel, RecurrentCell, dropped
from ldarts_lib.spaces.genotype import Genotype


class DiscreteCell(RecurrentCell):
    """A cell whose node i reads one node j through one activation f::

        c, h = s_j·W_i,    s_i = s_j + sigmoid(c)·(f(h) − s_j)

    without normalization. The output is the mean of the genotype's output nodes.

    Args:
        units: size of the words, of the hidden state and of every node.
        genotype: a recurrent cell of any number of nodes.
    """

    def __init__(self, units: int, genotype: Genotype) -> None:
        genotype.require("recurrent")
        cell = genotype.normal
        super().__init__(units, cell.nodes)
        self.edges = cell.edges
        self.output = cell.output

    def nodes(self, start: Tensor, mask: Tensor | None) -> Tensor:
        """From node 0 to the mean of the output nodes, both [columns, units]."""
        states = [start]
        for matrix, edge in zip(self.rest, self.edges, strict=True):
            source = states[edge.source]
            gate, raw = (dropped(source, mask) @ matrix).chunk(2, -1)
            states.append(torch.lerp(source, ACTIVATIONS[edge.operation](raw), gate.sigmoid()))
        return torch.stack([states[node] for node in self.output]).mean(0)


class DiscreteLanguageModel(LanguageModel):
    """The language model that is trained from scratch to evaluate a genotype.

    Args:
        genotype: a recurrent cell.
        words: size of the vocabulary.
        units: size of the words, the hidden states and the nodes.
        cells: how many are stacked.
        dropouts: in training.
        generator: where masks are drawn from, on the model's device.
    """

    def __init__(
        self,
        genotype: Genotype,
        *,
        words: int,
        units: int,
        cells: int = 1,
        dropouts: Dropouts | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            [DiscreteCell(units, genotype) for _ in range(cells)],
            words=words,
            units=units,
            dropouts=dropouts or Dropouts(),
            generator=generator,
        )

    def forward(self, inputs: Inputs) -> Prediction:
        """Read a window."""
        return self.predict(inputs, [()] * len(self.cells))
