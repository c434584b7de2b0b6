"""Tables of our own runs that stand beside no published number, and what a table costs to fill."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pandas as pd

from ldarts_book.grid.grid import read_grid
from ldarts_book.grid.plan import plan
from ldarts_book.names import METHODS
from ldarts_book.published.reproduction import NOT_RUN, evaluations, matching, mean_std, paper, per_search


def trained_published(rows: pd.DataFrame) -> pd.DataFrame:
    """Published architectures that were trained here, at size ``paper``: one row per cell, data set, recipe.

    Columns: ``n`` (trainings), ``test accuracy (%)`` (mean ± std, after the last epoch), ``best`` (training),
    ``best epoch`` (the mean of what the trainings had at the epoch that is best on the test images: chosen by
    the test set, shown to be compared with the column before), ``parameters (M)``.
    """
    rows = paper(rows)
    rows = rows[rows["searched_space"] == ""]
    lines = {}
    for key, several in rows.groupby(["architecture", "dataset", "recipe"], sort=True):
        accuracy = 100 * several["test_accuracy"].astype(float)
        lines[key] = {
            "n": len(several),
            "test accuracy (%)": mean_std(accuracy),
            "best": f"{accuracy.max():.2f}",
            "best epoch": f"{100 * several['best_test_accuracy'].astype(float).mean():.2f}",
            "parameters (M)": f"{several['parameters'].astype(float).mean() / 1e6:.2f}",
        }
    index = pd.MultiIndex.from_tuples(lines, names=["architecture", "data set", "recipe"])
    columns = ["n", "test accuracy (%)", "best", "best epoch", "parameters (M)"]
    return pd.DataFrame(list(lines.values()), index=index if lines else None, columns=columns)


def perplexities(rows: pd.DataFrame) -> pd.DataFrame:
    """The language models of size ``paper``: test perplexity, one row per method and text.

    Columns: ``published`` (nothing: no result is known to us), ``ours``, ``n``, ``best``.
    """
    rows = paper(rows)
    rows = rows[rows["recipe"] == "ptb"]
    lines = {}
    for method in ("darts", "lambda", "lambda-sign"):
        values = per_search(matching(rows, {"searched_method": method}), "test_perplexity")
        lines[METHODS[method]] = {
            "published": "",
            "ours": mean_std(values) or NOT_RUN,
            "n": len(values),
            "best": f"{values.min():.2f}" if len(values) else "",
        }
    return pd.DataFrame(lines).T.rename_axis("method")


def machinery(rows: pd.DataFrame) -> pd.DataFrame:
    """What was run at the sizes ``smoke`` and ``demo``: it shows that the tables fill, and is no result.

    Columns: ``n`` (searches), ``ours`` (test accuracy in percent, or perplexity) and ``best``, under (size,
    space, searched on, method, architecture, evaluated on, recipe); ``architecture`` names a published one.
    """
    rows = evaluations(rows)
    rows = rows[~rows.index.isin(paper(rows).index)]
    rows = rows.assign(published=rows["architecture"].where(rows["searched_space"] == "", ""))
    keys = ["size", "searched_space", "searched_dataset", "searched_method", "published", "dataset", "recipe"]
    lines = {}
    for key, several in rows.groupby(keys, sort=True):
        quantity = "test_perplexity" if key[-1] == "ptb" else "test_accuracy"
        values = per_search(several, quantity)
        best = values.min() if quantity == "test_perplexity" else values.max()
        lines[key] = {"n": len(values), "ours": mean_std(values), "best": f"{best:.2f}"}
    names = ["size", "space", "searched on", "method", "architecture", "evaluated on", "recipe"]
    index = pd.MultiIndex.from_tuples(lines, names=names) if lines else None
    return pd.DataFrame(list(lines.values()), index=index, columns=["n", "ours", "best"])


def cost(*parts: str) -> pd.DataFrame:
    """What parts of ``workflow/grids/paper.yaml`` cost if nothing of them is done yet.

    Columns: ``jobs`` and ``GPU-hours``, under (part, job); hours are estimates for
    ``ldarts_book.grid.plan.HARDWARE``, from :data:`ldarts_book.grid.plan.SOURCES`. Without a checkout there
    is no grid and the table is empty.

    Args:
        parts: their names; all of them by default.

    Raises:
        GridError: an unknown part.
    """
    path = Path(str(files("ldarts_data"))).parent / "workflow" / "grids" / "paper.yaml"
    if not path.is_file():
        return pd.DataFrame(columns=["jobs", "GPU-hours"])
    grid = read_grid(path)
    rows = plan(grid.only(parts) if parts else grid, Path("nowhere"))
    index = pd.MultiIndex.from_tuples([(row.part, row.what) for row in rows], names=["part", "job"])
    columns = {"jobs": [row.jobs for row in rows], "GPU-hours": [row.hours for row in rows]}
    return pd.DataFrame(columns, index=index).round(1)
