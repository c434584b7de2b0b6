import pandas as pd
import pytest

from ldarts_book import studies, watching


def test_curves_and_milestones_are_looked_up(digits201):
    (seed, *_) = studies.recorded_seeds()
    one = studies.watched("smoke", seed, "unused")["DARTS"]
    curves = watching.curves(one, digits201)
    assert curves.accuracies[-1] == digits201.accuracy(one.history[-1]["genotype"])
    assert curves.best == digits201.table["accuracy"].max()
    chosen, strongest = watching.weights(one)[-1], one.trajectory.weights["normal"][-1].max(-1)
    assert sorted(chosen.values()) == pytest.approx(sorted(strongest), abs=1e-6)
    table = watching.milestones(one, digits201, 5)
    assert table.index[0] == 1 and table.index[-1] == len(one.history) == len(watching.cells(one))
    assert table["accuracy"].iloc[-1] == pytest.approx(curves.accuracies[-1], abs=1e-3)


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
