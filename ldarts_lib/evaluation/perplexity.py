"""How well a language model predicts a text."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ldarts_lib.bilevel.windows import Inputs, Prediction, Reader
from ldarts_lib.networks.recurrent import LanguageModel

_LARGEST_EXPONENT = 700.0


@torch.no_grad()
def mean_loss(
    predict: Callable[[Inputs], Prediction], model: LanguageModel, text: Tensor, length: int
) -> float:
    """Mean cross-entropy of all words of a text but the first of each column, in nats.

    The official code divides the same sum by one word per column more.

    Args:
        predict: answers a window, as the model does in evaluation mode.
        model: says what the hidden states are before the first word.
        text: [rows, columns].
        length: words per window.
    """
    reader = Reader(text, model.initial_hidden(text.shape[1]))
    total = torch.zeros((), dtype=torch.float64, device=text.device)
    while reader.left:
        window = reader.read(length)
        found = predict(window.images)
        total += window.losses(found).double() * len(window.images.words)
        reader.hidden = found.hidden
    return total.item() / (len(text) - 1)


def perplexity(loss: float) -> float:
    """The exponential of a mean loss in nats; infinite where that is too large for a float."""
    return math.inf if loss >= _LARGEST_EXPONENT else math.exp(loss)
