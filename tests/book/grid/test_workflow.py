"""The Snakemake workflow: plans of the grids that ship, and real runs of a small one, here and on Slurm."""

import base64
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml

import runfolders
import slurm
from ldarts_book.grid.grid import read_grid
from runfolders import write_run
from tiny import write_notebooks

pytest.importorskip("snakemake", reason="needs the extra 'cluster'")
GRID = """
size: smoke
parts:
  two:
    spaces: [nasbench201]
    datasets: [noisy-digits]
    methods: [lambda]
    seeds: [0]
    evaluations: [{recipe: lookup}]
"""
SEARCH = "nasbench201/noisy-digits/lambda/seed0/search"
LOOKUP = "nasbench201/noisy-digits/lambda/seed0/lookup-noisy-digits"


def command(repository, out, *settings, profile="local", options=()):
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(repository / "workflow/Snakefile")),
        *("--profile", str(repository / f"workflow/profiles/{profile}"), "--directory", str(out)),
        *options,
        *("--config", *settings),
    ]


@pytest.fixture
def small(repository, tmp_path):
    """Run the grid of two jobs; returns the exit code and what was printed."""
    book, grid = write_notebooks(tmp_path / "book"), tmp_path / "grid.yaml"
    grid.write_text(GRID)

    def run(environment=os.environ, **how):
        settings = (f"grid={grid}", f"notebooks={book}", "device=cpu", *how.pop("settings", ()))
        call = command(repository, tmp_path / "out", *settings, **how)
        done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=300, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def metrics(tmp_path, job):
    return json.loads((tmp_path / "out" / job / "metrics.json").read_text())


@pytest.mark.slow
def test_the_plans_of_the_grids_that_ship(repository, tmp_path):
    processes = {
        size: subprocess.Popen(
            command(repository, tmp_path / size, f"grid={size}", options=["--dry-run", "--quiet", "host"]),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for size in ("smoke", "demo", "paper")
    }
    for size, process in processes.items():
        text, _ = process.communicate(timeout=120)
        assert process.returncode == 0, text
        planned = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", text, re.M)}
        jobs = Counter(job.kind for job in read_grid(size).jobs())
        assert planned == {**jobs, "collect": 1, "all": 1, "total": jobs.total() + 2}
        if size == "paper":
            evaluation = text[text.index("rule evaluate:\n") :]
            assert re.search(r"rule search:\n(?:.*\n)*?    resources: .*gpu=1, runtime=\d{3,}", text)
            assert "imagenet-imagenet/metrics.json" in evaluation


def test_a_search_that_ended_after_snakemake_was_killed_is_finished(small, tmp_path):
    """Snakemake holds it for incomplete: it would run it again, and take what needs it for made."""
    searched = {"space": "nasbench201", "dataset": "noisy-digits", "size": "smoke", "seed": 0}
    write_run(tmp_path / "out" / SEARCH, runfolders.SEARCH | searched)
    mark = base64.b64encode(f"{SEARCH}/metrics.json".encode()).decode()
    (tmp_path / "out/.snakemake/incomplete").mkdir(parents=True)
    (tmp_path / "out/.snakemake/incomplete" / mark).touch()
    code, text = small()
    assert code == 0, text
    assert metrics(tmp_path, SEARCH)["seconds"] == runfolders.SEARCH["seconds"]
    assert pd.read_csv(tmp_path / "out/tables/results.csv")["path"].tolist() == [LOOKUP, SEARCH]


def test_results_of_another_version_are_in_the_way(small, tmp_path):
    """Snakemake alone would take the file for a finished job."""
    run = tmp_path / "out" / SEARCH
    run.mkdir(parents=True)
    (run / "metrics.json").write_text('{"version": 99}')
    code, text = small()
    assert code != 0
    assert "results that are in the way" in text
    assert "99" in text
    assert not (tmp_path / "out" / LOOKUP).exists()


@pytest.mark.slow
@pytest.mark.skipif(not slurm.available(), reason="needs Slurm, and root to start it")
def test_the_profile_for_slurm_on_a_real_cluster(small, tmp_path):
    checks = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3")
    with slurm.cluster(tmp_path / "slurm") as environment:
        code, text = small(
            environment, profile="slurm", settings=["gpus=1"], options=[*checks, "--slurm-no-account"]
        )
        assert code == 0, text
        jobs = slurm.output(["scontrol", "--oneliner", "show", "job"], environment).splitlines()
    assert len(jobs) == 2
    assert "rule_search" in jobs[0]
    assert "gres:gpu:1" in jobs[0]
    assert "gpu" not in jobs[1]
    assert all("JobState=COMPLETED" in job and "TimeLimit=00:30:00" in job for job in jobs)
    environment = json.loads((tmp_path / "out" / SEARCH / "environment.json").read_text())
    assert environment["CUDA_VISIBLE_DEVICES"] in ("0", "1")
    assert metrics(tmp_path, LOOKUP)["test_accuracy"] == 0.5


def test_profiles_are_yaml_that_say_what_they_do(repository):
    for path in Path(repository / "workflow/profiles").glob("*/config.yaml"):
        profile = yaml.safe_load(path.read_text())
        assert profile["keep-going"]
        assert profile["rerun-incomplete"]
        assert path.read_text().startswith("#")
