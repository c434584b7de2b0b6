import numpy as np
import pandas as pd
import pytest

from ldarts_book import ablations
from ldarts_book.studies import demonstration, study
from ldarts_book.studies.variants import CHOSEN, FORMS, GROUPS, at, value


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
        for name in GROUPS["strengths"]
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    return pd.DataFrame(rows)


def test_every_form_has_its_strengths_and_darts_at_zero():
    table = ablations.strengths(judged({"DARTS"}))
    for form, (_, steps) in FORMS.items():
        assert table.loc[form].index.tolist() == [0, *map(value, steps)]
        assert table.loc[(form, 0.0), "mean"] == pytest.approx(0.705)
    assert set(table["n"]) == {2}


def test_the_best_strength_above_zero_is_chosen():
    best = {"DARTS", at("Λ-DARTS", "1/8"), at("Λ-DARTS, projected", "2")}
    chosen = ablations.choose(ablations.strengths(judged(best)))
    assert chosen["Λ-DARTS"] == 1 / 8 and chosen["Λ-DARTS, projected"] == 2
    assert set(chosen) == set(CHOSEN)


def test_a_choice_is_as_optimistic_as_in_a_simulation():
    draws = np.random.default_rng(0).normal(0.7, 0.13, (4000, 6, 10)).mean(-1).max(-1)
    standard_error = draws.std() / len(draws) ** 0.5
    assert ablations.optimism(6, 0.13, 10) == pytest.approx(draws.mean() - 0.7, abs=4 * standard_error)
    assert ablations.optimism(1, 0.13, 10) == pytest.approx(0, abs=1e-12)
    assert ablations.optimism(2, 1, 1) == pytest.approx(1 / np.sqrt(np.pi))
    with pytest.raises(ValueError, match="at least one setting and one seed, got 0 and 10"):
        ablations.optimism(0, 0.13, 10)


def test_the_chosen_strengths_are_those_of_the_record(digits201):
    rows = study.judge(demonstration.epochs("smoke", "unused", group="strengths"), digits201)
    table = ablations.strengths(rows)
    assert ablations.choose(table) == {form: value(strength) for form, strength in CHOSEN.items()}
    assert set(GROUPS["chosen"]) == {"DARTS", *(at(form, strength) for form, strength in CHOSEN.items())}
