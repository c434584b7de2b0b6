"""Parameters of notebooks: declared in a cell, checked before anything runs.

The cell tagged ``parameters`` holds typed assignments, each with a comment, which Colab shows as a form::

    size: str = "smoke"  # @param ["smoke", "demo"] -- how long to search
    seeds: int = 3  # @param {type:"integer", min:1} -- searches of each method

Nothing is executed to read them. :func:`~ldarts_book.execution.run_notebook` checks what it is given before a
kernel starts, :func:`begin` checks it again from the inside: papermill alone injects whatever it is given.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

from pydantic import (
    BaseModel,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)

from ldarts_lib.errors import LdartsError, RunError
from ldarts_lib.files import expanded, read_json
from ldarts_lib.runs.threads import prepare
from ldarts_lib.settings import Settings, explain

if TYPE_CHECKING:
    import torch

TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list}
"""The annotations that papermill reads, too; the elements of a list are of the type of its first one."""
_COMMENT = re.compile(r"\s*+#\s*+(@param\s*+(?P<choices>\[.*?\])?\s*+(?P<form>\{.*?\})?)?\s*+(--)?\s*+\w")
_BOUND = re.compile(r"\b(min|max):\s*(-?[\d.]+)")
_LIMITS = {"min": "ge", "max": "le"}


class NotebookError(LdartsError, ValueError):
    """A notebook that cannot be read, or whose parameters cell is missing, doubled or malformed."""


class ParameterError(LdartsError, ValueError):
    """Unknown parameter names or values that do not fit their declaration."""


class NotebookFailed(LdartsError, RuntimeError):
    """A cell raised an error, or the kernel died; the message says where the traceback lies."""


class _Metadata(BaseModel):
    tags: list[str] = []
    papermill: dict[str, Any] = {}


class _Cell(BaseModel):
    cell_type: str
    metadata: _Metadata = _Metadata()
    source: str | list[str]


class _Notebook(BaseModel):
    """What is read of a notebook before anything runs."""

    nbformat: Literal[4]
    metadata: _Metadata = _Metadata()
    cells: list[_Cell]


class Parameters(Settings):
    """The parameters that a cell declares: their names, types, choices and defaults are its fields."""

    @field_validator("*", mode="before")
    @classmethod
    def _written(cls, value: Any, info: ValidationInfo) -> Any:
        """Of text, pydantic reads all types but lists; to it, True is a number, and ~ no folder."""
        kind = cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and kind in (int, float):
            raise ValueError(f"{info.field_name} = {value}: expected a number")
        if isinstance(value, str) and get_origin(kind) is list:
            return [part.strip(" '\"") for part in value.strip(" []").split(",") if part.strip()]
        if isinstance(value, str) and re.match(r"~[/\\]|~$", value):
            return os.path.expanduser(value)
        return value


def declarations(source: str) -> type[Parameters]:
    """The parameters that the source of a cell declares.

    Raises:
        NotebookError: it does anything else, or declares none.
    """
    try:
        statements, lines = ast.parse(source).body, source.encode().splitlines()
    except SyntaxError as error:
        raise NotebookError(f"line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # a zero byte, or brackets without an end
        raise NotebookError(f"no Python: {error}") from None
    if not statements:
        raise NotebookError("it declares no parameter")
    fields = dict(_field(statement, lines) for statement in statements)
    return create_model("Parameters", __base__=Parameters, **fields)


def _field(statement: ast.stmt, lines: Sequence[bytes]) -> tuple[str, tuple[Any, Any]]:
    # What is none ends in the error below, by one of these exceptions or by its name.
    with suppress(AttributeError, KeyError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        comment = _COMMENT.match(lines[statement.end_lineno - 1][statement.end_col_offset :].decode())
        choices, default = map(ast.literal_eval, (comment["choices"] or "[]", ast.unparse(statement.value)))
        kind: Any = TYPES[statement.annotation.id]
        if kind is list:
            kind = list[type(default[0]) if default else str]
        if choices:
            words = Literal[tuple(choices)]
            kind = {str: words, list[str]: list[words]}[kind]
        bounds = _BOUND.findall(comment["form"] or "")
        kind = Annotated[kind, Field(**{_LIMITS[which]: ast.literal_eval(bound) for which, bound in bounds})]
        TypeAdapter(kind).validate_python(default, strict=True)
        if not (statement.target.id.startswith("_") or hasattr(Parameters, statement.target.id)):
            return statement.target.id, (kind, default)
    raise NotebookError(
        f"line {statement.lineno}: expected `name: type = value  # what it is for`, with a type of "
        f"{', '.join(TYPES)} and a literal of it, got `{ast.unparse(statement):.80}`"
    )


def notebook_parameters(path: Path | str) -> type[Parameters]:
    """The parameters that a notebook declares in its one cell tagged ``parameters``.

    Raises:
        NotebookError: the file cannot be read, there is no such cell, or several, or as :func:`declarations`.
    """
    try:
        cells = _Notebook.model_validate(read_json(Path(path))).cells
        tagged = ["".join(cell.source) for cell in cells if "parameters" in cell.metadata.tags]
        if len(tagged) != 1:
            raise NotebookError(f"expected exactly one cell tagged 'parameters', found {len(tagged)}")
        return declarations(tagged[0])
    except ValidationError as error:
        raise NotebookError(f"{path}: no notebook: {explain(error, _Notebook)}") from None
    except (NotebookError, RunError) as error:
        raise NotebookError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def validate(declared: type[Parameters], given: Mapping[str, object]) -> dict[str, Any]:
    """The given values, objects or text, as their declared types.

    Raises:
        ParameterError: it lists every unknown name and every bad value, with what is allowed.
    """
    try:
        return declared(**given).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise ParameterError(explain(error, declared).replace("setting", "parameter")) from None


def begin(namespace: dict[str, Any], folder: Path | str | None = None) -> tuple[Path, torch.device | None]:
    """Begin a notebook, in the cell after its parameters: ``folder, where = begin(globals())``.

    Before torch is imported, the parameters are checked and become their declared types (a float for ``1``),
    and the kernel gets the CPU threads of its ``size``.

    Returns:
        The folder of its results (by default ``out/size``), made if missing, and the device, which is
        printed; None without a parameter ``device``.

    Raises:
        ParameterError: as :func:`validate`; or papermill injected values that no cell declares.
        ThreadsError: as :func:`~ldarts_lib.runs.threads.thread_count`.
    """
    history = namespace.get("In")
    if isinstance(history, list):  # IPython's; without it, nobody has given any values
        namespace.update(_checked(namespace, history))
    prepare(namespace.get("size"))
    folder, where = expanded(folder or Path(namespace["out"]) / namespace["size"]), None
    if "device" in namespace:
        from ldarts_lib.runs.environment import device_report, resolve_device

        where = resolve_device(namespace["device"])
        print(device_report(where))
    folder.mkdir(parents=True, exist_ok=True)
    return folder, where


def _checked(namespace: Mapping[str, Any], history: Sequence[str]) -> dict[str, Any]:
    """The parameters of the last cell that declares some, with those that papermill wrote after it."""
    declared, injected = Parameters, []
    for source in history:
        if source.lstrip().partition("\n")[0] == "# Parameters":
            injected = re.findall(r"^(?!PAPERMILL_)(\w+) = ", source, re.MULTILINE)
        with suppress(NotebookError):
            declared, injected = declarations(source), []
    known = declared.model_fields
    if injected and not known:
        raise ParameterError(f"no cell that ran declares the parameters {', '.join(injected)}")
    names = {*injected} - {*known} | {name for name in known if name in namespace}
    return validate(declared, {name: namespace.get(name) for name in sorted(names)})


def shell(command: str, folder: Path | str = ".") -> None:
    """Run a command with the programs of this Python; print it, and what it prints unless it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH')}"
    around = os.environ | {"PATH": path, "COLUMNS": "90", "TQDM_DISABLE": "1"}
    # The text is the page's own; of its parameters it may hold numbers and choices, which a test asks for.
    done = subprocess.run(command, shell=True, cwd=folder, env=around, capture_output=True, text=True)  # noqa: S602
    print(f"$ {command}\n{done.stdout}", end="")
    if done.returncode:
        raise NotebookFailed(f"{command}: {done.stderr}")
