"""Parameterized notebooks that refuse unknown names and bad values before anything runs.

Each notebook has one cell tagged ``parameters``, made of typed assignments with a comment each
(see :mod:`ldarts_book.parameters`). :func:`run_notebook` reads those declarations, checks what it is
given, and only then executes. :func:`check_parameters`, the first line of the next cell, checks the
same from the inside: papermill alone injects whatever it is given and at most logs a warning.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from ldarts_book.parameters import NotebookError, Parameter, ParameterError, declarations, validate
from ldarts_lib.errors import LdartsError
from ldarts_lib.runs import threads
from ldarts_lib.runs.processes import ending

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager
    from nbformat import NotebookNode
    from tqdm import tqdm

__all__ = [
    "NotebookError",
    "NotebookFailed",
    "Parameter",
    "ParameterError",
    "check_parameters",
    "notebook_parameters",
    "run_notebook",
    "validate",
]


class NotebookFailed(LdartsError, RuntimeError):
    """A cell raised an error, or the kernel died; the message says where the traceback lies."""


def notebook_parameters(path: Path | str) -> dict[str, Parameter]:
    """Read the declared parameters of a notebook, in order, without executing anything.

    Raises:
        NotebookError: the file cannot be read; or not exactly one cell is tagged ``parameters``, or it holds
            more than assignments with a supported type, a literal value of that type, and a comment.
    """
    import nbformat

    try:
        cells = nbformat.read(path, as_version=4).cells
    except OSError as error:
        raise NotebookError(f"cannot read the notebook {path}: {error.strerror}") from None
    except nbformat.reader.NotJSONError:
        raise NotebookError(f"{path} is not a notebook (.ipynb)") from None
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise NotebookError(f"{path}: expected exactly one cell tagged 'parameters', found {len(tagged)}")
    try:
        return declarations(tagged[0].source)
    except NotebookError as error:
        raise NotebookError(f"{path}, parameters cell: {error}") from None


def check_parameters(namespace: dict[str, Any]) -> None:
    """Stop a notebook whose parameters are unknown or bad: ``check_parameters(globals())``.

    It reads IPython's input history: the latest cell that declares parameters, and the cell that
    papermill injected after it, if any. The values are written back to ``namespace`` as their
    declared types (a float for ``1``, a tuple for an injected list), and the kernel gets the CPU threads of
    its ``size``. Without IPython: a no-op.

    Raises:
        ParameterError: as :func:`validate`; or papermill injected values that no cell declares.
        ThreadsError: as :func:`~ldarts_lib.runs.threads.count`.
    """
    history = namespace.get("In")
    if not isinstance(history, list):
        return
    declared, later = _latest_declaration(history)
    injected = _latest_injection(later)
    if injected and not declared:
        raise ParameterError(
            f"the parameters {', '.join(injected)} were given, but no cell that ran declares any: "
            "such a cell holds nothing but typed assignments, each with a comment"
        )
    names = [name for name in declared if name in namespace]
    unknown = [name for name in injected if name not in declared]
    namespace.update(validate(declared, {name: namespace.get(name) for name in unknown + names}))
    threads.prepare(namespace.get("size"))


def run_notebook(path: Path | str, given: Mapping[str, object], out: Path | str) -> Path:
    """Validate the parameters, then execute a notebook with the running Python interpreter.

    The notebook works in the caller's directory. A bar shows its progress, above it what it prints.
    While it runs it is saved as ``<stem>.partial.ipynb``, which stays if the run is interrupted.

    Args:
        path: the notebook.
        given: values of some of its parameters, as objects or as text.
        out: directory of the executed notebook, made if missing.

    Returns:
        ``out/<stem>.ipynb``, replaced if it was there.

    Raises:
        ParameterError, NotebookError: before anything runs or is written.
        NotebookFailed: a cell failed; the executed notebook holds the traceback.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    parameters = validate(notebook_parameters(path), given)
    executed = Path(out) / f"{Path(path).stem}.ipynb"
    if executed.resolve() == Path(path).resolve():
        raise NotebookError(f"the executed notebook would overwrite {executed} itself")
    executed.parent.mkdir(parents=True, exist_ok=True)
    partial = executed.with_suffix(".partial.ipynb")
    failure, ends = None, []
    with _relayed_prints() as relays:
        try:
            papermill.execute_notebook(
                _without_fields(path),
                _without_fields(partial),
                parameters=to_jsonable_python(parameters),
                kernel_name="python3",
                language="python",
                kernel_manager_class=_running_interpreter(ends),
                **relays,
            )
        except papermill.PapermillExecutionError as error:
            failure = f"{_first_line(error.source)}: {error.ename}: {error.evalue}"
        except DeadKernelError:
            last = [cell for cell in nbformat.read(partial, 4).cells if _was_started(cell)][-1]
            failure = f"{_first_line(last.source)}: the kernel {ending(ends[-1])}"
    partial.replace(executed)
    if failure:
        raise NotebookFailed(f"{path} failed in the cell {failure}\nthe executed notebook lies in {executed}")
    return executed


def _first_line(source: str) -> str:
    return repr(source.strip().partition("\n")[0])


def _was_started(cell: NotebookNode) -> bool:
    return cell.metadata.get("papermill", {}).get("start_time") is not None


def _latest_declaration(history: Sequence[str]) -> tuple[dict[str, Parameter], Sequence[str]]:
    """The parameters of the last cell that declares some, and the cells that ran after it."""
    for position in reversed(range(len(history))):
        try:
            return declarations(history[position]), history[position + 1 :]
        except NotebookError:
            continue
    return {}, history


def _latest_injection(history: Sequence[str]) -> list[str]:
    """The names set by the last cell that papermill wrote, but for its own ``PAPERMILL_*``."""
    for source in reversed(history):
        if source.lstrip().partition("\n")[0] == "# Parameters":
            return re.findall(r"^(?!PAPERMILL_)(\w+) = ", source, re.MULTILINE)
    return []


def _running_interpreter(ends: list[int]) -> type[KernelManager]:
    """A kernel manager that starts ``sys.executable``, whatever kernelspecs are installed.

    Args:
        ends: where it notes the exit code of a kernel that it finds dead.
    """
    import zmq
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    class RunningInterpreter(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _native_kernel_only(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[])

        @default("transport_encryption")
        def _encrypted_if_possible(self) -> str:
            return "auto" if zmq.has("curve") else "disabled"

        async def is_alive(self) -> bool:
            alive = await super().is_alive()
            if not alive and self.has_kernel:
                ends.append(await self.provisioner.poll())
            return alive

    return RunningInterpreter


def _without_fields(path: Path | str) -> str:
    """The path as papermill takes it: it would fill in ``{...}`` as a format field."""
    return str(path).replace("{", "{{").replace("}", "}}")


class _Relay:
    """Shows the finished lines of a notebook's stream, and in ``unfinished`` its progress line."""

    def __init__(self, unfinished: tqdm) -> None:
        self._unfinished = unfinished
        self._rest = ""

    def write(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._unfinished.write(_as_shown(line))
        self._unfinished.set_description_str(_as_shown(self._rest))

    def flush(self) -> None:
        """Papermill calls it after every write, which shows the text already."""

    def close(self) -> None:
        if self._rest:
            self.write("\n")


def _as_shown(line: str) -> str:
    """What a terminal leaves of a line that carriage returns rewrite."""
    return line.rstrip("\r").rpartition("\r")[2]


@contextmanager
def _relayed_prints() -> Iterator[dict[str, _Relay]]:
    """Relays of both streams; papermill's warning of unknown parameters, wrong here, is silent.

    (It does not understand ``Literal`` annotations.)
    """
    from tqdm import tqdm

    def is_right(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Passed unknown parameter")

    logger = logging.getLogger("papermill")
    logger.addFilter(is_right)
    with tqdm(bar_format="{desc}", position=1, leave=False, disable=None) as unfinished:
        relays = {"stdout_file": _Relay(unfinished), "stderr_file": _Relay(unfinished)}
        try:
            yield relays
        finally:
            logger.removeFilter(is_right)
            for relay in relays.values():
                relay.close()
