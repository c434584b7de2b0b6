"""Ours beside the published numbers: only runs of paper size, one number a search, empty where not run."""

from __future__ import annotations

import re
import statistics

import pandas as pd
import pytest

from ldarts_book.grid.grid import GridError
from ldarts_book.published import numbers, reproduction
from ldarts_book.published.results import ResultsError, recorded


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


@pytest.mark.parametrize("table", numbers.TABLES)
def test_without_runs_every_cell_says_so(table):
    found = reproduction.beside(table, EMPTY)
    assert (found["ours"] == reproduction.NOT_RUN).all()
    assert (found["n"] == 0).all()
    assert (found["protocol"] == "").all()


def test_a_table_without_runs_is_one_sentence_with_its_command_and_cost():
    nothing = reproduction.run_here(reproduction.beside("nasbench201", EMPTY), "nasbench201")
    assert re.search(r"`ldarts sweep paper --parts nasbench201 --out .*`: \d+ jobs, \d+ hours", nothing.data)
    assert "`ldarts sweep paper --out" in reproduction.run_here(pd.DataFrame({"n": []})).data
    one = frame(evaluated("nasbench201", "cifar10", "lambda", 0))
    found = reproduction.run_here(reproduction.beside("nasbench201", one), "nasbench201")
    assert len(found) == 2 and (found["n"] == 1).all()


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
    shown = reproduction.machinery(frame(small, evaluated("nasbench201", "cifar10", "lambda", 1)))
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
    errors, small = [0.03, 0.05, 0.04], {"recipe": "cifar-small"}
    rows = [evaluated("s1", "svhn", "darts", s, accuracy=1 - e, **small) for s, e in enumerate(errors)]
    key = ("DARTS", "s1", "svhn", "test error (%)", "cifar-small")
    one = reproduction.beside("s1-s4-one-search", frame(*rows)).loc[key]
    three = reproduction.beside("s1-s4-three-searches", frame(*rows)).loc[key]
    assert (one["published"], one["ours"]) == ("4.58", "3.00 (best of 3, by its test)")
    assert (three["published"], three["ours"]) == ("9.88 ± 5.50", "4.00 ± 1.00")
    assert one["published protocol"] != three["published protocol"]
    short = [
        evaluated("s1", "svhn", "darts", s, accuracy=a, recipe="choice")
        for s, a in enumerate((0.8, 0.9, 0.7))
    ]
    both = frame(*rows, *short)
    assert reproduction.beside("s1-s4-one-search", both).loc[key]["ours"] == "5.00 (best of 3, by validation)"
    assert reproduction.beside("s1-s4-three-searches", both).loc[key].equals(three)
    large = frame(*rows[:1], *short).replace({"recipe": {"cifar-small": "cifar"}})
    assert (
        reproduction.beside("s1-s4-one-search", large)["n"] == 0
    ).all()  # the chosen cell is not trained yet


def test_a_chosen_cell_says_so():
    row = evaluated("darts", "cifar10", "lambda", 2, on="imagenet", recipe="imagenet")
    found = reproduction.beside("darts-space", frame(row | {"path": "darts/cifar10/lambda/best/imagenet"}))
    protocol = found.loc[("Λ-DARTS", "darts", "imagenet", ACCURACY, "imagenet"), "protocol"]
    assert "the best of several by its test accuracy elsewhere" in protocol


def test_recorded_runs_come_from_the_folder_that_is_named(tmp_path):
    with pytest.raises(ResultsError, match="there is no folder"):
        recorded(str(tmp_path / "nowhere"))
    assert recorded(str(tmp_path)).rows.empty
    assert reproduction.paper(recorded("").rows).columns.is_unique


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
        reproduction.points("nasbench201", "cifar10", "loss", EMPTY)


def test_a_single_search_has_no_deviation():
    assert reproduction.mean_std([]) == ""
    assert reproduction.mean_std([97.4801]) == "97.48"
    assert reproduction.mean_std([97.0, 98.0]) == "97.50 ± 0.71"


def test_published_cells_that_were_trained_here():
    rows = [
        {
            "stage": "evaluate", "recipe": "cifar", "dataset": "cifar10", "size": "paper", "seed": seed,
            "architecture": "lambdadarts_corr_0", "test_accuracy": accuracy, "best_test_accuracy": 0.976,
            "parameters": 3_400_000,
        }
        for seed, accuracy in enumerate((0.973, 0.975))
    ]  # fmt: skip
    found = reproduction.trained_published(
        pd.DataFrame([*rows, evaluated("darts", "cifar10", "lambda", 0, recipe="cifar")])
    )
    (row,) = found.to_dict("records")
    assert row["test accuracy (%)"] == "97.40 ± 0.14"
    assert (row["n"], row["best"], row["best epoch"]) == (2, "97.50", "97.60")
    assert reproduction.trained_published(EMPTY).index.names == ["architecture", "data set", "recipe"]


def test_language_models_have_no_published_number():
    several = enumerate((60.0, 58.0))
    rows = [evaluated("ptb", "ptb", "lambda", s, recipe="ptb", test_perplexity=value) for s, value in several]
    found = reproduction.perplexities(frame(*rows))
    assert (found["published"] == "").all()
    assert found.loc["Λ-DARTS", ["ours", "n", "best"]].tolist() == ["59.00 ± 1.41", 2, "58.00"]
    assert found.loc["DARTS", "ours"] == reproduction.NOT_RUN


def test_machinery_holds_what_the_paper_tables_do_not():
    rows = pd.DataFrame(
        [
            *(
                evaluated("s1", "noisy-digits", "lambda", seed, recipe="cifar-small", size=size)
                | {"searched_size": size}
                for seed, size in enumerate(("demo", "smoke"))
            ),
            evaluated("s1", "cifar10", "lambda", 1, recipe="cifar-small"),
            *(
                {"stage": "evaluate", "recipe": "cifar", "dataset": "digits", "size": "smoke", "seed": 0}
                | {"architecture": name, "test_accuracy": 0.5}
                for name in ("DARTS_V1", "DARTS_V2")
            ),
        ]
    )
    found = reproduction.machinery(rows)
    assert list(found.index.get_level_values("size")) == ["demo", "smoke", "smoke", "smoke"]
    assert list(found.index.get_level_values("architecture")) == ["", "DARTS_V1", "DARTS_V2", ""]
    assert found["n"].tolist() == [1] * 4
    assert reproduction.machinery(EMPTY).empty


def test_costs_are_those_of_the_plan():
    found = reproduction.cost("nasbench201", "released-imagenet")
    assert found.loc[("nasbench201", "search"), "jobs"] == 8
    assert found.loc[("nasbench201", "lookup"), "GPU-hours"] == 0
    assert found.loc[("released-imagenet", "imagenet"), "GPU-hours"] > 100
    with pytest.raises(GridError, match="unknown part"):
        reproduction.cost("s5")
