"""Grids: which searches and which trainings, described in a YAML file, and the jobs that follow.

A grid has a ``size`` and ``parts``. A part lists spaces (or their files), data sets, methods and seeds, and
is searched in every combination; its ``evaluations`` train each found cell, or look it up::

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
        published: [DARTS_V2, "nb201:12804"]         # no search; names, files, cells in any notation
        evaluations:
          - {recipe: cifar, datasets: [cifar10]}

An evaluation with ``best_by: RECIPE-DATASET`` takes, of all seeds of a (space, data set, method), only the
cell that was best in that other evaluation of the part. ``seeds`` of an evaluation are seeds of the training;
by default one, 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.resources import files
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML

from ldarts_book.grid.axes import DATA_OF, Architectures, Data, Seeds, Spaces, several
from ldarts_book.grid.evaluations import ALL_RECIPES, FITTING, LOOKUP
from ldarts_book.grid.jobs import Job
from ldarts_lib.bilevel.methods import METHODS, TEXT_METHODS
from ldarts_lib.datasets.catalogue import DATASETS, own_folder, recorded_name
from ldarts_lib.datasets.corpus import TEXTS
from ldarts_lib.errors import LdartsError, RunError
from ldarts_lib.files import expanded, read_text, require_shallow, require_small
from ldarts_lib.settings import Settings, Size
from ldarts_lib.spaces.definition import find_space
from ldarts_lib.spaces.notations import architecture
from ldarts_lib.spaces.published import published, published_record

WORKFLOW = Path(str(files("ldarts_book.workflow")))
"""The folder of Snakefile, profiles and grids."""
_MOST = 100_000
_Place = tuple[str | int, ...]
"""Keys and positions from the root of a file to a value."""
_KINDS = {"ptb": "recurrent", "nasbench201": "nasbench201", "stages": "nasbench201"}


class GridError(LdartsError, ValueError):
    """A grid that cannot be used, or not here; the message says where, what is bad and what is allowed."""


class Evaluation(Settings):
    """One way to judge every cell of a part."""

    recipe: Literal[ALL_RECIPES]
    datasets: Data = None
    seeds: Seeds = None
    best_by: str | None = None

    def names(self, searched_on: Sequence[str] = ()) -> list[tuple[str, str, int]]:
        """On each data set and with each seed how directories call it; a seed shows if it is given."""
        return [
            (f"{self.recipe}-{recorded_name(on)}" + ("" if seed is None else f"-seed{seed}"), on, seed or 0)
            for on, seed in product(self.datasets or searched_on, self.seeds or (None,))
        ]


class Part(Settings):
    """Searches in every combination of four axes, or published architectures, and how they are judged."""

    spaces: Spaces = None
    datasets: Data = None
    methods: several(Literal[METHODS]) = None
    seeds: Seeds = None
    published: Architectures = None
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
        searches = prod(len(values) for values in axes.values() if values) * len(self.published or (0,))
        trained = [len(one.seeds or (0,)) * len(one.datasets or (0,)) for one in self.evaluations]
        if (jobs := searches * (1 + sum(trained))) > _MOST:
            raise ValueError(f"{jobs:,} jobs; a part has at most {_MOST:,}")
        return self

    def jobs(self, **common: str) -> Iterator[tuple[Job, int | None]]:
        """The jobs, each after those that it needs, with the position of its evaluation in the part.

        They have a size and the name of the part in common.
        """
        for name, (position, one) in product(self.published or (), enumerate(self.evaluations)):
            seeded = one.model_copy(update={"seeds": one.seeds or (0,)})
            folder = f"published/{_folder(name)}"
            yield from _evaluated(folder, seeded, (), position, published=name, **common)
        for space, dataset, method in product(self.spaces or (), self.datasets or (), self.methods or ()):
            name, own = find_space(space)
            above, named = f"{name}/{recorded_name(dataset)}/{method}", {"space": name, "method": method}
            named |= common | ({"space_file": str(expanded(space).resolve())} if own else {})
            folders = [f"{above}/seed{seed}" for seed in self.seeds or ()]
            searches = tuple(f"{folder}/search" for folder in folders)
            for seed, directory in zip(self.seeds or (), searches, strict=True):
                yield Job("search", dataset=dataset, seed=seed, directory=directory, **named), None
            for position, one in enumerate(self.evaluations):
                origins = {folder: {"searches": (f"{folder}/search",)} for folder in folders}
                if one.best_by:
                    judges = tuple(f"{folder}/{one.best_by}" for folder in folders)
                    origins = {f"{above}/best": {"searches": searches, "judges": judges}}
                for folder, origin in origins.items():
                    yield from _evaluated(folder, one, (dataset,), position, **origin, **named)


def _evaluated(
    folder: str, one: Evaluation, searched_on: Sequence[str], position: int, **named: Any
) -> Iterator[tuple[Job, int]]:
    for name, on, seed in one.names(searched_on):
        details = {"dataset": on, "seed": seed, "directory": f"{folder}/{name}", "recipe": one.recipe}
        yield Job("evaluate", **details, **named), position


class Grid(Settings):
    """What is searched and what is trained; see :func:`read_grid`."""

    size: Size
    parts: Annotated[dict[Annotated[str, Field(pattern=r"^[^,:\n]+$")], Part], Field(min_length=1)]

    def jobs(self) -> list[Job]:
        """All jobs, each after those that it needs."""
        return [job for name, part in self.parts.items() for job, _ in part.jobs(part=name, size=self.size)]

    def only(self, parts: Sequence[str]) -> Grid:
        """Some of the parts.

        Raises:
            GridError: an unknown name.
        """
        if unknown := [name for name in parts if name not in self.parts]:
            raise GridError(f"unknown part {', '.join(unknown)}; choose among {', '.join(self.parts)}")
        return Grid(size=self.size, parts={name: self.parts[name] for name in self.parts if name in parts})


def find_grid(name: str | Path) -> Path:
    """The file of a grid: a path, or the name of one that ships.

    Raises:
        GridError: there is no such file; the grids that ship are named.
    """
    shipped = {path.stem: path for path in sorted((WORKFLOW / "grids").glob("*.yaml"))}
    path = Path(name) if Path(name).is_file() else shipped.get(str(name), Path(name))
    if not path.is_file():
        raise GridError(f"there is no grid {name}: give a YAML file, or one of {', '.join(shipped)}")
    return path.resolve()


def read_grid(name: str | Path, parts: Sequence[str] = ()) -> Grid:
    """Read and check a grid, or some parts of it; a file, or the name of one that ships.

    Raises:
        GridError: the file cannot be read or is no YAML; an unknown key or value, an empty axis, a data set,
            method or recipe that does not fit the space, a job that is asked for twice. The first 20 problems
            are listed, each with its line.
    """
    path = find_grid(name)
    content = _read_yaml(path)
    try:
        grid = Grid.model_validate(content)
    except ValidationError as error:
        found = [item for item in error.errors() if not (item["type"] == "too_short" and item["input"])]
        problems = [(item["loc"], _explain(item)) for item in found]
    else:
        problems = [*_misfits(grid)] or [*_duplicates(grid)]
    if problems:
        shown = problems[:20]
        raise GridError("\n".join(f"{_where(path, content, place)}: {text}" for place, text in shown))
    return grid.only(parts) if parts else grid


def _read_yaml(path: Path) -> Any:
    """The content of a YAML file, which knows its lines; a key that is given twice is an error."""
    try:
        require_shallow(text := read_text(path, most=2**14))
        YAML(typ="safe").load(text)  # refuses keys that are mappings, which take the other one for ever
        content = YAML().load(text)
        require_small(content)
    except (RecursionError, RunError, ValueError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise GridError(why if str(path) in why else f"cannot read {path}: {why}") from None
    except Exception as error:  # a false tag, or a list as a key, raises what its constructor happens to
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        what = getattr(error, "problem", None) or [*str(error).splitlines(), type(error).__name__][0]
        raise GridError(f"{path}{f', line {mark.line + 1}' if mark else ''}: no YAML: {what}") from None
    return content


def _where(path: Path, content: Any, place: _Place) -> str:
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
    key, value, message = item["loc"][-1] if item["loc"] else "", repr(item["input"]), item["msg"]
    model = {1: Grid, 3: Part}.get(len(item["loc"]), Evaluation)
    words = {
        "extra_forbidden": f"unknown key {key!r}; the keys are {', '.join(model.model_fields)}",
        "missing": "it is missing",
        "too_short": "it is empty",
        "model_type": f"expected keys and values, got {value}",
        "tuple_type": f"expected a list, got {value}",
        "value_error": message.removeprefix("Value error, "),
    }
    return words.get(item["type"], f"{value}: {message}")


def _misfits(grid: Grid) -> Iterator[tuple[_Place, str]]:
    """What is known, but does not go together."""
    for name, part in grid.parts.items():
        for space in part.spaces or ():
            on, by = (TEXTS, TEXT_METHODS) if space == "ptb" else (DATASETS, METHODS)
            axes = (("datasets", part.datasets, on), ("methods", part.methods, by))
            for axis, values, allowed in axes:
                for position, value in enumerate(values or ()):
                    if value not in allowed and (axis == "methods" or on is TEXTS or not own_folder(value)):
                        problem = f"the space {space} cannot be searched with {value!r} among its {axis}"
                        yield ("parts", name, axis, position), f"{problem}; choose among {', '.join(allowed)}"
        for position, evaluation in enumerate(part.evaluations):
            place = ("parts", name, "evaluations", position)
            yield from ((place, problem) for problem in _evaluation_misfits(part, evaluation))


def _evaluation_misfits(part: Part, one: Evaluation) -> Iterator[str]:
    if one.seeds and one.recipe == LOOKUP:
        yield "the recipe lookup trains nothing: drop seeds"
    if part.published and not one.datasets:
        yield "published architectures were not searched here: datasets is missing"
    if part.published and one.best_by:
        yield "published architectures are not compared: drop best_by"
    if part.spaces and one.best_by:
        alone = part.datasets if len(part.datasets or ()) == 1 else ()
        others = [name for other in part.evaluations if not other.best_by for name, *_ in other.names(alone)]
        if one.best_by not in others:
            problem = f"best_by {one.best_by!r} is no other evaluation of this part"
            yield f"{problem}; choose among {', '.join(others)}"
    recipe = f"the recipe {one.recipe!r}"
    for space in part.spaces or sorted({_space_of(name) for name in part.published or ()}):
        own = find_space(space)[1]
        kind = _KINDS.get(own.macro if own else space, "darts")
        fitting = [recipe for recipe in FITTING[kind] if not own or recipe != LOOKUP]
        if one.recipe not in fitting:
            yield f"{recipe} does not take cells of the space {space}; choose among {', '.join(fitting)}"
    for dataset in one.datasets or part.datasets or ():
        allowed = DATA_OF.get(one.recipe, DATASETS)
        if dataset not in allowed and (allowed is not DATASETS or not own_folder(dataset)):
            yield f"{recipe} cannot be evaluated on {dataset!r}; choose among {', '.join(allowed)}"


def _space_of(name: str) -> str:
    """The space of a published architecture; where we have none, one whose cells are built alike."""
    space = published_record(name).space if name in published() else None
    kind = architecture(name)[1].kind
    return space or ("ptb" if kind == "recurrent" else kind)


def _folder(name: str) -> str:
    """A published name, or for a cell a short name that no other has."""
    return name if name in published() else f"cell-{sha256(name.encode()).hexdigest()[:10]}"


def _duplicates(grid: Grid) -> Iterator[tuple[_Place, str]]:
    """Jobs with one result; the best of several cells may be any of them."""
    seen: dict[tuple[Any, ...], str] = {}
    for name, part in grid.parts.items():
        for job, position in part.jobs(part=name, size=grid.size):
            origins = job.searches or (job.published,)
            outcomes = [(origin, job.recipe, job.dataset, job.seed) for origin in origins]
            outcomes = [(job.directory,)] if job.kind == "search" else outcomes
            if first := next((seen[outcome] for outcome in outcomes if outcome in seen), None):
                place = ("parts", name) if position is None else ("parts", name, "evaluations", position)
                yield place, f"the job {job.directory} is asked for twice, first by the part {first}"
            seen = dict.fromkeys(outcomes, name) | seen
