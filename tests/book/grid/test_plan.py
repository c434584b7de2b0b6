"""Plans: where jobs stand, what there is to do, what it costs, and what is missing."""

from pathlib import Path

import nbformat
import pytest
import torch
from rich.console import Console

from ldarts_book.grid.grid import GridError, read_grid
from ldarts_book.grid.plan import gpu_hours, obstacles, plan, plan_table, refuse_if_impossible, standing
from runfolders import EVALUATION, SEARCH, write_run

GRID = """
size: paper
parts:
  chains:
    spaces: [s2]
    datasets: [cifar10, svhn]
    methods: [darts, lambda]
    seeds: [1]
    evaluations:
      - {recipe: cifar-small}
  table:
    spaces: [nasbench201]
    datasets: [cifar10]
    methods: [darts]
    seeds: [0]
    evaluations: [{recipe: lookup}]
  text:
    spaces: [ptb]
    datasets: [ptb]
    methods: [lambda]
    seeds: [0]
    evaluations: [{recipe: ptb}]
  released:
    published: [DARTS_V2]
    evaluations: [{recipe: imagenet, datasets: [imagenet]}]
"""


@pytest.fixture
def grid(tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "data"))
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    return read_grid(path)


def test_hours_follow_from_the_sources(grid):
    hours = {job.directory: gpu_hours(job) for job in grid.jobs()}
    darts, ours = hours["s2/cifar10/darts/seed1/search"], hours["s2/cifar10/lambda/seed1/search"]
    assert (darts, ours) == (pytest.approx(0.4 * 24), pytest.approx(0.8 * 24))
    assert hours["s2/svhn/darts/seed1/search"] == pytest.approx(darts * 73_257 / 50_000)
    assert hours["nasbench201/cifar10/darts/seed0/search"] == pytest.approx(10_890 / 3600)
    assert hours["nasbench201/cifar10/darts/seed0/lookup-cifar10"] == 0
    assert hours["published/DARTS_V2/imagenet-imagenet-seed0"] == 12 * 24
    assert hours["ptb/ptb/lambda/seed0/ptb-ptb"] == 3 * 24
    assert hours["s2/cifar10/darts/seed1/cifar-small-cifar10"] < 1.5 * 24
    assert {gpu_hours(job) for job in read_grid("smoke").jobs()} == {0}  # other sizes are not estimated


def test_a_plan_counts_what_is_done_and_estimates_the_rest(grid, tmp_path):
    before, found = plan(grid, tmp_path), tmp_path / "s2/cifar10/lambda/seed1"
    assert before.loc["chains", "search"].tolist()[:-1] == [4, 0, 0, 0, 0, 4]
    write_run(found / "search", SEARCH)
    write_run(found / "cifar-small-cifar10", {**EVALUATION, "recipe": "cifar-small"})
    (tmp_path / "s2/svhn/lambda/seed1/search").mkdir(parents=True)
    (tmp_path / "s2/svhn/lambda/seed1/search/config.json").touch()
    after = plan(grid, tmp_path)
    assert after.loc["chains", "search"].tolist()[:-1] == [4, 1, 1, 0, 0, 2]
    saved = (before - after).loc["chains", "search"]["GPU-hours to do"]
    assert saved == pytest.approx(0.8 * 24)
    console = Console(record=True, width=100)
    console.print(plan_table(after, "the plan"))
    text = console.export_text()
    assert f"{after['GPU-hours to do'].sum():,.0f}" in text
    assert "interrupted" in text and "failed" not in text and "missing" not in text


def test_everything_that_is_missing_is_named_in_one_message(grid, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GridError) as caught:
        refuse_if_impossible(grid)
    message = str(caught.value)
    for expected in ("CUDA device", "cifar10", "svhn", "imagenet", "set ptb", "ldarts data cifar10"):
        assert expected in message
    assert len(message.splitlines()) == 1 + len(obstacles(grid)) == 1 + 5


def test_what_is_there_is_not_missing(grid, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for part in ("train", "valid", "test"):
        path = tmp_path / f"data/ptb/ptb.{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a b")
    for part in ("train", "val"):
        (tmp_path / "data/imagenet" / part / "n01440764").mkdir(parents=True)
    assert [line.partition(":")[0] for line in obstacles(grid)] == [
        "the data set cifar10",
        "the data set svhn",
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert len(obstacles(grid, gpu_here=False)) == 2
    for size in ("smoke", "demo"):
        refuse_if_impossible(read_grid(size))


def test_a_folder_without_pictures_is_found_before_anything_runs(tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    part = "{spaces: [s2], datasets: [pictures], methods: [lambda], seeds: [0]}"
    Path("mine.yaml").write_text(f"size: smoke\nparts:\n  one: {part}\n")
    [lacking] = obstacles(read_grid("mine.yaml"))
    assert lacking.startswith(f"the data set {tmp_path / 'pictures'}: ") and "no class folders" in lacking


@pytest.fixture
def jobs(grid):
    """A search of s2 and its evaluation."""
    return [job for job in grid.jobs() if job.directory.startswith("s2/cifar10/lambda/")]


def test_missing_interrupted_finished(jobs, tmp_path):
    search, evaluation = jobs
    assert standing(search, tmp_path).state == "missing"
    folder = tmp_path / search.directory
    folder.mkdir(parents=True)
    assert standing(search, tmp_path).state == "missing"  # made by the workflow, for instance
    (folder / "config.json").write_text("{}")
    assert standing(search, tmp_path).state == "interrupted"
    (folder / "config.json").unlink()
    folder.rmdir()
    write_run(folder, SEARCH)
    write_run(tmp_path / evaluation.directory, {**EVALUATION, "recipe": "cifar-small"})
    assert [standing(job, tmp_path).state for job in jobs] == ["finished", "finished"]


def test_failed_with_its_error(jobs, tmp_path):
    (tmp_path / jobs[0].directory).mkdir(parents=True)
    cell = nbformat.v4.new_code_cell("1 / 0")
    notebook, path = nbformat.v4.new_notebook(cells=[cell]), tmp_path / jobs[0].executed
    nbformat.write(notebook, path)
    assert standing(jobs[0], tmp_path).state == "missing"
    error = {"ename": "ZeroDivisionError", "evalue": "by zero", "traceback": []}
    cell.outputs = [nbformat.v4.new_output("error", **error)]
    nbformat.write(notebook, path)
    assert standing(jobs[0], tmp_path) == ("failed", "ZeroDivisionError: by zero")
    path.write_text("")  # as Snakemake leaves a log that was not written
    assert standing(jobs[0], tmp_path).state == "missing"


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
    state, reason = standing(jobs[0], tmp_path)
    assert state == "unusable" and expected in reason
