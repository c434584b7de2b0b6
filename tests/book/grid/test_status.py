"""Where a job stands: from what lies in its directory."""

import nbformat
import pytest

from ldarts_book.grid.grid import read_grid
from ldarts_book.grid.plan import status
from runfolders import EVALUATION, SEARCH, write_run

GRID = """
size: paper
parts:
  s2:
    spaces: [s2]
    datasets: [cifar10]
    methods: [lambda]
    seeds: [1]
    evaluations: [{recipe: cifar}]
"""


@pytest.fixture
def jobs(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    return read_grid(tmp_path / "grid.yaml").jobs()


def test_missing_interrupted_finished(jobs, tmp_path):
    search, evaluation = jobs
    assert status(search, tmp_path).state == "missing"
    folder = tmp_path / search.directory
    folder.mkdir(parents=True)
    assert status(search, tmp_path).state == "missing"  # made by the workflow, for instance
    (folder / "config.json").write_text("{}")
    assert status(search, tmp_path).state == "interrupted"
    (folder / "config.json").unlink()
    folder.rmdir()
    write_run(folder, SEARCH)
    write_run(tmp_path / evaluation.directory, EVALUATION)
    assert [status(job, tmp_path).state for job in jobs] == ["finished", "finished"]


def test_failed_with_its_error(jobs, tmp_path):
    (tmp_path / jobs[0].directory).mkdir(parents=True)
    cell = nbformat.v4.new_code_cell("1 / 0")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    path = tmp_path / jobs[0].executed
    nbformat.write(notebook, path)
    assert status(jobs[0], tmp_path).state == "missing"
    cell.outputs = [
        nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="by zero", traceback=[])
    ]
    nbformat.write(notebook, path)
    found = status(jobs[0], tmp_path)
    assert (found.state, found.reason) == ("failed", "ZeroDivisionError: by zero")
    path.write_text("")  # as Snakemake leaves a log that was not written
    assert status(jobs[0], tmp_path).state == "missing"
    write_run(tmp_path / jobs[0].directory / "x", SEARCH)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": 0}, "version 0"),
        ({"size": "demo"}, "size = 'demo', expected 'paper'"),
        ({"seed": 2}, "seed = 2, expected 1"),
        ({"method": "darts"}, "method = 'darts', expected 'lambda'"),
        ({"valid_accuracy": 2.0}, "valid_accuracy"),
    ],
)
def test_unusable_metrics_say_why(jobs, tmp_path, changes, expected):
    write_run(tmp_path / jobs[0].directory, {**SEARCH, **changes})
    found = status(jobs[0], tmp_path)
    assert found.state == "unusable"
    assert expected in found.reason
