"""Grids: what is read from a file, what is refused, and the jobs that follow."""

import re

import pytest

from ldarts_book.grid.grid import GridError, find_grid, read_grid
from ldarts_lib.spaces.published import published

GRID = """\
size: smoke
parts:
  first:
    spaces: [s1, s2]
    datasets: [noisy-digits]
    methods: [darts, lambda]
    seeds: [0, 1]
    evaluations:
      - {recipe: cifar}
      - recipe: cifar-small
        datasets: [digits]
        seeds: [3, 4]
"""
PUBLISHED = "size: smoke\nparts:\n  p:\n    published: [DARTS_V2]\n    evaluations: [{recipe: %s}]\n"


@pytest.fixture
def grid(tmp_path):
    """Read a grid from text."""

    def read(text=GRID):
        path = tmp_path / "grid.yaml"
        path.write_text(text)
        return read_grid(path)

    return read


def refused(grid, text):
    with pytest.raises(GridError) as caught:
        grid(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[s1, s2]", "[s1, s9]", ["line 4", "parts.first.spaces[1]", "'s9'", "s4, ptb"]),
        ("[noisy-digits]", "[mnist]", ["line 5", "datasets[0]", "'mnist'", "noisy-digits", "cifar10"]),
        ("[darts, lambda]", "[darts, adam]", ["line 6", "methods[1]", "'adam'", "lambda-sign"]),
        ("[0, 1]", "[0, -1]", ["line 7", "seeds[1]", "-1"]),
        ("[0, 1]", "[0, 1.5]", ["line 7", "seeds[1]", "1.5"]),
        ("[0, 1]", "[]", ["line 7", "parts.first.seeds", "empty"]),
        ("[0, 1]", "3", ["line 7", "parts.first.seeds", "list", "3"]),
        ("[0, 1]", "[0, 0]", ["s1/noisy-digits/darts/seed0/search", "twice"]),
        ("{recipe: cifar}", "{recipe: vgg}", ["line 9", "evaluations[0].recipe", "'vgg'", "cifar-small"]),
        ("{recipe: cifar}", "{recipes: cifar}", ["line 9", "'recipes'", "recipe, datasets, seeds"]),
        ("{recipe: cifar}", "{recipe: lookup}", ["line 9", "'lookup'", "space s1", "cifar, cifar-small"]),
        ("{recipe: cifar}", "{recipe: ptb}", ["line 9", "'ptb'", "space s1"]),
        ("{recipe: cifar}", "{recipe: cifar-small, datasets: [digits], seeds: [4]}", ["line 10", "twice"]),
        ("{recipe: cifar}", "{recipe: cifar, best_by: x-y}", ["'x-y'", "cifar-small-digits-seed3"]),
        ("datasets: [digits]", "datasets: [imagenet]", ["'cifar-small'", "'imagenet'"]),
        ("size: smoke", "size: full", ["line 1", "'full'", "'smoke', 'demo', 'paper' or 'official'"]),
        ("size: smoke", "", ["size", "missing"]),
        ("size: smoke", "size: smoke\nfoo: 1", ["line 2", "unknown key 'foo'", "size, parts"]),
        ("    methods: [darts, lambda]\n", "", ["line 3", "methods missing"]),
        ("    seeds: [0, 1]", "    seeds: [0, 1]\n    published: [DARTS_V2]", ["not searched", "spaces"]),
        ("[s1, s2]", "[s1, ptb]", ["line 5", "space ptb", "'noisy-digits'", "civics"]),
        ("[noisy-digits]", "[civics]", ["line 5", "space s1", "'civics'"]),
        ("    seeds: [0, 1]", "    seeds: [0, 1]\n    seeds: [2]", ["line 8", 'duplicate key "seeds"']),
        ("[s1, s2]", "[s1, s2", ["line 5", "no YAML"]),
    ],
)
def test_a_bad_grid_is_refused_with_its_place_and_what_is_allowed(grid, old, new, expected):
    assert old in GRID
    message = refused(grid, GRID.replace(old, new, 1))
    for part in expected:
        assert part in message


def test_all_problems_are_listed(grid):
    message = refused(grid, GRID.replace("s1", "s7").replace("[darts, lambda]", "[adam]"))
    assert len(message.splitlines()) == 2


def test_the_same_job_in_two_parts_is_refused(grid):
    part = GRID[GRID.index("  first") :]
    message = refused(grid, GRID + part.replace("first", "second"))
    assert "parts.second" in message
    assert "first by the part first" in message


@pytest.mark.parametrize(
    "evaluation",
    ["{recipe: cifar, seeds: [0]}", "{recipe: cifar, best_by: cifar-noisy-digits}"],
)
def test_one_training_under_two_names_is_refused(grid, evaluation):
    """They would be the same result in two directories, and could not be collected."""
    message = refused(grid, f"{GRID}      - {evaluation}\n")
    assert "is asked for twice, first by the part first" in message


def test_published_architectures_need_data_sets_and_fitting_recipes(grid):
    assert "datasets is missing" in refused(grid, PUBLISHED % "cifar")
    assert "space darts" in refused(grid, PUBLISHED % "lookup, datasets: [noisy-digits]")
    assert "need evaluations" in refused(grid, PUBLISHED[: PUBLISHED.index("    evaluations")])
    assert "'NO_SUCH'" in refused(grid, PUBLISHED.replace("DARTS_V2", "NO_SUCH") % "cifar")
    assert "empty" in refused(grid, PUBLISHED.replace("DARTS_V2", "") % "cifar")


@pytest.mark.parametrize(
    "text", ["", "- a\n- b\n", "size: smoke\nparts: [1]\n", "x: &a [*a]\n", "? [1]\n: 2\n"]
)
def test_other_yaml_is_refused(grid, text):
    assert "grid.yaml" in refused(grid, text)


def test_grids_are_found_by_name_and_read_in_part():
    assert find_grid("demo").name == "demo.yaml"
    with pytest.raises(GridError, match="give a YAML file, or one of demo, paper, smoke"):
        find_grid("dmo")
    assert {job.part for job in read_grid("smoke", ["ptb", "published"]).jobs()} == {"ptb", "published"}
    with pytest.raises(GridError, match="unknown part nothing; choose among nasbench201"):
        read_grid("smoke", ["nothing"])


def test_the_grids_that_ship():
    jobs = {size: read_grid(size).jobs() for size in ("smoke", "demo", "paper")}
    assert all({job.size for job in found} == {size} for size, found in jobs.items())
    smoke = jobs["smoke"]
    assert {job.space for job in smoke} >= {"nasbench201", "darts", "s1", "s2", "s3", "s4", "ptb"}
    assert {job.recipe for job in smoke} >= {"cifar", "cifar-small", "imagenet", "nasbench201", "lookup"}
    released = {name for name in published() if "lambdadarts" in name}
    assert len(released) == 20
    assert {job.published for job in jobs["paper"]} >= released
    embedded = {"noisy-digits", "digits", "civics"}
    assert {job.dataset for size in ("smoke", "demo") for job in jobs[size]} <= embedded


def test_jobs_are_every_combination_each_after_what_it_needs(grid):
    jobs = grid().jobs()
    searches = [job for job in jobs if job.kind == "search"]
    assert len(searches) == 2 * 2 * 2
    assert len(jobs) == len(searches) * (1 + 1 + 2)
    position = {job.directory: index for index, job in enumerate(jobs)}
    assert len(position) == len(jobs)
    for index, job in enumerate(jobs):
        assert all(position[need] < index for need in job.needs)
        assert bool(job.needs) == (job.kind == "evaluate")


def test_directories_and_parameters(grid, tmp_path):
    jobs = {job.directory: job for job in grid().jobs()}
    above = "s2/noisy-digits/lambda/seed1"
    search, evaluation = jobs[f"{above}/search"], jobs[f"{above}/cifar-small-digits-seed4"]
    common = {"size": "smoke", "out": str(tmp_path / search.directory)}
    assert search.parameters(tmp_path) == {
        **common, "space": "s2", "dataset": "noisy-digits", "method": "lambda", "seed": 1,
    }  # fmt: skip
    assert evaluation.parameters(tmp_path) == {
        "architecture": common["out"], "dataset": "digits", "recipe": "cifar-small", "size": "smoke",
        "seed": 4, "out": str(tmp_path / evaluation.directory),
    }  # fmt: skip
    default = jobs[f"{above}/cifar-noisy-digits"]
    assert default.parameters(tmp_path)["seed"] == 0
    assert default.executed == f"{above}/cifar-noisy-digits.ipynb"
    assert (search.notebook, default.notebook) == ("one_search.ipynb", "one_evaluation.ipynb")


def test_published_architectures_need_no_search(grid, tmp_path):
    (job,) = grid(PUBLISHED % "cifar, datasets: [digits]").jobs()
    assert job.directory == "published/DARTS_V2/cifar-digits-seed0"
    assert job.needs == ()
    assert job.parameters(tmp_path)["architecture"] == "DARTS_V2"


def test_cells_in_any_notation_need_no_search(grid, tmp_path):
    cell = "|none~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|nor_conv_1x1~0|avg_pool_3x3~1|skip_connect~2|"
    for text in (f"'{cell}'", "'nb201:12804'", f"'Structure(4 nodes with {cell})'"):
        (job,) = grid(PUBLISHED.replace("DARTS_V2", text) % "nasbench201, datasets: [digits]").jobs()
        assert job.parameters(tmp_path)["architecture"] == cell
        assert re.fullmatch(r"published/cell-\w{10}/nasbench201-digits-seed0", job.directory)
    message = refused(grid, PUBLISHED.replace("DARTS_V2", f"'{cell}'") % "cifar, datasets: [digits]")
    assert "does not take cells of the space nasbench201" in message


def test_the_best_of_several_searches_waits_for_all_that_judge(grid, tmp_path):
    jobs = grid(GRID + "      - {recipe: imagenet, datasets: [digits], best_by: cifar-noisy-digits}\n").jobs()
    (job,) = [job for job in jobs if job.directory == "s1/noisy-digits/darts/best/imagenet-digits"]
    folders = [f"s1/noisy-digits/darts/seed{seed}" for seed in (0, 1)]
    assert job.needs == tuple(f"{folder}/cifar-noisy-digits" for folder in folders)
    assert job.parameters(tmp_path)["architecture"] == {
        str(tmp_path / folder / "search"): str(tmp_path / folder / "cifar-noisy-digits/metrics.json")
        for folder in folders
    }
