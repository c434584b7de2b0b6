"""The film of a search shows the weights of the chosen operations and exact accuracies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ldarts_book import studies, watching
from ldarts_lib.spaces.space import SPACES


@pytest.mark.parametrize("name", ["nasbench201", "darts", "s1"])
def test_edge_weights_are_those_of_the_chosen_operations(name):
    space = SPACES[name].cells["normal"]
    rng = np.random.default_rng(0)
    p = {
        kind: rng.dirichlet(np.ones(cell.shape[1]), len(cell.edges))
        for kind, cell in SPACES[name].cells.items()
    }
    cell = SPACES[name].discretize(p).normal
    found = watching.edge_weights(cell, space, p["normal"])
    assert list(found) == [(edge.target, edge.source) for edge in cell.edges]
    strongest = dict(zip(space.edges, p["normal"].max(axis=1), strict=True))
    assert found == {edge: strongest[edge] for edge in found}


def test_film_and_milestones_are_looked_up(digits201):
    (seed, *_) = studies.recorded_seeds()
    one = studies.watched("smoke", seed, "unused")["DARTS"]
    film = watching.film(one, digits201)
    assert film.accuracies[-1] == digits201.accuracy(one.history[-1]["genotype"])
    assert film.best == digits201.frame["accuracy"].max()
    chosen, strongest = film.weights[-1], one.trajectory.weights["normal"][-1].max(-1)
    assert sorted(chosen.values()) == pytest.approx(sorted(strongest), abs=1e-6)
    table = watching.milestones(one, digits201, 5)
    assert table.index[0] == 1 and table.index[-1] == len(one.history) == len(film)
    assert table["accuracy"].iloc[-1] == pytest.approx(film.accuracies[-1], abs=1e-3)


def test_the_loss_is_held_against_the_accuracy():
    rows = [
        {"variant": "a", "seed": seed, "epoch": epoch, "valid_loss": epoch + 1.0, "accuracy": accuracy}
        for seed, sign in ((0, -1), (1, 1))
        for epoch, accuracy in enumerate(0.5 + 0.1 * sign * step for step in (1, 2, 3))
    ]
    found = watching.loss_against_accuracy(pd.DataFrame(rows), ["a"]).loc["a"]
    assert found["mean rank correlation"] == 0
    assert (found["smallest"], found["largest"]) == (-1, 1)
    assert found["accuracy at the lowest loss"] == pytest.approx(0.5)
    assert found["accuracy at the end"] == pytest.approx(0.5)
