"""Our runs: beside published numbers in the tables of the paper, in tables of their own, and what they cost.

Functions take rows of runs, one row per finished run, as :func:`ldarts_book.published.results.recorded`
gives them. A table of published numbers takes rows of size ``paper`` only; what was run at the sizes
``smoke`` and ``demo`` has a table of its own, :func:`machinery`. Accuracies, which runs record between 0 and
1, are shown in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from IPython.display import Markdown

from ldarts_book.grid.grid import read_grid
from ldarts_book.grid.plan import HARDWARE, plan
from ldarts_book.published import numbers
from ldarts_book.published.results import best_of
from ldarts_book.studies.study import METHODS
from ldarts_lib.errors import require_known

NOT_RUN = "not run here"
"""What stands for a number of ours that does not exist."""
RECIPES: Mapping[str, str] = {
    "lookup": "accuracy looked up in a table",
    "cifar": "C = 36, 20 cells, 600 epochs",
    "cifar-small": "C = 16, 8 cells, 600 epochs",
    "choice": "C = 16, 8 cells, 100 epochs on a half of the training images, tested on the other",
    "imagenet": "C = 48, 14 cells, 250 epochs",
    "nasbench201": "C = 16, 15 cells, 200 epochs",
    "ptb": "language model, 850 units",
}
"""The recipes of an evaluation in words."""
_TEXTS = (
    "stage", "recipe", "dataset", "size", "architecture", "searched_space", "searched_dataset",
    "searched_method", "searched_size", "changed", "searched_changed",
)  # fmt: skip
_NUMBERS = (
    "searched_seed", "test_accuracy", "best_test_accuracy", "valid_accuracy", "parameters", "test_perplexity",
)  # fmt: skip
_QUANTITIES = {
    "valid_accuracy": "validation accuracy (%)",
    "test_accuracy": "test accuracy (%)",
    "test_error": "test error (%)",
    "parameters_millions": "parameters (M)",
    "test_perplexity": "test perplexity",
}


class _Target(NamedTuple):
    """Which of our runs belong beside a published table, and how they are summarized.

    ``recipes`` by the data set of the evaluation; ``methods`` with the label of the published row, empty
    where there is none; ``searched`` is a data set, or None for that of the evaluation.
    """

    recipes: Mapping[str, tuple[str, ...]]
    methods: Mapping[str, str]
    quantities: tuple[str, ...]
    searched: str | None
    statistics: tuple[str, ...]


_BOTH = {"darts": "DARTS", "lambda": "Λ-DARTS"}
_SMALL = {name: ("cifar-small",) for name in ("cifar10", "cifar100", "svhn")}
_LOOKUP = {name: ("lookup",) for name in ("cifar10", "cifar100", "imagenet16-120")}
_TRAINED = {"cifar10": ("cifar",), "cifar100": ("cifar",), "imagenet": ("imagenet",)}
_ORDERS = {"darts": "DARTS, first order", "darts-2nd": "DARTS, second order"}
_SIGNS = {"lambda": "Λ-DARTS", "lambda-sign": ""}
_ACCURACIES, _LARGE = ("valid_accuracy", "test_accuracy"), ("test_accuracy", "parameters_millions")
_TARGETS: Mapping[str, _Target] = {
    "nasbench201": _Target(_LOOKUP, _BOTH, _ACCURACIES, "cifar10", ("mean", "best")),
    "darts-space": _Target(_TRAINED, _ORDERS | _SIGNS, _LARGE, "cifar10", ("mean", "best")),
    "s1-s4-one-search": _Target(_SMALL | {"cifar10": ("cifar",)}, _BOTH, ("test_error",), None, ("best",)),
    "s1-s4-three-searches": _Target(_SMALL, _BOTH, ("test_error",), None, ("mean",)),
}


def beside(table: str, rows: pd.DataFrame) -> pd.DataFrame:
    """A published table with our runs of the same methods beside it.

    Our runs are those of size ``paper`` with the recipe that the table stands for; trainings of one cell
    count as one search, by their mean. ``s1-s4-one-search`` has that of our searches which the recipe
    ``choice`` judges best, or where it was not run the best by its test; ``s1-s4-three-searches`` the mean of
    ours. So neither is compared with the other's protocol.

    Returns:
        Index (method, space, data set, quantity, recipe). Columns ``published``, ``reported`` (by whom),
        ``published protocol``, ``ours`` (mean ± standard deviation over the searches; :data:`NOT_RUN` if
        there is none), ``n`` (searches), ``best`` (of these) and ``protocol``. What is not there is empty.

    Raises:
        UnknownName: no such table.
    """
    published = numbers.rows_of(table)
    target, found = _TARGETS[table], paper(rows)
    theirs = {
        (row.method, row.space, row.evaluated, row.quantity): {
            "published": row.shown,
            "reported": numbers.origin(row.source, row.reported_by),
            "published protocol": row.protocol,
        }
        for row in published.itertuples()
    }
    nothing = {"published": "", "reported": "", "published protocol": ""}
    keys = published.loc[published["quantity"].isin(target.quantities), ["space", "evaluated", "quantity"]]
    lines = {}
    for method, label in target.methods.items():
        for space, dataset, quantity in keys.drop_duplicates().itertuples(index=False):
            for recipe in target.recipes.get(dataset, ()):
                searched = _searched(space, target.searched or dataset, method)
                cells = _matching(found, dataset=dataset, **searched)
                judged = _per_search(_matching(cells, recipe="choice"), "test_accuracy")
                ours = _ours(_matching(cells, recipe=recipe), quantity, target, judged)
                line = METHODS[method], space, dataset, _QUANTITIES[quantity], recipe
                lines[line] = theirs.get((label, space, dataset, quantity), nothing) | ours
    names = ["method", "space", "data set", "quantity", "recipe"]
    shown = _table(lines, names, [*nothing, "ours", "n", "best", "protocol"])
    return shown if len(target.statistics) > 1 else shown.drop(columns="best")


def run_here(table: pd.DataFrame, *parts: str) -> pd.DataFrame | Markdown:
    """The rows of a table that were run; if there is none, what runs these parts and what they cost."""
    if (table["n"] > 0).any():
        return table[table["n"] > 0]
    jobs, hours = cost(*parts).sum()
    command = " ".join(
        ["ldarts sweep paper", *["--parts"][: len(parts)], *parts, "--out runs/reproduce/paper"]
    )
    return Markdown(f"**Not run here.** `{command}`: {jobs:,.0f} jobs, {hours:,.0f} hours of {HARDWARE}.")


def points(table: str, dataset: str, quantity: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Published values and ours for a figure: index (method, whose), ``value``, ``low`` and ``high``.

    The ends of a bar are one standard deviation away, over our searches or as published; NaN if not known.

    Args:
        table: one with one space, ``nasbench201`` or ``darts-space``.
        dataset: of the evaluation.
        quantity: one of ``test_accuracy``, ``valid_accuracy``, ``test_error``, ``parameters_millions``.
    """
    require_known("quantity", quantity, _QUANTITIES)
    target, theirs = _TARGETS[table], numbers.rows_of(table)
    found = _matching(paper(rows), dataset=dataset, recipe=target.recipes[dataset][0])
    methods = {label: method for method, label in target.methods.items()}
    marks = {}
    for row in _matching(theirs, evaluated=dataset, quantity=quantity).itertuples():
        marks[row.method, "published"] = row.value, row.std
        searched = _searched(theirs["space"].iloc[0], target.searched, methods.get(row.method))
        ours = _per_search(_matching(found, **searched), quantity)
        if len(ours):
            marks[row.method, "run here"] = ours.mean(), ours.std()
    shown = pd.DataFrame(marks, index=["value", "std"]).T
    return shown.assign(low=shown["value"] - shown["std"], high=shown["value"] + shown["std"])


def paper(rows: pd.DataFrame) -> pd.DataFrame:
    """The evaluations of size ``paper``, of cells searched at this size if at all; no setting is changed."""
    rows = _evaluations(rows)
    as_published = (rows[["changed", "searched_changed"]] == "").all(axis=1)
    return rows[(rows["size"] == "paper") & rows["searched_size"].isin(["paper", ""]) & as_published]


def _evaluations(rows: pd.DataFrame) -> pd.DataFrame:
    """The evaluations among the runs, accuracies in percent; texts that were not recorded are empty."""
    rows = rows.reindex(columns=[*_TEXTS, *_NUMBERS, "path"])
    texts = rows[list(_TEXTS)].astype(object).fillna("")
    values = rows[list(_NUMBERS)].astype(float)
    percent = 100 * values.filter(like="accuracy")
    more = {"test_error": 100 - percent["test_accuracy"], "parameters_millions": values["parameters"] / 1e6}
    rows = rows.assign(**texts, **values).assign(**percent, **more)
    return rows[rows["stage"] == "evaluate"]


def mean_std(values: Sequence[float] | pd.Series) -> str:
    """``97.48 ± 0.11`` (sample standard deviation); one value alone, and nothing if there is none."""
    several = pd.Series(values, dtype=float)
    if several.empty:
        return ""
    return f"{several.mean():.2f}" + (f" ± {several.std():.2f}" if len(several) > 1 else "")


def trained_published(rows: pd.DataFrame) -> pd.DataFrame:
    """Published architectures that were trained here, at size ``paper``: one row per cell, data set, recipe.

    Columns: ``n`` (trainings), ``test accuracy (%)`` (mean ± std, after the last epoch), ``best`` (training),
    ``best epoch`` (the mean of what the trainings had at the epoch that is best on the test images: chosen by
    the test set, shown to be compared with the column before), ``parameters (M)``.
    """
    lines = {}
    trained = _matching(paper(rows), searched_space="")
    for key, several in trained.groupby(["architecture", "dataset", "recipe"], sort=True):
        found = _summary(several["test_accuracy"], "test_accuracy")
        lines[key] = found | {
            "test accuracy (%)": found["ours"],
            "best epoch": f"{several['best_test_accuracy'].mean():.2f}",
            "parameters (M)": f"{several['parameters_millions'].mean():.2f}",
        }
    columns = ["n", "test accuracy (%)", "best", "best epoch", "parameters (M)"]
    return _table(lines, ["architecture", "data set", "recipe"], columns)


def perplexities(rows: pd.DataFrame) -> pd.DataFrame:
    """The language models of size ``paper``: test perplexity, one row per method and text.

    Columns: ``published`` (nothing: no result is known to us), ``ours``, ``n``, ``best``.
    """
    rows, lines = _matching(paper(rows), recipe="ptb"), {}
    for method in ("darts", "lambda", "lambda-sign"):
        values = _per_search(_matching(rows, searched_method=method), "test_perplexity")
        lines[METHODS[method]] = {"published": ""} | _summary(values, "test_perplexity")
    return pd.DataFrame(lines).T.rename_axis("method")


def machinery(rows: pd.DataFrame) -> pd.DataFrame:
    """What was run at the sizes ``smoke`` and ``demo``: it shows that the tables fill, and is no result.

    Columns: ``n`` (searches), ``ours`` (test accuracy in percent, or perplexity) and ``best``.
    """
    found = _evaluations(rows).drop(index=paper(rows).index)
    found = found.assign(published=found["architecture"].where(found["searched_space"] == "", ""))
    names = {
        "size": "size",
        "searched_space": "space",
        "searched_dataset": "searched on",
        "searched_method": "method",
        "published": "architecture",
        "dataset": "evaluated on",
        "recipe": "recipe",
    }
    lines = {}
    for key, several in found.groupby(list(names), sort=True):
        quantity = "test_perplexity" if key[-1] == "ptb" else "test_accuracy"
        lines[key] = _summary(_per_search(several, quantity), quantity)
    return _table(lines, list(names.values()), ["n", "ours", "best"])


def cost(*parts: str) -> pd.DataFrame:
    """What parts of ``workflow/grids/paper.yaml`` (all by default) cost if nothing of them is done yet.

    Columns: ``jobs`` and ``GPU-hours`` (estimates, see :mod:`ldarts_book.grid.plan`), under (part, job).

    Raises:
        GridError: an unknown part.
    """
    rows = plan(read_grid("paper", parts), Path("nowhere")).rename(columns={"GPU-hours to do": "GPU-hours"})
    return rows[["jobs", "GPU-hours"]].round(1)


def _searched(space: str, dataset: str | None, method: str | None) -> dict[str, str | None]:
    return {"searched_space": space, "searched_dataset": dataset, "searched_method": method}


def _matching(rows: pd.DataFrame, **wanted: str | None) -> pd.DataFrame:
    """The rows that have a value in each of some columns."""
    return rows[(rows[list(wanted)] == list(wanted.values())).all(axis=1)]


def _per_search(rows: pd.DataFrame, quantity: str) -> pd.Series:
    """One number for each search: the mean over the trainings of its cell."""
    return rows[quantity].groupby(rows["architecture"]).mean().dropna()


def _summary(values: pd.Series, quantity: str) -> dict[str, Any]:
    """The columns ``n``, ``ours`` and ``best``."""
    shown = f"{best_of(values, quantity):.2f}" if len(values) else ""
    return {"ours": mean_std(values) or NOT_RUN, "n": len(values), "best": shown}


def _ours(rows: pd.DataFrame, quantity: str, target: _Target, judged: pd.Series) -> dict[str, Any]:
    """The columns of our side, of the searches in ``rows``; ``judged``: accuracies to choose one by."""
    values, alone = _per_search(rows, quantity), "mean" not in target.statistics
    how = "by its test"
    if alone and len(judged):
        values, how = values[values.index == judged.idxmax()], "by validation"
    found = _summary(values, quantity)
    if not found["n"]:
        return found | {"protocol": ""}
    if alone:
        found["n"] = len(judged) or found["n"]
        found["ours"] = f"{found['best']} (best of {found['n']}, {how})"
    recipe = rows["recipe"].iloc[0]
    seeds = ", ".join(str(int(seed)) for seed in sorted(rows["searched_seed"].unique()))
    protocol = f"size paper, {recipe}: {RECIPES[recipe]}; searches with the seeds {seeds}"
    if alone and len(judged):
        protocol += f", the best of {len(judged)} by a short training"
    elif rows["path"].astype(str).str.contains("/best/").any():
        protocol += ", the best of several by its test accuracy elsewhere"
    return found | {"protocol": protocol}


def _table(
    lines: Mapping[tuple[str, ...], Mapping[str, Any]], names: Sequence[str], columns: Sequence[str]
) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(lines, names=names)
    return pd.DataFrame(list(lines.values()), index=index, columns=columns)
