"""Search spaces of one's own: in a TOML or YAML file, and as the settings of a run keep them.

A file says what :class:`~ldarts_lib.spaces.space.Space` holds, here in YAML::

    name: mine
    import: [my_operations]         # modules that register operations, by name: of my_operations.py
    macro: chain                    # or stages
    cells:
      normal:
        nodes: 3                    # intermediate nodes
        candidates: [skip_connect, sep_conv_3x3, my_operation]   # of every edge
      reduce:                       # what it does not say is as in the normal cell
        candidates: {2<-0: [...], 2<-1: [...], ...}              # or of each edge, TARGET<-SOURCE
    keep: 2                         # edges that a node keeps, or all; by default the macro network's rule
    pooling_norm: true              # by default false for stages

The output of the cells of a chain may also be the ``last`` node (``output``, by default ``concat``).
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, ValidationError, ValidationInfo, field_validator

from ldarts_lib.errors import SpaceError, require_known
from ldarts_lib.files import expanded, read_text, require_shallow, require_small
from ldarts_lib.settings import Settings
from ldarts_lib.spaces.genotype import REGISTERED, operation_names
from ldarts_lib.spaces.space import MACROS, PTB, SPACES, CellSpace, Space

SUFFIXES = (".toml", ".yaml", ".yml")


class SpaceSettings(Settings):
    """What the settings of a search say of its space."""

    space: str
    """Search space."""
    definition: Annotated[dict[str, Any] | None, Field(validate_default=True)] = None
    """The whole space, if it is none that ships."""

    @field_validator("definition")
    @classmethod
    def _of_the_space(cls, definition: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        known = [as_space(definition).name] if definition else (*SPACES, "a TOML or YAML file of your own")
        require_known("space", info.data.get("space"), known)
        return definition

    @property
    def search_space(self) -> Space:
        """The search space itself."""
        return as_space(self.definition) if self.definition else SPACES[self.space]


def import_modules(names: tuple[str, ...]) -> tuple[str, ...]:
    """Import modules that register operations, and return their names; ``sys.path`` gets the current folder.

    Raises:
        SpaceError: one is no name of a module, or cannot be imported.
    """
    for name in names:
        if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
            raise SpaceError(f"{name!r} is no name of a module: write my_operations for my_operations.py")
        _look_in(Path())
        before = set(REGISTERED)
        try:
            import_module(name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also of a script that ends by sys.exit
            for other in REGISTERED.keys() - before:
                del REGISTERED[other]
            raise SpaceError(
                f"{name!r} cannot be imported ({type(error).__name__}: {error}); modules are looked for in "
                "the current folder, in that of the space's file, on PYTHONPATH and among installed packages"
            ) from error
        REGISTERED.update(dict.fromkeys(REGISTERED.keys() - before, name))
    return names


def _look_in(folder: Path) -> None:
    if (place := str(folder.resolve())) not in sys.path:
        sys.path.append(place)


def modules_of(operations: Iterable[str]) -> list[str]:
    """The modules that register some operations; that of a notebook or script can be imported by none."""
    return sorted({REGISTERED.get(name, "__main__") for name in operations} - {"__main__", "__mp_main__"})


def _candidates(value: Any) -> Any:
    for names in value.values() if isinstance(value, Mapping) else [value]:
        if not isinstance(names, list | tuple) or not names:
            raise ValueError(f"{value!r}: expected a list of operations, or one for each edge (2<-0: [...])")
        for name in names:
            require_known("operation", name, operation_names())
    return value


class _Cell(Settings):
    nodes: Annotated[int, Field(strict=True, ge=1, le=32)] | None = None
    output: Literal["last", "concat"] | None = None
    candidates: Annotated[Any, PlainValidator(_candidates)] = None


class _Definition(Settings):
    modules: Annotated[tuple[str, ...], AfterValidator(import_modules)] = Field((), alias="import")
    name: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    macro: Literal["stages", "chain"]
    cells: Annotated[dict[Literal["normal", "reduce"], _Cell], Field(min_length=1)]
    keep: Any = None
    pooling_norm: Annotated[bool, Field(strict=True)] | None = None


class _Misfit(Exception):
    """What is known, but does not go together: where, and why."""


def read_space(path: str | Path) -> Space:
    """The space that a TOML or YAML file describes.

    The modules that it names are imported, also from its own folder.

    Raises:
        SpaceError: the file cannot be read, or something in it is bad; the first 20 problems are listed, each
            with its line and field.
    """
    from ruamel.yaml import YAML

    path = expanded(path)
    try:
        text = read_text(path, most=2**14).removeprefix("\ufeff")
        require_shallow(text)
        content = tomllib.loads(text) if path.suffix == ".toml" else YAML(typ="safe").load(text)
        require_small(content)
    except Exception as error:  # a false tag, or a list as a key, raises what its constructor happens to
        why = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:300]
        raise SpaceError(f"cannot read the space {path}: {why}") from None
    _look_in(path.parent)
    return _checked(content, lambda place, problem: f"{path}, line {_line(text, place, problem)}")


def as_space(definition: Mapping[str, Any]) -> Space:
    """The space that :func:`as_definition` described; its modules are imported."""
    return _checked(definition, lambda *_: "the definition of the space (register its own operations first)")


def as_definition(space: Space) -> dict[str, Any]:
    """A space as the settings of a run keep it, with the modules that register its operations."""
    cells = {
        kind: {
            "nodes": cell.nodes,
            "output": cell.output,
            "candidates": list(cell.candidates[0])
            if len(set(cell.candidates)) == 1
            else {f"{t}<-{s}": list(n) for (t, s), n in zip(cell.edges, cell.candidates, strict=True)},
        }
        for kind, cell in space.cells.items()
    }
    kept = {name: getattr(space, name) for name in ("name", "macro", "keep", "pooling_norm")}
    return {"import": modules_of(space.registered), **kept, "cells": cells}


def find_space(space: str | Path | Space | Mapping[str, Any]) -> tuple[str, Space | None]:
    """The name of a space, and the space itself if it is of one's own.

    Args:
        space: a name (unknown ones are let through), a file, a space, or its definition.
    """
    if isinstance(space, Mapping):
        space = as_space(space)
    elif not isinstance(space, Space):
        path = expanded(space)
        if str(space) in (*SPACES, PTB.name) or not (path.suffix in SUFFIXES or os.path.isfile(path)):
            return str(space), None
        space = read_space(path)
    if space in (*SPACES.values(), PTB):
        return space.name, None
    as_space(as_definition(space))  # a space made in Python is checked like one of a file
    return space.name, space


def _checked(content: Any, where: Any) -> Space:
    try:
        return _built(_Definition.model_validate(content))
    except ValidationError as error:
        problems = [(item["loc"], _explain(item)) for item in error.errors()]
        problems = [p for p in problems if p[0][:1] == ("import",)] or problems  # what follows from it
    except _Misfit as misfit:
        problems = [misfit.args]
    shown = problems[:20]
    keyed = [([key for key in place if type(key) is str and key != "[key]"], why) for place, why in shown]
    lines = (f"{', '.join([where(keys, why), *['.'.join(keys)] * bool(keys)])}: {why}" for keys, why in keyed)
    raise SpaceError("\n".join(line[:1000] for line in lines))


def _explain(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        fields = (_Cell if len(item["loc"]) > 2 else _Definition).model_fields.items()
        names = ", ".join(field.alias or name for name, field in fields)
        return f"unknown key {item['loc'][-1]!r}; the keys are {names}"
    problem = item["msg"].removeprefix("Value error, ")
    return problem if item["type"] in ("missing", "value_error") else f"{item['input']!r:.200}: {problem}"


def _line(text: str, keys: Sequence[str], problem: str) -> int:
    """Where a file has a key, or, below it, the value that a problem begins with."""
    lines, at = [line.partition("#")[0] for line in text.splitlines()], 0
    value = re.match(r"(?:unknown operation )?'(.+?)'", problem)
    wanted = [rf"(?<![\w-]){re.escape(key)}(?![\w-])[\"']?\s*[:=.\]]" for key in keys]
    for pattern in [*wanted, *([re.escape(value[1])] if value else [])]:
        at = next((n for n in range(at, len(lines)) if re.search(pattern, lines[n])), at)
    return at + 1


def _built(definition: _Definition) -> Space:
    """The space, where all fields are good by themselves."""
    kinds, inputs, outputs, _ = MACROS[definition.macro]
    if definition.name in (*SPACES, PTB.name):
        raise _Misfit(("name",), f"{definition.name!r} is the name of a space that ships; choose another one")
    cells, normal = {}, definition.cells.get("normal", _Cell())
    for kind, cell in (dict.fromkeys(kinds, normal) | definition.cells).items():
        if kind not in kinds:
            raise _Misfit(("cells", kind), f"the macro network {definition.macro!r} has normal cells only")
        given = {"output": outputs[-1]} | normal.model_dump(exclude_none=True)
        given |= cell.model_dump(exclude_none=True)
        if missing := [field for field in ("nodes", "candidates") if field not in given]:
            raise _Misfit(("cells", kind, missing[0]), "it is missing")
        if given["output"] not in outputs:
            raise _Misfit(("cells", kind, "output"), f"of {definition.macro!r} it is {' or '.join(outputs)}")
        edges = [(t, s) for t in range(inputs, inputs + given["nodes"]) for s in range(t)]
        try:
            cells[kind] = CellSpace(inputs, **given | {"candidates": _by_edge(given["candidates"], edges)})
        except ValueError as error:
            raise _Misfit(("cells", kind, "candidates"), str(error)) from None
    norm = definition.macro == "chain" if definition.pooling_norm is None else definition.pooling_norm
    try:
        return Space(definition.name, cells, definition.macro, norm, definition.keep)
    except ValueError as error:
        raise _Misfit(("keep",), str(error)) from None


def _by_edge(candidates: Any, of: Sequence[tuple[int, int]]) -> tuple[tuple[str, ...], ...]:
    if not isinstance(candidates, Mapping):
        return (tuple(candidates),) * len(of)
    names = [f"{target}<-{source}" for target, source in of]
    for name in candidates:
        require_known("edge", name, names)
    if missing := [name for name in names if name not in candidates]:
        raise ValueError(f"the edges {', '.join(missing)} have none")
    return tuple(tuple(candidates[name]) for name in names)
