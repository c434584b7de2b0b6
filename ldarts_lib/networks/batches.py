"""What a network is asked and what it answers, of images and of texts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Batch:
    """Images [batch, channels, height, width] and their classes [batch] (int64).

    Of a packed supernet [batch, copies×channels, height, width] and [copies, batch].
    """

    inputs: Tensor
    targets: Tensor

    def losses(self, output: Tensor) -> Tensor:
        """The mean cross-entropy, of each network of a pack its own: a scalar, or [copies]."""
        if self.targets.dim() == 1:
            return functional.cross_entropy(output, self.targets)
        each = functional.cross_entropy(output.flatten(0, 1), self.targets.flatten(), reduction="none")
        return each.view_as(self.targets).mean(-1)

    def accuracy(self, output: Tensor) -> Tensor:
        """The share of right answers: a scalar, or [copies]."""
        return (output.argmax(-1) == self.targets).to(output.dtype).mean(-1)


@dataclass(frozen=True)
class Inputs:
    """What a language model reads: numbers of words, [time, columns], and the cells' states before the first
    word, [cells, columns, units].
    """

    words: Tensor
    hidden: Tensor

    @property
    def device(self) -> torch.device:
        return self.words.device


@dataclass(frozen=True)
class Prediction:
    """What a language model answers.

    Attributes:
        logits: of the next words, [time×columns, vocabulary].
        hidden: the cells' states after the last word, [cells, columns, units].
        outputs: the last cell's states after each word, before dropout, [time, columns, units].
    """

    logits: Tensor
    hidden: Tensor
    outputs: Tensor

    def detach(self) -> Prediction:
        """The same numbers, of which no gradient is asked for."""
        return Prediction(self.logits.detach(), self.hidden.detach(), self.outputs.detach())


@dataclass(frozen=True)
class TextBatch(Batch):
    """A window of a text and its next words, [time×columns].

    Attributes:
        slowness: weight β of the temporal activation regularization.
    """

    inputs: Inputs
    targets: Tensor
    slowness: float = 0.0

    @classmethod
    def of(cls, words: Tensor, hidden: Tensor, targets: Tensor, slowness: float = 0.0) -> TextBatch:
        """The window that a :class:`~ldarts_lib.datasets.corpus.Reader` reads."""
        return cls(Inputs(words, hidden), targets, slowness)

    def losses(self, output: Prediction) -> Tensor:
        """Mean cross-entropy of the next words, plus β times the mean square of the output's steps."""
        loss = functional.cross_entropy(output.logits, self.targets)
        if self.slowness and len(output.outputs) > 1:
            # L + β m((h_t − h_{t−1})²), m the mean over words, columns and units
            loss = loss + self.slowness * output.outputs.diff(dim=0).square().mean()
        return loss

    def accuracy(self, output: Prediction) -> Tensor:
        return super().accuracy(output.logits)
