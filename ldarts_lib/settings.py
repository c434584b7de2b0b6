"""What all settings have in common: they are frozen, documented and validated, and bad ones are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ldarts_lib.errors import ProtocolError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Width = Annotated[int, Field(ge=1, le=2**14)]
"""Channels, units, pixels: more fit into no memory."""
Depth = Annotated[int, Field(ge=1, le=1000)]
"""Cells."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Size = Literal["smoke", "demo", "paper", "official"]
SIZES: tuple[str, ...] = get_args(Size)
_NUMBER = BeforeValidator(lambda value: int(value) if str(value).isdigit() else value)
"""A number may be given as text."""

_Model = TypeVar("_Model", bound=BaseModel)


class Settings(BaseModel):
    """A value with named, documented fields; what is unknown or out of range is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @property
    def usual_data(self) -> dict[str, Any]:
        """What the settings say of the same images or text if nothing else is asked for."""
        told = {name: getattr(self, name, None) for name in ("dataset", "folder", "pictures", "fingerprint")}
        told |= {"pixels": PictureSettings.PIXELS, "flip": True} if getattr(self, "pixels", None) else {}
        return {name: value for name, value in told.items() if value is not None}


class PictureSettings(Settings):
    """What a search and a training say of one's own pictures; all None where the images are built in."""

    BUILT_IN: ClassVar[tuple[str, ...]]
    PIXELS: ClassVar[int] = 32

    folder: str | None = Field(None, exclude=True)
    """Where the pictures lie; not part of what identifies a run, so that they may be moved."""
    pixels: Annotated[int, Field(ge=4, le=2**14, multiple_of=4)] | None = None
    """Height and width of the pictures; the short side is resized to it, and the middle is cropped."""
    channels_in: Annotated[Literal[1, 3], _NUMBER] | None = None
    """Channels of the pictures, 1 (gray) or 3; by default those that most files have."""
    flip: bool | None = None
    """Mirror training pictures at random; false for digits and letters."""
    skip_unreadable: bool | None = None
    """Leave out pictures that cannot be read, with a note, instead of refusing them."""
    pictures: Count | None = None
    """How many there are, but for those of the test."""
    fingerprint: str | None = None
    """Of the files or tensors, by their content."""

    @model_validator(mode="after")
    def _own_or_built_in(self) -> Self:
        if self.fingerprint is not None:
            return self
        if self.dataset not in self.BUILT_IN:
            possible = f"{', '.join(self.BUILT_IN)}, or a folder with one folder of pictures per class"
            raise ValueError(f"unknown dataset {self.dataset!r}; choose one of {possible}")
        if given := [name for name in PictureSettings.model_fields if getattr(self, name) is not None]:
            raise ValueError(f"{', '.join(given)}: only for a folder of pictures, not for {self.dataset!r}")
        return self

    @property
    def decoding(self) -> dict[str, Any]:
        """How the pictures of the folder are decoded."""
        return {name: getattr(self, name) for name in ("pixels", "channels_in", "skip_unreadable")}

    def on(self, facts: Mapping[str, Any]) -> Self:
        """The same settings for images that are loaded already, as these tell of themselves.

        Raises:
            ProtocolError: they are made for other pictures.
        """
        told, asked = (facts["dataset"], facts.get("fingerprint")), (self.dataset, self.fingerprint)
        if told == asked:
            return self
        if self.fingerprint:
            mine, theirs = (f"{name!r} (fingerprint {mark})" for name, mark in (asked, told))
            raise ProtocolError(f"the settings are made for the images {mine}, given are {theirs}")
        return self.model_copy(update=dict(facts))


class LanguageSettings(Settings):
    """What a search for a language model's cell and its training from scratch have in common."""

    dataset: str
    """Text, civics, ptb, or a folder with the files train.txt, valid.txt and test.txt."""
    size: Size
    """The preset that the other settings come from."""
    seed: Seed = 0
    """Seed of the initial weights, the lengths of the windows and the dropout masks."""
    min_count: Count = 1
    """Words that come less often in the training text are one word, <unk>."""

    units: Width
    """Size of the words, of the hidden states and of the nodes."""
    cells: Depth
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

    fingerprint: ClassVar[None] = None

    @property
    def dropouts(self) -> dict[str, float]:
        """The shares that are dropped, as the model calls them."""
        prefix = "dropout_"
        return {name.removeprefix(prefix): share for name, share in self if name.startswith(prefix)}


_DROPOUTS = {"output": 0.2, "hidden": 0.1, "inputs": 0.2, "embedding": 0.1, "words": 0.0}
SMALL_DROPOUTS = {f"dropout_{name}": share for name, share in _DROPOUTS.items()}
"""Of a language model that is small, in its search and its training."""
TEXT: dict[str, dict[str, Any]] = {"civics": {"min_count": 2}}
"""What belongs to a text, in a search and a training."""


def validated(model: type[_Model], values: Mapping[str, Any]) -> _Model:
    """The settings with these values.

    Raises:
        ProtocolError: unknown settings or values out of range; all of them are listed.
    """
    try:
        return model(**values)
    except ValidationError as error:
        raise ProtocolError(explain(error, model)) from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """What pydantic found, in the words of the settings, in one line."""
    return "; ".join(" ".join(_problem(item, model).splitlines()) for item in error.errors()[:20])


def _problem(item: Any, model: type[BaseModel]) -> str:
    name = ".".join(map(str, item["loc"]))
    if item["type"] == "missing":
        return f"{name} missing"
    if item["type"] == "extra_forbidden":
        return f"unknown setting {name!r:.200}; the settings are {', '.join(model.model_fields):.2000}"
    if item["type"] == "value_error":  # raised by a validator of ours, which names what is wrong
        return item["msg"].removeprefix("Value error, ")
    return f"{name} = {item['input']!r:.200}: {item['msg']}"


def changes(chosen: BaseModel, usual: BaseModel) -> str:
    """The settings in which one differs from its preset, as ``name = value, ...``; empty if none."""
    mine, theirs = ({**dict(one), **(getattr(one, "remedy", None) or {})} for one in (chosen, usual))
    different = [name for name in mine if name != "remedy" and mine[name] != theirs[name]]
    return ", ".join(f"{name} = {mine[name]}" for name in different)
