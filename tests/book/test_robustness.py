"""The chapter on robustness: what is computed from the grid around the demonstration."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ldarts_book import robustness, studies
from ldarts_lib import open_table

ACCURACY = {  # four seeds per setting and method
    "baseline": {"DARTS": [0.3, 0.6, 0.35, 0.7], "Λ-DARTS": [0.6, 0.8, 0.7, 0.8]},
    "depth=2": {"DARTS": [0.7, 0.3, 0.6, 0.8], "Λ-DARTS": [0.6, 0.3, 0.8, 0.8]},
}


@pytest.fixture
def judged():
    columns = ("train_alignment", "valid_projected_alignment", "entropy", "train_loss", "valid_loss", "skips")
    return pd.DataFrame(
        {"setting": setting, "variant": method, "seed": 30 + place, "epoch": epoch, "accuracy": accuracy}
        | {"collapsed": accuracy < 0.5, "convolutions": epoch, "valid_alignment": 0.1 * epoch + place}
        | dict.fromkeys(columns, 0.0)
        for setting, methods in ACCURACY.items()
        for method, several in methods.items()
        for place, last in enumerate(several)
        for epoch, accuracy in enumerate([0.3, last])
    )


def test_each_row_of_the_summary_is_a_setting_and_a_method(judged):
    summary = robustness.summarize(judged)
    assert list(summary.index) == list(itertools.product(ACCURACY, ("DARTS", "Λ-DARTS")))
    for setting, method in summary.index:
        row, accuracy = summary.loc[(setting, method)], np.array(ACCURACY[setting][method])
        assert row["mean"] == pytest.approx(accuracy.mean())
        assert row["collapsed"] == (accuracy < 0.5).sum()
        assert row["gain"] == pytest.approx((accuracy - ACCURACY[setting]["DARTS"]).mean())
        assert (row["convolutions"], row["valid_alignment"]) == (1, pytest.approx(0.05 + 1.5))
    assert np.isnan(summary.xs("DARTS", level="variant")["p_holm"]).all()
    compared = summary.xs("Λ-DARTS", level="variant")
    np.testing.assert_allclose(compared["p_holm"], studies.holm(compared["p"]))
    assert compared.loc["baseline", "p"] == pytest.approx(2 / 2**4)
    words = robustness.in_words(summary)
    row, numbers = words.loc[("baseline", "Λ-DARTS")], summary.loc[("baseline", "Λ-DARTS")]
    assert row["p (Holm)"] == f"{numbers['p_holm']:.3f}" and row["Λ"] == "+1.55"
    assert words.loc[("baseline", "DARTS"), ["gain", "p", "p (Holm)"]].tolist() == ["", "", ""]


def test_a_study_is_compared_on_the_seeds_that_all_its_recorded_variants_have(judged, monkeypatch):
    some = judged[(judged["variant"] == "DARTS") | (judged["seed"] < 33)]
    monkeypatch.setattr(studies, "judged", lambda name: some, raising=False)
    monkeypatch.setattr(studies, "is_recorded", lambda name: True, raising=False)
    rows = robustness.known("any")
    assert set(rows["seed"]) == {30, 31, 32} and len(rows) == 24
    gains = robustness.compared(rows)["gain"]
    assert gains[("depth=2", "Λ-DARTS")] == pytest.approx((-0.1 + 0.0 + 0.2) / 3)
    some = judged[judged["variant"] != "DARTS"]
    assert robustness.known("any").empty
    monkeypatch.setattr(studies, "is_recorded", lambda name: False, raising=False)
    assert robustness.known("any").empty


def test_each_method_has_a_row_at_each_learning_rate_that_its_setting_names(judged):
    settings = list(ACCURACY)[:2]
    named = dict(zip(settings, ("α learning rate × 1/3", "α learning rate × 3"), strict=True))
    found = robustness.by_rate(judged[judged["setting"].isin(settings)].replace({"setting": named}))
    found = found.set_index([robustness.TIMES, "variant"])
    assert set(found.index) == set(itertools.product((1 / 3, 3.0), ("DARTS", "Λ-DARTS")))
    for setting, times in zip(settings, (1 / 3, 3.0), strict=True):
        for method, accuracy in ACCURACY[setting].items():
            assert found.loc[(times, method), "mean"] == pytest.approx(np.mean(accuracy))


def test_the_overall_gain_is_one_comparison_over_seeds(judged):
    found = robustness.overall(judged)
    by_seed = np.array([0.3 - 0.1, 0.2 + 0.0, 0.35 + 0.2, 0.1 + 0.0]) / 2
    assert found["gain"] == pytest.approx(by_seed.mean())
    assert found["gain_low"] < found["gain"] < found["gain_high"]
    assert found["p"] == pytest.approx(2 / 2**4)
    text = robustness.describe(robustness.summarize(judged), found)
    for part in ("2 settings and 4 seeds", "gains +0.131", "can give is 0.125", "in 2 of the 2 settings"):
        assert part in text
    for seeds in (1, 2, 5, 8):  # no p-value is below the smallest
        one_sided = np.arange(1, seeds + 1) / 10
        assert robustness.smallest_p(seeds) == pytest.approx(stats.wilcoxon(one_sided).pvalue)


def test_recipes_are_held_against_trainings_that_differ_by_noise_alone():
    """Two recipes order the cells alike, a third one in reverse; those of random search do not count."""
    table = open_table("digits-201").frame
    found = table.iloc[[3, 70, 700, 2000, 5000]]
    rows = pd.DataFrame(
        {"variant": variant, "seed": place, "ops": ops, "setting": recipe, "accuracy": sign * place}
        for recipe, sign in (("a", 1), ("b", 2), ("c", -1))
        for variant, cells in (("DARTS", found["ops"]), ("random search", found["ops"][::-1]))
        for place, ops in enumerate(cells)
    )
    pairs = robustness.rank_correlations(rows)
    assert pairs["recipes"].tolist() == pytest.approx([1, -1, -1])
    trainings = found[["accuracy_0", "accuracy_1", "accuracy_2"]]
    again = [
        stats.spearmanr(trainings[one], trainings[other])[0]
        for one, other in itertools.combinations(trainings, 2)
    ]
    assert pairs["trainings"].tolist() == pytest.approx(again)
