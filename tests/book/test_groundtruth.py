"""The report on a table: against enumeration, simulation and other formulas, on small made-up tables."""

import itertools

import numpy as np
import pandas as pd
import pytest

from ldarts_book import groundtruth as report
from ldarts_book.studies.digits201 import representatives
from ldarts_lib.tables.computation import EDGES, all_ops, classes, computation


def with_means(table):
    seeds = table.filter(like="accuracy_")
    return table.assign(accuracy=seeds.mean(axis=1), std=seeds.std(axis=1))


@pytest.fixture(scope="module")
def table():
    """Every computation, with accuracies that grow with the convolutions and carry noise."""
    members = representatives()
    keys = {cells[0]: key for key, cells in classes().items()}
    draw = np.random.default_rng(0)
    worth = np.array([0.2 + 0.1 * live_convolutions(ops) for ops in members])
    worth += 0.05 * draw.standard_normal(len(worth))
    found = pd.DataFrame(
        {"ops": list(members), "cells": [len(cells) for cells in members.values()]},
        index=pd.Index([keys[cells[0]] for cells in members.values()], name="computation"),
    )
    for seed in range(3):
        found[f"accuracy_{seed}"] = worth + 0.02 * draw.standard_normal(len(worth))
    return with_means(found)


def live_convolutions(ops):
    """Convolutions on paths from node 0 to node 3, by reaching forwards and backwards."""
    edges = [(source, target, int(digit)) for (target, source), digit in zip(EDGES, ops, strict=True)]
    reached, needed = {0}, {3}
    for source, target, operation in edges:
        reached |= {target} if operation and source in reached else set()
    for source, target, operation in reversed(edges):
        needed |= {source} if operation and target in needed else set()
    return sum(o in (2, 3) and s in reached and t in needed for s, t, o in edges)


def test_landmarks_are_looked_up_and_ordered(table):
    found = report.landmarks(table)
    assert found["ops"]["3x3 everywhere, skip on 3<-0"] == "333133"
    assert found["ops"]["skip everywhere"] == "111111"
    assert found["ops"]["disconnected"] == "000000"
    assert found["cells"]["disconnected"] == 341
    connected = table["accuracy"].drop("0")
    for row in found.itertuples():
        assert tuple(table.loc[computation(row.ops).key, ["accuracy", "std"]]) == (row.accuracy, row.std)
        assert row.place == 1 + (table["accuracy"] > row.accuracy).sum()
    assert found["accuracy"].is_monotonic_decreasing and len(found) == 8
    for extreme in (0.0, 1.0):  # a disconnected cell is never the best or the worst connected
        changed = table.copy()
        changed.loc["0", "accuracy"] = extreme
        ends = report.landmarks(changed)["accuracy"][["best", "worst connected"]]
        assert tuple(ends) == (connected.max(), connected.min())


def test_each_string_has_the_row_of_its_computation(table):
    cells = report.expand(table)
    assert list(cells.index) == list(all_ops())
    for ops in cells.index[::97]:
        assert cells["computation"][ops] == computation(ops).key
        assert cells["accuracy_1"][ops] == table["accuracy_1"][computation(ops).key]
    assert cells["accuracy"].mean() == pytest.approx(np.average(table["accuracy"], weights=table["cells"]))
    assert sorted(report.expand(table.loc[["4x", "x"]]).index) == sorted(classes()["4x"] + classes()["x"])


def test_accuracies_by_convolutions_and_how_much_of_their_variance_lies_between(table):
    found = report.by_convolutions(table)
    counts = table["ops"].map(live_convolutions)
    assert (report.applied_convolutions(table) == counts).all()
    strings = report.expand(table)["accuracy"]
    by_string = strings.groupby(strings.index.map(live_convolutions))
    expected = by_string.agg(cells="size", lowest="min", mean="mean", highest="max")
    pd.testing.assert_frame_equal(found.drop(columns="computations"), expected, check_names=False)
    assert found["computations"].to_dict() == counts.value_counts().to_dict()
    residual = (strings - by_string.transform("mean")).var(ddof=0) / strings.var(ddof=0)
    assert report.explained_by_convolutions(table) == pytest.approx(1 - residual)
    assert 0.1 < residual < 0.9


@pytest.fixture
def few():
    """Six computations, with ties."""
    seeds = {
        "accuracy_0": [0.9, 0.1, 0.5, 0.5, 0.4, 0.7],
        "accuracy_1": [0.8, 0.2, 0.5, 0.3, 0.6, 0.9],
    }
    return with_means(pd.DataFrame(seeds))


def test_noise_is_pooled_over_the_rows_and_each_pair_of_seeds_correlated(table, few):
    assert report.noise(few) == pytest.approx(np.sqrt(np.mean([0.005, 0.005, 0, 0.02, 0.02, 0.02])))
    assert report.noise(table) == pytest.approx(0.02, rel=0.03)
    few = few.assign(accuracy_2=[0.1, 0.9, 0.5, 0.6, 0.3, 0.2])
    found = report.seed_correlations(few)
    assert list(found.index) == ["0 and 1", "0 and 2", "1 and 2"]
    for row, (one, other) in zip(found.itertuples(), [(0, 1), (0, 2), (1, 2)], strict=True):
        both = few[[f"accuracy_{one}", f"accuracy_{other}"]]
        assert row.Pearson == pytest.approx(np.corrcoef(both, rowvar=False)[0, 1])
        assert row.Spearman == pytest.approx(both.rank().corr().iloc[0, 1])
        assert row.Kendall == pytest.approx(kendall(*both.to_numpy().T))
    assert found["Spearman"]["0 and 2"] < 0 < found["Spearman"]["0 and 1"]


def kendall(x, y):
    pairs = itertools.combinations(zip(x, y, strict=True), 2)
    signs = [(np.sign(a - b), np.sign(c - d)) for (a, c), (b, d) in pairs]
    agree = sum(one * other for one, other in signs)
    return agree / np.sqrt(sum(one**2 for one, _ in signs) * sum(other**2 for _, other in signs))


def test_reliability_predicts_the_correlation_of_simulated_means():
    draw = np.random.default_rng(1)
    worth = draw.standard_normal((20000, 1))
    seeds = worth + 1.5 * draw.standard_normal((20000, 6))
    measured = np.corrcoef(seeds[:, :3].mean(1), seeds[:, 3:].mean(1))[0, 1]
    single = np.corrcoef(seeds, rowvar=False)[np.triu_indices(6, 1)].mean()
    assert report.reliability(single, [3])[3] == pytest.approx(measured, abs=0.02)


def test_new_trainings_are_compared_in_units_of_the_noise(table):
    draw = np.random.default_rng(2)
    ops = list(table["ops"])
    worth = table["accuracy"].to_numpy()[:, None]
    # the table's own mean is off by its noise, so a new mean differs from it by the noise of both
    again = worth + 0.02 * draw.standard_normal((len(ops), 1)) / 3**0.5
    again = again + 0.02 * draw.standard_normal((len(ops), 4))
    found = report.retrained(table, ops, again)
    assert found["z"].std() == pytest.approx(1, abs=0.05)
    assert (found["again"] - found["table"]).to_numpy() == pytest.approx(found["difference"].to_numpy())
    one = report.retrained(table, ["300100"], [[0.9, 0.7]])
    assert one["computation"]["300100"] == "x"
    assert one["difference"]["300100"] == pytest.approx(0.8 - table["accuracy"]["x"])
    assert one["z"]["300100"] == pytest.approx(
        one["difference"]["300100"] / (report.noise(table) * (1 / 2 + 1 / 3) ** 0.5)
    )


def test_rows_that_were_trained_again_agree_with_the_table(digits201):
    again = report.again()
    assert again["table"].tolist() == digits201.frame.loc[again["computation"], "accuracy"].round(5).tolist()
    assert (again["z"].abs() < 1).sum() == 8 and (again["z"].abs() < 2).sum() == 9


def test_overlap_of_the_best_breaks_ties_at_random():
    one, other = [3, 1, 1, 1, 0], [2, 2, 5, 2, 1]
    orders = list(itertools.permutations(range(5)))

    def best(values, k):
        return [set(sorted(range(5), key=lambda i: (-values[i], order[i]))[:k]) for order in orders]

    for k in (1, 2, 3, 4, 5):
        expected = np.mean([len(a & b) / k for a in best(one, k) for b in best(other, k)])
        assert report.top_overlap(pd.Series(one), pd.Series(other), k) == pytest.approx(expected)
    apart = pd.Series(range(20))
    assert (report.top_overlap(apart, apart, 5), report.top_overlap(apart, -apart, 5)) == (1, 0)


@pytest.fixture(scope="module")
def real(table):
    """A NAS-Bench-201 that agrees with the table on CIFAR-10, up to noise, and not at all on CIFAR-100."""
    draw = np.random.default_rng(5)
    accuracy = 100 * report.expand(table)["accuracy"]
    noise = pd.DataFrame(draw.standard_normal((5**6, 6)), index=accuracy.index)
    columns = {
        "cifar10_test": accuracy + 5 * noise[1],
        "cifar100_test": 50 + 5 * noise[3],
        "imagenet16_test": 90 - accuracy + noise[5],
    }
    found = pd.DataFrame(columns).clip(0, 100).round(2)
    found.insert(0, "index", draw.permutation(5**6))
    return found.sort_values("index")


def test_the_two_benchmarks_are_compared_string_by_string(table, real):
    found = report.against_nasbench201(table, real).set_index(["first", "second", "which"])
    ours = report.expand(table)["accuracy"]
    dead = [ops for ops in all_ops() if computation(ops).key == "0"]
    for name, column in report.REAL.items():
        both = pd.DataFrame({"ours": ours, "theirs": real[column]})
        for which, rows in (("all", both), ("connected", both.drop(index=dead))):
            row = found.loc["Digits-201", name, which]
            assert row["cells"] == len(rows)
            assert row["Spearman"] == pytest.approx(rows.rank().corr().iloc[0, 1])
            assert row["top 100"] == report.top_overlap(rows["ours"], rows["theirs"], 100)
    assert found.loc[("Digits-201", "CIFAR-10", "all"), "Spearman"] > 0.8
    assert abs(found.loc[("Digits-201", "CIFAR-100", "all"), "Spearman"]) < 0.05
    assert found.loc[("Digits-201", "ImageNet16-120", "all"), "Spearman"] < -0.9
    assert found.loc[("CIFAR-10", "CIFAR-100", "connected"), "cells"] == 5**6 - 341
    scale = real["cifar10_test"].rank().corr(real["imagenet16_test"].rank())
    assert found.loc[("CIFAR-10", "ImageNet16-120", "all"), "Spearman"] == pytest.approx(scale)
    assert len(found) == 11


def test_pairs_are_two_trainings_of_one_computation(real):
    two, three = (next(k for k, v in classes().items() if len(v) == n and k != "0") for n in (2, 3))
    real, accuracies = real.copy(), list(real.columns.drop("index"))
    for key in (two, three):  # a training that is listed twice
        real.loc[classes()[key][-1], accuracies] = real.loc[classes()[key][0], accuracies]
    first, second = report.twins(real, "cifar10_test")
    several = {key: ops for key, ops in classes().items() if len(ops) > 1 and key not in ("0", two)}
    assert set(first.index) == set(second.index) == set(several)
    for key, ops in several.items():
        chosen = real["cifar10_test"][[ops[0], ops[1 if key == three else -1]]]
        assert {first[key], second[key]} == set(chosen)
