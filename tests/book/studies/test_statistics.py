import itertools

import numpy as np
import pandas as pd
import pytest

from ldarts_book.studies import statistics
from ldarts_book.studies.judges import LOOKED_UP
from ldarts_lib.tables.tables import Table

SKIPS, POOLS, CONVOLUTIONS, CUT = "111111", "444444", "333333", "300001"
WORTH = {SKIPS: 0.4, POOLS: 0.25, CONVOLUTIONS: 0.8, CUT: 0.1}
TOY = Table("toy", {"ops": [*WORTH], "accuracy": [*WORTH.values()]}, "ops", "accuracy", lambda ops: ops)


def searches(**cells):
    """One search of each name, seed 0: the cells of its epochs; the loss falls, then rises."""
    return pd.DataFrame(
        {"variant": name, "seed": 0, "epoch": epoch, "ops": ops, "valid_loss": abs(epoch - 1.5)}
        for name, series in cells.items()
        for epoch, ops in enumerate(series)
    )


def results(**accuracies):
    return pd.DataFrame(
        {"variant": name, "seed": seed, "accuracy": a, "collapsed": a < 0.5}
        for name, several in accuracies.items()
        for seed, a in enumerate(several)
    )


def test_rules_pick_an_epoch():
    falling = searches(a=[CONVOLUTIONS, CONVOLUTIONS, "113333", SKIPS])
    assert [rule(falling) for rule in statistics.STOPPING.values()] == [1, 1, 1]
    assert statistics.before_two_skips(searches(a=[SKIPS, SKIPS])) == 0
    assert statistics.before_two_skips(searches(a=["133333", "313333"])) == 1


def test_early_stopping_is_another_row_of_the_same_searches():
    rows = searches(DARTS=[CONVOLUTIONS, CONVOLUTIONS, SKIPS, SKIPS], other=[POOLS] * 4)
    found = statistics.with_stopping(LOOKED_UP.judge(rows, TOY)).set_index("variant")["accuracy"]
    stopped = {f"DARTS, {rule}": 0.8 for rule in statistics.STOPPING}
    assert found.to_dict() == {"DARTS": 0.4, "other": 0.25, **stopped}


def test_the_cost_of_a_search_is_that_of_all_its_epochs():
    rows = searches(a=[CONVOLUTIONS] * 8)
    rows = pd.concat([rows.assign(seconds=1.0), rows.assign(seed=1, seconds=2.0)], ignore_index=True)
    for kept in (rows, statistics.last(rows, 3)):
        assert statistics.outcomes(kept)["seconds"].tolist() == [8, 16]
    half = statistics.STOPPING["half the epochs"]
    assert statistics.outcomes(rows, half)["seconds"].tolist() == [4, 8]
    assert len(statistics.last(rows, 3)) == 6


def test_the_report_compares_with_the_baseline_seed_by_seed():
    same, better = [0.4, 0.45, 0.7, 0.8, 0.75, 0.42], [0.5, 0.6, 0.75, 0.82, 0.8, 0.7]
    found = statistics.report(results(DARTS=same, better=better, same=same))
    assert list(found.index) == ["DARTS", "better", "same"]
    better = found.loc["better"]
    assert better["mean"] == pytest.approx(0.695)
    assert 0.55 < better["low"] < 0.695 < better["high"] < 0.79
    assert better["gain"] == pytest.approx(np.mean([0.1, 0.15, 0.05, 0.02, 0.05, 0.28]))
    assert 0.02 < better["gain_low"] < better["gain"] < better["gain_high"] < 0.28
    assert better["p"] == pytest.approx(2 / 2**6)  # six gains of one sign, of 64 ways to choose signs
    assert found.loc["same", ["gain", "gain_low", "gain_high", "p"]].tolist() == [0, 0, 0, 1]
    assert found["collapsed"].tolist() == [3, 0, 3]
    z, n = 1.959964, 6  # Wilson's interval at 3 of 6
    half = z / (1 + z * z / n) * np.sqrt(0.25 / n + z * z / (4 * n * n))
    wilson = found.loc["DARTS", ["collapse_low", "collapse_high"]].tolist()
    np.testing.assert_allclose(wilson, [0.5 - half, 0.5 + half], atol=1e-6)


def test_a_judge_may_keep_one_row_per_search():
    known = results(DARTS=[0.4, 0.6], a=[0.6, 0.7])
    assert statistics.outcomes(known).equals(known)


def test_each_setting_has_a_baseline_of_its_own():
    one, other = results(DARTS=[0.4, 0.6], a=[0.6, 0.7]), results(DARTS=[0.7, 0.6], a=[0.6, 0.6])
    found = statistics.report(pd.concat([one.assign(setting="one"), other.assign(setting="other")]))
    assert list(found.index) == list(itertools.product(("one", "other"), ("DARTS", "a")))
    for setting, alone in (("one", one), ("other", other)):
        pd.testing.assert_frame_equal(found.loc[setting], statistics.report(alone))


def test_collapses_are_compared_on_the_seeds_that_differ():
    known = results(DARTS=[0.4, 0.4, 0.4, 0.4, 0.6, 0.4], other=[0.6, 0.6, 0.6, 0.6, 0.4, 0.4])
    found = statistics.report(known)
    outcomes = list(itertools.product((0, 1), repeat=5))  # which of the two collapsed, on five seeds
    as_one_sided = [sum(one) in (0, 1, 4, 5) for one in outcomes]
    assert found.loc["other", "p_collapse"] == pytest.approx(np.mean(as_one_sided))
    assert found.loc["DARTS", "p_collapse"] == 1


def test_a_report_in_words_says_nothing_of_the_baseline_against_itself():
    known = results(DARTS=[0.4, 0.6], other=[0.6, 0.7]).assign(regret=[0.4, 0.2, 0.2, 0.1], seconds=3.0)
    found = statistics.report(known)
    assert found["regret"].tolist() == pytest.approx([0.3, 0.15])
    words = statistics.readable(found)
    assert words.loc["DARTS", ["gain", "p", "p of collapse"]].tolist() == ["", "", ""]
    assert words.loc["DARTS", "collapsed"].startswith("1 of 2 (")
    assert words.loc["other", "gain"].startswith("+0.150 (")
    assert words.loc["other", ["worst, best", "regret", "seconds"]].tolist() == [
        "0.600, 0.700",
        "0.150",
        "3.0",
    ]
    alone = statistics.report(known.drop(columns=["regret", "seconds"]))
    assert not {"regret", "seconds"} & {*alone, *statistics.readable(alone)}


def test_contrasts_compare_pairs_seed_by_seed():
    known = results(DARTS=[0.4, 0.6, 0.7], a=[0.6, 0.7, 0.8], b=[0.5, 0.8, 0.9])
    found = statistics.contrasts(known, [("a", "b"), ("b", "DARTS")])
    assert list(found.index) == [("a", "b"), ("b", "DARTS")]
    np.testing.assert_allclose(found["gain"], [-1 / 30, 1 / 6])
    alone = statistics.report(known, baseline="b").loc["a"]
    assert found.loc[("a", "b"), "p"] == alone["p"]
    assert found["p_holm"].tolist() == statistics.holm(found["p"]).tolist()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"unknown baseline 'darts'; choose one of .*DARTS"):
        statistics.report(results(DARTS=[0.4, 0.5]), baseline="darts")
    with pytest.raises(ValueError, match="'b' has other seeds than 'DARTS'"):
        statistics.report(results(DARTS=[0.4, 0.5], b=[0.5, 0.6, 0.7]))


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    draw = np.random.default_rng(1)
    samples = draw.normal(0.7, 0.1, (60, 12))
    intervals = [statistics.mean_interval(pd.Series(sample)) for sample in samples]
    assert 0.85 < np.mean([low < 0.7 < high for low, high in intervals]) < 1
    assert np.isnan(statistics.mean_interval(pd.Series([0.5]))).all()


def adjusted_by_closed_testing(p):
    """Holm's values by their definition: reject one if Bonferroni rejects every set that contains it."""
    members = range(len(p))
    sets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(members, size)]
    return [max(min(1, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in members]


@pytest.mark.parametrize("seed", range(4))
def test_holm_agrees_with_closed_testing(seed):
    p = np.random.default_rng(seed).uniform(0, 0.2, 7).round(2)  # with ties
    np.testing.assert_allclose(statistics.holm(p), adjusted_by_closed_testing(p))


def test_a_choice_is_as_optimistic_as_in_a_simulation():
    draws = np.random.default_rng(0).normal(0.7, 0.13, (4000, 6, 10)).mean(-1).max(-1)
    standard_error = draws.std() / len(draws) ** 0.5
    assert statistics.optimism(6, 0.13, 10) == pytest.approx(draws.mean() - 0.7, abs=4 * standard_error)
    assert statistics.optimism(1, 0.13, 10) == pytest.approx(0, abs=1e-12)
    assert statistics.optimism(2, 1, 1) == pytest.approx(1 / np.sqrt(np.pi))
    with pytest.raises(ValueError, match="at least one setting and one seed, got 0 and 10"):
        statistics.optimism(0, 0.13, 10)
