"""Results: the metrics of many runs as one table, means over seeds, and the copy that is recorded."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from contextlib import suppress
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd

from ldarts_lib.errors import LdartsError, RunError
from ldarts_lib.files import read_bytes, read_json, write_atomically, write_json
from ldarts_lib.runs.contents import CONFIG, ENVIRONMENT, GENOTYPE, METRICS
from ldarts_lib.runs.directory import HISTORY
from ldarts_lib.runs.metrics import IDENTITY, read_metrics

MEASURES = ("test_accuracy", "best_test_accuracy", "test_perplexity")
"""What evaluations are compared by."""
GROUP = (
    "size", "searched_size", "searched_space", "searched_dataset", "searched_method", "architecture",
    "recipe", "dataset", "searched_changed", "changed",
)  # fmt: skip
"""What evaluations must have in common to be averaged; ``architecture`` is the name of a published one."""
_KEYS = (
    "stage", *IDENTITY, "changed", "recipe", "architecture",
    *(f"searched_{key}" for key in (*IDENTITY, "changed")),
)  # fmt: skip


class ResultsError(LdartsError, RuntimeError):
    """Results that contradict each other, or would overwrite others; the message names the files."""


class Results(NamedTuple):
    """What :func:`read_results` found: the runs, and why each file that was skipped was skipped.

    ``rows`` has one row per run, in the order of the folders: the keys of its ``metrics.json`` (empty where
    one has none), those of ``searched`` as ``searched_space`` and so on, and ``path``, the directory.
    """

    rows: pd.DataFrame
    problems: list[str]


def recorded(folder: str) -> Results:
    """The finished runs below a folder; for an empty text those that ship in ``data/results``, if any.

    Raises:
        ResultsError: as :func:`read_results`.
    """
    shipped = Path(str(files("ldarts_data"))) / "results"
    if not folder and not shipped.is_dir():
        return Results(pd.DataFrame(columns=[*_KEYS, *MEASURES, "epochs", "path"]), [])
    return read_results(folder or shipped)


def shipped(run: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """The outcome and the history of a recorded run, given as its folder below ``data/results``."""
    folder = Path(str(files("ldarts_data"))) / "results" / run
    return read_json(folder / METRICS), pd.read_csv(folder / f"{HISTORY}.gz")


def read_results(source: Path | str) -> Results:
    """Read every ``metrics.json`` below a folder; what cannot be used is skipped and named.

    Raises:
        ResultsError: there is no such folder, or two runs claim to be the same one.
    """
    source = Path(source)
    if not source.is_dir():
        raise ResultsError(f"there is no folder {source}")
    rows, problems = [], []
    for path in sorted(source.rglob(METRICS)):
        try:
            metrics = read_metrics(path)
        except RunError as error:
            problems.append(str(error))
            continue
        row = metrics.model_dump()
        searched = {f"searched_{key}": value for key, value in (row.pop("searched", None) or {}).items()}
        rows.append({**row, **searched, "path": path.parent.relative_to(source).as_posix()})
    names = dict.fromkeys([*_KEYS, *MEASURES, "epochs", *(key for row in rows for key in row)])
    names = [*(name for name in names if name != "path"), "path"]
    frame = pd.DataFrame(rows, columns=names)
    twins = frame[frame.duplicated([*_KEYS], keep=False)]
    for _, (first, second, *_) in twins.groupby([*_KEYS], dropna=False, sort=False)["path"]:
        raise ResultsError(
            f"{source / first} and {source / second} claim to be the same run; they are not averaged: move "
            "one elsewhere"
        )
    return Results(frame, problems)


def seed_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean, spread and best of the evaluations that differ in nothing but their seeds.

    Sizes, recipes and runs with changed settings are never mixed.

    Returns:
        The columns :data:`GROUP`, ``measure`` (of :data:`MEASURES`), ``n`` runs, ``mean``, ``std`` (of the
        sample; missing for one run) and ``best``.

    Raises:
        ResultsError: runs of a group have different numbers of epochs.
    """
    evaluated = rows[rows["stage"] == "evaluate"].copy()
    evaluated["architecture"] = evaluated["architecture"].where(evaluated["searched_space"].isna())
    found = []
    for values, group in evaluated.groupby([*GROUP], dropna=False):
        if group["epochs"].nunique(dropna=False) > 1:
            paths = ", ".join(group.drop_duplicates("epochs")["path"])
            raise ResultsError(f"{paths} were trained for different numbers of epochs; they are not averaged")
        for measure in MEASURES:
            if (several := group[measure]).notna().any():
                statistics = len(several), several.mean(), several.std(), best_of(several, measure)
                found.append([*values, measure, *statistics])
    return pd.DataFrame(found, columns=[*GROUP, "measure", "n", "mean", "std", "best"])


def best_of(values: pd.Series, measure: str) -> float:
    """The best of several values: the lowest perplexity, error or number of parameters, else the highest."""
    lower = measure in ("test_perplexity", "test_error", "parameters_millions")
    return values.min() if lower else values.max()


def as_text(found: Results) -> str:
    """What was skipped and why, and the summary, as text."""
    table = seed_means(found.rows).dropna(axis="columns", how="all")
    lines = [f"skipped: {problem}" for problem in found.problems]
    if len(table):
        lines.append(table.fillna("").to_string(index=False, float_format="{:.4f}".format))
    return "".join(f"{line}\n" for line in lines)


def write_tables(source: Path | str, target: Path | str) -> Results:
    """Write ``results.csv`` (one line per run) and ``summary.csv`` of all runs below a folder.

    Raises:
        ResultsError: as :func:`read_results` and :func:`seed_means`.
    """
    results, target = read_results(source), Path(target)
    target.mkdir(parents=True, exist_ok=True)
    for name, table in {"results": results.rows, "summary": seed_means(results.rows)}.items():
        filled = table.dropna(axis="columns", how="all").convert_dtypes()  # so whole numbers stay whole
        text = filled.to_csv(index=False, lineterminator="\n")
        write_atomically(
            target / f"{name}.csv", lambda file, text=text: file.write(text.encode(errors="backslashreplace"))
        )
    return results


def collect(source: Path | str, target: Path | str, *, overwrite: bool = False) -> Results:
    """Copy what is worth keeping of all finished runs: everything but weights and notebooks.

    ``metrics.json``, ``config.json``, ``environment.json``, ``genotype.json`` and the compressed history.
    Absolute paths of the machine become relative to the source, or lose their folder.

    The runs keep their places. Equal outcomes, but for seconds, are left as they are; with ``overwrite`` a
    run may replace one with another outcome.

    Raises:
        ResultsError: as :func:`read_results`; or a run is there with another outcome, and nothing is copied.
    """
    source, target = Path(source), Path(target)
    results = read_results(source)
    paths = [path for path in results.rows["path"] if _outcome(source / path) != _outcome(target / path)]
    if conflicts := [path for path in paths if (target / path / METRICS).exists() and not overwrite]:
        raise ResultsError(
            f"{target} already has other results of {', '.join(conflicts)}; nothing was copied (--overwrite "
            "replaces them)"
        )
    for path in paths:
        _replace(source / path, (target / path).absolute(), source)
    return results


def _outcome(run: Path) -> dict[str, Any] | None:
    """What a run found, but for the time; None if it cannot be read."""
    try:
        return read_metrics(run / METRICS).model_dump(exclude={"seconds"})
    except RunError:
        return None


def _replace(run: Path, target: Path, source: Path) -> None:
    """Copy a run to where an earlier copy may lie, which stays if that fails."""
    new, old = (target.with_name(f".{target.name}.{os.getpid()}.{which}.tmp") for which in ("new", "old"))
    try:
        _copy(run, new, source)
        with suppress(FileNotFoundError):
            target.rename(old)
        new.rename(target)
    except OSError:
        with suppress(OSError):
            old.rename(target)
        raise
    finally:
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)


def _copy(run: Path, target: Path, source: Path) -> None:
    target.mkdir(parents=True)
    if (run / HISTORY).exists():
        packed = gzip.compress(read_bytes(run / HISTORY), mtime=0)
        write_atomically(target / f"{HISTORY}.gz", lambda file: file.write(packed))
    for name in (CONFIG, ENVIRONMENT, GENOTYPE, METRICS):  # the metrics last: they say that it is complete
        if (run / name).exists():
            write_json(target / name, _portable(read_json(run / name), source.resolve()))


def _portable(value: Any, source: Path) -> Any:
    """A JSON value without absolute paths."""
    if isinstance(value, dict):
        return {key: _portable(item, source) for key, item in value.items()}
    if isinstance(value, list):
        return [_portable(item, source) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith(f"{source}/"):
        return value.removeprefix(f"{source}/")
    return PurePosixPath(value).name if value.startswith("/") else _FOLDERS.sub("", value)


_FOLDERS = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?(?:[/\\][^/\\\s|]+)+(?=[/\\])[/\\]")
"""The folders of an absolute path, up to its last part."""
