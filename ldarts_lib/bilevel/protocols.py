"""Search protocols: every setting of a search in one frozen, validated value.

:func:`protocol` gives the preset of a (space, data set, method, size); any field can be overridden. Sizes:
``smoke`` (seconds of CPU: does it run?), ``demo`` (a minute of CPU: does it show?), ``paper`` (a GPU: the
defaults of the official code's parsers, but 50 epochs on NAS-Bench-201, as in the paper's Figure 1; for
recurrent cells its ``sota/rnn/run.sh``), ``official`` (its scripts, value for value). Where the two part, and
what of the official code is not followed, is the page *Beside the official code*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from ldarts_lib.bilevel.alignment import Form
from ldarts_lib.bilevel.consistency import require_consistent
from ldarts_lib.bilevel.methods import Method, TextMethod, form_of, refuse_unread, remedy_of, with_remedy
from ldarts_lib.bilevel.presets import factors_of, preset
from ldarts_lib.bilevel.regularizers import Estimator, Kinds, Regularizer
from ldarts_lib.bilevel.remedies.remedy import Remedy
from ldarts_lib.datasets.catalogue import DATASETS
from ldarts_lib.datasets.images import Halves, ImageDataset
from ldarts_lib.datasets.own import with_pictures
from ldarts_lib.fast.execution import Strategy
from ldarts_lib.networks.macro import Reduction
from ldarts_lib.networks.operations import Activation
from ldarts_lib.settings import (
    Count,
    Depth,
    LanguageSettings,
    NonNegative,
    PictureSettings,
    Positive,
    Seed,
    Share,
    Size,
    Width,
    changes,
    validated,
)
from ldarts_lib.spaces.definition import SpaceSettings, as_definition, find_space
from ldarts_lib.spaces.space import PTB, Space

Order = Literal["alpha-first", "weights-first"]
Ramp = Literal["linear", "constant"]


class _Search:
    """What follows from the settings of every search."""

    @property
    def form(self) -> Form | None:
        """The form of the alignment that the weights are trained for; None without a regularizer."""
        return form_of(self.method)

    @property
    def regularizer(self) -> Regularizer | None:
        """The regularizer of the weight step; None for plain DARTS."""
        return self.form and Regularizer(self.form, self.estimator, self.epsilon, self.regularized_cells)

    @property
    def changed(self) -> str:
        """In which settings it differs from its preset, as text."""
        names = {name: getattr(self, name) for name in ("space", "method", "size", "definition")}
        return changes(self, _made(names, self.usual_data, {"seed": self.seed}, dict(self)))

    def new_remedy(self) -> Remedy:
        """The remedy of the method, before the first step; one that changes nothing if it has none."""
        remedy = remedy_of(self.method)(**self.remedy or {})
        remedy.check(self.search_space)
        return remedy

    def strength(self, epoch: int) -> float:
        """λ_t of an epoch, counted from 0; a search of one epoch runs at full strength."""
        if self.form is None:
            return 0.0
        if self.ramp == "constant" or self.epochs == 1:
            return self.lambda_max
        return self.lambda_max * epoch / (self.epochs - 1)  # λ_t = λ t/(T−1), t = 0 .. T−1


class SearchProtocol(_Search, SpaceSettings, PictureSettings):
    """All settings of one search of a cell on images.

    Examples:
        >>> settings = protocol("s2", method="lambda", size="smoke", epochs=3)
        >>> [settings.strength(epoch) for epoch in range(3)]
        [0.0, 0.5, 1.0]
    """

    BUILT_IN: ClassVar[tuple[str, ...]] = DATASETS
    alpha_beta: ClassVar[float] = 0.5

    dataset: str
    """Data set, or the name of a folder of pictures."""
    method: Method
    """darts (first order), darts-2nd (unrolled), lambda (cosine alignment), lambda-sign, lambda-projected
    (cosine without the offset that α cannot feel), lambda-edge (cosine of what α feels, edge by edge), and
    controls: lambda-random (random directions of p as long as those of lambda), lambda-noise (random vectors
    as long as the regularizer's gradient), lambda-flipped (that gradient with a random sign) and
    lambda-blurred (the exact one with the estimator's error as noise); or a remedy of others (table
    :data:`~ldarts_lib.bilevel.remedies.table.REMEDIES`), some also as lambda+NAME."""
    size: Size
    """The preset that the other settings come from."""
    seed: Seed = 0
    """Seed of the initial weights and α, of the batches and of the augmentation."""

    channels: Width = 16
    """C, channels of the first cells."""
    depth: Depth = 8
    """Cells per stage (nasbench201) or cells of the network (DARTS family)."""
    reduction: Reduction = "residual"
    """Fixed reduction block of nasbench201, residual (as published) or light."""

    epochs: Count = 50
    """Passes over the ω half of the search images."""
    epoch_steps: Count | None = None
    """Steps after which an epoch ends, before its pass is over; a whole pass by default."""
    batch_size: Count = 64
    """Images per step, on each half."""
    split: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the search images that trains ω; the rest trains α."""
    halves: Halves = "seeded"
    """Which images train ω: drawn by the seed, the first stored ones, or those that NAS-Bench-201 lists."""
    alpha_batches: Literal["passes", "drawn"] = "passes"
    """Images of a step of α, in passes over their half, or drawn with replacement, as many as those of ω."""
    last_batch: Literal["filled", "short"] = "filled"
    """Of a pass, filled up with images from its start, or short."""
    step_order: Order = "alpha-first"
    """Which half-step comes first."""

    weight_lr: Positive = 0.025
    """Learning rate of ω (SGD, cosine schedule), at the start."""
    weight_lr_min: NonNegative = 0.001
    """Learning rate of ω, at the end."""
    momentum: Share = 0.9
    """Momentum of ω."""
    weight_decay: NonNegative = 3e-4
    """Weight decay of ω."""
    clip: Positive = 5.0
    """Largest norm of the gradient of ω."""
    clip_factors: Annotated[tuple[Positive, ...] | None, BeforeValidator(factors_of)] = None
    """What the gradient of ω is multiplied by in each epoch instead, or the run directory to take it from."""
    clip_alpha: bool = False
    """Count the gradient of α, as the scripts of NAS-Bench-201 accumulate it, in the norm that is clipped."""

    alpha_lr: Positive = 3e-4
    """Learning rate of α (Adam, betas 0.5 and 0.999)."""
    alpha_weight_decay: NonNegative = 1e-3
    """Weight decay of α."""

    lambda_max: NonNegative = 0.125
    """λ, the strength of the regularizer (at the end of a linear ramp)."""
    ramp: Ramp = "linear"
    """λ_t = λ·t/(E−1) in epoch t of E, or λ throughout."""
    estimator: Estimator = "central"
    """How the regularizer's weight gradient is found, central, forward or exact."""
    epsilon: Positive = 1e-4
    """ε0, length of the perturbation of the architecture weights (central, forward)."""
    regularized_cells: Kinds = "normal"
    """Which cells are aligned, normal (as published) or all, the mean over the kinds."""
    regularizer_batch: Literal["training", "validation", "both"] = "training"
    """The batch whose alignment the weights are trained for, or the mean over both."""

    activation: Activation = "relu"
    """Nonlinearity of the supernet, relu (as published) or the smooth gelu."""

    supernet: Literal["fast", "reference"] = "fast"
    """Implementation; the two agree up to rounding, and the reference is the textbook's."""
    strategy: Strategy = "auto"
    """Of the fast supernet, separate (for a CPU), batched (for a GPU), or auto."""
    checkpoint_cells: bool = False
    """Compute each cell again in the backward pass of the fast supernet, for less memory and more time."""
    precision: Literal["float64", "float32", "tf32", "bfloat16"] = "float32"
    """Of convolutions and products (float64: of everything); less than float32 needs the exact estimator and
    moves Λ."""
    cuda_graph: bool = False
    """Capture the step of each epoch in a CUDA graph."""

    remedy: dict[str, Any] | None = None
    """Settings of the method's remedy, if it has one; given by name like the others."""

    @model_validator(mode="before")
    @classmethod
    def _with_remedy(cls, given: dict[str, Any]) -> Mapping[str, Any]:
        return with_remedy(given, cls.model_fields)

    @model_validator(mode="after")
    def _consistent(self) -> SearchProtocol:
        require_consistent(self)
        return self

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of ω in an epoch: a cosine from ``weight_lr`` to ``weight_lr_min``."""
        half = (self.weight_lr - self.weight_lr_min) / 2
        return self.weight_lr_min + half * (1 + math.cos(math.pi * epoch / self.epochs))


class RecurrentProtocol(_Search, LanguageSettings):
    """All settings of one search of a recurrent cell on a text."""

    space: Literal["ptb"] = "ptb"
    """Search space."""
    method: TextMethod
    """darts (first order), lambda (cosine alignment of the cells), lambda-sign."""

    alpha_lr: Positive = 3e-3
    """Learning rate of α (Adam)."""
    alpha_beta: Share = 0.5
    """First beta of Adam, the share of the old in its mean gradient; the second is 0.999."""
    alpha_weight_decay: NonNegative = 1e-3
    """Weight decay of α."""
    step_order: Order = "alpha-first"
    """Which half-step comes first."""

    lambda_max: NonNegative = 0.25
    """λ, the strength of the regularizer (at the end of a linear ramp)."""
    ramp: Ramp = "linear"
    """λ_t = λ·t/(E−1) in epoch t of E, or λ throughout."""
    estimator: Estimator = "central"
    """How the regularizer's weight gradient is found, central, forward or exact."""
    epsilon: Positive = 1e-3
    """ε0, length of the perturbation of the architecture weights (central, forward)."""
    precision: Literal["float64", "float32"] = "float32"
    """Of everything."""

    search_space: ClassVar[Space] = PTB
    definition: ClassVar[None] = None
    remedy: ClassVar[None] = None
    momentum: ClassVar[float] = 0.0
    regularizer_batch: ClassVar[str] = "training"
    regularized_cells: ClassVar[Kinds] = "normal"
    cuda_graph: ClassVar[bool] = False
    clip_factors: ClassVar[None] = None
    clip_alpha: ClassVar[bool] = False

    @model_validator(mode="after")
    def _consistent(self) -> RecurrentProtocol:
        if self.regularizer and self.cells < 2:
            raise ValueError(f"method {self.method!r} aligns cells, but cells = {self.cells} is below 2")
        return self

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of ω for a window of ``bptt`` words, the same in every epoch."""
        return self.weight_lr


def protocol(
    space: str | Path | Space | Mapping[str, Any] = "nasbench201",
    dataset: str | ImageDataset | None = None,
    method: str = "lambda",
    size: str = "demo",
    **overrides: Any,
) -> SearchProtocol | RecurrentProtocol:
    """The protocol of a (space, data set, method, size), with single settings overridden.

    By default the data set is ``noisy-digits``, or in the space ``ptb`` the text ``civics``; both ship. A
    folder of pictures, which are decoded now, or loaded images are possible, too; below size paper the epochs
    of such a search follow from their number.

    Args:
        space: a name, a space of one's own, or its file, see :mod:`ldarts_lib.spaces.definition`.

    Raises:
        ProtocolError: an unknown name or a value out of range; all of them are listed.
        SpaceError: a bad file or space; all problems are listed, with line and field.

    Examples:
        >>> protocol("s2", "cifar10", "darts", "paper", seed=1).depth
        8
        >>> protocol(epochs=5).changed
        'epochs = 5'
    """
    space, own = find_space(space)
    names = {"space": space, "method": method, "size": size, "definition": own and as_definition(own)}
    if space == "ptb":
        return _made(names, {"dataset": dataset or "civics"}, overrides)
    return with_pictures(lambda facts: _made(names, facts, overrides), dataset or "noisy-digits")


def _made(
    names: dict[str, Any], facts: dict[str, Any], overrides: dict[str, Any], batches: Any = None
) -> SearchProtocol | RecurrentProtocol:
    kind, usual = SearchProtocol, preset(names, facts, batches or overrides)
    if names["space"] == "ptb":
        kind, names = RecurrentProtocol, {name: value for name, value in names.items() if value}
    refuse_unread(names["method"], overrides)
    return validated(kind, names | facts | usual | overrides)
