"""What chance finds, against all draws, simulation and the table that ships."""

import itertools

import numpy as np
import pandas as pd
import pytest

from ldarts_lib.tables import chance
from ldarts_lib.tables.computation import all_ops


@pytest.fixture
def few():
    """Six rows for 13 strings, with ties."""
    seeds = {"accuracy_0": [0.9, 0.1, 0.5, 0.5, 0.4, 0.7], "accuracy_1": [0.8, 0.2, 0.5, 0.3, 0.6, 0.9]}
    return pd.DataFrame({"cells": [1, 4, 2, 3, 2, 1], **seeds})


@pytest.fixture(scope="module")
def table(digits201):
    return digits201.frame


def enumerated(chosen_by, cells, tries, judged_by):
    """The mean over all draws; among the best, the mean over what was drawn, which is fair on average."""
    strings = np.repeat(np.arange(len(cells)), cells)
    worth = []
    for drawn in itertools.product(strings, repeat=tries):
        best = max(chosen_by[i] for i in drawn)
        worth.append(np.mean([judged_by[i] for i in drawn if chosen_by[i] == best]))
    return np.mean(worth)


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_the_best_of_random_cells_against_all_draws(few, tries):
    for judged in ("accuracy_0", "accuracy_1"):
        expected = enumerated(few["accuracy_0"], few["cells"], tries, few[judged])
        found = chance.expected_best(few["accuracy_0"], few["cells"], tries, few[judged])
        assert found == pytest.approx(expected, abs=1e-12)
    assert chance.expected_best(few["accuracy_0"], few["cells"], tries) == pytest.approx(
        enumerated(few["accuracy_0"], few["cells"], tries, few["accuracy_0"]), abs=1e-12
    )


def test_random_search_against_simulation(table):
    draw = np.random.default_rng(3)
    strings = np.repeat(np.arange(len(table)), table["cells"])
    found = chance.random_search(table, [1, 20])
    for tries in (1, 20):
        drawn = draw.choice(strings, (40000, tries))
        best = table["accuracy"].to_numpy()[drawn].max(1)
        assert found["best"][tries] == pytest.approx(best.mean(), abs=4 * best.std() / 200)
        honest = []
        for seed in range(3):
            others = [f"accuracy_{other}" for other in range(3) if other != seed]
            chosen = drawn[np.arange(40000), table[f"accuracy_{seed}"].to_numpy()[drawn].argmax(1)]
            honest.append(table[others].to_numpy().mean(1)[chosen])
        spread = np.mean(honest, axis=0).std()
        assert found["by one seed"][tries] == pytest.approx(np.mean(honest), abs=4 * spread / 200)
    assert found["regret"][20] == pytest.approx(table["accuracy"].max() - found["best"][20])
    mean = np.average(table["accuracy"], weights=table["cells"])
    assert found["best"][1] == pytest.approx(mean)
    assert found["by one seed"][1] == pytest.approx(mean)
    assert found["by one seed"][20] < found["best"][20]


def test_random_search_needs_a_cell_and_a_second_seed(few):
    with pytest.raises(ValueError, match="tries must be at least 1, got 0"):
        chance.random_search(few.assign(accuracy=few["accuracy_0"]), [0])
    with pytest.raises(ValueError, match=r"at least two seeds, got \['accuracy_0'\]"):
        chance.random_search(few.drop(columns="accuracy_1"), [1])


def test_a_random_cell_is_a_random_string(digits201, table):
    drawn = np.random.default_rng(0).choice(list(all_ops()), 1500)
    sample = table["accuracy"].loc[[digits201.key(ops) for ops in drawn]]
    error = sample.std() / len(sample) ** 0.5
    assert chance.random_cell(digits201) == pytest.approx(sample.mean(), abs=4 * error)


def test_random_search_may_cost_as_much_as_the_search(digits201, table):
    training = np.average(table["seconds"], weights=table["cells"])  # of a random string
    for seconds, tries in ((0.1 * training, 1), (7.5 * training, 7)):
        found = chance.references(digits201, seconds)
        assert found["random search"] == chance.random_search(table, [tries]).loc[tries, "by one seed"]
    assert found["random cell"] == chance.random_cell(digits201) < found["random search"]
    assert found["random search"] < found["best cell"] == table["accuracy"].max()
