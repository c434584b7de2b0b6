"""Training protocols: every setting of the training of one architecture from scratch, in one validated value.

A *recipe* is what a paper does: ``cifar`` and ``cifar-small`` (DARTS on CIFAR and SVHN: cutout, drop path,
an auxiliary head), ``choice`` (the small one for 100 epochs on a half of the training images, judged on the
other half: by which one of several cells is chosen), ``imagenet`` (the mobile setting of the Λ-DARTS code),
``nasbench201`` (Dong & Yang, 2020), ``ptb`` (a language model, the defaults of ``rnn/train.py`` of DARTS).
The sizes are those of searches; ``official`` is ``paper`` by another name.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from ldarts_lib.datasets.catalogue import DATASETS, IMAGENET
from ldarts_lib.datasets.images import ImageDataset
from ldarts_lib.datasets.own import with_pictures
from ldarts_lib.errors import ProtocolError
from ldarts_lib.evaluation.presets import LANGUAGE, recipe_preset
from ldarts_lib.networks.macro import Reduction, Stem
from ldarts_lib.settings import (
    Count,
    Depth,
    LanguageSettings,
    NonNegative,
    PictureSettings,
    Positive,
    Seed,
    Settings,
    Share,
    Size,
    Width,
    changes,
    validated,
)
from ldarts_lib.spaces.definition import import_modules, modules_of
from ldarts_lib.spaces.genotype import Genotype
from ldarts_lib.spaces.notations import parse

Recipe = Literal["cifar", "cifar-small", "choice", "imagenet", "nasbench201"]
RECIPES: tuple[str, ...] = get_args(Recipe)
"""Recipes of images."""
_USUAL_RECIPE = {"darts": "cifar", "nasbench201": "nasbench201", "recurrent": LANGUAGE}

_PIXELS: dict[Stem, tuple[int, int]] = {"small": (4, 32), "imagenet": (32, 224)}
"""What height and width must be a multiple of, as they are halved so often; what the auxiliary head needs."""
_SLOW_END = 5
"""Epochs s at the end of a linear schedule in which the learning rate falls more slowly (Λ-DARTS code)."""


class _Training(Settings):
    """What a training of images and one of a language model have in common."""

    architecture: str
    """What the architecture is called: a published name, or the search that found it."""
    genotype: str
    """The architecture, in the notation of its field."""

    @property
    def label(self) -> str:
        """The name where it is one: a pasted genotype would fill a line."""
        return "a genotype" if set("|(") & set(self.architecture) else self.architecture

    @property
    def parsed(self) -> Genotype:
        """The architecture itself."""
        return parse(self.genotype)

    @property
    def changed(self) -> str:
        """In which settings it differs from its recipe's, as text."""
        names = {name: getattr(self, name) for name in ("architecture", "genotype", "recipe", "size")}
        return changes(self, _made(names, self.usual_data, {"seed": self.seed, "searched": self.searched}))

    @property
    def identity(self) -> dict[str, Any]:
        """What ``metrics.json`` says of the settings."""
        told = {"recipe", "dataset", "size", "seed", "architecture", "genotype", "epochs"}
        facts = {"stage": "evaluate", "changed": self.changed, "searched": self.searched}
        return facts | self.model_dump(include=told)


class TrainingProtocol(_Training, PictureSettings):
    """All settings of the training of one architecture of images.

    Examples:
        >>> from ldarts_lib import published
        >>> from ldarts_lib.evaluation.protocols import training_protocol
        >>> paper = training_protocol("DARTS_V2", published("DARTS_V2"), "cifar10", size="paper", epochs=300)
        >>> paper.recipe, paper.channels, paper.depth, paper.changed
        ('cifar', 36, 20, 'epochs = 300')
    """

    BUILT_IN: ClassVar[tuple[str, ...]] = (*DATASETS, IMAGENET)

    searched: dict[str, Any] | None = Field(None, exclude=True)
    """What identifies the search that found it; None for a published one. Recorded with the outcome."""
    recipe: Recipe
    """What the settings are those of."""
    dataset: str
    """Images to train and to test on."""
    size: Size
    """The preset that the other settings come from."""
    seed: Seed = 0
    """Seed of the initial weights, of the batches, of the augmentation and of drop path."""

    channels: Width = 36
    """C, channels of the first cells."""
    depth: Depth = 20
    """Cells of the network (per stage for a genotype without a reduction cell)."""
    reduction: Reduction = "residual"
    """Fixed reduction block of a NAS-Bench-201 network, residual (as published) or light."""
    stem: Stem = "small"
    """One convolution (small), or the three of stride 2 for images of 224 pixels (imagenet)."""
    resolution: Width | None = None
    """Height and width to which images are resized; as they are if None."""
    images: Count | None = None
    """Train on so many images and test on as many, the first (ImageNet: evenly spread); all if None."""

    held_out: Share = 0.0
    """Share of the training images that is not trained on, but tested on in place of the test images."""

    epochs: Count = 600
    """Passes over the training images."""
    batch_size: Count = 96
    """Images per step, of all devices together."""
    learning_rate: Positive = 0.025
    """Learning rate (SGD), at the start."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How the learning rate falls to zero."""
    warm_up: Annotated[int, Field(ge=0)] = 0
    """Epochs at the start in which the learning rate rises linearly."""
    momentum: Share = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """Whether the momentum is Nesterov's."""
    weight_decay: NonNegative = 3e-4
    """Weight decay."""
    clip: Positive | None = 5.0
    """Largest norm of the gradient; None for any."""

    cutout: Annotated[int, Field(ge=0)] = 16
    """Side in pixels of the square that is blanked in each training image; 0 for none."""
    drop_path: Share = 0.2
    """Probability that an edge is dropped for an image, at the end of a linear ramp from zero."""
    auxiliary: NonNegative = 0.4
    """Weight of the auxiliary head's loss; 0 for no such head."""
    label_smoothing: Share = 0.0
    """Share of the target that is spread over all classes, in training."""
    test_every: Count = 1
    """Test after each so many epochs, and after the last."""

    precision: Literal["32-true", "tf32", "16-mixed", "bf16-mixed", "64-true"] = "32-true"
    """Floating type of the computation (as Lightning Fabric calls it), or tf32: float32, of which a GPU's
    convolutions and products read the first ten bits after the point."""
    compile: bool = False
    """Compile the network with torch.compile: a minute or more at the start, faster steps on a GPU."""
    imports: tuple[str, ...] | None = None
    """Modules that register operations of the architecture; None if all are built in."""

    @property
    def parsed(self) -> Genotype:
        import_modules(self.imports or ())
        return super().parsed

    @model_validator(mode="after")
    def _consistent(self) -> TrainingProtocol:
        self.parsed.require("darts", "nasbench201")
        chain = self.parsed.kind == "darts"
        if self.auxiliary and not chain:
            raise ValueError("auxiliary: only an architecture with a reduction cell has an auxiliary head")
        if self.held_out and self.dataset == IMAGENET:
            raise ValueError("held_out: only of images that fit on a device")
        if self.stem == "imagenet" and not chain:
            raise ValueError("stem 'imagenet' needs an architecture with a reduction cell")
        if self.resolution is not None:
            self.require_pixels(self.resolution)
        if self.stem == "imagenet" and (self.channels < 8 or self.channels % 2):
            raise ValueError(f"channels = {self.channels}: the stem 'imagenet' needs an even number from 8")
        if self.schedule == "linear" and self.warm_up >= self.epochs:
            raise ValueError(f"warm_up = {self.warm_up} must be less than epochs = {self.epochs}")
        return self

    def require_pixels(self, pixels: int) -> None:
        """Check the height and width of the images.

        Raises:
            ProtocolError: the network cannot read images of this size.
        """
        images, (unit, smallest) = f"images of {pixels} pixels", _PIXELS[self.stem]
        if pixels % unit:
            raise ProtocolError(f"{images}: the stem {self.stem!r} needs a multiple of {unit}")
        if self.auxiliary and pixels < smallest:
            head = f"the auxiliary head needs {smallest} or more; set resolution, or auxiliary to 0"
            raise ProtocolError(f"{images}: {head}")

    def rate(self, epoch: int) -> float:
        """Learning rate in an epoch, counted from 0."""
        if epoch < self.warm_up:  # η (t + 1) / W
            return self.learning_rate * (epoch + 1) / self.warm_up
        if self.schedule == "cosine":  # η (1 + cos πt/T) / 2
            return self.learning_rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        slow = _SLOW_END if self.epochs > 2 * _SLOW_END else 0
        if self.epochs - epoch > slow:  # η (T − s − t) / (T − s)
            return self.learning_rate * (self.epochs - slow - epoch) / (self.epochs - slow)
        # η (T − t) / (s (T − s)): the last s epochs go on to zero from the rate of the epoch before
        return self.learning_rate * (self.epochs - epoch) / ((self.epochs - slow) * slow)

    def drop_probability(self, epoch: int) -> float:
        """Probability that an edge is dropped for an image in an epoch, counted from 0."""
        # q_t = q t/T (book/darts_space)
        return self.drop_path * epoch / self.epochs


class LanguageTrainingProtocol(_Training, LanguageSettings):
    """All settings of the training of one recurrent cell."""

    recipe: Literal["ptb"] = LANGUAGE
    """Training recipe."""

    test_columns: Count = 1
    """Columns into which the test text is cut."""
    longest: Count = 20
    """How many words a window may be longer than bptt."""
    patience: Count = 5
    """Averaging of the weights begins when the validation loss is above the best one of more than this many
    epochs ago."""
    searched: dict[str, Any] | None = None
    """What identifies the search that found it; None for a published one."""

    @model_validator(mode="after")
    def _recurrent(self) -> LanguageTrainingProtocol:
        self.parsed.require("recurrent")
        return self


def training_protocol(
    architecture: str,
    genotype: Genotype,
    dataset: str | ImageDataset | None = None,
    recipe: str | None = None,
    size: str = "demo",
    **overrides: Any,
) -> TrainingProtocol | LanguageTrainingProtocol:
    """The protocol of a recipe and size for one architecture, with single settings overridden.

    Args:
        dataset: by default noisy-digits (or a folder of pictures, which are decoded now, or loaded images);
            for the recipe ``ptb`` a text, by default civics.
        recipe: by default the usual one of such a genotype.
        overrides: single settings, and ``searched``.

    Raises:
        ProtocolError: an unknown name or a value out of range; all of them are listed.
    """
    recipe = recipe or _USUAL_RECIPE[genotype.kind]
    names = {"architecture": architecture, "genotype": str(genotype), "recipe": recipe, "size": size}
    if recipe == LANGUAGE:
        return _made(names, {"dataset": dataset or "civics"}, overrides)
    return with_pictures(lambda facts: _made(names, facts, overrides), dataset or "noisy-digits")


def _made(names: dict, facts: dict, overrides: dict) -> TrainingProtocol | LanguageTrainingProtocol:
    recipe, size = names["recipe"], names["size"]
    if recipe == LANGUAGE:
        kind, more = LanguageTrainingProtocol, {}
    else:
        operations = (o for cell in parse(names["genotype"]).cells.values() for o in cell.operations)
        kind, more = TrainingProtocol, {"imports": tuple(modules_of(operations)) or None}
    return validated(kind, names | facts | more | recipe_preset(recipe, size, facts) | overrides)
