"""Results: one row a run, bad files by name, twins refused, means over seeds, the recorded copy."""

import gzip
import json
import statistics

import pandas as pd
import pytest

from ldarts_book.published.results import (
    ResultsError,
    collect,
    read_results,
    seed_means,
    shipped,
    write_tables,
)
from runfolders import EVALUATION, SEARCH, SEARCHED, write_run


def evaluation(search_seed, accuracy, **changes):
    searched = {**SEARCHED, "seed": search_seed}
    name = f"s2/cifar10/lambda/seed{search_seed}"
    changed = {"searched": searched, "architecture": name, "test_accuracy": accuracy, **changes}
    return {**EVALUATION, **changed}


@pytest.fixture
def runs(tmp_path):
    """Three searches' evaluations and one search."""
    source = tmp_path / "runs"
    write_run(source / "search", SEARCH, history_csv="epoch\n0\n")
    for seed, accuracy in enumerate([0.90, 0.94, 0.95]):
        write_run(source / f"seed{seed}", evaluation(seed, accuracy), history_csv="epoch\n0\n")
    return source


def test_a_shipped_run_has_a_row_per_epoch():
    outcome, history = shipped("demo/s2/noisy-digits/lambda/seed0/search")
    assert (outcome["method"], outcome["epochs"]) == ("lambda", len(history))
    assert history["valid_alignment"].iloc[-1] == outcome["valid_alignment"]


def test_one_row_for_each_run(runs):
    found = read_results(runs)
    assert not found.problems
    assert list(found.rows["path"]) == ["search", "seed0", "seed1", "seed2"]
    search = found.rows.iloc[0]
    named = ["stage", "space", "seed", "valid_accuracy"]
    assert search[named].tolist() == ["search", "s2", 1, 0.75]
    last = found.rows.iloc[-1]
    assert (last["dataset"], last["searched_space"], last["searched_seed"]) == ("cifar10", "s2", 2)
    assert last["test_accuracy"] == 0.95


def test_an_empty_folder_and_a_missing_one(tmp_path):
    found = read_results(tmp_path)
    assert found.rows.empty
    assert seed_means(found.rows).empty
    with pytest.raises(ResultsError, match="there is no folder"):
        read_results(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("metrics", '{"version": 1, "sta', "damaged"),
        ("metrics", json.dumps({**SEARCH, "version": 3}), "version 3"),
        ("metrics", json.dumps(evaluation(0, 1.2)), "test_accuracy = 1.2"),
        ("metrics", json.dumps(evaluation(0, float("nan"))), "nan"),
        ("config", None, "no config.json"),
        ("config", '{"size": "smoke"}', "another run"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_skipped(runs, name, text, expected):
    (runs / f"seed0/{name}.json").write_text(text) if text else (runs / f"seed0/{name}.json").unlink()
    found = read_results(runs)
    (problem,) = found.problems
    assert str(runs / "seed0/metrics.json") in problem and expected in problem
    assert list(found.rows["path"]) == ["search", "seed1", "seed2"]


@pytest.mark.parametrize(("metrics", "other"), [(evaluation(1, 0.99), "seed1"), (SEARCH, "search")])
def test_two_runs_that_claim_to_be_the_same_are_refused(runs, metrics, other):
    write_run(runs / "more", evaluation(1, 0.99, seed=1))  # another seed is another run
    assert len(read_results(runs).rows) == 5
    write_run(runs / "again", metrics)
    with pytest.raises(ResultsError, match=f"again and .*{other} claim to be the same run"):
        read_results(runs)


def test_the_summary_is_that_of_the_sample(runs):
    table = seed_means(read_results(runs).rows).set_index("measure")
    accuracies = [0.90, 0.94, 0.95]
    row = table.loc["test_accuracy"]
    assert row["n"] == 3
    assert row["mean"] == pytest.approx(statistics.mean(accuracies))
    assert row["std"] == pytest.approx(statistics.stdev(accuracies))
    assert row["best"] == 0.95
    assert row["searched_method"] == "lambda"
    assert pd.isna(row["architecture"])
    assert set(table.index) == {"test_accuracy", "best_test_accuracy"}


def test_sizes_recipes_and_data_sets_are_never_mixed(runs):
    for name, changes in {
        "size": {"size": "demo", "searched": {**SEARCHED, "size": "demo"}},
        "recipe": {"recipe": "cifar-small"},
        "dataset": {"dataset": "cifar100"},
        "published": {"searched": None, "architecture": "DARTS_V2"},
        "space": {"searched": {**SEARCHED, "space": "s3"}},
        "setting": {"changed": "cutout = 8"},
        "searched setting": {"searched": {**SEARCHED, "changed": "lambda_max = 0.5"}},
    }.items():
        write_run(runs / name, {**EVALUATION, **changes})
    table = seed_means(read_results(runs).rows)
    table = table[table["measure"] == "test_accuracy"]
    assert sorted(table["n"]) == [1, 1, 1, 1, 1, 1, 1, 3]
    single = table[table["n"] == 1]
    assert single["std"].isna().all()
    assert (single["mean"] == 0.97).all()
    assert list(table["architecture"].dropna()) == ["DARTS_V2"]


def test_the_best_perplexity_is_the_lowest(runs):
    text = {**EVALUATION, "recipe": "ptb", "valid_perplexity": 60.0}
    for key in ("test_accuracy", "best_test_accuracy", "multiply_adds"):
        del text[key]
    for seed, perplexity in enumerate([58.0, 56.5]):
        write_run(runs / f"text{seed}", {**text, "seed": seed, "test_perplexity": perplexity})
    row = seed_means(read_results(runs).rows).set_index("measure").loc["test_perplexity"]
    assert (row["best"], row["n"]) == (56.5, 2)


def test_runs_of_different_lengths_are_not_averaged(runs):
    write_run(runs / "short", evaluation(3, 0.5, epochs=10))
    with pytest.raises(ResultsError, match=r"seed0, short .*different numbers of epochs"):
        seed_means(read_results(runs).rows)


def test_tables_are_written(runs, tmp_path):
    (runs / "seed0/metrics.json").write_text("{")
    found = write_tables(runs, tmp_path / "tables")
    assert len(found.problems) == 1
    rows = pd.read_csv(tmp_path / "tables/results.csv")
    assert list(rows["path"]) == ["search", "seed1", "seed2"]
    table = pd.read_csv(tmp_path / "tables/results.csv", dtype=str)
    assert table["searched_seed"].tolist()[1:] == ["1", "2"]
    assert table["epochs"].tolist() == ["50", "600", "600"]
    assert pd.read_csv(tmp_path / "tables/summary.csv")["n"].tolist() == [2, 2]


def test_what_is_collected_is_complete_small_and_portable(runs, tmp_path):
    out = str(runs.resolve() / "seed0")
    private = {
        "command": [
            "/home/me/env/bin/ldarts",
            "--out",
            out,
            "--root=/home/someone/data",
            "/home/someone else/x",
        ],
        "continues": {"command": ["C:\\Users\\someone\\ldarts.exe"]},
        "versions": {"torch": "2.9.0+cpu", "platform": "Linux-6.1-x86_64-with-glibc2.36"},
        "url": "https://example.org/a/b",
    }
    (runs / "seed0/environment.json").write_text(json.dumps(private))
    (runs / "seed0/checkpoint.pt").write_bytes(b"x" * 1000)
    target = tmp_path / "data"
    assert len(collect(runs, target).rows) == 4
    names = {"config.json", "environment.json", "genotype.json", "metrics.json", "history.csv.gz"}
    assert {path.name for path in (target / "seed0").iterdir()} == names
    assert gzip.decompress((target / "seed0/history.csv.gz").read_bytes()) == b"epoch\n0\n"
    stored = json.loads((target / "seed0/environment.json").read_text())
    assert stored == {
        "command": ["ldarts", "--out", "seed0", "--root=data", "x"],
        "continues": {"command": ["ldarts.exe"]},
        "versions": private["versions"],
        "url": private["url"],
    }
    pd.testing.assert_frame_equal(read_results(target).rows, read_results(runs).rows)


def test_collecting_again_keeps_equal_outcomes_and_refuses_others(runs, tmp_path):
    target = tmp_path / "data"
    collect(runs, target)
    kept = (target / "seed0/metrics.json").stat().st_mtime_ns
    (runs / "seed0/metrics.json").write_text(json.dumps(evaluation(0, 0.90, seconds=1.0)))
    write_run(runs / "new", evaluation(5, 0.5))
    collect(runs, target)
    assert (target / "seed0/metrics.json").stat().st_mtime_ns == kept
    assert (target / "new/metrics.json").exists()
    (runs / "seed1/metrics.json").write_text(json.dumps(evaluation(1, 0.1)))
    write_run(runs / "newer", evaluation(6, 0.5))
    with pytest.raises(ResultsError, match="other results of seed1; nothing was copied"):
        collect(runs, target)
    assert not (target / "newer").exists()
    collect(runs, target, overwrite=True)
    assert read_results(target).rows.set_index("path").loc["seed1", "test_accuracy"] == 0.1


def test_runs_that_cannot_be_used_are_not_collected(runs, tmp_path):
    (runs / "seed0/config.json").unlink()
    found = collect(runs, tmp_path / "data")
    assert len(found.problems) == 1
    assert not (tmp_path / "data/seed0").exists()


def test_a_copy_without_metrics_is_completed(runs, tmp_path):
    target = tmp_path / "data"
    collect(runs, target)
    (target / "seed2/metrics.json").unlink()
    collect(runs, target)
    assert read_results(target).rows["path"].tolist() == ["search", "seed0", "seed1", "seed2"]
