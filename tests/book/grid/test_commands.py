"""The commands sweep, plan and collect, as functions."""

import pytest
import torch

from ldarts_book.grid.commands import EXPECTED_ERRORS, collect, plan, sweep
from ldarts_book.grid.grid import GridError
from ldarts_book.grid.plan import NotPossible
from ldarts_book.grid.sweep import SweepFailed
from ldarts_book.notebook import NotebookError
from ldarts_book.published.results import ResultsError
from runfolders import EVALUATION, SEARCH, SEARCHED, write_run
from tiny import GRID, write_notebooks


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(GRID.replace("methods: [darts, lambda]", "methods: [darts]"))
    return path


@pytest.fixture
def paper(repository, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "data"))
    return repository / "workflow/grids/paper.yaml"


def test_a_dry_run_prints_the_plan_and_runs_nothing(grid, tmp_path, capsys):
    sweep(grid, out=tmp_path / "out", dry_run=True)
    text = capsys.readouterr().out
    assert "search" in text
    assert "lookup" in text
    assert not (tmp_path / "out").exists()


def test_a_sweep_runs_reports_and_fails_with_what_failed(grid, tmp_path, capsys, monkeypatch):
    book = write_notebooks(tmp_path / "book")
    monkeypatch.setenv("TINY_FAIL", "/search")
    with pytest.raises(SweepFailed, match=r"failed: .*asked to fail"):
        sweep(grid, out=tmp_path / "out", notebooks=book, workers=1, device="cpu")
    with pytest.raises(NotebookError, match=r"one_search\.ipynb; --notebooks names its folder"):
        sweep(grid, out=tmp_path / "out", notebooks=tmp_path, device="cpu")


def test_what_is_impossible_is_refused_before_anything_runs(paper, tmp_path, capsys):
    with pytest.raises(NotPossible, match="CUDA device"):
        sweep(paper, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(NotPossible, match="CUDA device"):
        plan(paper, out=tmp_path / "out", check=True)
    text = capsys.readouterr().out
    assert "GPU-hours are estimates" in text
    assert "appendix A.2" in text
    assert "missing" not in text  # the error says it
    plan(paper, out=tmp_path / "out")
    assert "missing: the data set cifar100" in capsys.readouterr().out
    plan(paper, parts=("nasbench201",), cluster=True)
    text = capsys.readouterr().out
    assert "CUDA" not in text
    assert "cifar100" not in text


def test_collect_prints_a_summary_and_what_it_skipped(tmp_path, capsys):
    source = tmp_path / "runs"
    write_run(source / "search", SEARCH)
    for seed, accuracy in enumerate([0.9, 0.8]):
        name = f"s2/cifar10/lambda/seed{seed}"
        changes = {"searched": {**SEARCHED, "seed": seed}, "architecture": name, "test_accuracy": accuracy}
        write_run(source / name, {**EVALUATION, **changes})
    write_run(source / "bad", {**SEARCH, "version": 7})
    collect(source)
    text = capsys.readouterr().out
    assert "skipped: " in text
    assert "version 7" in text
    assert "3 runs" in text
    assert "0.8500" in text
    collect(source, tmp_path / "data")
    assert (tmp_path / "data/search/metrics.json").exists()


def test_collect_names_what_a_grid_plans_and_is_not_there(grid, tmp_path):
    searched = {
        "space": "nasbench201",
        "dataset": "noisy-digits",
        "method": "darts",
        "size": "smoke",
        "seed": 0,
    }
    write_run(tmp_path / "runs/nasbench201/noisy-digits/darts/seed0/search", SEARCH | searched)
    lookup = "nasbench201/noisy-digits/darts/seed0/lookup-noisy-digits"
    with pytest.raises(
        ResultsError, match=f"1 of the 2 runs of .*grid.yaml are not finished:\n  - {lookup}$"
    ):
        collect(tmp_path / "runs", grid=grid)
    with pytest.raises(GridError, match="other"):
        collect(tmp_path / "runs", grid=grid, parts=("other",))


def test_expected_errors_are_said_in_one_line_each():
    assert all(issubclass(error, (ValueError, RuntimeError)) for error in EXPECTED_ERRORS)
