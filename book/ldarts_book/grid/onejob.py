"""One job of a grid: ``python -m ldarts_book.grid.onejob NOTEBOOK EXECUTED PARAMETERS [GPUS]``.

EXECUTED is where the executed notebook goes, PARAMETERS are JSON, GPUS how many of the visible ones are for
this job. It is what the workflow starts; torch is imported by the notebook alone.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import Timeout

from ldarts_book.execution import run_notebook
from ldarts_book.notebook import NotebookFailed
from ldarts_lib.errors import LdartsError, RunError
from ldarts_lib.files import acquired
from ldarts_lib.runs.signals import Terminated, ended_by_signals

POLL_SECONDS = 0.5


def best_search(judged: Mapping[str, str]) -> str:
    """The search whose cell has the highest test accuracy, or the lowest perplexity; the first of equals.

    Args:
        judged: run directories of searches, each with the ``metrics.json`` of the evaluation that judges it.

    Raises:
        RunError: one cannot be read, or is not of an evaluation.
    """
    from ldarts_lib.runs.metrics import EvaluationMetrics, read_metrics

    scores = {}
    for search, path in judged.items():
        metrics = read_metrics(path)
        if not isinstance(metrics, EvaluationMetrics):
            raise RunError(f"{path} is not of an evaluation")
        accuracy, perplexity = metrics.test_accuracy, metrics.test_perplexity
        scores[search] = accuracy if accuracy is not None else -perplexity
    return max(scores, key=scores.__getitem__)


@contextmanager
def own_gpus(count: int) -> Iterator[None]:
    """Within it, CUDA_VISIBLE_DEVICES names as many of the visible GPUs as the job needs, which no other has.

    Snakemake counts GPUs, but does not say which ones a job may use; a lock of each says who has it. Slurm
    says it itself.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if not count or "SLURM_JOB_ID" in os.environ or visible == [""]:
        yield
        return
    with ExitStack() as stack:
        mine: list[str] = []
        while len(mine) < count:
            for name in [name for name in visible if name not in mine][: count - len(mine)]:
                lock = Path(tempfile.gettempdir()) / f"ldarts-gpu-{name}.lock"
                try:
                    stack.enter_context(acquired(lock))
                    mine.append(name)
                except Timeout:
                    visible = [*(other for other in visible if other != name), name]
                    time.sleep(POLL_SECONDS)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        yield


def main(arguments: Sequence[str]) -> int:
    """Run one job; returns the exit code: 0, 1 for a failed notebook, 2 for one that cannot be begun.

    130 or 143 is that of a signal, about which the sweep says a line for all jobs.
    """
    notebook, executed, parameters, *gpus = arguments
    given = json.loads(parameters)
    try:
        with ended_by_signals():
            if isinstance(given.get("architecture"), Mapping):
                given["architecture"] = best_search(given["architecture"])
            with own_gpus(int(*gpus)):
                run_notebook(notebook, given, executed)
    except LdartsError as error:
        print(f"ldarts: error: {error}", file=sys.stderr)
        return 1 if isinstance(error, NotebookFailed) else 2
    except KeyboardInterrupt as stop:
        return 143 if isinstance(stop, Terminated) else 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
