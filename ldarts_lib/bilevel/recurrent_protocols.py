"""Search protocols of the recurrent cell, as those of :mod:`ldarts_lib.bilevel.protocols` are of images.

The settings of the size ``paper`` are those of the script ``sota/rnn/run.sh`` of Λ-DARTS.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from ldarts_lib.bilevel.protocols import Aligned
from ldarts_lib.bilevel.regularizers import Estimator
from ldarts_lib.settings import (
    SMALL_DROPOUTS,
    TEXT,
    Count,
    LanguageSettings,
    NonNegative,
    Positive,
    Share,
    changes,
    validated,
)
from ldarts_lib.spaces.space import PTB, Space

Method = Literal["darts", "lambda", "lambda-sign"]
METHODS: tuple[str, ...] = get_args(Method)


class RecurrentProtocol(Aligned, LanguageSettings):
    """All settings of one search of a recurrent cell."""

    space: Literal["ptb"] = "ptb"
    """Search space."""
    method: Method
    """darts (first order), lambda (cosine alignment of the cells), lambda-sign."""

    units: Count = 200
    """Size of the words, of the hidden states and of the nodes."""
    cells: Count = 2
    """Stacked cells that share α."""
    epochs: Count = 50
    """Passes over the training text, which trains ω; the validation text trains α."""
    batch_size: Annotated[int, Field(ge=2)] = 256
    """Columns into which each text is cut; they are read side by side."""
    dropout_words: Share = 0.0
    """Share of the vocabulary that is dropped."""
    weight_decay: NonNegative = 5e-7
    """Weight decay of ω."""

    alpha_lr: Positive = 3e-3
    """Learning rate of α (Adam, betas 0.5 and 0.999)."""
    alpha_weight_decay: NonNegative = 1e-3
    """Weight decay of α."""
    step_order: Literal["alpha-first", "weights-first"] = "alpha-first"
    """Which half-step comes first."""

    lambda_max: NonNegative = 0.25
    """λ, the strength of the regularizer (at the end of a linear ramp)."""
    ramp: Literal["linear", "constant"] = "linear"
    """λ_t = λ·t/(E−1) in epoch t of E, or λ throughout."""
    estimator: Estimator = "central"
    """How the regularizer's weight gradient is found, central, forward or exact."""
    epsilon: Positive = 1e-3
    """ε0, length of the perturbation of the architecture weights (central, forward)."""
    precision: Literal["float64", "float32"] = "float32"
    """Of everything."""

    momentum: ClassVar[float] = 0.0
    regularizer_batch: ClassVar[str] = "training"
    regularized_cells: ClassVar[str] = "normal"
    cuda_graph: ClassVar[bool] = False

    @model_validator(mode="after")
    def _consistent(self) -> RecurrentProtocol:
        if self.regularizer and self.cells < 2:
            raise ValueError(
                f"method {self.method!r} aligns cells, but cells = {self.cells}: expected at least 2"
            )
        return self

    @property
    def search_space(self) -> Space:
        """The search space itself."""
        return PTB

    @property
    def changed(self) -> str:
        """In which settings it differs from its preset, as text."""
        return changes(self, recurrent_protocol(self.dataset, self.method, self.size, seed=self.seed))

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of ω for a window of ``bptt`` words, the same in every epoch."""
        return self.weight_lr


_SMALL = {"weight_lr": 5.0, "alpha_lr": 3e-2, "lambda_max": 0.05, **SMALL_DROPOUTS}
_SIZES: dict[str, dict[str, Any]] = {
    "paper": {},
    "demo": {"units": 32, "epochs": 16, "batch_size": 32, "bptt": 15, **_SMALL},
    "smoke": {"units": 16, "epochs": 2, "batch_size": 64, "bptt": 8, **_SMALL},
}


def recurrent_protocol(
    dataset: str = "civics", method: str = "lambda", size: str = "demo", **overrides: Any
) -> RecurrentProtocol:
    """The protocol of the search of a (text, method, size), with single settings overridden.

    Raises:
        ProtocolError: an unknown name or a value out of range; all of them are listed.
    """
    settings = {"dataset": dataset, "method": method, "size": size}
    return validated(RecurrentProtocol, settings | _SIZES.get(size, {}) | TEXT.get(dataset, {}) | overrides)
