"""Training protocols of a recurrent cell: every setting of its training from scratch in one validated value.

The settings of the size ``paper`` are the defaults of ``rnn/train.py`` of DARTS.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ldarts_lib.settings import SMALL_DROPOUTS, TEXT, Count, LanguageSettings, NonNegative, Share, validated


class LanguageProtocol(LanguageSettings):
    """All settings of the training of one discrete recurrent cell from scratch."""

    recipe: Literal["ptb"] = "ptb"
    """Training recipe."""

    units: Count = 850
    """Size of the words, of the hidden states and of the nodes."""
    cells: Count = 1
    """Stacked cells, one as in DARTS (the Λ-DARTS code stacks two)."""
    epochs: Count = 8000
    """Passes over the training text."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Columns into which the training text is cut; they are read side by side."""
    test_columns: Count = 1
    """Columns into which the test text is cut."""
    dropout_words: Share = 0.1
    """Share of the vocabulary that is dropped."""
    weight_decay: NonNegative = 8e-7
    """Weight decay."""
    longest: Count = 20
    """How many words a window may be longer than bptt."""
    patience: Count = 5
    """Averaging of the weights begins when the validation loss is above the best one of more than this many
    epochs ago."""


_SIZES: dict[str, dict[str, Any]] = {
    "paper": {},
    "demo": {"units": 100, "epochs": 80, "batch_size": 16, **SMALL_DROPOUTS},
    "smoke": {"units": 32, "epochs": 8, "batch_size": 16, **SMALL_DROPOUTS},
}


def evaluation_protocol(dataset: str = "civics", size: str = "demo", **overrides: Any) -> LanguageProtocol:
    """The protocol of the evaluation of a (text, size), with single settings overridden.

    Raises:
        ProtocolError: an unknown name or a value out of range; all of them are listed.
    """
    settings = {"dataset": dataset, "size": size}
    return validated(LanguageProtocol, settings | _SIZES.get(size, {}) | TEXT.get(dataset, {}) | overrides)
