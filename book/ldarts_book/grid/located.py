"""YAML files whose every value knows its line, so that an error can say where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ldarts_lib.errors import LdartsError

Place = tuple[str | int, ...]
"""Keys and positions from the root of a file to a value."""


class LocatedError(LdartsError, ValueError):
    """A YAML file that cannot be read; the message names the file, the line and the value."""


@dataclass(frozen=True)
class Located:
    """The content of a YAML file.

    Attributes:
        path: the file.
        value: its content as plain Python values.
        lines: of each place the line, counted from 1.
    """

    path: Path
    value: Any
    lines: dict[Place, int]

    def where(self, place: Sequence[str | int]) -> str:
        """``FILE, line N, a.b[0]`` of a place, or of the nearest one above it that the file has."""
        known = tuple(place)
        while known not in self.lines:
            known = known[:-1]
        steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
        return f"{self.path}, line {self.lines[known]}" + (f", {steps.lstrip('.')}" if place else "")


def read_yaml(path: Path | str) -> Located:
    """Read one YAML document.

    Raises:
        LocatedError: the file cannot be read, is no YAML, or gives a key twice (YAML itself would keep
            the last).
    """
    path = Path(path)
    lines: dict[Place, int] = {(): 1}
    try:
        text = path.read_text(encoding="utf-8")
        value = yaml.safe_load(text)
        if root := yaml.compose(text, yaml.SafeLoader):
            _locate(root, (), lines, path)
    except OSError as error:
        raise LocatedError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise LocatedError(f"cannot read {path}: it is no text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise LocatedError(f"{path}{line}: no YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise LocatedError(f"{path}: no YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise LocatedError(f"{path}: an anchor contains itself") from None
    return Located(path, value, lines)


def _locate(node: yaml.Node, place: Place, lines: dict[Place, int], path: Path) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for position, child in enumerate(node.value):
            _locate(child, (*place, position), lines, path)
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            inner, line = (*place, key.value), key.start_mark.line + 1
            if inner in lines:
                raise LocatedError(
                    f"{path}, line {line}: {key.value!r} is given twice, first in line {lines[inner]}"
                )
            lines[inner] = line
            _locate(child, inner, lines, path)
