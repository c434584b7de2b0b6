import contextlib
import io
import json
import os
import subprocess
import sys

import pytest
import torch

from ldarts_book.grid.evaluations import ALL_RECIPES
from ldarts_book.studies import STUDIES
from ldarts_lib import cli
from ldarts_lib.bilevel.methods import METHODS
from ldarts_lib.datasets.catalogue import DATASETS
from ldarts_lib.settings import SIZES
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.space import SPACES

SEARCH = "--space --dataset --method --size --epochs --seed --out --device --set"
STUDY = "NAME --size --variants --seeds --first-seed --out --record --workers --device"
COMMANDS = {
    "search": (*SEARCH.split(), *SPACES, *METHODS, *SIZES),
    "protocol": ("--space", "--dataset", "--method", "--size"),
    "discretize": ("RUN", "--epoch", "--selection", "--draw"),
    "evaluate": ("ARCH", "--recipe", "--devices", "--compile", *SEARCH.split()[3:], *ALL_RECIPES),
    "predict": ("TRAINING", "PICTURE", "--csv", "--device", "folders"),
    "export": ("TRAINING", "--to", ".onnx", ".pt2", ".safetensors", "normalization", "ldarts-lib[export]"),
    "size": ("ARCH", "--recipe", "--channels", "--cells", "--classes", "--resolution", "--json"),
    "query": ("ARCH", "estimate", "nor_conv_3x3", "six digits"),
    "data": ("NAME", "LDARTS_DATA"),
    "info": (),
    "bench": ("--quick", "--spaces", "--batch", "--rounds", "--threads", "--device", "--json"),
    "study": tuple(STUDY.split()),
    "sweep": ("GRID", "--out", "--parts", "--jobs", "--gpus", "--device", "--profile", "--dry-run"),
    "plan": ("GRID", "--out", "--parts", "--check", "--cluster"),
    "collect": ("FOLDER", "--target", "--overwrite"),
    "run-notebook": ("NOTEBOOK", "--parameter", "-p", "--out"),
}
SMOKE = ("search", "--size", "smoke", "--set", "split", "0.1", "--epochs", "2", "--device", "cpu", "--out")
CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|"
V2 = ("DARTS_V2", "--channels", 36, "--cells", 20, "--classes", 10)
SMALL = ("evaluate", "DARTS_V2", "--recipe", "cifar-small", "--dataset", "digits", "--size", "smoke")


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A finished search, and what the command printed."""
    out, text = tmp_path_factory.mktemp("runs") / "run", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text):
        patch.setattr(sys, "argv", ["ldarts", *SMOKE, str(out)])
        cli.main()
    return out, text.getvalue()


@pytest.fixture
def refused(ldarts):
    """The one line that says why a command did nothing."""

    def run(*arguments):
        code, _, error = ldarts(*arguments)
        assert code == 2
        assert error.startswith("ldarts: error: ")
        assert error.count("\n") == 1
        return error

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_arguments_and_choices(ldarts, command):
    code, text, _ = ldarts(command, "--help")
    assert code == 0
    assert not [part for part in COMMANDS[command] if part not in text]


@pytest.mark.parametrize("columns", ["1", "-1", "x"])
def test_a_terminal_that_is_too_narrow_gets_its_help(ldarts, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    code, text, _ = ldarts("size", "--help")
    assert code == 0 and "Print how large" in " ".join(text.split())


def test_help_shows_every_command(ldarts):
    code, text, _ = ldarts("--help")
    assert code == 0
    for command in COMMANDS:
        assert f"• {command}" in text and f"  ldarts {command}" in text


def test_help_for_a_reader_who_leaves_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", "from ldarts_lib.cli import main; main()", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


FULL = "ldarts: error: No space left on device\n"


@pytest.mark.parametrize(
    ("how", "code", "told"), [(">&-", 0, ""), ("2>&-", 0, ""), ("<&-", 0, ""), ("> /dev/full", 2, FULL)]
)
def test_a_stream_that_is_closed_or_full_is_no_traceback(how, code, told):
    command = f'"$0" -c "from ldarts_lib.cli import main; main()" --help {how}'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, told)


def test_an_interrupted_command_says_how_to_go_on(ldarts, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.app, "cli", stop)
    code, _, error = ldarts("search", "--out", "runs/my run")
    assert code == 130
    kept = "ldarts: interrupted; what is finished is kept; to go on: "
    assert error == f"{kept}ldarts search --out 'runs/my run'\n"


def test_a_finished_search_returns_at_once_and_another_is_refused(ldarts, refused, small_run):
    out, text = small_run
    assert json.loads((out / "genotype.json").read_text())["genotype"] in text
    assert "Λ =" in text and out.name in text
    before = (out / "metrics.json").stat().st_mtime_ns
    assert ldarts(*SMOKE, out) == (0, text, "")
    assert (out / "metrics.json").stat().st_mtime_ns == before
    assert "seed: 0 → 5" in refused(*SMOKE, out, "--seed", 5)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--space", "nasbench101"), "'nasbench201'"),
        (("--dataset", "mnist"), "choose one of noisy-digits"),
        (("--method", "darts-pt"), "lambda-sign"),
        (("--size", "huge"), "smoke"),
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
def test_bad_values_are_named_and_nothing_is_written(refused, tmp_path, arguments, expected):
    assert expected in refused("search", "--size", "smoke", *arguments, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_users_folder_is_meant_by_a_tilde(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a-file").write_text("")
    for given in (("discretize", "~/a-file"), ("search", "--size", "smoke", "--out=~/a-file")):
        assert f"{tmp_path / 'a-file'}" in refused(*given)


def test_discretize_prints_and_draws(ldarts, refused, small_run, tmp_path):
    out, _ = small_run
    code, text, _ = ldarts("discretize", out, "--draw", tmp_path / "cell.png")
    assert code == 0
    assert str(parse(text)) == json.loads((out / "genotype.json").read_text())["genotype"]
    assert (tmp_path / "cell.png").read_bytes().startswith(b"\x89PNG")
    assert ldarts("discretize", out, "--epoch", 0)[0] == 0
    assert "epochs 0 to 1" in refused("discretize", out, "--epoch", 2)
    for nothing in (tmp_path, tmp_path / "nowhere"):
        assert "no search with a finished epoch" in refused("discretize", nothing)


@pytest.mark.parametrize(("content", "expected"), [(None, "has no page.ipynb"), ("# A page", "is damaged")])
def test_what_is_no_notebook_is_named(refused, tmp_path, content, expected):
    path = tmp_path / "page.ipynb"
    if content:
        path.write_text(content)
    error = refused("run-notebook", path, "--out", tmp_path / "out")
    assert str(path) in error and expected in error


def test_info_lists_versions_device_and_data(ldarts):
    code, text, _ = ldarts("info")
    assert code == 0
    for part in (torch.__version__.split("+")[0], *DATASETS):
        assert part in text


def test_protocol_explains_every_setting(ldarts):
    code, text, _ = ldarts("protocol", "--size", "paper", "--dataset", "svhn", "--space", "s4")
    assert code == 0
    for part in ("lambda_max", "0.25", "Learning rate of ω"):
        assert part in text
    assert "ε" in ldarts("protocol", "--space", "ptb")[1]


def test_study_without_a_name_lists_the_studies_and_makes_none(ldarts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text, _ = ldarts("study")
    assert code == 0 and not list(tmp_path.iterdir())
    assert not [
        part for part in (*STUDIES, "digits201", "ldarts study all", "160", "0.6") if part not in text
    ]


def test_size_counts_the_official_network(ldarts):
    code, out, _ = ldarts("size", *V2)
    assert code == 0
    assert "parameters       3,349,342\n" in out and "\nmultiply-adds    " in out


def test_the_network_is_that_of_the_recipe(ldarts):
    def parameters(*arguments):
        found = json.loads(ldarts("size", *arguments, "--json")[1])
        assert found.keys() == {"parameters", "multiply_adds"}
        return found["parameters"]

    small, imagenet = (parameters("DARTS_V2", "--recipe", name) for name in ("cifar-small", "imagenet"))
    assert small < 3_349_342 < imagenet
    assert parameters(CELL) > 500_000


def test_size_of_nothing_lists_the_published_architectures(ldarts):
    code, out, _ = ldarts("size")
    assert code == 0
    assert "lambdadarts_corr_3" in out and "quark0/darts" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("size", "--json"), "go with an architecture"),
        (("size", "DARTS_V9"), "unknown architecture 'DARTS_V9'"),
        (("size", "DARTS_V2_ptb"), "depends on its text"),
        (("size", "DARTS_V2", "--channels", 0), "channels = 0: "),
        (("size", "DARTS_V2", "--resolution", 30), "images of 30 pixels"),
        (("size", "DARTS_V2", "--recipe", "nasbench201"), "choose one of cifar"),
        (("size", CELL, "--recipe", "lookup"), "recipe = 'lookup'"),
        (("query", "33313"), "expected 6 digits"),
        (("query", "NASNet"), "lacks sep_conv_7x7"),
        (("data", "mnist"), "unknown data set 'mnist'; choose one of"),
        (("study", "kinds", "sizes"), "unknown study 'sizes'; choose from demonstration"),
        (("evaluate", "DARTS_V2", "--recipe", "ptb"), "choose one of cifar"),
        (("evaluate", "DARTS_V2", "--set", "droppath", 3), "unknown setting 'droppath'"),
    ],
)
def test_wrong_questions_are_one_line(refused, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments)
    assert not list(tmp_path.iterdir())


def test_evaluate_trains_and_goes_on(ldarts, refused, tmp_path):
    options = ("--epochs", 1, "--set", "images", 32, "--device", "cpu", "--out", tmp_path / "run")
    code, out, _ = ldarts(*SMALL, *options)
    assert code == 0
    assert "test accuracy" in out
    assert (tmp_path / "run" / "metrics.json").exists()
    assert refused("discretize", tmp_path / "run").endswith("run is a training, not a search\n")
    assert ldarts(*SMALL, *options)[1] == out
    assert "another run (seed: 0 → 4)" in refused(*SMALL, *options, "--seed", 4)
