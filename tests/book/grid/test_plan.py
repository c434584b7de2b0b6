"""Plans: what there is to do, what it costs, and what is missing."""

import pytest
import torch
from rich.console import Console

from ldarts_book.grid.grid import read_grid
from ldarts_book.grid.plan import NotPossible, gpu_hours, missing, plan, plan_table, refuse_if_impossible
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
    assert all(value is not None for value in hours.values())


def test_other_sizes_are_not_estimated(repository):
    assert {gpu_hours(job) for job in read_grid(repository / "workflow/grids/smoke.yaml").jobs()} == {None}


def test_a_plan_counts_what_is_done_and_estimates_the_rest(grid, tmp_path):
    before = {(row.part, row.what): row for row in plan(grid, tmp_path)}
    assert before["chains", "search"].jobs == 4
    assert before["chains", "search"].states == {"missing": 4}
    write_run(tmp_path / "s2/cifar10/lambda/seed1/search", SEARCH)
    write_run(
        tmp_path / "s2/cifar10/lambda/seed1/cifar-small-cifar10", {**EVALUATION, "recipe": "cifar-small"}
    )
    rows = plan(grid, tmp_path)
    after = {(row.part, row.what): row for row in rows}
    assert after["chains", "search"].states == {"missing": 3, "finished": 1}
    assert before["chains", "search"].hours - after["chains", "search"].hours == pytest.approx(0.8 * 24)
    console = Console(record=True, width=100)
    console.print(plan_table(rows, "the plan"))
    text = console.export_text()
    assert f"{sum(row.hours for row in rows):,.0f}" in text
    assert "GPU-hours to do" in text


def test_everything_that_is_missing_is_named_in_one_message(grid, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NotPossible) as caught:
        refuse_if_impossible(grid)
    message = str(caught.value)
    for expected in (
        "CUDA device",
        "cifar10",
        "svhn",
        "imagenet",
        "set ptb",
        "ldarts data cifar10",
    ):
        assert expected in message
    assert len(message.splitlines()) == 1 + len(missing(grid)) == 1 + 5


def test_what_is_there_is_not_missing(grid, monkeypatch, tmp_path, repository):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for part in ("train", "valid", "test"):
        path = tmp_path / f"data/ptb/ptb.{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a b")
    for part in ("train", "val"):
        (tmp_path / "data/imagenet" / part / "n01440764").mkdir(parents=True)
    assert [line.partition(":")[0] for line in missing(grid)] == ["the data set cifar10", "the data set svhn"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert len(missing(grid, gpu_here=False)) == 2
    for size in ("smoke", "demo"):
        refuse_if_impossible(read_grid(repository / f"workflow/grids/{size}.yaml"))
