"""Protocols of the recurrent cell: every setting of a search and of an evaluation in one validated value.

Sizes as in :mod:`ldarts_lib.bilevel.protocols`: ``smoke`` (seconds of CPU), ``demo`` (a minute or two of
CPU),
``paper`` (a GPU). The settings of the size ``paper`` are those of the official code: the search's are the
script ``sota/rnn/run.sh`` of Λ-DARTS, the evaluation's the defaults of ``rnn/train.py`` of DARTS.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ldarts_lib.bilevel.deltas import Form
from ldarts_lib.bilevel.protocols import FORMS, Count, NonNegative, Positive, ProtocolError, Size, explain
from ldarts_lib.bilevel.regularizers import Estimator, Regularizer
from ldarts_lib.networks.recurrent import Dropouts
from ldarts_lib.spaces.space import PTB, Space

Method = Literal["darts", "lambda", "lambda-sign"]
METHODS: tuple[str, ...] = get_args(Method)
Share = Annotated[float, Field(ge=0, lt=1)]


class _LanguageModel(BaseModel):
    """What a search and an evaluation have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dataset: str
    """Text, civics, ptb, or a folder with the files train.txt, valid.txt and test.txt."""
    size: Size
    """The preset that the other settings come from."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the initial weights, the lengths of the windows and the dropout masks."""
    min_count: Count = 1
    """Words that come less often in the training text are one word, <unk>."""

    units: Count
    """Size of the words, of the hidden states and of the nodes."""
    cells: Count
    """Stacked cells."""
    epochs: Count
    """Passes over the training text."""
    batch_size: Annotated[int, Field(ge=2)]
    """Columns into which a text is cut; they are read side by side."""
    bptt: Annotated[int, Field(ge=2)] = 35
    """Words per window, through which gradients flow back (backpropagation through time)."""
    evaluation_columns: Count = 10
    """Columns into which the validation text is cut where perplexities are measured."""

    dropout_output: Share = 0.75
    """Share of the last cell's output that is dropped."""
    dropout_hidden: Share = 0.25
    """Share of hidden states and nodes that is dropped where they enter a product."""
    dropout_inputs: Share = 0.75
    """Share of a cell's input that is dropped."""
    dropout_embedding: Share = 0.2
    """Share of the embedded words' numbers that is dropped."""
    dropout_words: Share
    """Share of the vocabulary that is dropped."""
    slowness: NonNegative = 1e-3
    """β, weight of the mean square of the steps of the last cell's output (temporal activation
    regularization)."""

    weight_lr: Positive = 20.0
    """Learning rate of ω (SGD without momentum) for a window of bptt words; others in proportion."""
    weight_decay: NonNegative
    """Weight decay of ω."""
    clip: Positive = 0.25
    """Largest norm of the gradient of ω."""

    @property
    def dropouts(self) -> Dropouts:
        """The shares that are dropped, as the model takes them."""
        prefix = "dropout_"
        shares = {name: value for name, value in self if name.startswith(prefix)}
        return Dropouts(**{name.removeprefix(prefix): value for name, value in shares.items()})


class RecurrentProtocol(_LanguageModel):
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
    def form(self) -> Form | None:
        """The form of the alignment that the weights are trained for; None without a regularizer."""
        return FORMS.get(self.method)

    @property
    def regularizer(self) -> Regularizer | None:
        """The regularizer of the weight step; None for plain DARTS."""
        return Regularizer(self.form, self.estimator, self.epsilon) if self.form else None

    def strength(self, epoch: int) -> float:
        """λ_t of an epoch, counted from 0; a search of one epoch runs at full strength."""
        if self.form is None:
            return 0.0
        if self.ramp == "constant" or self.epochs == 1:
            return self.lambda_max
        return self.lambda_max * epoch / (self.epochs - 1)

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of ω for a window of ``bptt`` words, the same in every epoch."""
        return self.weight_lr


class LanguageProtocol(_LanguageModel):
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


_SMALL_DROPOUTS = {
    "dropout_output": 0.2,
    "dropout_hidden": 0.1,
    "dropout_inputs": 0.2,
    "dropout_embedding": 0.1,
    "dropout_words": 0.0,
}
_SMALL_SEARCH = {"weight_lr": 5.0, "alpha_lr": 3e-2, "lambda_max": 0.05, **_SMALL_DROPOUTS}
_SEARCH: dict[str, dict[str, Any]] = {
    "paper": {},
    "demo": {"units": 32, "epochs": 16, "batch_size": 32, "bptt": 15, **_SMALL_SEARCH},
    "smoke": {"units": 16, "epochs": 2, "batch_size": 64, "bptt": 8, **_SMALL_SEARCH},
}
_EVALUATION: dict[str, dict[str, Any]] = {
    "paper": {},
    "demo": {"units": 100, "epochs": 80, "batch_size": 16, **_SMALL_DROPOUTS},
    "smoke": {"units": 32, "epochs": 8, "batch_size": 16, **_SMALL_DROPOUTS},
}
_TEXT: dict[str, dict[str, Any]] = {"civics": {"min_count": 2}}


def protocol(
    dataset: str = "civics", method: str = "lambda", size: str = "demo", **overrides: Any
) -> RecurrentProtocol:
    """The protocol of the search of a (text, method, size), with single settings overridden.

    Raises:
        ProtocolError: an unknown name or a value out of range; all of them are listed.
    """
    settings = {"dataset": dataset, "method": method, "size": size}
    return _validated(
        RecurrentProtocol, settings | _SEARCH.get(size, {}) | _TEXT.get(dataset, {}) | overrides
    )


def evaluation_protocol(dataset: str = "civics", size: str = "demo", **overrides: Any) -> LanguageProtocol:
    """The protocol of the evaluation of a (text, size), with single settings overridden.

    Raises:
        ProtocolError: an unknown name or a value out of range; all of them are listed.
    """
    settings = {"dataset": dataset, "size": size}
    return _validated(
        LanguageProtocol, settings | _EVALUATION.get(size, {}) | _TEXT.get(dataset, {}) | overrides
    )


def _validated(kind: type[_LanguageModel], settings: dict[str, Any]) -> Any:
    try:
        return kind(**settings)
    except ValidationError as error:
        raise ProtocolError("; ".join(explain(item, kind) for item in error.errors())) from None
