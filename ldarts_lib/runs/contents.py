"""What each file of a run directory may hold; what is read from one is checked against it.

Whatever else stands in a file is kept: a newer library writes more.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from ldarts_lib.errors import RunError
from ldarts_lib.settings import Count, NonNegative, Positive, Seed, Size, explain

CONFIG, ENVIRONMENT, IMAGES = "config.json", "environment.json", "images.json"
GENOTYPE, METRICS = "genotype.json", "metrics.json"
METRICS_VERSION = 1
"""Of the keys in ``metrics.json``; a reader of another version refuses them."""

Name = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Configuration(BaseModel):
    """``config.json``, of a search, a training or a look-up; their protocols check it in full."""

    dataset: Name = ""
    size: Size = "smoke"
    seed: Seed = 0
    epochs: Count | None = None
    space: Name | None = None
    method: Name | None = None
    recipe: Name | None = None
    definition: dict[str, Any] | None = None


class Environment(BaseModel):
    """``environment.json``."""

    command: Annotated[list[str], Field(min_length=1)]
    continues: dict[str, Any] | None = None


class Images(BaseModel):
    """``images.json``."""

    name: Name
    class_names: Annotated[list[str], Field(min_length=1)]
    channels: Literal[1, 3]
    size: Annotated[int, Field(ge=1, le=4096)]
    mean: list[Number]
    std: list[Positive]
    fingerprint: str = ""
    folder: str = ""

    @model_validator(mode="after")
    def _one_per_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std: expected {self.channels} numbers each")
        return self


class Derived(BaseModel):
    """``genotype.json``."""

    genotype: Name


class Epoch(BaseModel):
    """One row of ``history.csv``."""

    epoch: Annotated[int, Field(ge=0)]
    seconds: NonNegative = 0.0


MODELS: Mapping[str, type[BaseModel]] = {
    CONFIG: Configuration,
    ENVIRONMENT: Environment,
    IMAGES: Images,
    GENOTYPE: Derived,
}


def require_whole(path: Any, content: Mapping[str, Any], model: type[BaseModel] | None) -> None:
    """Check what was read from a file.

    Raises:
        RunError: keys are missing or values are impossible; all of them are named.
    """
    try:
        if model:
            model.model_validate(content)
    except ValidationError as error:
        raise RunError(f"{path} is damaged: {explain(error, model)}") from None


def digest(state: Any) -> str:
    """SHA-256 of a checkpoint: of its tensors, names and plain values, in their order."""
    found = sha256()
    waiting = [state]
    while waiting:
        match value := waiting.pop():
            case dict():
                found.update(f"dict {len(value)}".encode())
                waiting += [part for pair in value.items() for part in pair]
            case list() | tuple():
                found.update(f"list {len(value)}".encode())
                waiting += value
            case _ if hasattr(value, "untyped_storage"):
                import torch  # has been loaded by whoever made the tensor

                found.update(f"{value.dtype} {tuple(value.shape)}".encode())
                plain = value.detach().cpu().contiguous().reshape(-1)
                found.update(plain.view(torch.uint8).numpy() if plain.numel() else b"")
            case _:
                found.update(repr(value).encode())
    return found.hexdigest()
