import pandas as pd
import pytest

from ldarts_book import ablations, studies


def judged(best):
    """Two searches of two epochs of every variant; those of ``best`` find a better cell."""
    rows = [
        {
            "variant": name,
            "seed": seed,
            "epoch": epoch,
            "accuracy": 0.6 + 0.1 * (name in best) + 0.01 * seed,
            "regret": 0.2,
            "convolutions": 2,
            "collapsed": False,
            "skips": 1,
            "seconds": 1.0,
            **dict.fromkeys(
                (
                    "train_alignment",
                    "valid_alignment",
                    "valid_projected_alignment",
                    "entropy",
                    "train_loss",
                    "valid_loss",
                ),
                0.5,
            ),
        }
        for name in studies.STUDIES["strengths"].variants
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    return pd.DataFrame(rows)


def test_every_form_has_its_strengths_and_darts_at_zero():
    table = ablations.strengths(judged({"DARTS"}))
    assert set(table.index) == {*studies.STRENGTHS, *((form, 0.0) for form, _ in studies.STRENGTHS)}
    for form, rows in table.groupby(level="form"):
        assert rows.index.is_monotonic_increasing
        assert rows.loc[(form, 0.0), "mean"] == pytest.approx(0.705)
    assert set(table["n"]) == {2}


def test_the_best_strength_above_zero_is_chosen():
    best = {"DARTS", "Λ-DARTS, λ = 1/8", "Λ-DARTS, projected, λ = 2"}
    chosen = ablations.choose(ablations.strengths(judged(best)))
    assert best - {"DARTS"} < set(chosen) and len(chosen) == len(studies.CHOSEN)


def test_the_chosen_strengths_are_those_of_the_record():
    table = ablations.strengths(studies.judged("strengths"))
    assert ablations.choose(table) == list(studies.CHOSEN)
    assert set(studies.STUDIES["chosen"].variants) == {"DARTS", *studies.CHOSEN}


def test_a_random_cell_is_better_than_half_of_all_cells():
    toy = pd.DataFrame({"accuracy": [0.1, 0.5, 0.5, 0.8], "cells": [1, 2, 3, 4]})
    found = ablations.share_below(toy, [0.1, 0.5, 0.8, 0.0, 0.9, 0.6])
    assert found.tolist() == pytest.approx([0.05, 0.35, 0.8, 0, 1, 0.6])
    assert found[:3] @ [0.1, 0.5, 0.4] == pytest.approx(0.5)
