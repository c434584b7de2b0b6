"""Tables of our own runs, and their cost."""

from __future__ import annotations

import pandas as pd
import pytest

from ldarts_book.grid.grid import GridError
from ldarts_book.published import own_tables, reproduction

EMPTY = pd.DataFrame()


def evaluated(space, dataset, number, recipe, **more):
    """A row of an evaluation, as the reader of results gives it."""
    searched = {"space": space, "dataset": dataset, "method": "lambda", "size": "paper", "seed": number}
    return {
        "stage": "evaluate", "recipe": recipe, "dataset": dataset, "size": "paper", "seed": 0,
        "architecture": f"{space}/{dataset}/lambda/seed{number}", "test_accuracy": 0.9,
        **{f"searched_{key}": value for key, value in searched.items()},
    } | more  # fmt: skip


def test_published_cells_that_were_trained_here():
    rows = [
        {
            "stage": "evaluate", "recipe": "cifar", "dataset": "cifar10", "size": "paper", "seed": seed,
            "architecture": "lambdadarts_corr_0", "test_accuracy": accuracy, "best_test_accuracy": 0.976,
            "parameters": 3_400_000,
        }
        for seed, accuracy in enumerate((0.973, 0.975))
    ]  # fmt: skip
    found = own_tables.trained_published(pd.DataFrame([*rows, evaluated("darts", "cifar10", 0, "cifar")]))
    (row,) = found.to_dict("records")
    assert row["test accuracy (%)"] == "97.40 ± 0.14"
    assert (row["n"], row["best"], row["best epoch"]) == (2, "97.50", "97.60")
    assert own_tables.trained_published(EMPTY).empty


def test_language_models_have_no_published_number():
    rows = pd.DataFrame(
        [
            evaluated("ptb", "ptb", seed, "ptb", test_perplexity=value)
            for seed, value in enumerate((60.0, 58.0))
        ]
    )
    found = own_tables.perplexities(rows)
    assert (found["published"] == "").all()
    assert found.loc["Λ-DARTS", ["ours", "n", "best"]].tolist() == ["59.00 ± 1.41", 2, "58.00"]
    assert found.loc["DARTS", "ours"] == reproduction.NOT_RUN


def test_machinery_holds_what_the_paper_tables_do_not():
    rows = pd.DataFrame(
        [
            evaluated("s1", "noisy-digits", 0, "cifar-small", size="demo", searched_size="demo"),
            evaluated("s1", "noisy-digits", 1, "cifar-small", size="smoke", searched_size="smoke"),
            evaluated("s1", "cifar10", 1, "cifar-small"),
            *(
                {"stage": "evaluate", "recipe": "cifar", "dataset": "digits", "size": "smoke", "seed": 0}
                | {"architecture": name, "test_accuracy": 0.5}
                for name in ("DARTS_V1", "DARTS_V2")
            ),
        ]
    )
    found = own_tables.machinery(rows)
    assert list(found.index.get_level_values("size")) == ["demo", "smoke", "smoke", "smoke"]
    assert list(found.index.get_level_values("architecture")) == ["", "DARTS_V1", "DARTS_V2", ""]
    assert found["n"].tolist() == [1] * 4
    assert own_tables.machinery(EMPTY).empty


def test_costs_are_those_of_the_plan():
    found = own_tables.cost("nasbench201", "released-imagenet")
    assert found.loc[("nasbench201", "search"), "jobs"] == 8
    assert found.loc[("nasbench201", "lookup"), "GPU-hours"] == 0
    assert found.loc[("released-imagenet", "imagenet"), "GPU-hours"] > 100
    with pytest.raises(GridError, match="unknown part"):
        own_tables.cost("s5")
