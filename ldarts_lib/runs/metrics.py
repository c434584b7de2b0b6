"""Reading ``metrics.json``, the outcome of a run, and refusing what cannot be one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from ldarts_lib.errors import RunError
from ldarts_lib.files import read_json
from ldarts_lib.runs.contents import CONFIG, METRICS_VERSION, Name, Number
from ldarts_lib.settings import Count, NonNegative, Size, explain

Accuracy = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Perplexity = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Natural = Annotated[int, Field(ge=0)]
_Model = TypeVar("_Model", bound=BaseModel)

IDENTITY = ("space", "dataset", "method", "size", "seed")
"""What tells one search from another."""
_CONFIGURED = (*IDENTITY, "recipe", "architecture", "genotype", "epochs")


class SearchIdentity(BaseModel, frozen=True):
    """What tells one search from another, and its settings other than the preset's."""

    space: Name
    dataset: Name
    method: Name
    size: Size
    seed: Natural
    changed: str = ""


class SearchMetrics(SearchIdentity, frozen=True):
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
    stopped: Natural | None = None

    @model_validator(mode="after")
    def _has_a_measure(self) -> SearchMetrics:
        return self if self.valid_perplexity else _require(self, "valid_accuracy")


class EvaluationMetrics(BaseModel, frozen=True):
    """The outcome of an evaluation: of a look-up in a ``benchmark``, or of a training."""

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
            return _require(self, "test_accuracy")
        trained = ("epochs", "parameters", "seconds")
        if self.test_perplexity or self.valid_perplexity:
            return _require(self, "test_perplexity", "valid_perplexity", *trained)
        return _require(self, "test_accuracy", "best_test_accuracy", "multiply_adds", *trained)


Metrics = SearchMetrics | EvaluationMetrics


def read_metrics(path: Path | str) -> Metrics:
    """Read one ``metrics.json`` and check it, also against the ``config.json`` beside it.

    Raises:
        RunError: it cannot be read, is of another version, lacks keys or has values that are out of range
            (all of them are named), or it lies in no run directory, or in that of another run.
    """
    path, kinds = Path(path), {"search": SearchMetrics, "evaluate": EvaluationMetrics}
    content = read_json(path)
    if content.get("version") != METRICS_VERSION:
        raise RunError(
            f"{path} has version {content.get('version')!r} of the metrics; this library reads "
            f"{METRICS_VERSION}: run it again in another directory"
        )
    if (stage := content.get("stage")) not in kinds:
        raise RunError(f"{path}: stage = {stage!r}; expected search or evaluate")
    try:
        metrics = kinds[stage].model_validate(content)
    except ValidationError as error:
        raise RunError(f"{path}: {explain(error, kinds[stage])}") from None
    if not (config := path.with_name(CONFIG)).exists():
        raise RunError(f"{path} lies in no run directory: there is no {CONFIG} beside it")
    settings, found = read_json(config), metrics.model_dump()
    differing = [
        f"{key} = {found[key]!r}, configured {settings[key]!r}"
        for key in _CONFIGURED
        if key in settings and found.get(key) is not None and settings[key] != found[key]
    ]
    if differing:
        raise RunError(f"{path} belongs to another run than {CONFIG}: {'; '.join(differing)}")
    return metrics


def _require(metrics: _Model, *names: str) -> _Model:
    if missing := [name for name in names if getattr(metrics, name) is None]:
        raise ValueError(f"{', '.join(missing)} missing")
    return metrics
