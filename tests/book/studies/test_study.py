import itertools

import numpy as np
import pandas as pd
import pytest

from ldarts_book.studies import robustness, study, verdict
from ldarts_book.studies.variants import CHOOSING, CONFIRMING, GROUPS, REPORTED, SEEDS, VARIANTS, variants
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.tables.tables import Benchmark

SKIPS, POOLS, CONVOLUTIONS, CUT = "111111", "444444", "333333", "300001"
WORTH = {SKIPS: 0.4, POOLS: 0.25, CONVOLUTIONS: 0.8, CUT: 0.1}


@pytest.fixture
def benchmark():
    table = pd.DataFrame({"accuracy": WORTH})
    return Benchmark("toy", table, "accuracy", lambda ops: ops)


def searches(**cells):
    """One search of each name, seed 0: the cells of its epochs; the loss falls, then rises."""
    return pd.DataFrame(
        [
            {"variant": name, "seed": 0, "epoch": epoch, "ops": ops, "valid_loss": abs(epoch - 1.5)}
            for name, series in cells.items()
            for epoch, ops in enumerate(series)
        ]
    )


def test_cells_are_judged_by_the_table(benchmark):
    judged = study.judge(searches(a=[CONVOLUTIONS, SKIPS, POOLS, CUT]), benchmark)
    assert judged["accuracy"].tolist() == [0.8, 0.4, 0.25, 0.1]
    np.testing.assert_allclose(judged["regret"], [0, 0.4, 0.55, 0.7])
    assert judged["skips"].tolist() == [0, 6, 0, 1]
    assert judged["convolutions"].tolist() == [6, 0, 0, 0]


def test_rules_pick_an_epoch():
    falling = searches(a=[CONVOLUTIONS, CONVOLUTIONS, "113333", SKIPS])
    assert verdict.last_epoch(falling) == 3
    assert verdict.lowest_validation_loss(falling) == 1
    assert verdict.before_two_skips(falling) == 1
    assert verdict.half_time(falling) == 1
    assert verdict.before_two_skips(searches(a=[SKIPS, SKIPS])) == 0
    assert verdict.before_two_skips(searches(a=["133333", "313333"])) == 1


def test_early_stopping_is_another_row_of_the_same_searches(benchmark):
    judged = study.judge(
        searches(DARTS=[CONVOLUTIONS, CONVOLUTIONS, SKIPS, SKIPS], other=[POOLS] * 4), benchmark
    )
    found = verdict.with_stopping(judged).set_index("variant")["accuracy"]
    assert found.to_dict() == {
        "DARTS": 0.4,
        "other": 0.25,
        "DARTS, lowest validation loss": 0.8,
        "DARTS, before two skips": 0.8,
        "DARTS, half the epochs": 0.8,
    }


def results(**accuracies):
    return pd.DataFrame(
        [
            {"variant": name, "seed": seed, "accuracy": a, "convolutions": 0 if a < 0.5 else 2}
            for name, several in accuracies.items()
            for seed, a in enumerate(several)
        ]
    )


def test_the_report_compares_with_the_baseline_seed_by_seed():
    found = verdict.report(
        results(
            DARTS=[0.4, 0.45, 0.7, 0.8, 0.75, 0.42],
            better=[0.5, 0.6, 0.75, 0.82, 0.8, 0.7],
            same=[0.4, 0.45, 0.7, 0.8, 0.75, 0.42],
        )
    )
    assert list(found.index) == ["DARTS", "better", "same"]
    better = found.loc["better"]
    assert better["mean"] == pytest.approx(0.695)
    assert better["low"] < 0.695 < better["high"]
    assert better["low"] > 0.55 and better["high"] < 0.79
    assert better["gain"] == pytest.approx(np.mean([0.1, 0.15, 0.05, 0.02, 0.05, 0.28]))
    assert 0.02 < better["gain_low"] < better["gain"] < better["gain_high"] < 0.28
    assert better["p"] == pytest.approx(2 / 2**6)  # six gains of one sign, of 64 ways to choose signs
    assert found.loc["same", ["gain", "gain_low", "gain_high", "p"]].tolist() == [0, 0, 0, 1]
    assert found["collapsed"].tolist() == [3, 0, 3]
    z, n = 1.959964, 6  # Wilson's interval at 3 of 6
    half = z / (1 + z * z / n) * np.sqrt(0.25 / n + z * z / (4 * n * n))
    np.testing.assert_allclose(
        found.loc["DARTS", ["collapse_low", "collapse_high"]].tolist(), [0.5 - half, 0.5 + half], atol=1e-6
    )


def test_collapses_are_compared_on_the_seeds_that_differ():
    found = verdict.report(
        results(DARTS=[0.4, 0.4, 0.4, 0.4, 0.6, 0.4], other=[0.6, 0.6, 0.6, 0.6, 0.4, 0.4])
    )
    outcomes = list(itertools.product((0, 1), repeat=5))  # which of the two collapsed, on five seeds
    as_one_sided = [sum(one) in (0, 1, 4, 5) for one in outcomes]
    assert found.loc["other", "p_collapse"] == pytest.approx(np.mean(as_one_sided))
    assert found.loc["DARTS", "p_collapse"] == 1
    assert verdict.mcnemar([True, False], [True, False]) == 1


def test_a_report_in_words_says_nothing_of_the_baseline_against_itself():
    words = verdict.readable(verdict.report(results(DARTS=[0.4, 0.6], other=[0.6, 0.7])))
    assert words.loc["DARTS", ["gain", "p", "p of collapse"]].tolist() == ["", "", ""]
    assert words.loc["DARTS", "collapsed"].startswith("1 of 2 (")
    assert words.loc["other", "worst, best"] == "0.600, 0.700"
    assert words.loc["other", "gain"].startswith("+0.150 (")


def test_regret_and_seconds_are_reported_where_they_are_known():
    known = results(DARTS=[0.4, 0.6], other=[0.6, 0.7]).assign(regret=[0.4, 0.2, 0.2, 0.1], seconds=3.0)
    found = verdict.report(known)
    assert found["regret"].tolist() == pytest.approx([0.3, 0.15])
    words = verdict.readable(found)
    assert words.loc["other", ["regret", "seconds"]].tolist() == ["0.150", "3.0"]
    assert not {"regret", "seconds"} & set(verdict.report(results(DARTS=[0.4, 0.6])))


def test_contrasts_compare_pairs_seed_by_seed():
    known = results(DARTS=[0.4, 0.6, 0.7], a=[0.6, 0.7, 0.8], b=[0.5, 0.8, 0.9])
    found = verdict.contrasts(known, [("a", "b"), ("b", "DARTS")])
    assert list(found.index) == [("a", "b"), ("b", "DARTS")]
    np.testing.assert_allclose(found["gain"], [-1 / 30, 1 / 6])
    alone = verdict.report(known, baseline="b").loc["a"]
    assert found.loc[("a", "b"), "p"] == alone["p"]
    assert found["p_holm"].tolist() == verdict.holm(found["p"]).tolist()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"unknown baseline 'darts'; choose one of .*DARTS"):
        verdict.report(results(DARTS=[0.4, 0.5]), baseline="darts")
    with pytest.raises(ValueError, match="'b' has other seeds than 'DARTS'"):
        verdict.report(results(DARTS=[0.4, 0.5], b=[0.5]))


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    draw = np.random.default_rng(1)
    samples = draw.normal(0.7, 0.1, (60, 12))
    intervals = [verdict.mean_interval(pd.Series(sample)) for sample in samples]
    assert 0.85 < np.mean([low < 0.7 < high for low, high in intervals]) < 1
    assert np.isnan(verdict.mean_interval(pd.Series([0.5]))).all()


def test_a_study_searches_and_continues(tmp_path):
    protocols = {
        "DARTS": protocol(method="darts", size="smoke", epochs=1),
        "Λ-DARTS, ε0 = 0.1": protocol(size="smoke", epochs=1, estimator="central", epsilon=0.1),
    }
    found = study.run(protocols, [3, 4], tmp_path, workers=2)
    assert found.groupby(["variant", "seed"]).size().to_dict() == {
        (name, seed): 1 for name in protocols for seed in (3, 4)
    }
    assert (tmp_path / "lambda-darts-eps-0.1-seed3" / "metrics.json").exists()
    assert found["ops"].str.fullmatch("[0-4]{6}").all()
    pd.testing.assert_frame_equal(found, study.run(protocols, [3, 4], tmp_path, workers=1))


def test_the_variants_differ_only_in_the_method():
    chosen = variants(epochs=7)
    varied = {"method", "estimator", "epsilon"}
    assert len({p.model_dump_json(exclude=varied) for p in chosen.values()}) == 1
    assert chosen["Λ-DARTS"].estimator == "exact"


def test_variants_are_distinct_and_each_is_in_a_group():
    every = {name: p for group in GROUPS for name, p in variants(group).items()}
    assert set(every) == set(VARIANTS)
    assert len({p.model_dump_json() for p in every.values()}) == len(every)
    assert len({study.slug(name) for name in every}) == len(every)
    assert {p.size for p in every.values()} == {"demo"}
    assert {next(iter(names)) for names in GROUPS.values()} == {"DARTS"}


def test_settings_are_chosen_on_other_seeds_than_reported():
    assert SEEDS["strengths"] == tuple(CHOOSING) and SEEDS["chosen"] == tuple(REPORTED)
    assert not set(CHOOSING) & (set(REPORTED) | set(CONFIRMING))
    assert not set(CONFIRMING) & (set(REPORTED) | set(robustness.SEEDS))


def test_an_ablation_changes_one_setting_of_its_baseline():
    for group in ("ablations", "strengths", "lengths"):
        chosen = variants(group)
        for name, changed in chosen.items():
            base = chosen["DARTS" if name.startswith("DARTS") else "Λ-DARTS"].model_dump()
            differing = {field for field, value in changed.model_dump().items() if value != base[field]}
            assert differing <= {"method", "lambda_max"} or len(differing) <= 1, (name, differing)


def test_groups_share_their_searches(tmp_path):
    groups = {"demonstration": [3], "ablations": [3, 4]}
    smaller = {
        name: protocol(size="smoke", epochs=1, **VARIANTS[name]) for name in ("DARTS", "Λ-DARTS, α first")
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "GROUPS", {"demonstration": ["DARTS"], "ablations": list(smaller)})
        patch.setattr(study, "variants", lambda group, _: {n: smaller[n] for n in study.GROUPS[group]})
        found = study.run_groups(groups, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    pairs = {group: list(zip(rows["variant"], rows["seed"], strict=True)) for group, rows in found.items()}
    assert pairs["demonstration"] == [("DARTS", 3)]
    assert pairs["ablations"] == [(name, seed) for name in smaller for seed in (3, 4)]
    pd.testing.assert_frame_equal(found["demonstration"], found["ablations"].head(1))


def test_the_cost_of_a_search_is_that_of_all_its_epochs():
    rows = searches(a=[CONVOLUTIONS] * 8)
    rows = pd.concat([rows.assign(seconds=1.0), rows.assign(seed=1, seconds=2.0)], ignore_index=True)
    for kept in (rows, study.last(rows, 3)):
        assert verdict.outcomes(kept)["seconds"].tolist() == [8, 16]
    assert verdict.outcomes(rows, verdict.half_time)["seconds"].tolist() == [4, 8]
    assert len(study.last(rows, 3)) == 6
