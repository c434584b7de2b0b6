"""One job of a grid in a process: ``python -m ldarts_book.grid.onejob NOTEBOOK EXECUTED PARAMETERS``.

EXECUTED is where the executed notebook goes, PARAMETERS are JSON. It is what ``ldarts sweep`` and the
Snakemake workflow start; torch is imported by the notebook alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ldarts_book.notebook import NotebookError, NotebookFailed, ParameterError, run_notebook


def run_job(notebook: Path, executed: Path, parameters: Mapping[str, Any]) -> None:
    """Execute a notebook under another name.

    Args:
        notebook: the notebook.
        executed: where it goes; a failed one too, with its traceback.
        parameters: its parameters; an ``architecture`` may be a mapping, see :func:`best`.

    Raises:
        NotebookFailed: as :func:`~ldarts_book.notebook.run_notebook`, which refuses bad parameters as well.
        RunError: what decides between architectures cannot be read.
    """
    chosen = dict(parameters)
    if isinstance(chosen.get("architecture"), Mapping):
        chosen["architecture"] = best(chosen["architecture"])
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / executed.name
        if not notebook.is_file():
            raise NotebookError(f"there is no notebook {notebook}")
        shutil.copyfile(notebook, named)
        try:
            run_notebook(named, chosen, executed.parent)
        except NotebookFailed as error:
            raise NotebookFailed(str(error).replace(str(named), str(notebook))) from None


def best(judged: Mapping[str, str]) -> str:
    """The architecture with the highest test accuracy, or the lowest perplexity; the first of equals.

    Args:
        judged: run directories of searches, each with the ``metrics.json`` of the evaluation that judges it.

    Raises:
        RunError: one cannot be read, or is not of an evaluation.
    """
    from ldarts_lib.errors import RunError
    from ldarts_lib.runs.metrics import EvaluationMetrics, read_metrics

    scores = {}
    for search, path in judged.items():
        metrics = read_metrics(path)
        if not isinstance(metrics, EvaluationMetrics):
            raise RunError(f"{path} is not of an evaluation")
        accuracy, perplexity = metrics.test_accuracy, metrics.test_perplexity
        scores[search] = accuracy if accuracy is not None else -perplexity
    return max(scores, key=scores.__getitem__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; returns the exit code: 0, 1 for a failed notebook, 2 for one that cannot be begun."""
    parser = argparse.ArgumentParser(prog="python -m ldarts_book.grid.onejob", description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("executed", type=Path)
    parser.add_argument("parameters", type=json.loads)
    parser.add_argument(
        "--leashed", action="store_true", help="end when standard input closes, as it does when a parent dies"
    )
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    if given.leashed:
        threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        run_job(given.notebook, given.executed, given.parameters)
    except NotebookFailed as error:
        print(f"ldarts: error: {error}", file=sys.stderr)
        return 1
    except (NotebookError, ParameterError, ValueError) as error:
        print(f"ldarts: error: {error}", file=sys.stderr)
        return 2
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main())
