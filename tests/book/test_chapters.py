"""Every notebook of the book takes checked parameters, and runs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest

from ldarts_book import notebook as notebooks
from ldarts_book.notebook import ParameterError, notebook_parameters, run_notebook
from ldarts_lib.runs.directory import Run
from ldarts_lib.spaces.genotype import parse

BOOK = Path(__file__).parents[2] / "book"
CHAPTERS = sorted(BOOK.glob("*.ipynb"))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(notebooks.__file__).parents[1]))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_parameters_are_declared_and_then_checked(path):
    assert {"size", "out"} <= set(notebook_parameters(path))
    cells = nbformat.read(path, as_version=4).cells
    position = next(i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", []))
    assert "begin(globals()" in cells[position + 1].source


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("given", "expected"),
    [({"sede": 3}, "unknown parameter 'sede'"), ({"size": "hugee"}, "size = 'hugee'")],
    ids=["unknown-name", "bad-value"],
)
def test_plain_papermill_stops_at_once(path, given, expected, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match=expected):
        papermill.execute_notebook(path, tmp_path / "out.ipynb", given, cwd=tmp_path, progress_bar=False)
    assert [item.name for item in tmp_path.iterdir()] == ["out.ipynb"]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_run_notebook_refuses_before_anything_runs(path, tmp_path):
    with pytest.raises(ParameterError, match="size = 'hugee'"):
        run_notebook(path, {"size": "hugee"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_quickstart_searches_compares_and_says_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    executed = run_notebook(BOOK / "quickstart.ipynb", {"seeds": "1", "out": "runs"}, tmp_path / "out")
    folder = tmp_path / "runs" / "noisy-digits-smoke"
    summary = pd.read_csv(folder / "summary.csv")
    assert list(summary.method) == ["darts", "lambda"]
    for row in summary.itertuples():
        run = Run(folder / f"{row.method}-seed0")
        assert run.finished
        assert parse(run.read_json("genotype.json")["genotype"]) == parse(row.cell)
    last = nbformat.read(executed, as_version=4).cells[-1]
    said = "".join(output.text for output in last.outputs)
    for place in (folder, folder / "searches.png", folder / "summary.csv"):
        assert place.exists()
        assert str(place) in said
    assert all(cell in said for cell in summary.cell)
