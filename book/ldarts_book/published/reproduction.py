"""Published numbers beside ours: what was searched and trained with this library, in the tables of the paper.

Functions take rows of runs, one row per finished run, as :func:`ldarts_book.published.results.read` gives
them. A table
of published numbers takes rows of size ``paper`` only; what was run at the sizes ``smoke`` and ``demo`` has a
table of its own, :func:`ldarts_book.published.own_tables.machinery`. Accuracies, which runs record between 0
and 1, are
shown in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pandas as pd

from ldarts_book.names import METHODS
from ldarts_book.published import numbers as published_results
from ldarts_book.published.results import Results, read

NOT_RUN = "not run here"
"""What stands for a number of ours that does not exist."""
RECIPES: Mapping[str, str] = {
    "lookup": "accuracy looked up in a table",
    "cifar": "C = 36, 20 cells, 600 epochs",
    "cifar-small": "C = 16, 8 cells, 600 epochs",
    "imagenet": "C = 48, 14 cells, 250 epochs",
    "nasbench201": "C = 16, 15 cells, 200 epochs",
    "ptb": "language model, 850 units",
}
"""The recipes of an evaluation in words."""
COLUMNS = (
    "stage", "recipe", "dataset", "size", "seed", "architecture", "searched_space", "searched_dataset",
    "searched_method", "searched_size", "changed", "searched_changed", "searched_seed", "test_accuracy",
    "best_test_accuracy", "valid_accuracy", "parameters", "test_perplexity", "path",
)  # fmt: skip
"""The columns that the tables read; one that is missing counts as not recorded."""


@dataclass(frozen=True)
class _Target:
    """Which of our runs belong beside a published table, and how they are summarized.

    ``recipes`` by the data set of the evaluation; ``methods`` with the label of the published row, empty
    where there is none; ``searched`` is a data set, or ``each``: that of the evaluation.
    """

    recipes: Mapping[str, tuple[str, ...]]
    methods: Mapping[str, str]
    quantities: tuple[str, ...]
    searched: str
    statistics: tuple[str, ...]


_BOTH = {"darts": "DARTS", "lambda": "Λ-DARTS"}
_SMALL = {"cifar10": ("cifar-small",), "cifar100": ("cifar-small",), "svhn": ("cifar-small",)}
_TARGETS: Mapping[str, _Target] = {
    "nasbench201": _Target(
        {"cifar10": ("lookup",), "cifar100": ("lookup",), "imagenet16-120": ("lookup",)},
        _BOTH,
        ("valid_accuracy", "test_accuracy"),
        "cifar10",
        ("mean", "best"),
    ),
    "darts-space": _Target(
        {"cifar10": ("cifar",), "cifar100": ("cifar",), "imagenet": ("imagenet",)},
        {
            "darts": "DARTS, first order",
            "darts-2nd": "DARTS, second order",
            "lambda": "Λ-DARTS",
            "lambda-sign": "",
        },
        ("test_accuracy", "parameters_millions"),
        "cifar10",
        ("mean", "best"),
    ),
    "s1-s4-one-search": _Target(
        _SMALL | {"cifar10": ("cifar", "cifar-small")}, _BOTH, ("test_error",), "each", ("best",)
    ),
    "s1-s4-three-searches": _Target(_SMALL, _BOTH, ("test_error",), "each", ("mean",)),
}
_NOTHING = {"published": "", "reported": "", "published protocol": ""}
_INDEX = ["method", "space", "data set", "quantity", "recipe"]
_WORDS = {
    "valid_accuracy": "validation accuracy (%)",
    "test_accuracy": "test accuracy (%)",
    "test_error": "test error (%)",
    "parameters_millions": "parameters (M)",
}


def recorded(folder: str) -> Results:
    """The finished runs below a folder; by default those that ship, of which there may be none.

    Args:
        folder: the output of a grid; empty text for ``data/results``.

    Raises:
        ResultsError: there is no such folder, or two runs claim to be the same one.
    """
    shipped = Path(str(files("ldarts_data"))) / "results"
    if not folder and not shipped.is_dir():
        return Results(pd.DataFrame(columns=list(COLUMNS)), [])
    return read(folder or shipped)


def beside(table: str, rows: pd.DataFrame) -> pd.DataFrame:
    """A published table with our runs beside it, of the methods that the library has.

    Our runs are those of size ``paper`` with the recipe that the table stands for; several trainings of one
    cell count as one search, by their mean. In ``s1-s4-one-search`` stands our best search, in
    ``s1-s4-three-searches`` the mean of ours, so that neither is compared with the other's protocol.

    Args:
        table: one of :data:`ldarts_book.published.numbers.TABLES`.
        rows: finished runs.

    Returns:
        Index (method, space, data set, quantity, recipe). Columns ``published``, ``reported`` (by whom),
        ``published protocol``, ``ours`` (mean ± standard deviation over the searches; :data:`NOT_RUN` if
        there is none), ``n`` (searches), ``best`` (of these) and ``protocol``. What is not there is empty.

    Raises:
        ValueError: no such table.
    """
    published = published_results.rows_of(table)
    target, found = _TARGETS[table], paper(rows)
    keys = published[["space", "evaluated", "quantity"]].drop_duplicates()
    lines = []
    for method, label in target.methods.items():
        theirs = _theirs(published[published["method"] == label])
        for space, dataset, quantity in keys.itertuples(index=False):
            if quantity not in target.quantities:
                continue
            for recipe in target.recipes.get(dataset, ()):
                wanted = {
                    "searched_space": space,
                    "searched_dataset": dataset if target.searched == "each" else target.searched,
                    "searched_method": method,
                    "dataset": dataset,
                    "recipe": recipe,
                }
                names = (METHODS[method], space, dataset, _WORDS[quantity], recipe)
                ours = _ours(matching(found, wanted), quantity, target)
                lines.append((names, theirs.get((space, dataset, quantity), _NOTHING) | ours))
    index = pd.MultiIndex.from_tuples([names for names, _ in lines], names=_INDEX)
    shown = pd.DataFrame([line for _, line in lines], index=index)
    return shown if len(target.statistics) > 1 else shown.drop(columns="best")


def points(table: str, dataset: str, quantity: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Published values and ours for a figure: index (method, whose), ``value``, ``low`` and ``high``.

    The ends of a bar are one standard deviation away, over our searches or as published; NaN if not known.

    Args:
        table: a published table with one space, ``nasbench201`` or ``darts-space``.
        dataset: that the cells were evaluated on.
        quantity: as for :func:`per_search`.
        rows: finished runs.
    """
    target, theirs = _TARGETS[table], published_results.rows_of(table)
    found = matching(paper(rows), {"dataset": dataset, "recipe": target.recipes[dataset][0]})
    space = theirs["space"].iloc[0]
    found = matching(found, {"searched_space": space, "searched_dataset": target.searched})
    methods = {label: method for method, label in target.methods.items()}
    marks = {}
    for row in matching(theirs, {"evaluated": dataset, "quantity": quantity}).itertuples():
        marks[row.method, "published"] = row.value, row.std
        ours = per_search(matching(found, {"searched_method": methods.get(row.method)}), quantity)
        if len(ours):
            marks[row.method, "run here"] = ours.mean(), ours.std()
    shown = pd.DataFrame(marks, index=["value", "std"]).T
    return shown.assign(low=shown["value"] - shown["std"], high=shown["value"] + shown["std"])


def paper(rows: pd.DataFrame) -> pd.DataFrame:
    """The evaluations of size ``paper`` whose search, if there was one, is of size ``paper`` as well.

    Those with a setting other than the preset's are left out.
    """
    rows = evaluations(rows)
    as_published = (rows[["changed", "searched_changed"]] == "").all(axis=1)
    return rows[(rows["size"] == "paper") & rows["searched_size"].isin(["paper", ""]) & as_published]


def evaluations(rows: pd.DataFrame) -> pd.DataFrame:
    """The evaluations among the runs, with all of :data:`COLUMNS`; empty text where one was not recorded."""
    rows = rows.reindex(columns=[*COLUMNS, *(name for name in rows if name not in COLUMNS)])
    texts = [name for name in COLUMNS[:12] if name != "seed"]
    rows = rows.astype(dict.fromkeys(texts, object)).fillna(dict.fromkeys(texts, ""))
    return rows[rows["stage"] == "evaluate"]


def per_search(rows: pd.DataFrame, quantity: str) -> pd.Series:
    """One number for each search: the mean over the trainings of its cell.

    Args:
        rows: evaluations.
        quantity: ``test_accuracy`` or ``valid_accuracy`` (percent), ``test_error`` (percent),
            ``parameters_millions``, or ``test_perplexity``.

    Raises:
        ValueError: another quantity.
    """
    values = {
        "valid_accuracy": lambda: 100 * rows["valid_accuracy"],
        "test_accuracy": lambda: 100 * rows["test_accuracy"],
        "test_error": lambda: 100 - 100 * rows["test_accuracy"],
        "parameters_millions": lambda: rows["parameters"] / 1e6,
        "test_perplexity": lambda: rows["test_perplexity"],
    }
    if quantity not in values:
        raise ValueError(f"unknown quantity {quantity!r}; choose one of {', '.join(values)}")
    return values[quantity]().astype(float).groupby(rows["architecture"]).mean().dropna()


def mean_std(values: Sequence[float] | pd.Series) -> str:
    """``97.48 ± 0.11`` (sample standard deviation); one value alone, and nothing if there is none."""
    several = pd.Series(values, dtype=float)
    if several.empty:
        return ""
    return f"{several.mean():.2f}" + (f" ± {several.std():.2f}" if len(several) > 1 else "")


def _theirs(rows: pd.DataFrame) -> dict[tuple[str, str, str], dict[str, str]]:
    """The columns of the published side, of one method's rows, by (space, data set, quantity)."""
    return {
        (row.space, row.evaluated, row.quantity): {
            "published": row.shown,
            "reported": published_results.origin(row.source, row.reported_by),
            "published protocol": row.protocol,
        }
        for row in rows.itertuples()
    }


def matching(rows: pd.DataFrame, wanted: Mapping[str, str]) -> pd.DataFrame:
    """The rows that have a value in each of some columns."""
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    return rows


def _ours(rows: pd.DataFrame, quantity: str, target: _Target) -> dict[str, object]:
    """The columns of our side, of the searches in ``rows``."""
    values = per_search(rows, quantity)
    if values.empty:
        return {"ours": NOT_RUN, "n": 0, "best": "", "protocol": ""}
    smaller = quantity in ("test_error", "parameters_millions")
    best = f"{values.min() if smaller else values.max():.2f}"
    recipe = rows["recipe"].iloc[0]
    seeds = ", ".join(str(int(seed)) for seed in sorted(rows["searched_seed"].astype(int).unique()))
    ours = mean_std(values) if "mean" in target.statistics else f"{best} (best of {len(values)})"
    chosen = rows["path"].astype(str).str.contains("/best/").any()
    protocol = f"size paper, {recipe}: {RECIPES[recipe]}; searches with the seeds {seeds}" + (
        ", the best of several by its test accuracy elsewhere" if chosen else ""
    )
    return {"ours": ours, "n": len(values), "best": best, "protocol": protocol}
