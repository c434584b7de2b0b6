"""The chapter that compares all methods: what it computes from records, whole, partial or absent."""

import numpy as np
import pandas as pd
import pytest

from ldarts_book import figures, remedies, studies
from ldarts_book.studies import records, statistics
from ldarts_lib.errors import RunError
from ldarts_lib.files import locked
from ldarts_lib.tables.tables import open_table

CONVOLUTIONS, SKIPS, CUT = "333333", "111111", "300001"
COSTS = pd.Series({"DARTS": 4.0, "DARTS, 10 epochs": 0.4, "Λ-DARTS": 3.4})


def searches(seeds, **cells):
    """Searches under their names, those of the sign form with half of the seeds: the cell of each epoch."""
    rest = {"train_loss": 0.1, "seconds": 1.0}
    return pd.DataFrame(
        {"variant": name, "seed": seed, "epoch": epoch, "ops": one, "valid_loss": epoch, **rest}
        for name, ops in cells.items()
        for seed in (seeds[: len(seeds) // 2] if "sign" in name else seeds)
        for epoch, one in enumerate(ops)
    )


@pytest.fixture
def recorded(monkeypatch):
    """Records that are made up: DARTS collapses in its last epoch, Λ-DARTS does not."""
    good = [CONVOLUTIONS, CONVOLUTIONS]
    cells = {"DARTS": [CONVOLUTIONS, SKIPS], "Λ-DARTS": good, "DARTS, 10 epochs": good}
    cells |= {"Λ-DARTS, sign form": [CUT, CUT], "Λ-DARTS, λ = 4": [SKIPS, SKIPS]}
    known = searches(range(200, 206), **cells)
    shown = known[known["variant"].isin(studies.SHOWN)]
    made = {"remedies": known, "stopping": shown, "remedy-strengths": known[:0]}
    monkeypatch.setattr(statistics, "mean_interval", lambda values: (values.min(), values.max()))
    monkeypatch.setattr(records, "is_recorded", lambda name: name in made)
    monkeypatch.setattr(records, "_recorded", lambda name: made[name])
    return made


def test_every_method_is_compared_with_darts_and_with_random_search_of_its_cost(recorded):
    table = open_table("digits-201")
    found = remedies.results(COSTS)
    report, tests = remedies.compare(found)
    assert "Λ-DARTS, λ = 4" not in report.index  # not chosen
    assert report.loc["DARTS", ["collapsed", "disconnected", "cost"]].tolist() == [6, 0, 4]
    assert report.loc["Λ-DARTS, sign form", ["n", "collapsed", "disconnected"]].tolist() == [3, 3, 3]
    stopped = report.loc["DARTS, lowest validation loss"]
    assert (stopped["collapsed"], stopped["cost"]) == (0, 2)  # after one of two epochs
    rivals = [pair for pair in tests.index if pair[1] != "DARTS"]
    assert dict(rivals)["Λ-DARTS"] == "random search, 3 cells"
    assert dict(rivals)["DARTS, 10 epochs"] == "random search, 1 cells" and "Λ-DARTS, sign form" not in dict(
        rivals
    )
    assert tests["p_holm"].tolist() == studies.holm(tests["p"].astype(float)).tolist()
    gain = table.frame.at[table.key(CONVOLUTIONS), "accuracy"] - table.frame.at[table.key(SKIPS), "accuracy"]
    assert tests.loc[("Λ-DARTS", "DARTS"), "gain"] == pytest.approx(gain)
    assert remedies.undominated(report.dropna(subset="train_loss")) == ["DARTS, 10 epochs"]
    means, cost = remedies.findings(report, tests.assign(p_holm=0.01))
    assert (
        "better than DARTS: Λ-DARTS; DARTS, 10 epochs; " in means and "worse: Λ-DARTS, sign form. " in means
    )
    assert cost.endswith("one of these: DARTS, 10 epochs.")
    unsure, _ = remedies.findings(report, tests.assign(p_holm=0.01, gain_low=-1.0))
    assert "better than DARTS: none; worse: Λ-DARTS, sign form. " in unsure  # of gains that may be losses
    methods = report.dropna(subset=["cost", "train_loss"])
    figure = figures.dominance(methods, report.filter(like="random search", axis=0), ["DARTS, 10 epochs"])
    assert figure.axes[0].get_xscale() == "log"
    assert {text.get_text() for text in figure.legends[0].get_texts()} >= {*methods.index, "random search"}


def test_a_search_that_stops_itself_keeps_the_cost_that_was_timed(recorded):
    early, late = searches(range(200, 203), **{"DARTS-ES": [CONVOLUTIONS]}), [CONVOLUTIONS, CONVOLUTIONS]
    ends = [recorded["remedies"], early, searches(range(203, 206), **{"DARTS-ES": late})]
    recorded["remedies"] = pd.concat(ends)
    found = remedies.results(pd.Series({**COSTS, "DARTS-ES": 7.0}))
    assert set(found.loc[found["variant"] == "DARTS-ES", "cost"]) == {7.0}


def test_no_two_methods_look_alike_in_the_picture_of_costs():
    names = [*studies.planned(studies.STUDIES["remedies"]).variants, "DARTS-PT"]
    names += [f"DARTS, {rule}" for rule in studies.STOPPING]
    costs = np.linspace(2, 29, len(names))
    table = pd.DataFrame({"mean": 0.7, "low": 0.6, "high": 0.8, "cost": costs}, index=names)
    (ax,) = figures.dominance(table, table[:1]).axes
    marks = [(line.get_color(), line.get_marker()) for line in ax.lines if line.get_label() in names]
    assert len(names) == len(marks) == len({*marks})
    ax.figure.draw_without_rendering()
    assert not any(label.get_text() for label in ax.get_xticklabels(minor=True))  # they would overlap


def test_without_costs_nothing_is_said_of_random_search(recorded):
    report, tests = remedies.compare(remedies.results(COSTS[:0]))
    assert {against for _, against in tests.index} == {"DARTS"}
    means, cost = remedies.findings(report, tests)
    assert "better than DARTS: " in means and "random search of equal cost: not run here." in means
    assert cost.endswith("not run here.") and "one of these" not in cost


def test_without_a_record_there_is_chance(monkeypatch):
    monkeypatch.setattr(records, "is_recorded", lambda name: False)
    report, tests = remedies.compare(remedies.results(pd.Series(dtype=float)))
    assert list(report.index) == list(remedies.CHANCE) and tests.empty
    assert all("not run here" in text for text in remedies.findings(report, tests))
    assert set(studies.missing("remedies")["variant"]) < set(studies.STUDIES["remedies"].variants)


def test_random_search_chooses_by_one_training_and_is_judged_by_the_others(recorded):
    table = open_table("digits-201")
    naive = []
    for seed in range(200, 240):
        by, *others = (f"accuracy_{(seed + more) % 3}" for more in range(3))
        cells = [table.frame.loc[table.key(ops)] for ops in studies.drawn_cells(seed, 4)]
        naive.append(max(cells, key=lambda cell: cell[by])[others].mean())
    found = remedies.results(COSTS).query("variant == 'random search, 4 cells'")
    np.testing.assert_allclose(found["accuracy"], naive)
    assert studies.drawn_cells(7, 2) == studies.drawn_cells(7, 4)[:2] and set(
        "".join(studies.drawn_cells(7, 9, "23"))
    ) == {"2", "3"}


def test_the_strongest_mean_is_chosen_once_all_are_recorded(recorded):
    family = {name: [SKIPS] for name in studies.FAMILIES["Λ-DARTS"]} | {"Λ-DARTS, λ = 4": [CONVOLUTIONS]}
    recorded["remedy-strengths"] = searches(range(9), **family)
    assert studies.chosen("remedy-strengths")["Λ-DARTS"] == "Λ-DARTS"  # one seed is missing
    recorded["remedy-strengths"] = searches(range(10), **family)
    assert studies.chosen("remedy-strengths")["Λ-DARTS"] == "Λ-DARTS, λ = 4"
    variants = studies.planned(studies.STUDIES["remedies"]).variants
    assert "Λ-DARTS, λ = 4" in variants and "Λ-DARTS" not in variants and "Λ-DARTS, sign form" in variants


def test_costs_are_measured_by_one_process_at_a_time(tmp_path):
    (tmp_path / "costs").mkdir()
    with locked(tmp_path / "costs"), pytest.raises(RunError, match="is in use by process"):
        studies.make_records(["costs"], tmp_path, variants=["DARTS"], size="smoke")
    assert not (tmp_path / "costs" / "costs.csv").exists()


def test_costs_of_packs_are_scaled_to_whole_searches_and_selections_added(tmp_path, monkeypatch):
    seconds = {"search": 8.0, "standalone_accuracy": 2.0, "run_packed": 6.0, "select_by_perturbation": 1.0}
    monkeypatch.setattr(studies.digits201, "_cpu_seconds", lambda work: seconds[work.func.__name__])
    names = ["DARTS", "DARTS, 10 epochs", "DARTS-PT"]
    found = studies.digits201.measure_costs(tmp_path, names, cells=3).set_index("variant")
    assert found["seconds"].tolist() == [8, 8, 9] and found["ratio"].tolist() == [4, 4, 4.5]
    # a tenth of the six seconds of a pack, whose 10 epochs stand for 80, and whose one epoch stands for 10
    assert found["packed"].tolist() == pytest.approx([0.6 * 8, 0.6 * 10, 0.6 * 8 + 1])
    assert remedies.searches_per_hour(found).loc["DARTS"].tolist() == pytest.approx([450, 750])


@pytest.mark.slow
def test_costs_are_measured_in_turns(tmp_path):
    found = studies.digits201.measure_costs(tmp_path, ["DARTS", "DARTS, 10 epochs"], "smoke", cells=1)
    assert found["variant"].tolist() == ["DARTS", "DARTS, 10 epochs"]
    np.testing.assert_allclose(found["ratio"], found["seconds"] / found["training"], rtol=0.01)
    assert (found["packed"] > 0).all()
    assert (tmp_path / "costs.csv").exists() and (tmp_path / "provenance.json").exists()
