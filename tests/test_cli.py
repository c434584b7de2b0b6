import json

import pytest
import torch

from ldarts_lib.bilevel.protocols import METHODS
from ldarts_lib.datasets import DATASETS
from ldarts_lib.settings import SIZES
from ldarts_lib.spaces.genotype import parse
from ldarts_lib.spaces.space import SPACES


@pytest.fixture
def small_run(ldarts, tmp_path):
    out = tmp_path / "run"
    code, text, _ = ldarts("search", "--size", "smoke", "--epochs", 2, "--out", out, "--device", "cpu")
    assert code == 0
    return out, text


def test_help_teaches_every_choice(ldarts):
    code, text, _ = ldarts("search", "--help")
    assert code == 0
    for name in (*SPACES, *DATASETS, *METHODS, *SIZES, "--device", "--set"):
        assert name in text
    code, text, _ = ldarts("--help")
    assert code == 0
    assert "ldarts search --method darts" in text
    for command in ("search", "discretize", "protocol", "data", "info", "run-notebook"):
        assert f"• {command}" in text


def test_search_prints_what_it_found_and_where(small_run):
    out, text = small_run
    genotype = json.loads((out / "genotype.json").read_text())["genotype"]
    assert genotype in text.replace("\n", "")
    assert "Λ =" in text
    assert out.name in text


def test_search_reads_a_finished_run_and_refuses_another_ones(ldarts, small_run):
    out, text = small_run
    arguments = ("search", "--size", "smoke", "--epochs", 2, "--out", out, "--device", "cpu")
    assert ldarts(*arguments)[1].splitlines()[-5:] == text.splitlines()[-5:]
    code, _, error = ldarts(*arguments, "--seed", 5)
    assert code == 2
    assert "seed: 0 → 5" in error


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--space", "nasbench101", "nasbench201"),
        ("--dataset", "mnist", "noisy-digits"),
        ("--method", "pc-darts", "lambda-sign"),
        ("--size", "huge", "smoke"),
    ],
)
def test_unknown_names_list_the_known_ones(ldarts, tmp_path, option, value, expected):
    code, out, error = ldarts("search", option, value, "--out", tmp_path / "run")
    assert code == 2
    assert value in out + error
    assert expected in out + error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--epochs", "0"), "epochs = 0"),
        (("--epochs", "-3"), "epochs = -3"),
        (("--seed", "-1"), "seed = -1"),
        (("--set", "lambda_max", "-0.5"), "lambda_max = '-0.5'"),
        (("--set", "epsilon", "0"), "epsilon = '0'"),
        (("--set", "alpha_lr", "nan"), "alpha_lr"),
        (("--set", "lamda", "1"), "unknown setting 'lamda'; the settings are"),
        (("--set", "batch_size", "501"), "batch_size = 501 is larger"),
        (("--device", "tpu"), "tpu"),
    ],
)
def test_bad_values_are_named_and_nothing_is_written(ldarts, tmp_path, arguments, expected):
    code, _, error = ldarts("search", "--size", "smoke", *arguments, "--out", tmp_path / "run")
    assert code == 2
    assert expected in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for what a machine without a GPU says")
def test_a_missing_gpu_is_explained(ldarts, tmp_path):
    code, _, error = ldarts("search", "--device", "cuda", "--out", tmp_path / "run")
    assert code == 2
    assert "cuda" in error.lower()


def test_a_missing_data_set_says_how_to_get_it(ldarts, tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path))
    code, _, error = ldarts("search", "--dataset", "cifar10", "--size", "smoke", "--out", tmp_path / "run")
    assert code == 2
    assert "cifar-10-python.tar.gz" in error
    assert "http" in error
    assert str(tmp_path) in error


def test_a_truncated_checkpoint_is_reported(ldarts, small_run):
    out, _ = small_run
    (out / "metrics.json").unlink()
    checkpoint = out / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    code, _, error = ldarts("search", "--size", "smoke", "--epochs", 2, "--out", out, "--device", "cpu")
    assert code == 2
    assert "truncated or damaged" in error


def test_discretize_prints_and_draws(ldarts, small_run, tmp_path):
    out, _ = small_run
    code, text, _ = ldarts("discretize", out, "--draw", tmp_path / "cell.png")
    assert code == 0
    assert str(parse(text)) == json.loads((out / "genotype.json").read_text())["genotype"]
    assert (tmp_path / "cell.png").read_bytes().startswith(b"\x89PNG")
    assert ldarts("discretize", out, "--epoch", 0)[0] == 0
    code, _, error = ldarts("discretize", out, "--epoch", 2)
    assert code == 2
    assert "epochs 0 to 1" in error


def test_discretize_of_no_run(ldarts, tmp_path):
    code, _, error = ldarts("discretize", tmp_path)
    assert code == 2
    assert "no finished epoch" in error


@pytest.mark.parametrize(("content", "expected"), [(None, "No such file"), ("# A page", "is not a notebook")])
def test_what_is_no_notebook_is_named(ldarts, tmp_path, content, expected):
    path = tmp_path / "page.ipynb"
    if content:
        path.write_text(content)
    code, _, error = ldarts("run-notebook", path, "--out", tmp_path / "out")
    assert code == 2
    assert str(path) in error
    assert expected in error
    assert "Traceback" not in error


def test_bad_notebook_parameters_are_refused_with_the_allowed_ones(ldarts, repository, tmp_path):
    notebook = repository / "book" / "quickstart.ipynb"
    code, _, error = ldarts("run-notebook", notebook, "-p", "sede", 3, "-p", "seeds", "x", "--out", tmp_path)
    assert code == 2
    for part in ("did you mean 'seeds'", "seeds = 'x': expected int", "allowed parameters: size"):
        assert part in error
    assert not list(tmp_path.iterdir())


def test_discretize_of_a_missing_directory(ldarts, tmp_path):
    code, _, error = ldarts("discretize", tmp_path / "nowhere")
    assert code == 2
    assert "there is no run directory" in error


def test_info_lists_versions_device_and_data(ldarts, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, text, _ = ldarts("info")
    assert code == 0
    assert torch.__version__.split("+")[0] in text
    for name in DATASETS:
        assert name in text


def test_protocol_explains_every_setting(ldarts, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, text, _ = ldarts("protocol", "--size", "paper", "--dataset", "svhn", "--space", "s4")
    assert code == 0
    assert "lambda_max" in text
    assert "0.25" in text
    assert "Learning rate of ω" in text
