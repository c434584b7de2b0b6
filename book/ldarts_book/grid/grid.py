"""Grids: which searches and which trainings, described in a YAML file.

A grid has a ``size`` and ``parts``. A part lists spaces, data sets, methods and seeds, and is searched in
every combination; its ``evaluations`` train each found cell, or look it up::

    size: paper
    parts:
      s1-cifar10:
        spaces: [s1]
        datasets: [cifar10]
        methods: [darts, lambda]
        seeds: [0]
        evaluations:
          - {recipe: cifar}                          # on the data set of the search
          - {recipe: cifar, datasets: [cifar100]}    # on another one
      released:
        published: [DARTS_V2]                        # no search
        evaluations:
          - {recipe: cifar, datasets: [cifar10]}

An evaluation with ``best_by: RECIPE-DATASET`` takes, of all seeds of a (space, data set, method), only the
cell that was best in that other evaluation of the part. ``seeds`` of an evaluation are seeds of the training;
by default one, 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

from ldarts_book.grid.jobs import Job, evaluation_name, expand
from ldarts_lib.bilevel.protocols import METHODS
from ldarts_lib.bilevel.recurrent_protocols import METHODS as METHODS_OF_TEXT
from ldarts_lib.datasets.catalogue import DATASETS, IMAGENET
from ldarts_lib.datasets.corpus import TEXTS
from ldarts_lib.errors import LdartsError
from ldarts_lib.settings import SIZES, Seed
from ldarts_lib.spaces.published import published, published_record
from ldarts_lib.spaces.space import SPACES

Place = tuple[str | int, ...]
"""Keys and positions from the root of a file to a value."""
IMAGES: tuple[str, ...] = tuple(name for name in DATASETS if name != IMAGENET)
TABULATED: tuple[str, ...] = ("noisy-digits", "cifar10", "cifar100", "imagenet16-120")
"""Data sets for which a table knows every cell of the space nasbench201."""
_OF_CHAINS = ("cifar", "cifar-small", "imagenet")
_TAKES = {"ptb": ("ptb",), "nasbench201": ("nasbench201", "lookup")}
RECIPES: tuple[str, ...] = (*_OF_CHAINS, "nasbench201", "ptb", "lookup")
_ON = {"ptb": TEXTS, "lookup": TABULATED, "imagenet": (*IMAGES, IMAGENET)}


class GridError(LdartsError, ValueError):
    """A grid that cannot be used; the message says where in the file, the bad value and the allowed ones."""


def recipes_of(space: str) -> tuple[str, ...]:
    """The recipes that take a cell of a space."""
    return _TAKES.get(space, _OF_CHAINS)


def datasets_of(recipe: str) -> tuple[str, ...]:
    """The data sets that a recipe can be evaluated on."""
    return _ON.get(recipe, IMAGES)


def searchable(space: str) -> tuple[str, ...]:
    """The data sets that a space can be searched on."""
    return TEXTS if space == "ptb" else IMAGES


def misfit(recipe: str, space: str, dataset: str) -> str | None:
    """Why a cell of a space cannot be evaluated by a recipe on a data set; None if it can."""
    if recipe not in recipes_of(space):
        what, allowed = f"does not take cells of the space {space}", recipes_of(space)
    elif dataset not in datasets_of(recipe):
        what, allowed = f"cannot be evaluated on {dataset!r}", datasets_of(recipe)
    else:
        return None
    return f"the recipe {recipe!r} {what}; choose among {', '.join(allowed)}"


def _one_of(what: str, allowed: Sequence[str]) -> Any:
    """The type of a name that must be one of those allowed."""

    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"unknown {what} {value!r}; choose among {', '.join(allowed)}")
        return value

    return Annotated[str, AfterValidator(check)]


def _several(of: Any) -> Any:
    return Annotated[tuple[of, ...], Field(min_length=1)] | None


Names = _several(_one_of("published architecture", published()))
Seeds = _several(Annotated[Seed, Strict()])


class Evaluation(BaseModel):
    """One way to judge every cell of a part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: _one_of("recipe", RECIPES)
    datasets: _several(_one_of("data set of an evaluation", (*IMAGES, IMAGENET, *TEXTS))) = None
    seeds: Seeds = None
    best_by: str | None = None


class Part(BaseModel):
    """Searches in every combination of four axes, or published architectures, and how they are judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spaces: _several(_one_of("space", (*SPACES, "ptb"))) = None
    datasets: _several(_one_of("data set of a search", (*IMAGES, *TEXTS))) = None
    methods: _several(_one_of("method", METHODS)) = None
    seeds: Seeds = None
    published: Names = None
    evaluations: tuple[Evaluation, ...] = ()

    @model_validator(mode="after")
    def _searched_or_published(self) -> Part:
        axes = {name: getattr(self, name) for name in ("spaces", "datasets", "methods", "seeds")}
        given = [name for name, values in axes.items() if values]
        if self.published and given:
            raise ValueError(f"published architectures are not searched: drop {', '.join(given)}")
        if self.published and not self.evaluations:
            raise ValueError("published architectures need evaluations")
        if missing := [name for name in axes if not self.published and name not in given]:
            raise ValueError(f"{', '.join(missing)} missing (or give published: [NAME, ...])")
        return self


class Grid(BaseModel):
    """What is searched and what is trained; see :func:`read_grid`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: _one_of("size", SIZES)
    parts: Annotated[dict[str, Part], Field(min_length=1)]

    def jobs(self) -> list[Job]:
        """All jobs, each after those that it needs."""
        return [job for name, part in self.parts.items() for job, _ in expand(self.size, name, part)]

    def only(self, parts: Sequence[str]) -> Grid:
        """Some of the parts.

        Raises:
            GridError: an unknown name.
        """
        if unknown := [name for name in parts if name not in self.parts]:
            raise GridError(f"unknown part {', '.join(unknown)}; choose among {', '.join(self.parts)}")
        return Grid(size=self.size, parts={name: self.parts[name] for name in self.parts if name in parts})


def read_grid(path: Path | str) -> Grid:
    """Read and check a grid.

    Raises:
        GridError: the file cannot be read or is no YAML; an unknown key or value, an empty axis, a data set,
            method or recipe that does not fit the space, a job that is asked for twice. All problems are
            listed, each with its line.
    """
    path = Path(path)
    content = _read_yaml(path)
    try:
        grid = Grid.model_validate(content)
    except ValidationError as error:
        found = [item for item in error.errors() if not (item["type"] == "too_short" and item["input"])]
        problems = [(item["loc"], _explain(item)) for item in found]
    else:
        problems = [*_misfits(grid)] or [*_duplicates(grid)]
    if problems:
        raise GridError("\n".join(f"{_where(path, content, place)}: {text}" for place, text in problems))
    return grid


def _read_yaml(path: Path) -> Any:
    """The content of a YAML file, which knows its lines; a key that is given twice is an error."""
    try:
        return YAML().load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GridError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise GridError(f"cannot read {path}: it is no text") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise GridError(f"{path}{f', line {mark.line + 1}' if mark else ''}: no YAML: {what}") from None


def _where(path: Path, content: Any, place: Place) -> str:
    """``FILE, line N, a.b[0]`` of a place, or of the nearest one above it that the file has."""
    line, node = 0, content
    for step in place:
        lines = getattr(getattr(node, "lc", None), "data", None) or {}
        if step not in lines:
            break
        line, node = lines[step][0], node[step]
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return f"{path}, line {line + 1}" + (f", {steps.lstrip('.')}" if place else "")


def _explain(item: Any) -> str:
    """A problem that pydantic found, in words."""
    key = item["loc"][-1] if item["loc"] else ""
    match item["type"]:
        case "extra_forbidden":
            model = {1: Grid, 3: Part}.get(len(item["loc"]), Evaluation)
            return f"unknown key {key!r}; the keys are {', '.join(model.model_fields)}"
        case "missing":
            return "it is missing"
        case "too_short":
            return "it is empty"
        case "model_type" | "model_attributes_type":
            return f"expected keys and values, got {item['input']!r}"
        case "tuple_type":
            return f"expected a list, got {item['input']!r}"
        case "value_error":
            return item["msg"].removeprefix("Value error, ")
    return f"{item['input']!r}: {item['msg']}"


def _misfits(grid: Grid) -> Iterator[tuple[Place, str]]:
    """What is known, but does not go together."""
    for name, part in grid.parts.items():
        for space, (position, dataset) in product(part.spaces or (), enumerate(part.datasets or ())):
            if dataset not in (allowed := searchable(space)):
                problem = f"the space {space} cannot be searched on {dataset!r}"
                yield ("parts", name, "datasets", position), f"{problem}; choose among {', '.join(allowed)}"
        for position, method in enumerate(part.methods or ()):
            if "ptb" in (part.spaces or ()) and method not in METHODS_OF_TEXT:
                problem = f"the space ptb has no method {method!r}"
                others = ", ".join(METHODS_OF_TEXT)
                yield ("parts", name, "methods", position), f"{problem}; choose among {others}"
        for position, evaluation in enumerate(part.evaluations):
            place = ("parts", name, "evaluations", position)
            yield from ((place, problem) for problem in _evaluation_misfits(part, evaluation))


def _evaluation_misfits(part: Part, evaluation: Evaluation) -> Iterator[str]:
    if evaluation.seeds and evaluation.recipe == "lookup":
        yield "the recipe lookup trains nothing: drop seeds"
    if part.published:
        if not evaluation.datasets:
            yield "published architectures were not searched here: datasets is missing"
        if evaluation.best_by:
            yield "published architectures are not compared: drop best_by"
    elif evaluation.best_by:
        names = [name for other in part.evaluations if not other.best_by for name in _names(part, other)]
        if evaluation.best_by not in names:
            problem = f"best_by {evaluation.best_by!r} is no other evaluation of this part"
            yield f"{problem}; choose among {', '.join(names)}"
    spaces = part.spaces or sorted({_space_of(name) for name in part.published or ()})
    for space, dataset in product(spaces, evaluation.datasets or part.datasets or ()):
        if problem := misfit(evaluation.recipe, space, dataset):
            yield problem


def _names(part: Part, evaluation: Evaluation) -> list[str]:
    """The evaluation as directories call it, on each of its data sets."""
    datasets = evaluation.datasets or (part.datasets if len(part.datasets or ()) == 1 else ()) or ()
    seeds = evaluation.seeds or (None,)
    return [evaluation_name(evaluation.recipe, *which) for which in product(datasets, seeds)]


def _space_of(published_name: str) -> str:
    """The space of a published architecture; where we have none, one whose cells are built alike."""
    record = published_record(published_name)
    return record.space or ("ptb" if record.dataset == "ptb" else "darts")


def _duplicates(grid: Grid) -> Iterator[tuple[Place, str]]:
    seen: dict[str, str] = {}
    for name, part in grid.parts.items():
        for job, position in expand(grid.size, name, part):
            outcomes = _outcomes(job)
            if first := next((seen[outcome] for outcome in outcomes if outcome in seen), None):
                place = ("parts", name) if position is None else ("parts", name, "evaluations", position)
                yield place, f"the job {job.directory} is asked for twice, first by the part {first}"
            seen |= {outcome: seen.get(outcome, name) for outcome in outcomes}


def _outcomes(job: Job) -> list[tuple[str, ...]]:
    """What a job may give the result of; the best of several cells may be any of them."""
    if job.kind == "search":
        return [(job.directory,)]
    origins = job.searches or (f"published/{job.published}",)
    return [(origin, str(job.recipe), job.dataset, str(job.seed)) for origin in origins]
