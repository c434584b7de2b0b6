"""Reading ``metrics.json``, the outcome of a run, and refusing what cannot be one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ldarts_lib.errors import RunError
from ldarts_lib.files import read_json
from ldarts_lib.runs.directory import CONFIG, METRICS_VERSION
from ldarts_lib.settings import Count, NonNegative, Size, explain

Accuracy = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Perplexity = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Natural = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]

IDENTITY = ("space", "dataset", "method", "size", "seed")
"""What tells one search from another."""
_CONFIGURED = (*IDENTITY, "recipe", "architecture", "genotype", "epochs")


class SearchIdentity(BaseModel):
    """What tells one search from another."""

    model_config = ConfigDict(frozen=True)

    space: Name
    dataset: Name
    method: Name
    size: Size
    seed: Natural
    changed: str = ""
    """Settings other than the preset's."""


class SearchMetrics(SearchIdentity):
    """The outcome of a search, of images (``valid_accuracy``) or of a text (``valid_perplexity``)."""

    stage: Literal["search"]
    epochs: Count
    valid_loss: Number
    valid_accuracy: Accuracy | None = None
    valid_perplexity: Perplexity | None = None
    valid_alignment: Annotated[float, Field(ge=-1.001, le=1.001, allow_inf_nan=False)]
    entropy: Number
    skips: Natural
    genotype: Name
    seconds: NonNegative

    @model_validator(mode="after")
    def _has_a_measure(self) -> SearchMetrics:
        if self.valid_perplexity is None:
            _require(self, "valid_accuracy")
        return self


class EvaluationMetrics(BaseModel):
    """The outcome of an evaluation: of a look-up in a ``benchmark``, or of a training."""

    model_config = ConfigDict(frozen=True)

    stage: Literal["evaluate"]
    recipe: Name
    dataset: Name
    size: Size
    seed: Natural
    architecture: Name
    changed: str = ""
    searched: SearchIdentity | None
    genotype: Name
    benchmark: Name | None = None
    epochs: Count | None = None
    valid_accuracy: Accuracy | None = None
    test_accuracy: Accuracy | None = None
    best_test_accuracy: Accuracy | None = None
    test_top5_accuracy: Accuracy | None = None
    valid_perplexity: Perplexity | None = None
    test_perplexity: Perplexity | None = None
    parameters: Natural | None = None
    multiply_adds: Natural | None = None
    seconds: NonNegative | None = None

    @model_validator(mode="after")
    def _has_what_its_kind_measures(self) -> EvaluationMetrics:
        if self.benchmark:
            _require(self, "test_accuracy")
        elif self.test_perplexity or self.valid_perplexity:
            _require(self, "test_perplexity", "valid_perplexity", "epochs", "parameters", "seconds")
        else:
            trained = ("epochs", "parameters", "multiply_adds", "seconds")
            _require(self, "test_accuracy", "best_test_accuracy", *trained)
        return self


Metrics = SearchMetrics | EvaluationMetrics


def read_metrics(path: Path | str) -> Metrics:
    """Read and check one ``metrics.json``.

    Raises:
        RunError: it cannot be read, is of another version, lacks keys or has values that are out of range;
            all of them are named.
    """
    path = Path(path)
    content = read_json(path)
    if content.get("version") != METRICS_VERSION:
        raise RunError(
            f"{path} has version {content.get('version')!r} of the metrics; this library reads "
            f"{METRICS_VERSION}: run it again in another directory"
        )
    kinds = {"search": SearchMetrics, "evaluate": EvaluationMetrics}
    stage = content.get("stage")
    if stage not in kinds:
        raise RunError(f"{path}: stage = {stage!r}; expected search or evaluate")
    try:
        return kinds[stage].model_validate(content)
    except ValidationError as error:
        raise RunError(f"{path}: {explain(error, kinds[stage])}") from None


def check_config(path: Path | str, metrics: Metrics) -> None:
    """Refuse metrics that do not belong to the ``config.json`` beside them.

    Raises:
        RunError: there is none, it is damaged, or it is of another run; what differs is named.
    """
    path = Path(path)
    config = path.with_name(CONFIG)
    if not config.exists():
        raise RunError(f"{path} lies in no run directory: there is no {CONFIG} beside it")
    settings, found = read_json(config), metrics.model_dump()
    differing = [
        f"{key} = {found[key]!r}, configured {settings[key]!r}"
        for key in _CONFIGURED
        if key in settings and found.get(key) is not None and settings[key] != found[key]
    ]
    if differing:
        raise RunError(f"{path} belongs to another run than {CONFIG}: {'; '.join(differing)}")


def _require(metrics: BaseModel, *names: str) -> None:
    if missing := [name for name in names if getattr(metrics, name) is None]:
        raise ValueError(f"{', '.join(missing)} missing")
