"""Reading a text in windows: columns side by side, some words at a time; the hidden states are carried on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldarts_lib.bilevel.gradients import Batch
from ldarts_lib.bilevel.protocols import ProtocolError
from ldarts_lib.datasets.corpus import Corpus


@dataclass(frozen=True)
class Inputs:
    """What a language model reads.

    Attributes:
        words: numbers of words, [time, columns].
        hidden: the cells' states before the first word, [cells, columns, units].
    """

    words: Tensor
    hidden: Tensor

    @property
    def device(self) -> torch.device:
        """Where they lie."""
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
    """A window of a text.

    Attributes:
        images: what the model reads, under the name that batches of images give it.
        labels: the next words, [time×columns].
        slowness: weight β of the temporal activation regularization.
    """

    images: Inputs
    labels: Tensor
    slowness: float = 0.0

    def losses(self, logits: Prediction) -> Tensor:
        """Mean cross-entropy of the next words, plus β times the mean square of the output's steps."""
        loss = nn.functional.cross_entropy(logits.logits, self.labels)
        if self.slowness and len(logits.outputs) > 1:
            loss = loss + self.slowness * logits.outputs.diff(dim=0).square().mean()
        return loss


def columns_of(corpus: Corpus, part: str, columns: int, device: torch.device | str = "cpu") -> Tensor:
    """A part of a text cut into equally long columns, [rows, columns]; the words left over are dropped.

    Raises:
        ProtocolError: the columns would have less than two words.
    """
    text = getattr(corpus, part)
    rows = len(text) // columns
    if rows < 2:
        raise ProtocolError(
            f"{columns} columns need at least {2 * columns} words, but the {part} part of {corpus.name} has "
            f"{len(text)}"
        )
    return text[: rows * columns].view(columns, rows).T.contiguous().to(device)


class Reader:
    """Reads columns of words from the beginning, window by window.

    Args:
        text: [rows, columns], of at least two rows.
        hidden: the cells' states at the beginning, [cells, columns, units].
        slowness: of the batches.

    Attributes:
        position: the row that comes next.
        hidden: the states with which it is read; who reads a window sets those after it.
    """

    def __init__(self, text: Tensor, hidden: Tensor, slowness: float = 0.0) -> None:
        self._text, self._start, self._slowness = text, hidden, slowness
        self.position, self.hidden = 0, hidden

    @property
    def left(self) -> int:
        """How many words of each column are still to be predicted."""
        return len(self._text) - 1 - self.position

    def read(self, length: int) -> TextBatch:
        """The next window of at most ``length`` words; after the end comes the beginning again."""
        if self.left == 0:
            self.position, self.hidden = 0, self._start
        words = self._text[self.position : self.position + min(length, self.left)]
        self.position += len(words)
        targets = self._text[self.position - len(words) + 1 : self.position + 1]
        return TextBatch(Inputs(words, self.hidden), targets.flatten(), self._slowness)
