"""Grids: what is read from a file, what is refused, and the jobs that follow."""

import pytest

from gridtext import GRID
from ldarts_book.grid.grid import GridError, read_grid
from ldarts_lib.spaces.published import published


def refused(grid, text):
    with pytest.raises(GridError) as caught:
        grid(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[s1, s2]", "[s1, s9]", ["line 4", "parts.first.spaces[1]", "'s9'", "s1, s2, s3, s4, ptb"]),
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
        ("datasets: [digits]", "datasets: [imagenet]", ["'cifar-small'", "'imagenet'"]),
        ("size: smoke", "size: full", ["line 1", "'full'", "smoke, demo, paper"]),
        ("size: smoke", "", ["size", "missing"]),
        ("size: smoke", "size: smoke\nfoo: 1", ["line 2", "unknown key 'foo'", "size, parts"]),
        ("    methods: [darts, lambda]\n", "", ["line 3", "methods missing"]),
        ("    seeds: [0, 1]", "    seeds: [0, 1]\n    published: [DARTS_V2]", ["not searched", "spaces"]),
        ("[s1, s2]", "[s1, ptb]", ["line 5", "space ptb", "'noisy-digits'", "civics"]),
        ("[noisy-digits]", "[civics]", ["line 5", "space s1", "'civics'"]),
        ("    seeds: [0, 1]", "    seeds: [0, 1]\n    seeds: [2]", ["line 8", 'duplicate key "seeds"']),
        ("[s1, s2]", "[s1, s2", ["line 5", "no YAML"]),
        (
            "- {recipe: cifar}",
            "- {recipe: cifar, best_by: x-y}",
            ["best_by 'x-y'", "cifar-small-digits-seed3"],
        ),
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
    ("part", "expected"),
    [
        ("published: [NO_SUCH]", ["'NO_SUCH'", "DARTS_V2"]),
        ("published: []", ["empty"]),
    ],
)
def test_bad_published_parts(grid, part, expected):
    text = (
        f"size: smoke\nparts:\n  p:\n    {part}\n    evaluations: [{{recipe: cifar, datasets: [digits]}}]\n"
    )
    message = refused(grid, text)
    for words in expected:
        assert words in message


def test_published_architectures_need_data_sets_and_fitting_recipes(grid):
    text = "size: smoke\nparts:\n  p:\n    published: [DARTS_V2]\n    evaluations: [{recipe: %s}]\n"
    assert "datasets is missing" in refused(grid, text % "cifar")
    assert "space darts" in refused(grid, text % "lookup, datasets: [noisy-digits]")
    assert "need evaluations" in refused(grid, text[: text.index("    evaluations")])


@pytest.mark.parametrize(
    "text", ["", "- a\n- b\n", "size: smoke\nparts: [1]\n", "x: &a [*a]\n", "? [1]\n: 2\n"]
)
def test_other_yaml_is_refused(grid, text):
    assert "grid.yaml" in refused(grid, text)


def test_some_parts_only(repository):
    grid = read_grid(repository / "workflow/grids/smoke.yaml")
    assert {job.part for job in grid.only(["ptb", "published"]).jobs()} == {"ptb", "published"}
    with pytest.raises(GridError, match="unknown part nothing; choose among nasbench201"):
        grid.only(["nothing"])


def test_the_grids_that_ship(repository):
    jobs = {
        size: read_grid(repository / f"workflow/grids/{size}.yaml").jobs()
        for size in ("smoke", "demo", "paper")
    }
    assert all({job.size for job in found} == {size} for size, found in jobs.items())
    smoke = jobs["smoke"]
    assert {job.space for job in smoke} >= {"nasbench201", "darts", "s1", "s2", "s3", "s4", "ptb"}
    assert {job.recipe for job in smoke} >= {
        "cifar",
        "cifar-small",
        "imagenet",
        "nasbench201",
        "lookup",
        "ptb",
    }
    released = {name for name in published() if "lambdadarts" in name}
    assert len(released) == 20
    assert {job.published for job in jobs["paper"]} >= released
    embedded = {"noisy-digits", "digits", "civics"}
    assert {job.dataset for size in ("smoke", "demo") for job in jobs[size]} <= embedded


@pytest.mark.parametrize(
    "evaluation",
    ["{recipe: cifar, seeds: [0]}", "{recipe: cifar, best_by: cifar-noisy-digits}"],
)
def test_one_training_under_two_names_is_refused(grid, evaluation):
    """They would be the same result in two directories, and could not be collected."""
    message = refused(grid, f"{GRID}      - {evaluation}\n")
    assert "is asked for twice, first by the part first" in message
