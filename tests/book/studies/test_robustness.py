"""The grid around the demonstration: what it changes, and what is computed from its searches."""

from __future__ import annotations

import functools
import itertools
import json
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ldarts_book.studies import robustness, study, verdict
from ldarts_book.studies.demonstration import NotRecorded
from ldarts_book.studies.variants import SEEDS
from ldarts_lib import cli
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.errors import ProtocolError
from ldarts_lib.tables.tables import Benchmark

CELLS = {"111111": 0.30, "300001": 0.35, "000300": 0.60, "000303": 0.70, "333333": 0.80}
SKIPS, CUT, ONE, TWO, SIX = CELLS
CONVOLUTIONS = {SKIPS: 0, CUT: 0, ONE: 1, TWO: 1, SIX: 6}  # in TWO, nothing reaches node 2
FOUND = {
    "baseline": {"DARTS": [SKIPS, ONE, CUT, TWO], "Λ-DARTS": [ONE, SIX, TWO, SIX]},
    "depth=2": {"DARTS": [TWO, SKIPS, ONE, SIX], "Λ-DARTS": [ONE, SKIPS, SIX, SIX]},
}


@pytest.fixture
def judged():
    """Four seeds per setting and method; each search ends with the cell of FOUND after one of skips."""
    rows = [
        {"setting": setting, "variant": method, "seed": 30 + place, "epoch": epoch, "ops": ops}
        | {"valid_alignment": 0.1 * epoch + place + 10 * (method == "Λ-DARTS")}
        for setting, methods in FOUND.items()
        for method, last in methods.items()
        for place, cell in enumerate(last)
        for epoch, ops in enumerate([SKIPS, cell])
    ]
    benchmark = Benchmark("toy", pd.DataFrame({"accuracy": CELLS}), "accuracy", lambda ops: ops)
    return study.judge(pd.DataFrame(rows), benchmark)


def test_every_setting_changes_one_field_of_the_demonstration():
    assert len(robustness.SETTINGS) == 8
    assert not set(robustness.SEEDS) & set(SEEDS["demonstration"])
    base = protocol().model_dump()
    for name, change in robustness.SETTINGS.items():
        changed = protocol(**change).model_dump()
        differing = {f"{field}={changed[field]}" for field in base if changed[field] != base[field]}
        assert differing == (set() if name == "baseline" else {name})
    folders = {
        study.slug(f"{name} {method}") for name in robustness.SETTINGS for method in robustness.METHODS
    }
    assert len(folders) == 16


def test_each_row_of_the_summary_is_a_setting_and_a_method(judged):
    summary = robustness.summarize(judged)
    assert list(summary.index) == list(itertools.product(FOUND, ("DARTS", "Λ-DARTS")))
    for setting, method in summary.index:
        row, cells = summary.loc[(setting, method)], FOUND[setting][method]
        accuracy = np.array([CELLS[cell] for cell in cells])
        base = np.array([CELLS[cell] for cell in FOUND[setting]["DARTS"]])
        assert row["n"] == 4
        assert row["mean"] == pytest.approx(accuracy.mean())
        assert row["collapsed"] == sum(CONVOLUTIONS[cell] == 0 for cell in cells)
        assert row["convolutions"] == pytest.approx(np.mean([CONVOLUTIONS[cell] for cell in cells]))
        assert row["gain"] == pytest.approx((accuracy - base).mean())
        assert row["alignment"] == pytest.approx(0.05 + 1.5 + 10 * (method == "Λ-DARTS"))
    assert np.isnan(summary.xs("DARTS", level="variant")["p_holm"]).all()
    compared = summary.xs("Λ-DARTS", level="variant")
    np.testing.assert_allclose(compared["p_holm"], adjusted_by_closed_testing(compared["p"].to_numpy()))
    assert compared.loc["baseline", "p"] == pytest.approx(2 / 2**4)


def test_gains_are_differences_of_the_same_seed(judged):
    gained = robustness.gains(judged)
    assert list(gained.index) == list(FOUND) and list(gained.columns) == [30, 31, 32, 33]
    np.testing.assert_allclose(gained.loc["baseline"], [0.3, 0.2, 0.35, 0.1])
    np.testing.assert_allclose(gained.loc["depth=2"], [-0.1, 0.0, 0.2, 0.0], atol=1e-12)


def test_the_overall_gain_is_one_comparison_over_seeds():
    gained = pd.DataFrame(
        [[0.1, 0.2, -0.3, 0.4, 0.15], [0.1, 0.1, 0.2, -0.2, 0.05], [-0.2, -0.1, -0.2, 0.0, -0.1]],
        index=["a", "b", "c"],
    )
    found = robustness.overall(gained)
    by_seed = [0.0, 0.2 / 3, -0.1, 0.2 / 3, 0.1 / 3]
    assert (found["settings"], found["positive"], found["seeds"]) == (3, 2, 5)
    assert found["gain"] == pytest.approx(np.mean(by_seed))
    assert found["gain_low"] < found["gain"] < found["gain_high"]
    assert found["p"] == pytest.approx(stats.wilcoxon(gained.mean()).pvalue)
    text = robustness.describe(found)
    for part in ("3 settings and 5 seeds", "gains +0.013", "can give is 0.062", "in 2 of the 3 settings"):
        assert part in text
    assert robustness.overall(gained * 0)["p"] == 1


@pytest.mark.parametrize("seeds", [1, 2, 5, 8])
def test_no_p_value_is_below_the_smallest(seeds):
    one_sided = np.arange(1, seeds + 1) / 10
    assert robustness.smallest_p(seeds) == pytest.approx(stats.wilcoxon(one_sided).pvalue)


def test_eight_seeds_cannot_survive_the_correction_and_nine_can():
    settings = len(robustness.SETTINGS)
    for seeds, possible in ((8, False), (9, True)):
        best_row, *_ = verdict.holm([robustness.smallest_p(seeds)] + [1.0] * (settings - 1))
        assert (best_row < 0.05) == possible


def adjusted_by_closed_testing(p):
    """Holm's values by their definition: reject one if Bonferroni rejects every set that contains it."""
    members = range(len(p))
    sets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(members, size)]
    return [max(min(1, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in members]


@pytest.mark.parametrize("seed", range(4))
def test_holm_agrees_with_closed_testing(seed):
    p = np.random.default_rng(seed).uniform(0, 0.2, 7).round(2)  # with ties
    np.testing.assert_allclose(verdict.holm(p), adjusted_by_closed_testing(p))


def test_the_readable_summary_has_every_number_with_its_interval(judged):
    summary = robustness.summarize(judged)
    words = robustness.readable(summary)
    assert list(words.index) == list(summary.index)
    row, numbers = words.loc[("baseline", "Λ-DARTS")], summary.loc[("baseline", "Λ-DARTS")]
    assert row["collapsed"] == "0 of 4 (0.00, 0.49)"
    assert row["accuracy"] == f"0.725 ({numbers['low']:.3f}, {numbers['high']:.3f})"
    assert row["gain"].startswith("+0.238 (+")
    assert (row["p"], row["p (Holm)"], row["convolutions"], row["Λ"]) == ("0.125", "0.250", "3.5", "+11.55")
    assert set(words.loc[("baseline", "DARTS"), ["gain", "p", "p (Holm)"]]) == {""}


def test_the_last_epochs_are_kept(tmp_path, monkeypatch):
    found = robustness.run(["depth=2"], [30, 31], tmp_path, size="smoke", workers=1)
    assert list(found["setting"].unique()) == ["depth=2"]
    searches = found.groupby(["variant", "seed"], sort=False)["epoch"].apply(list)
    assert searches.to_dict() == {(m, seed): [0, 1] for m in robustness.METHODS for seed in (30, 31)}
    monkeypatch.setattr(study, "last", functools.partial(study.last, count=1))
    late = robustness.run(["depth=2"], [30, 31], tmp_path, size="smoke", workers=1)
    pd.testing.assert_frame_equal(late, found[found["epoch"] == 1].reset_index(drop=True))
    config = json.loads((tmp_path / "depth-2-lambda-darts-seed31" / "config.json").read_text())
    assert (config["depth"], config["method"], config["seed"]) == (2, "lambda", 31)


def test_unknown_settings_and_empty_grids_are_refused(tmp_path):
    with pytest.raises(ProtocolError, match=r"unknown setting 'depth=3'; choose from baseline, alpha_lr"):
        robustness.run(["baseline", "depth=3"], [30], tmp_path)
    for settings, seeds in (([], [30]), (["baseline"], [])):
        with pytest.raises(ProtocolError, match="at least one setting and one seed"):
            robustness.run(settings, seeds, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_chapter_reads_searches_a_part_or_searches_all(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(robustness, "run", lambda settings, seeds, *_, **__: calls.append((settings, seeds)))
    robustness.epochs("demo", tmp_path)
    robustness.epochs("full", tmp_path)
    robustness.epochs("full", tmp_path, seeds=3)
    parts = [(tuple(settings), list(seeds)) for settings, seeds in calls]
    everything = tuple(robustness.SETTINGS)
    assert parts == [
        (robustness.DEMO_SETTINGS, [30, 31]),
        (everything, [*range(30, 40)]),
        (everything, [30, 31, 32]),
    ]
    assert set(robustness.DEMO_SETTINGS) < set(everything)


def test_a_missing_record_says_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.setattr(robustness, "files", lambda _: tmp_path)
    with pytest.raises(NotRecorded, match=r"no .*recorded/robustness/epochs\.csv\.gz; `ldarts robustness`"):
        robustness.epochs("smoke", tmp_path)


def test_the_command_writes_what_the_chapter_reads(digits201, tmp_path, monkeypatch, capsys):
    out = tmp_path / "recorded" / "robustness"
    arguments = ["--out", out, "--size", "smoke", "--seeds", 1, "--settings", "baseline", "--workers", 1]
    monkeypatch.setattr(sys, "argv", ["ldarts", "robustness", *map(str, arguments)])
    cli.main()
    printed = capsys.readouterr().out
    assert "baseline" in printed and "Over 1 settings and 1 seeds" in printed
    written = (out / "epochs.csv.gz").read_bytes()
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["settings"] == ["baseline"] and provenance["seeds"] == [30]
    assert provenance["command"].startswith("ldarts robustness --first-seed 30 --seeds 1")
    cli.main()  # resumed: nothing is searched again
    assert (out / "epochs.csv.gz").read_bytes() == written
    monkeypatch.setattr(robustness, "files", lambda _: tmp_path)
    read = robustness.recorded()
    found = robustness.run(["baseline"], [30], out, size="smoke", workers=1)
    pd.testing.assert_frame_equal(read, found, rtol=1e-3, check_dtype=False)
    assert read["ops"].str.fullmatch("[0-4]{6}").all()
