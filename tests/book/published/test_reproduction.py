"""Ours beside the published numbers: only runs of paper size, one number a search, empty where not run."""

from __future__ import annotations

import statistics

import pandas as pd
import pytest

from ldarts_book.published import numbers as published_results
from ldarts_book.published import own_tables, reproduction
from ldarts_book.published.results import ResultsError


def evaluated(space, dataset, method, number, *, on=None, recipe="lookup", accuracy=0.9, **more):
    """A row as the reader of results gives it."""
    return {
        "stage": "evaluate",
        "recipe": recipe,
        "dataset": on or dataset,
        "size": "paper",
        "seed": 0,
        "architecture": f"{space}/{dataset}/{method}/seed{number}",
        "searched_space": space,
        "searched_dataset": dataset,
        "searched_method": method,
        "searched_size": "paper",
        "searched_seed": number,
        "test_accuracy": accuracy,
        "best_test_accuracy": accuracy + 0.001,
        "valid_accuracy": accuracy - 0.01,
        "parameters": 3_500_000,
        "path": "somewhere",
    } | more


def frame(*rows):
    return pd.DataFrame(rows)


EMPTY = pd.DataFrame()
ACCURACY = "test accuracy (%)"


@pytest.mark.parametrize("table", published_results.TABLES)
def test_without_runs_every_cell_says_so(table):
    found = reproduction.beside(table, EMPTY)
    assert (found["ours"] == reproduction.NOT_RUN).all()
    assert (found["n"] == 0).all()
    assert (found["protocol"] == "").all()


def test_published_numbers_keep_their_place():
    found = reproduction.beside("nasbench201", EMPTY)
    row = found.loc[("Λ-DARTS", "nasbench201", "cifar10", ACCURACY, "lookup")]
    assert (row["published"], row["reported"]) == ("94.36 ± 0.00", "as reported by GENIUS")
    space = reproduction.beside("darts-space", EMPTY)
    assert space.loc[("Λ-DARTS", "darts", "cifar10", ACCURACY, "cifar"), "published"] == "97.48 ± 0.11"
    assert (space.loc["Λ-DARTS, sign form", "published"] == "").all()
    assert (space.loc["Λ-DARTS", "reported"] == "as reported by APD").all()


def test_mean_deviation_best_and_seeds():
    accuracies = [0.940, 0.943, 0.9436, 0.9401]
    rows = [evaluated("nasbench201", "cifar10", "lambda", s, accuracy=a) for s, a in enumerate(accuracies)]
    found = reproduction.beside("nasbench201", frame(*rows))
    row = found.loc[("Λ-DARTS", "nasbench201", "cifar10", ACCURACY, "lookup")]
    percent = [100 * a for a in accuracies]
    assert row["ours"] == f"{statistics.mean(percent):.2f} ± {statistics.stdev(percent):.2f}"
    assert (row["n"], row["best"]) == (4, "94.36")
    assert "searches with the seeds 0, 1, 2, 3" in row["protocol"]
    assert found.loc[("DARTS", "nasbench201", "cifar10", ACCURACY, "lookup"), "ours"] == "not run here"


def test_trainings_of_one_cell_are_one_search():
    rows = [
        evaluated("darts", "cifar10", "lambda", 0, recipe="cifar", accuracy=0.97, seed=0),
        evaluated("darts", "cifar10", "lambda", 0, recipe="cifar", accuracy=0.98, seed=1),
        evaluated("darts", "cifar10", "lambda", 1, recipe="cifar", accuracy=0.96),
    ]
    found = reproduction.beside("darts-space", frame(*rows))
    row = found.loc[("Λ-DARTS", "darts", "cifar10", ACCURACY, "cifar")]
    assert (row["n"], row["best"]) == (2, "97.50")
    assert row["ours"].startswith("96.75 ±")
    parameters = found.loc[("Λ-DARTS", "darts", "cifar10", "parameters (M)", "cifar")]
    assert (parameters["published"], parameters["ours"]) == ("3.5 ± 0.13", "3.50 ± 0.00")


@pytest.mark.parametrize("change", [{"size": "demo"}, {"size": "smoke"}, {"searched_size": "demo"}])
def test_sizes_are_never_mixed(change):
    small = evaluated("nasbench201", "cifar10", "lambda", 0) | change
    found = reproduction.beside("nasbench201", frame(small))
    assert (found["ours"] == reproduction.NOT_RUN).all()
    points = reproduction.points("nasbench201", "cifar10", "test_accuracy", frame(small))
    assert set(points.index.get_level_values(1)) == {"published"}
    shown = own_tables.machinery(frame(small, evaluated("nasbench201", "cifar10", "lambda", 1)))
    assert shown["n"].tolist() == [1]


def test_other_spaces_data_sets_and_recipes_stay_out():
    rows = frame(
        evaluated("darts8", "cifar10", "lambda", 0, recipe="cifar"),
        evaluated("darts", "cifar100", "lambda", 0, recipe="cifar"),
        evaluated("darts", "cifar10", "lambda", 0, recipe="cifar-small"),
        evaluated("darts", "cifar10", "lambda-noise", 0, recipe="cifar"),
        {"stage": "search", "space": "darts", "dataset": "cifar10", "method": "lambda", "size": "paper"},
    )
    assert (reproduction.beside("darts-space", rows)["ours"] == reproduction.NOT_RUN).all()


def test_best_of_several_and_the_mean_are_kept_apart():
    errors = [0.03, 0.05, 0.04]
    rows = frame(
        *(
            evaluated("s1", "cifar10", "darts", seed, recipe="cifar-small", accuracy=1 - error)
            for seed, error in enumerate(errors)
        )
    )
    key = ("DARTS", "s1", "cifar10", "test error (%)", "cifar-small")
    one = reproduction.beside("s1-s4-one-search", rows).loc[key]
    three = reproduction.beside("s1-s4-three-searches", rows).loc[key]
    assert (one["published"], one["ours"]) == ("3.84", "3.00 (best of 3)")
    assert (three["published"], three["ours"]) == ("4.66 ± 0.71", "4.00 ± 1.00")
    assert one["published protocol"] != three["published protocol"]
    both = reproduction.beside("s1-s4-one-search", rows)
    assert set(both.xs("cifar10", level="data set").index.unique("recipe")) == {"cifar", "cifar-small"}


def test_a_chosen_cell_says_so():
    row = evaluated("darts", "cifar10", "lambda", 2, on="imagenet", recipe="imagenet")
    found = reproduction.beside("darts-space", frame(row | {"path": "darts/cifar10/lambda/best/imagenet"}))
    protocol = found.loc[("Λ-DARTS", "darts", "imagenet", ACCURACY, "imagenet"), "protocol"]
    assert "the best of several by its test accuracy elsewhere" in protocol


def test_recorded_runs_come_from_the_folder_that_is_named(tmp_path):
    with pytest.raises(ResultsError, match="there is no folder"):
        reproduction.recorded(str(tmp_path / "nowhere"))
    assert reproduction.recorded(str(tmp_path)).rows.empty
    assert set(reproduction.COLUMNS) >= {"stage", "size", "searched_size"}
    assert reproduction.paper(reproduction.recorded("").rows).columns.is_unique


def test_points_of_a_figure():
    rows = [evaluated("nasbench201", "cifar10", "lambda", s, accuracy=a) for s, a in enumerate((0.9, 0.92))]
    found = reproduction.points("nasbench201", "cifar10", "test_accuracy", frame(*rows))
    ours = found.xs("run here", level=1)
    assert ours.index.tolist() == ["Λ-DARTS"]
    assert ours.loc["Λ-DARTS", ["value", "std"]].tolist() == pytest.approx([91.0, 2**0.5])
    assert (found["high"] - found["value"]).dropna().tolist() == pytest.approx(found["std"].dropna().tolist())
    assert found.loc[("Λ-DARTS", "published"), "value"] == 94.36


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown table 'figure1'"):
        reproduction.beside("figure1", EMPTY)
    with pytest.raises(ValueError, match="unknown quantity 'loss'"):
        reproduction.per_search(frame(evaluated("darts", "cifar10", "lambda", 0)), "loss")


def test_a_single_search_has_no_deviation():
    assert reproduction.mean_std([]) == ""
    assert reproduction.mean_std([97.4801]) == "97.48"
    assert reproduction.mean_std([97.0, 98.0]) == "97.50 ± 0.71"
