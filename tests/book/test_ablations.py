import pandas as pd
import pytest

from ldarts_book import ablations, studies


@pytest.fixture(scope="module")
def judged():
    return studies.judged("strengths")


@pytest.fixture(scope="module")
def table(judged):
    return ablations.strengths(judged)


def test_every_form_has_its_strengths_and_darts_at_zero(judged, table):
    means = studies.outcomes(judged).groupby("variant")["accuracy"].mean()
    assert set(table.index) == {*studies.STRENGTHS, *((form, 0.0) for form, _ in studies.STRENGTHS)}
    for form, rows in table.groupby(level="form"):
        assert rows.index.is_monotonic_increasing
        assert rows.loc[(form, 0.0), "mean"] == pytest.approx(means["DARTS"])
    for key, name in studies.STRENGTHS.items():
        assert table.loc[key, "mean"] == pytest.approx(means[name])


def test_the_best_strength_above_zero_is_chosen(table):
    assert ablations.choose(table) == list(studies.CHOSEN)
    assert set(studies.STUDIES["chosen"].variants) == {"DARTS", *studies.CHOSEN}
    best = {"DARTS", "Λ-DARTS, λ = 1/8", "Λ-DARTS, projected, λ = 2"}
    names = pd.Series({key: studies.STRENGTHS.get(key, "DARTS") for key in table.index})
    chosen = ablations.choose(table.assign(mean=table["mean"] + names.isin(best)))
    assert best - {"DARTS"} < set(chosen) and len(chosen) == len(studies.CHOSEN)


def test_a_random_cell_is_better_than_half_of_all_cells():
    toy = pd.DataFrame({"accuracy": [0.1, 0.5, 0.5, 0.8], "cells": [1, 2, 3, 4]})
    found = ablations.share_below(toy, [0.1, 0.5, 0.8, 0.0, 0.9, 0.6])
    assert found.tolist() == pytest.approx([0.05, 0.35, 0.8, 0, 1, 0.6])
    assert found[:3] @ [0.1, 0.5, 0.4] == pytest.approx(0.5)
