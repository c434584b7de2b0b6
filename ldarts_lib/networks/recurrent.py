"""The language model around recurrent cells: embedding, stacked cells, a decoder that shares its weights.

As ``rnn/model.py`` of the DARTS code: all sizes are equal, the decoder's matrix is the embedding, every
matrix starts uniform in ±0.04, and dropout masks are constant over the time steps of a window. Masks come
from the model's generator, so that a second pass can see the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ldarts_lib.networks.batches import Inputs, Prediction
from ldarts_lib.spaces.genotype import Genotype

_INITIAL_RANGE = 0.04

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
}
"""How to compute each activation; the names are values of :mod:`ldarts_lib.spaces.genotype`."""


@dataclass(frozen=True)
class Dropouts:
    """The shares of numbers that are dropped in training.

    Attributes:
        output: of the last cell's output.
        hidden: of hidden states and of nodes, where they enter a product.
        inputs: of a cell's input.
        embedding: of the embedded words.
        words: of the rows of the embedding, so of whole words.
    """

    output: float = 0.75
    hidden: float = 0.25
    inputs: float = 0.75
    embedding: float = 0.2
    words: float = 0.0


class RecurrentCell(nn.Module):
    """What a searched and a discrete cell share: how a word and the hidden state make node 0, and the loop.

    ``nodes(start, mask, *arguments)`` goes on from node 0 to the next hidden state, both [columns, units].
    """

    nodes: Callable[..., Tensor]

    def __init__(self, units: int, nodes: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(2 * units, 2 * units))
        self.rest = nn.Parameter(torch.empty(nodes, units, 2 * units))

    def forward(
        self, words: Tensor, hidden: Tensor, masks: Sequence[Tensor | None], *arguments: Any
    ) -> Tensor:
        """The hidden states after each word, [time, columns, units].

        Args:
            words: [time, columns, units].
            hidden: before the first word, [columns, units].
            masks: of the words and of the states, [columns, units] each; None drops nothing.
        """
        of_words, of_states = masks
        by_word, by_state = self.first.chunk(2)
        states = []
        for x in dropped(words, of_words) @ by_word:
            # [c_0, h_0] = [x, h]·W_0 and s_0 = h + sigmoid(c_0)·(tanh(h_0) − h)
            gate, proposal = (x + dropped(hidden, of_states) @ by_state).chunk(2, -1)
            start = torch.lerp(hidden, proposal.tanh(), gate.sigmoid())
            hidden = self.nodes(start, of_states, *arguments)
            states.append(hidden)
        return torch.stack(states)


class DiscreteRecurrentCell(RecurrentCell):
    """A cell whose nodes read one node each, without normalization; the output nodes are averaged."""

    def __init__(self, units: int, genotype: Genotype) -> None:
        genotype.require("recurrent")
        super().__init__(units, genotype.normal.nodes)
        self.cell = genotype.normal

    def nodes(self, start: Tensor, mask: Tensor | None) -> Tensor:
        states = [start]
        for matrix, edge in zip(self.rest, self.cell.edges, strict=True):
            # node i reads node j: [c, h] = s_j·W_i and s_i = s_j + sigmoid(c)·(f(h) − s_j)
            source = states[edge.source]
            gate, raw = (dropped(source, mask) @ matrix).chunk(2, -1)
            states.append(torch.lerp(source, ACTIVATIONS[edge.operation](raw), gate.sigmoid()))
        return torch.stack([states[node] for node in self.cell.output]).mean(0)


class LanguageModel(nn.Module):
    """Embedding, stacked cells, decoder, for a vocabulary of ``words`` and ``units`` everywhere else.

    Masks are drawn from ``generator``, on the model's device.
    """

    def __init__(
        self,
        cells: Iterable[RecurrentCell],
        *,
        words: int,
        units: int,
        dropouts: Dropouts | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(words, units))
        self.cells = nn.ModuleList(cells)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -_INITIAL_RANGE, _INITIAL_RANGE)
        self.bias = nn.Parameter(torch.zeros(words))
        self.dropouts = dropouts or Dropouts()
        self.generator = generator

    def predict(self, inputs: Inputs, arguments: Sequence[tuple]) -> Prediction:
        """Read a window; ``arguments`` are what each cell takes besides."""
        columns = inputs.words.shape[1]
        by_word = dropped(self.embedding, self._mask(self.dropouts.words, len(self.embedding), 1))
        x = F.embedding(inputs.words, by_word)
        x = dropped(x, self._mask(self.dropouts.embedding, columns, x.shape[-1]))
        last = []
        for cell, hidden, more in zip(self.cells, inputs.hidden, arguments, strict=True):
            rates = self.dropouts.inputs, self.dropouts.hidden
            x = cell(x, hidden, [self._mask(rate, *hidden.shape) for rate in rates], *more)
            last.append(x[-1])
        output = dropped(x, self._mask(self.dropouts.output, columns, x.shape[-1]))
        logits = F.linear(output.flatten(0, 1), self.embedding, self.bias)
        return Prediction(logits, torch.stack(last), x)

    def initial_hidden(self, columns: int) -> Tensor:
        """The states before the first word of a text: zero, [cells, columns, units]."""
        return self.embedding.new_zeros(len(self.cells), columns, self.embedding.shape[1])

    def _mask(self, rate: float, *shape: int) -> Tensor | None:
        if not self.training or rate == 0:
            return None
        # m/(1 − q) with P(m = 0) = q, one mask for all words of a window
        kept = self.embedding.new_empty(shape).bernoulli_(1 - rate, generator=self.generator)
        return kept / (1 - rate)


class DiscreteLanguageModel(LanguageModel):
    """The language model of a genotype, stacked ``cells`` times, to be trained from scratch.

    ``options`` are those of :class:`LanguageModel`.
    """

    def __init__(self, genotype: Genotype, *, units: int, cells: int = 1, **options: Any) -> None:
        stack = [DiscreteRecurrentCell(units, genotype) for _ in range(cells)]
        super().__init__(stack, units=units, **options)

    def forward(self, inputs: Inputs) -> Prediction:
        return self.predict(inputs, [()] * len(self.cells))


def dropped(x: Tensor, mask: Tensor | None) -> Tensor:
    """The numbers that a mask keeps, scaled up; all of them without a mask."""
    return x if mask is None else x * mask


@torch.no_grad()
def mean_loss(
    predict: Callable[[Inputs], Prediction], model: LanguageModel, text: Tensor, length: int
) -> float:
    """Mean cross-entropy of all words of a text [rows, columns] but the first of each column, in nats.

    The official code divides the same sum by one word per column more.

    Args:
        predict: answers a window of ``length`` words, as the model does in evaluation mode.
    """
    hidden, total = model.initial_hidden(text.shape[1]), text.new_zeros((), dtype=torch.float64)
    for words, targets in zip(text[:-1].split(length), text[1:].split(length), strict=True):
        found = predict(Inputs(words, hidden))
        total += F.cross_entropy(found.logits, targets.flatten()).double() * len(words)
        hidden = found.hidden
    return total.item() / (len(text) - 1)


def perplexity(loss: float) -> float:
    """The exponential of a mean loss in nats; infinite where that is too large for a float."""
    return math.inf if loss >= 700 else math.exp(loss)
