"""The jobs of a grid: every combination, their directories, their parameters, what they wait for."""

from gridtext import GRID


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
    search = jobs["s2/noisy-digits/lambda/seed1/search"]
    assert search.parameters(tmp_path) == {
        "space": "s2",
        "dataset": "noisy-digits",
        "method": "lambda",
        "size": "smoke",
        "seed": 1,
        "out": str(tmp_path / "s2/noisy-digits/lambda/seed1/search"),
    }
    evaluation = jobs["s2/noisy-digits/lambda/seed1/cifar-small-digits-seed4"]
    assert evaluation.parameters(tmp_path) == {
        "architecture": search.parameters(tmp_path)["out"],
        "dataset": "digits",
        "recipe": "cifar-small",
        "size": "smoke",
        "seed": 4,
        "out": str(tmp_path / "s2/noisy-digits/lambda/seed1/cifar-small-digits-seed4"),
    }
    default = jobs["s2/noisy-digits/lambda/seed1/cifar-noisy-digits"]
    assert default.parameters(tmp_path)["seed"] == 0
    assert default.executed == "s2/noisy-digits/lambda/seed1/cifar-noisy-digits.ipynb"
    assert (search.notebook, default.notebook) == ("one_search.ipynb", "one_evaluation.ipynb")


def test_published_architectures_need_no_search(grid, tmp_path):
    text = "size: smoke\nparts:\n  p:\n    published: [DARTS_V2]\n    evaluations:\n"
    (job,) = grid(text + "      - {recipe: cifar, datasets: [digits]}\n").jobs()
    assert job.directory == "published/DARTS_V2/cifar-digits-seed0"
    assert job.needs == ()
    assert job.parameters(tmp_path)["architecture"] == "DARTS_V2"


def test_the_best_of_several_searches_waits_for_all_that_judge(grid, tmp_path):
    jobs = grid(GRID + "      - {recipe: imagenet, datasets: [digits], best_by: cifar-noisy-digits}\n").jobs()
    (job,) = [job for job in jobs if job.directory == "s1/noisy-digits/darts/best/imagenet-digits"]
    above = "s1/noisy-digits/darts"
    assert job.needs == (f"{above}/seed0/cifar-noisy-digits", f"{above}/seed1/cifar-noisy-digits")
    assert job.parameters(tmp_path)["architecture"] == {
        str(tmp_path / above / f"seed{seed}/search"): str(
            tmp_path / above / f"seed{seed}/cifar-noisy-digits/metrics.json"
        )
        for seed in (0, 1)
    }
