"""Reading ``metrics.json``, the outcome of a run, and refusing what cannot be one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ldarts_book.grid.axes import RECIPES, SPACE_NAMES
from ldarts_lib.bilevel.protocols import METHODS, SIZES
from ldarts_lib.errors import LdartsError
from ldarts_lib.runs.directory import CONFIG, METRICS_VERSION

Accuracy = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Perplexity = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]

IDENTITY = ("space", "dataset", "method", "size", "seed")
"""What tells one search from another."""
_CONFIGURED = (*IDENTITY, "recipe", "architecture", "genotype", "epochs")


class MetricsError(LdartsError, ValueError):
    """A ``metrics.json`` that cannot be used; the message names the file and says why."""


class SearchIdentity(BaseModel):
    """What tells one search from another."""

    model_config = ConfigDict(frozen=True)

    space: Literal[SPACE_NAMES]
    dataset: Name
    method: Literal[METHODS]
    size: Literal[SIZES]
    seed: Count
    changed: str = ""
    """Settings other than the preset's."""


class SearchMetrics(SearchIdentity):
    """The outcome of a search."""

    stage: Literal["search"]
    epochs: Annotated[int, Field(ge=1)]
    valid_loss: Number
    valid_accuracy: Accuracy | None = None
    valid_perplexity: Perplexity | None = None
    valid_alignment: Annotated[float, Field(ge=-1.001, le=1.001, allow_inf_nan=False)]
    entropy: Number
    skips: Count
    genotype: Name
    seconds: Seconds

    @model_validator(mode="after")
    def _has_a_measure(self) -> SearchMetrics:
        _require(self, "valid_perplexity" if self.space == "ptb" else "valid_accuracy")
        return self


class EvaluationMetrics(BaseModel):
    """The outcome of an evaluation."""

    model_config = ConfigDict(frozen=True)

    stage: Literal["evaluate"]
    recipe: Literal[RECIPES]
    dataset: Name
    size: Literal[SIZES]
    seed: Count
    architecture: Name
    changed: str = ""
    searched: SearchIdentity | None
    genotype: Name
    benchmark: Name | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    valid_accuracy: Accuracy | None = None
    test_accuracy: Accuracy | None = None
    best_test_accuracy: Accuracy | None = None
    test_top5_accuracy: Accuracy | None = None
    valid_perplexity: Perplexity | None = None
    test_perplexity: Perplexity | None = None
    parameters: Count | None = None
    multiply_adds: Count | None = None
    seconds: Seconds | None = None

    @model_validator(mode="after")
    def _has_what_its_recipe_measures(self) -> EvaluationMetrics:
        if self.recipe == "lookup":
            _require(self, "test_accuracy", "benchmark")
        elif self.recipe == "ptb":
            _require(self, "test_perplexity", "valid_perplexity", "epochs", "parameters", "seconds")
        else:
            trained = ("epochs", "parameters", "multiply_adds", "seconds")
            _require(self, "test_accuracy", "best_test_accuracy", *trained)
        return self


Metrics = SearchMetrics | EvaluationMetrics


def read_metrics(path: Path | str) -> Metrics:
    """Read and check one ``metrics.json``.

    Raises:
        MetricsError: it cannot be read, is truncated or no JSON, of another version, or lacks a key or has a
            value that is out of range; all of them are named.
    """
    path = Path(path)
    content = _read_object(path)
    if content.get("version") != METRICS_VERSION:
        raise MetricsError(
            f"{path} has version {content.get('version')!r} of the metrics; this library reads "
            f"{METRICS_VERSION}: run it again in another directory"
        )
    kinds = {"search": SearchMetrics, "evaluate": EvaluationMetrics}
    stage = content.get("stage")
    if stage not in kinds:
        raise MetricsError(f"{path}: stage = {stage!r}; expected search or evaluate")
    try:
        return kinds[stage].model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_explain(item) for item in error.errors())
        raise MetricsError(f"{path}: {problems}") from None


def check_config(path: Path | str, metrics: Metrics) -> None:
    """Refuse metrics that do not belong to the ``config.json`` beside them.

    Raises:
        MetricsError: there is none, it is damaged, or it is of another run; what differs is named.
    """
    path = Path(path)
    config = path.with_name(CONFIG)
    if not config.exists():
        raise MetricsError(f"{path} lies in no run directory: there is no {CONFIG} beside it")
    settings, found = _read_object(config), metrics.model_dump()
    differing = [
        f"{key} = {found[key]!r}, configured {settings[key]!r}"
        for key in _CONFIGURED
        if key in settings and found.get(key) is not None and settings[key] != found[key]
    ]
    if differing:
        raise MetricsError(f"{path} belongs to another run than {CONFIG}: {'; '.join(differing)}")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MetricsError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise MetricsError(f"{path} is damaged (truncated?): {error}") from None
    if not isinstance(content, dict):
        raise MetricsError(f"{path} is damaged: expected an object, got {type(content).__name__}")
    return content


def _require(metrics: BaseModel, *names: str) -> None:
    if missing := [name for name in names if getattr(metrics, name) is None]:
        raise ValueError(f"{', '.join(missing)} missing")


def _explain(item: Any) -> str:
    place = ".".join(map(str, item["loc"]))
    if item["type"] == "missing":
        return f"{place} missing"
    if item["type"] == "value_error":
        return item["msg"].removeprefix("Value error, ")
    return f"{place} = {item['input']!r}: {item['msg']}"
