"""Sweeps: a small grid run by Snakemake, here and on Slurm, stopped, resumed, and what is refused."""

import base64
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
import torch
import yaml

import runfolders
import slurm
from ldarts_book.grid import onejob
from ldarts_book.grid import sweep as sweeps
from ldarts_book.grid.grid import GridError, read_grid
from ldarts_book.grid.plan import standing
from ldarts_book.grid.sweep import SweepFailed, sweep, visible_gpus
from ldarts_lib.errors import RunError
from ldarts_lib.files import locked
from ldarts_lib.runs.signals import ended_by_signals
from tiny import GRID, write_notebooks

pytest.importorskip("snakemake", reason="needs the extra 'cluster'")
DARTS, LAMBDA = (f"nasbench201/noisy-digits/{method}/seed0" for method in ("darts", "lambda"))


@pytest.fixture
def arguments(tmp_path):
    """What a sweep of four jobs that take a second is given."""
    grid, book = tmp_path / "grid.yaml", write_notebooks(tmp_path / "book")
    grid.write_text(GRID)
    return {"grid": grid, "out": tmp_path / "out", "device": "cpu", "config": [f"notebooks={book}"]}


@pytest.fixture
def one_search(arguments):
    """What a sweep of one search and its look-up is given."""
    arguments["grid"].write_text(GRID.replace("[darts, lambda]", "[lambda]"))
    return arguments


def states(arguments):
    jobs = read_grid(arguments["grid"]).jobs()
    return {job.directory: standing(job, arguments["out"]).state for job in jobs}


@pytest.mark.slow
def test_a_failed_job_is_named_the_others_run_and_the_next_sweep_goes_on(arguments, monkeypatch, capfd):
    monkeypatch.setenv("TINY_FAIL", f"{DARTS}/search")
    with pytest.raises(SweepFailed) as failed:
        sweep(**arguments, jobs=2)
    message, out = str(failed.value), arguments["out"]
    assert f"failed: {DARTS}/search: RuntimeError: asked to fail; see {out / DARTS}/search.ipynb" in message
    assert f"missing: {DARTS}/lookup-noisy-digits" in message
    outputs = [o for c in nbformat.read(out / DARTS / "search.ipynb", 4).cells for o in c.get("outputs", [])]
    assert any(output.output_type == "error" for output in outputs)
    assert states(arguments)[f"{LAMBDA}/lookup-noisy-digits"] == "finished"
    kept = (out / LAMBDA / "search/metrics.json").stat().st_mtime_ns

    monkeypatch.delenv("TINY_FAIL")
    sweep(**arguments)
    assert set(states(arguments).values()) == {"finished"}
    assert (out / LAMBDA / "search/metrics.json").stat().st_mtime_ns == kept
    environment = json.loads((out / DARTS / "search/environment.json").read_text())
    assert (environment["device"], environment["LDARTS_THREADS"]) == ("cpu", "1")
    assert environment["began_at"] == 3  # the failed search had trained its epochs; it goes on from there
    assert len(pd.read_csv(out / "tables/results.csv")) == 4
    assert pd.read_csv(out / "tables/summary.csv")["n"].tolist() == [1, 1]
    assert "grid, size smoke" in capfd.readouterr().out

    os.utime(out / DARTS / "search/metrics.json")  # newer than the evaluation: finished all the same
    sweep(**arguments)
    assert "Nothing to be done" in capfd.readouterr().err


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on(arguments):
    code = "import sys, json; from ldarts_book.grid.sweep import sweep; sweep(**json.loads(sys.argv[1]))"
    given = json.dumps(
        {name: value if isinstance(value, list) else str(value) for name, value in arguments.items()}
    )
    waits = arguments["out"] / DARTS / "search" / "waits"
    process = subprocess.Popen(
        [sys.executable, "-c", code, given], env={**os.environ, "TINY_WAIT": f"{DARTS}/search"},
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not waits.exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with pytest.raises(RunError, match="is in use by process"):
        sweep(**arguments)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    sweep(**arguments)
    assert json.loads((arguments["out"] / DARTS / "search/environment.json").read_text())["began_at"] == 2
    assert set(states(arguments).values()) == {"finished"}


STUBBORN = """import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"], start_new_session=True) if sys.argv[2:] else None
pathlib.Path(sys.argv[1]).write_text(str(child.pid if child else 0))
time.sleep(600)
"""


def sweeping(command):
    sweeps.PATIENCE = 0.5
    with ended_by_signals():
        sweeps._run(command, dict(os.environ))


def test_a_sweep_that_is_told_to_stop_leaves_no_process(tmp_path):
    """Not even one that ignores it, or that began a session of its own, as the kernels of notebooks do."""
    child = tmp_path / "child"
    process = multiprocessing.get_context("fork").Process(
        target=sweeping, args=([sys.executable, "-c", STUBBORN, str(child), "a child"],)
    )
    process.start()
    while not (child.exists() and child.read_text()):
        time.sleep(0.02)
    began, left = time.monotonic(), psutil.Process(int(child.read_text()))
    process.terminate()
    process.join()
    psutil.wait_procs([left], 5)
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
    assert time.monotonic() - began < 10


def test_what_is_refused_before_anything_runs(arguments, tmp_path, monkeypatch):
    with pytest.raises(GridError, match="unknown part nothing; choose among small"):
        sweep(**arguments, parts=["nothing"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GridError, match="CUDA device"):
        sweep("paper", tmp_path / "paper")
    monkeypatch.setattr(sweeps, "find_spec", lambda name: None)
    with pytest.raises(GridError, match=r"pip install 'snakemake>=9'"):
        sweep(**arguments)
    assert not (tmp_path / "paper").exists() and not arguments["out"].exists()


@pytest.mark.parametrize(
    ("gpus", "jobs", "expected"),
    [(None, 3, ["--cores 3", "gpu=2", "gpus=1"]), (1, None, ["gpu=1", "gpus=1"]), (0, None, ["gpus=0"])],
)
def test_gpus_are_a_resource_and_each_job_has_its_own(arguments, monkeypatch, gpus, jobs, expected):
    """Nothing is run: what Snakemake would be given, and what it hands on to a job."""
    started = []
    monkeypatch.setattr(
        sweeps, "_run", lambda command, environment: started.append((command, environment)) or 0
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert visible_gpus() == ["4", "7"]
    with pytest.raises(SweepFailed):  # nothing is finished
        sweep(**{**arguments, "device": "auto"}, gpus=gpus, jobs=jobs)
    ((command, environment),) = started
    for words in expected:
        assert words in " ".join(map(str, command))
    if gpus != 0:
        assert environment["CUDA_VISIBLE_DEVICES"] == "4,7"[: 3 if gpus is None else 1]


@pytest.mark.parametrize("name", ["12", "1e3", "true"])
def test_a_part_may_be_called_like_a_number(arguments, repository, monkeypatch, name):
    """Snakemake reads a setting as YAML."""
    from snakemake.cli import parse_config

    arguments["grid"].write_text(GRID.replace("small:", f"'{name}':"))
    started = []
    monkeypatch.setattr(sweeps, "_run", lambda command, environment: started.append(command) or 0)
    with pytest.raises(SweepFailed):  # nothing is finished
        sweep(**arguments, parts=[name])
    config = parse_config([word for word in started[0] if str(word).startswith("parts=")])
    scope = {"config": config | {"grid": str(arguments["grid"])}}
    exec((repository / "workflow" / "Snakefile").read_text(encoding="utf-8").split("\nlocalrules:")[0], scope)
    assert {job.part for job in scope["JOBS"].values()} == {name}


def test_a_training_on_imagenet_has_gpus_and_readers_and_the_others_none(repository, tmp_path, monkeypatch):
    """By the functions of the Snakefile, which is Python up to its rules."""
    monkeypatch.chdir(tmp_path)
    head = (repository / "workflow" / "Snakefile").read_text(encoding="utf-8").split("\nlocalrules:")[0]

    def job(config, dataset):
        scope = {"config": config}
        exec(head, scope)
        name = next(name for name, job in scope["JOBS"].items() if job.dataset == dataset)
        found = json.loads(scope["parameters"](name))
        return scope["gpus"](scope["JOBS"][name]), scope["cpus"](name), found["device"], found.get("devices")

    paper = {"grid": "paper", "imagenet_gpus": "8"}
    assert job(paper, "imagenet") == (8, 64, "auto", 8)
    assert job({"grid": "paper"}, "imagenet") == (1, 8, "auto", None)
    assert job(paper, "cifar10") == (1, 1, "auto", None)
    assert job({"grid": "smoke"}, "noisy-digits") == (0, 1, "cpu", None)


def test_two_jobs_never_share_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(onejob.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
    with onejob.own_gpus(1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
        with onejob.own_gpus(2):
            assert sorted(os.environ["CUDA_VISIBLE_DEVICES"].split(",")) == ["7", "9"]


def test_another_sweep_in_the_same_folder_is_refused(arguments):
    arguments["out"].mkdir()
    with locked(arguments["out"]), pytest.raises(RunError, match="is in use by process"):
        sweep(**arguments)
    assert not any(Path(arguments["out"]).glob("nasbench201"))


@pytest.mark.slow
def test_the_plans_of_the_grids_that_ship(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sweeps, "refuse_if_impossible", lambda *_, **__: None)
    for size in ("smoke", "demo", "paper"):
        sweep(size, tmp_path, options=["--dry-run", "--quiet", "host"], config=["gpus=1"])
        text = "".join(capfd.readouterr())
        planned = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", text, re.M)}
        jobs = Counter(job.kind for job in read_grid(size).jobs())
        assert planned == {**jobs, "collect": 1, "all": 1, "total": jobs.total() + 2}
    evaluation = text[text.index("rule evaluate:\n") :]
    assert re.search(r"rule search:\n(?:.*\n)*?    resources: .*gpu=1, runtime=\d{3,}", text)
    assert "imagenet-imagenet/metrics.json" in evaluation


@pytest.mark.slow
def test_a_search_that_ended_after_snakemake_was_killed_is_finished(one_search, tmp_path):
    """Snakemake holds it for incomplete: it would run it again, and take what needs it for made."""
    out, searched = one_search["out"], {"space": "nasbench201", "dataset": "noisy-digits", "size": "smoke"}
    found = {**runfolders.SEARCH, **searched, "seed": 0}
    runfolders.write_run(out / LAMBDA / "search", found)
    mark = base64.b64encode(f"{LAMBDA}/search/metrics.json".encode()).decode()
    (out / ".snakemake/incomplete").mkdir(parents=True)
    (out / ".snakemake/incomplete" / mark).touch()
    book = write_notebooks(tmp_path / "book; touch owned")  # a name, whatever a shell would make of it
    one_search["config"] = [f"notebooks={book}"]
    sweep(**one_search)
    assert not [*tmp_path.rglob("owned")]
    assert json.loads((out / LAMBDA / "search/metrics.json").read_text())["seconds"] == found["seconds"]
    paths = [f"{LAMBDA}/lookup-noisy-digits", f"{LAMBDA}/search"]
    assert pd.read_csv(out / "tables/results.csv")["path"].tolist() == paths


def test_results_of_another_version_are_in_the_way(one_search, capfd):
    """Snakemake alone would take the file for a finished job."""
    run = one_search["out"] / LAMBDA / "search"
    run.mkdir(parents=True)
    (run / "metrics.json").write_text('{"version": 99}')
    with pytest.raises(SweepFailed):
        sweep(**one_search)
    text = "".join(capfd.readouterr())
    assert "results that are in the way" in text and "99" in text
    assert not (run.parent / "lookup-noisy-digits").exists()


@pytest.mark.slow
@pytest.mark.skipif(not slurm.available(), reason="needs Slurm, and root to start it")
def test_the_profile_for_slurm_on_a_real_cluster(one_search, tmp_path, monkeypatch):
    checks = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3")
    one_search["config"] += ["gpus=1"]
    with slurm.cluster(tmp_path / "slurm") as environment:
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, environment[name])
        sweep(**one_search, profile="slurm", options=[*checks, "--slurm-no-account"])
        jobs = slurm.output(["scontrol", "--oneliner", "show", "job"], environment).splitlines()
    assert len(jobs) == 2
    assert "rule_search" in jobs[0]
    assert "gres:gpu:1" in jobs[0]
    assert "gpu" not in jobs[1]
    assert all("JobState=COMPLETED" in job and "TimeLimit=00:30:00" in job for job in jobs)
    environment = json.loads((one_search["out"] / LAMBDA / "search/environment.json").read_text())
    assert environment["CUDA_VISIBLE_DEVICES"] in ("0", "1")


def test_profiles_are_yaml_that_say_what_they_do(repository):
    for path in Path(repository / "workflow/profiles").glob("*/config.yaml"):
        profile = yaml.safe_load(path.read_text())
        assert profile["keep-going"]
        assert profile["rerun-incomplete"]
        assert path.read_text().startswith("#")
