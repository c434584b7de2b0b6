"""One job in its own process: where the notebook goes, how it fails, and which architecture is the best."""

import json

import nbformat
import pytest

from ldarts_book.grid.onejob import best_search, main
from ldarts_lib.errors import RunError
from runfolders import EVALUATION, SEARCH, write_run
from tiny import write_notebooks


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return write_notebooks(tmp_path_factory.mktemp("book"))


def judge(folder, **changes):
    return str(write_run(folder, {**EVALUATION, **changes}))


def test_the_best_has_the_highest_accuracy_or_the_lowest_perplexity(tmp_path):
    accuracies = {"low": 0.5, "high": 0.9, "equal": 0.9}
    judged = {name: judge(tmp_path / name, test_accuracy=value) for name, value in accuracies.items()}
    assert best_search(judged) == "high"
    text = {"recipe": "ptb", "valid_perplexity": 60.0, "test_accuracy": None}
    judged = {
        str(value): judge(tmp_path / f"{value}", test_perplexity=value, **text) for value in (80.0, 60.0)
    }
    assert best_search(judged) == "60.0"


def test_what_cannot_judge_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"has no metrics\.json"):
        best_search({"a": str(tmp_path / "metrics.json")})
    with pytest.raises(RunError, match="not of an evaluation"):
        best_search({"a": str(write_run(tmp_path / "search", SEARCH))})


def test_a_job_evaluates_the_best_and_lies_under_its_own_name(book, tmp_path, capsys):
    searches = [tmp_path / f"search{seed}" for seed in (0, 1)]
    for seed, search in enumerate(searches):
        write_run(search, {**SEARCH, "seed": seed})
    judged = {
        str(search): judge(tmp_path / f"judge{seed}", test_accuracy=0.5 + 0.1 * seed)
        for seed, search in enumerate(searches)
    }
    parameters = {"architecture": judged, "dataset": "digits", "out": str(tmp_path / "run")}
    notebook, executed = book / "one_evaluation.ipynb", tmp_path / "deep/best.ipynb"
    assert main([str(notebook), str(executed), json.dumps(parameters)]) == 0
    assert json.loads((tmp_path / "run/metrics.json").read_text())["searched"]["seed"] == 1
    assert len(nbformat.read(executed, 4).cells) == 4
    assert sorted(path.name for path in executed.parent.iterdir()) == ["best.ipynb"]


def test_a_failed_notebook_is_kept_and_the_exit_code_is_1(book, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TINY_FAIL", "run")
    parameters = json.dumps({"out": str(tmp_path / "run")})
    assert main([str(book / "one_search.ipynb"), str(tmp_path / "search.ipynb"), parameters]) == 1
    printed = capsys.readouterr().err
    assert f"{book / 'one_search.ipynb'} failed in the cell" in printed
    assert "RuntimeError: asked to fail" in printed
    assert "asked to fail" in (tmp_path / "search.ipynb").read_text()


@pytest.mark.parametrize(
    ("notebook", "parameters", "expected"),
    [
        ("one_search.ipynb", {"sede": 1}, "unknown parameter 'sede'"),
        ("one_search.ipynb", {"seed": "x"}, "seed = 'x'"),
        ("none.ipynb", {}, "none.ipynb"),
        ("one_evaluation.ipynb", {"architecture": {"a": "none.json"}}, "has no none.json"),
    ],
)
def test_what_cannot_begin_ends_with_2(book, tmp_path, capsys, notebook, parameters, expected):
    assert main([str(book / notebook), str(tmp_path / "out.ipynb"), json.dumps(parameters)]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out.ipynb").exists()
