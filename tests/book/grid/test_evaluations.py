"""How good an architecture is: what is trained, what is looked up, what is refused, and what is recorded."""

import os

import pytest

from ldarts_book.grid import evaluations as jobs
from ldarts_lib.errors import ProtocolError, RunError, UnknownName
from ldarts_lib.runs.directory import Run
from ldarts_lib.spaces.genotype import GenotypeError
from ldarts_lib.spaces.published import published
from ldarts_lib.tables.tables import open_table
from runfolders import SEARCH, SEARCHED, write_run

QUIET = {"device": "cpu", "progress": False}
QUICK = {"epochs": 1, "images": 32}
CELL = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
RECURRENT = "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"


@pytest.fixture
def cell(tmp_path):
    """The run directory of a finished search of NAS-Bench-201."""
    write_run(tmp_path / "search", {**SEARCH, "space": "nasbench201", "genotype": CELL})
    return str(tmp_path / "search")


def test_a_search_is_evaluated_once(tmp_path, cell):
    arguments, quick = (cell, "digits", "nasbench201", "smoke"), {**QUICK, "channels": 4, "depth": 1}
    found = jobs.judge(*arguments, 5, tmp_path / "run", **QUIET, **quick)
    assert found["architecture"] == "nasbench201/cifar10/lambda/seed1"
    assert found["searched"] == {**SEARCHED, "space": "nasbench201"} and found["genotype"] == CELL
    assert (found["dataset"], found["seed"], found["epochs"]) == ("digits", 5, 1)
    stamp = os.stat(tmp_path / "run" / "checkpoint.pt").st_mtime_ns
    assert jobs.judge(*arguments, 5, tmp_path / "run", **QUIET, **quick) == found
    assert os.stat(tmp_path / "run" / "checkpoint.pt").st_mtime_ns == stamp
    with pytest.raises(RunError, match=r"another run \(seed: 5 → 6\)"):
        jobs.judge(*arguments, 6, tmp_path / "run", **QUIET, **quick)


def test_a_look_up_reads_the_table(tmp_path, cell):
    arguments = (cell, "noisy-digits", "lookup", "smoke", 0, tmp_path / "run")
    found = jobs.judge(*arguments, **QUIET)
    assert found["test_accuracy"] == open_table("digits-201").accuracy(found["genotype"])
    assert found["benchmark"] == "digits-201"
    assert Run(tmp_path / "run").read_json("config.json")["recipe"] == "lookup"
    assert jobs.judge(*arguments, **QUIET) == found
    other = jobs.judge(CELL, "cifar10", "lookup", "smoke", 0, tmp_path / "other", **QUIET)
    assert other["benchmark"] == "nasbench201"  # whose accuracies are in percent
    assert (other["valid_accuracy"], other["test_accuracy"]) == pytest.approx((0.3977, 0.5430))


def test_a_published_cell_has_no_search(tmp_path):
    found = jobs.judge("DARTS_V1", "digits", "cifar-small", "smoke", 0, tmp_path, **QUIET, **QUICK)
    assert (found["architecture"], found["searched"]) == ("DARTS_V1", None)
    assert found["genotype"] == str(published("DARTS_V1"))


def test_a_recurrent_cell_is_trained_on_a_text(tmp_path):
    quick = {"epochs": 1, "units": 4, "batch_size": 64}
    found = jobs.judge(RECURRENT, "civics", "ptb", "smoke", 0, tmp_path / "run", **QUIET, **quick)
    assert found["test_perplexity"] > 1
    assert (found["recipe"], found["searched"]) == ("ptb", None)


@pytest.mark.parametrize(
    ("architecture", "recipe", "message"),
    [
        ("DARTS_V2", "nasbench201", "not for an architecture like this; choose one of cifar, cifar-small"),
        ("DARTS_V2", "ptb", "not for an architecture like this"),
        ("DARTS_V9", "cifar", "unknown architecture 'DARTS_V9'"),
        ("Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)])", "cifar", "has no reduction cell"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, architecture, recipe, message):
    with pytest.raises(GenotypeError, match=message):
        jobs.judge(architecture, "digits", recipe, "smoke", 0, tmp_path / "run", **QUIET)


def test_an_unknown_recipe_lists_the_known_ones(tmp_path, cell):
    with pytest.raises(UnknownName, match=r"unknown recipe 'cifar11'; choose one of cifar, .*lookup"):
        jobs.judge(cell, "digits", "cifar11", "smoke", 0, tmp_path / "run", **QUIET)


def test_a_search_that_is_not_finished_cannot_be_evaluated(tmp_path):
    (tmp_path / "search").mkdir()
    with pytest.raises(RunError, match="no finished search"):
        jobs.judge(str(tmp_path / "search"), "digits", "cifar", "smoke", 0, tmp_path / "run", **QUIET)
    (tmp_path / "search" / "metrics.json").write_text('{"skips": 3}')
    with pytest.raises(RunError, match=r"metrics\.json has version None"):
        jobs.judge(str(tmp_path / "search"), "digits", "cifar", "smoke", 0, tmp_path / "run", **QUIET)


def test_a_genotype_in_quotes_is_an_architecture():
    """Longer than the name of a file may be."""
    text = str(published("DARTS_V2"))
    assert jobs.identify(f" {text} ") == (text, published("DARTS_V2"), None)


@pytest.mark.parametrize(
    ("dataset", "size", "more", "message"),
    [
        (
            "noisy-digits",
            "smoke",
            {"epochs": 7, "foo": 1},
            "'lookup' trains nothing: drop epochs, foo",
        ),
        ("noisy-digits", "large", {}, "size = 'large'"),
        ("noisy-digits", "smoke", {"devices": 2}, "devices = 2: the recipe 'lookup' runs on one device"),
        ("svhn", "smoke", {}, "'svhn'; choose one of noisy-digits"),
    ],
)
def test_a_look_up_that_cannot_be_made_is_refused(tmp_path, cell, dataset, size, more, message):
    with pytest.raises((ProtocolError, UnknownName), match=message):
        jobs.judge(cell, dataset, "lookup", size, 0, tmp_path / "run", **QUIET, **more)
    assert not (tmp_path / "run").exists()
