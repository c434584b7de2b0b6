import json
from pathlib import Path

import ldarts_data
import numpy as np
import pandas as pd
import pytest

from ldarts_book import groundtruth as report
from ldarts_book.studies import demonstration
from ldarts_book.studies.variants import GROUPS, SEEDS
from ldarts_lib.spaces.genotype import parse
from ldarts_lib.tables.computation import encode


@pytest.fixture(scope="module")
def benchmark(digits201):
    return digits201


@pytest.fixture(scope="module")
def recorded():
    return demonstration.epochs("smoke", "unused")


def recorded_folder(group):
    return Path(ldarts_data.__file__).parent / "recorded" / group


def shown_seed():
    return demonstration.recorded_seeds()[0]


@pytest.mark.parametrize("group", GROUPS)
def test_the_recorded_studies_are_whole(group):
    rows = demonstration.epochs("smoke", "unused", group=group)
    assert tuple(rows["variant"].unique()) == GROUPS[group]
    for _, searches in rows.groupby("variant"):
        assert tuple(searches["seed"].unique()) == SEEDS[group]
        assert searches.groupby("seed").size().nunique() == 1
    provenance = json.loads((recorded_folder(group) / "provenance.json").read_text())
    assert provenance["command"].startswith(f"ldarts study --groups {group} ")
    assert provenance["seeds"] == sorted(SEEDS[group])
    assert "command" not in provenance["environment"]  # the paths of a machine


def test_groups_share_their_recorded_searches(recorded):
    """A search that two groups compare was made once: the same rows, digit by digit."""
    for group in GROUPS:
        rows = demonstration.epochs("smoke", "unused", group=group)
        shared = rows.merge(recorded[["variant", "seed", "epoch"]], on=["variant", "seed", "epoch"])
        whole = recorded.merge(shared[["variant", "seed", "epoch"]], on=["variant", "seed", "epoch"])
        order = ["variant", "seed", "epoch"]
        pd.testing.assert_frame_equal(
            shared.sort_values(order, ignore_index=True), whole.sort_values(order, ignore_index=True)
        )


def test_the_records_are_small(repository):
    folders = [recorded_folder(group) for group in GROUPS] + [repository / "data" / "recorded" / "kinds"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2e6


def test_recorded_searches_are_rows_of_the_study(recorded):
    watched = demonstration.searches("smoke", shown_seed(), "unused")
    assert tuple(watched) == demonstration.SHOWN
    for name, one in watched.items():
        rows = recorded[(recorded["variant"] == name) & (recorded["seed"] == shown_seed())]
        assert rows["ops"].tolist() == [encode(parse(row["genotype"])) for row in one.history]
        assert len(one.trajectory) == len(one.history) == len(one.cells) == len(one.weights)
        np.testing.assert_allclose(rows["valid_loss"], [r["valid_loss"] for r in one.history], rtol=1e-3)
        chosen = one.weights[-1]
        strongest = one.trajectory.weights["normal"][-1].max(-1)
        np.testing.assert_allclose(sorted(chosen.values()), sorted(strongest), atol=1e-6)


def test_curves_and_milestones_are_looked_up(benchmark, recorded):
    one = demonstration.searches("smoke", shown_seed(), "unused")["DARTS"]
    curves = one.curves(benchmark)
    assert curves.accuracies[-1] == benchmark.accuracy(one.history[-1]["genotype"])
    assert curves.best == benchmark.table["accuracy"].max()
    table = demonstration.milestones(one, benchmark, 5)
    assert table.index[0] == 1 and table.index[-1] == len(one.history)
    assert table["accuracy"].iloc[-1] == pytest.approx(curves.accuracies[-1], abs=1e-3)


def test_a_random_cell_is_a_random_string(benchmark):
    from ldarts_lib.tables.computation import all_ops

    drawn = np.random.default_rng(0).choice(list(all_ops()), 1500)
    sample = benchmark.table["accuracy"].loc[[benchmark.key(ops) for ops in drawn]]
    error = sample.std() / len(sample) ** 0.5
    assert demonstration.random_cell(benchmark) == pytest.approx(sample.mean(), abs=4 * error)


def test_random_search_may_cost_as_much_as_the_search(benchmark):
    table = benchmark.table
    training = table["seconds"].mean()
    for seconds, tries in ((0.1 * training, 1), (7.5 * training, 7)):
        found = demonstration.references(benchmark, seconds)
        assert found["random search"] == report.random_search(table, [tries]).loc[tries, "by one seed"]
    assert found["random cell"] == demonstration.random_cell(benchmark) < found["random search"]
    assert found["random search"] < found["best cell"] == table["accuracy"].max()


def test_a_seed_that_was_not_recorded_is_refused():
    with pytest.raises(demonstration.NotRecorded, match="seed = 4: recorded are the seeds"):
        demonstration.searches("smoke", 4, "unused")


def test_who_decides_is_counted_over_the_searches():
    rows = [
        {
            "variant": "a",
            "seed": seed,
            "epoch": epoch,
            "norm_0": n0,
            "norm_1": n1,
            "decision_0": d0,
            "decision_1": d1,
        }
        for seed, late in ((0, (3.0, 1.0, 0.9, 0.2)), (1, (2.0, 1.0, 0.1, 0.8)), (2, (1.0, 4.0, 0.2, 0.8)))
        for epoch, (n0, n1, d0, d1) in enumerate([(0.0, 9.0, 0.0, 1.0), late, late])
    ]
    found = demonstration.deciders(pd.DataFrame(rows), count=2).loc["a"]
    assert found["norm"].tolist() == [2, 2]
    np.testing.assert_allclose(found["cosine with the sum"], [0.4, 0.6])
    assert found["longest"].tolist() == [2, 1]
    assert found["decides"].tolist() == [1, 2]


def test_the_loss_is_held_against_the_accuracy():
    rows = [
        {"variant": "a", "seed": seed, "epoch": e, "valid_loss": loss, "accuracy": accuracy}
        for seed, sign in ((0, -1), (1, 1))
        for e, (loss, accuracy) in enumerate(
            [(1.0, 0.5 + 0.1 * sign), (2.0, 0.5 + 0.2 * sign), (3.0, 0.5 + 0.3 * sign)]
        )
    ]
    found = demonstration.loss_against_accuracy(pd.DataFrame(rows), ["a"]).loc["a"]
    assert found["mean rank correlation"] == 0
    assert (found["smallest"], found["largest"]) == (-1, 1)
    assert found["accuracy at the lowest loss"] == pytest.approx(0.5)
    assert found["accuracy at the end"] == pytest.approx(0.5)


@pytest.mark.slow
def test_two_searches_are_made_anew(tmp_path):
    found = demonstration.searches("demo", 3, tmp_path)
    assert tuple(found) == demonstration.SHOWN
    assert all(len(one.history) == 80 for one in found.values())
