"""Notebooks executed by papermill: their parameters are checked first, and what they print is shown."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from io import TextIOBase
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from ldarts_book.notebook import NotebookError, NotebookFailed, notebook_parameters, validate
from ldarts_lib.files import acquired, expanded, make_folder
from ldarts_lib.runs.processes import ending

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager


def run_notebook(path: Path | str, given: Mapping[str, object], out: Path | str) -> Path:
    """Check the parameters, then execute a notebook with this Python, in the caller's directory.

    On a terminal one line shows its progress, above it what it prints. While it runs it is saved as
    ``<stem>.partial.ipynb``, which stays if the run is interrupted.

    Args:
        given: values of some of its parameters, as objects or as text.
        out: the executed notebook, replaced if it was there; or its directory, made if missing.

    Returns:
        Where the executed notebook lies; in a directory, under the name of the notebook.

    Raises:
        ParameterError, NotebookError: before anything runs or is written.
        NotebookFailed: a cell failed; the executed notebook holds the traceback.
    """
    parameters = validate(notebook_parameters(path), given)
    _require_readable(path)
    out = expanded(out)
    executed = out if out.suffix == ".ipynb" else out / f"{Path(path).stem}.ipynb"
    if executed.resolve() == Path(path).resolve():
        raise NotebookError(f"the executed notebook would overwrite {executed} itself")
    make_folder(executed.parent)
    lock = executed.with_name(f".{executed.stem}.lock")
    try:
        with acquired(lock):
            try:
                failure = _execute(path, parameters, executed)
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise NotebookError(f"{executed} is being made by another process; choose another --out") from None
    if failure:
        (line, *_), why = failure[0].strip().splitlines(), failure[1]
        raise NotebookFailed(
            f"{path} failed in the cell {line!r}: {why}\nthe executed notebook lies in {executed}"
        )
    return executed


def _require_readable(path: Path | str) -> None:
    """Check that papermill can read a notebook: of what a cell holds, we look at its source alone."""
    from papermill.iorw import load_notebook_node

    logging.getLogger("traitlets").setLevel(logging.CRITICAL)  # tells of the error in lines of its own
    try:
        load_notebook_node(str(path))
    except Exception as error:
        why, *_ = (*str(error).splitlines(), type(error).__name__)
        raise NotebookError(f"{path}: no notebook: {why}") from None


def _execute(path: Path | str, parameters: Mapping[str, Any], executed: Path) -> tuple[str, str] | None:
    """Execute a notebook; returns the source of the cell that failed, and why."""
    import papermill
    from nbformat import read

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of a cell that a signal ends, a traceback
    partial, failure, ends = executed.with_suffix(".partial.ipynb"), None, []
    with _Relay() as relay:
        try:
            papermill.execute_notebook(
                *(str(file).replace("{", "{{").replace("}", "}}") for file in (path, partial)),  # it formats
                parameters=parameters,
                kernel_name="python3",
                language="python",
                kernel_manager_class=_running_interpreter(ends),
                stdout_file=relay,
                stderr_file=relay,
                extra_arguments=["--IPKernelApp.log_level=50"],  # how it is ended is no error
                progress_bar=relay.cells,
            )
        except papermill.PapermillExecutionError as error:
            failure = error.source, f"{error.ename}: {' '.join(error.evalue.split()):.1000}"
        except RuntimeError as error:  # the kernel has died, perhaps before it was ready
            started = [c for c in read(partial, 4).cells if c.metadata.get("papermill", {}).get("start_time")]
            why = f"the kernel {ending(ends[-1])}" if ends else str(error)
            failure = started[-1].source if started else "(none)", why
    partial.replace(executed)
    return failure


def _running_interpreter(ends: list[int]) -> type[KernelManager]:
    """Starts ``sys.executable``, whatever kernelspecs are installed; ``ends`` gets the dead's exit codes."""
    import zmq
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import Instance, Unicode

    class RunningInterpreter(AsyncKernelManager):
        kernel_spec_manager = Instance(KernelSpecManager, kw={"kernel_dirs": []})
        transport_encryption = Unicode("auto" if zmq.has("curve") else "disabled")

        async def is_alive(self) -> bool:
            alive = await super().is_alive()
            if not alive and self.has_kernel:
                ends.append(await self.provisioner.poll())
            return alive

    return RunningInterpreter


class _Relay(TextIOBase):
    """Shows what a notebook prints; a terminal rewrites one line, the one begun or the cell's number."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self.bar, self.rest, self.cell = tqdm(bar_format="{desc}", leave=False, disable=None), "", ""
        file = SimpleNamespace(write=self._count, flush=self.flush)
        self.cells = {
            "file": file,
            "bar_format": "cell {n_fmt} of {total_fmt}",
            "position": 0,
            "leave": False,
        }

    def write(self, text: str) -> None:
        # Of a line that carriage returns rewrite, as progress bars do, a terminal leaves the last state.
        *lines, self.rest = (self.rest + text).split("\n")
        *lines, begun = (line.rstrip("\r").rpartition("\r")[2] for line in (*lines, self.rest))
        for line in lines:
            self.bar.write(line)
        self.bar.set_description_str(begun or self.cell)

    def _count(self, text: str) -> None:
        self.cell = text.strip() or self.cell
        self.write("")

    def close(self) -> None:
        if self.rest:
            self.write("\n")
        self.bar.close()
