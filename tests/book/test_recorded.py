"""What the text says of the recorded runs must be what the records say."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.datasets.images import load_images
from ldarts_lib.evaluation.standalone import standalone_accuracy
from ldarts_lib.spaces.notations import parse
from ldarts_lib.tables.computation import Computation, computation, encode

EPOCHS = 80


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "data" / "recorded" / "quickstart"


@pytest.fixture(scope="module")
def summary(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "summary.csv")


@pytest.fixture(scope="module")
def histories(folder: Path) -> dict[str, pd.DataFrame]:
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*-seed*.csv"))}


@pytest.fixture(scope="module")
def means(histories: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Of the searches of a method, by method and epoch."""
    rows = pd.concat(history.assign(method=name.split("-")[0]) for name, history in histories.items())
    return rows.groupby(["method", "epoch"]).mean(numeric_only=True)


def computes(genotype: str) -> Computation:
    return computation(encode(parse(genotype)))


def test_the_record_is_complete(folder, summary, histories):
    names = [f"{method}-seed{seed}" for method in ("darts", "lambda") for seed in range(3)]
    assert list(histories) == names == [f"{row.method}-seed{row.seed}" for row in summary.itertuples()]
    assert all(len(history) == EPOCHS for history in histories.values())
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["command"] == "make demo"
    assert {"commit", "date", "cpu", "versions", "seconds"} <= set(provenance)


def test_the_summary_is_the_last_epoch(summary, histories):
    for row in summary.itertuples():
        last = histories[f"{row.method}-seed{row.seed}"].iloc[-1]
        assert row.cell == last.genotype
        assert row.skips == last.skips
        assert row.alignment == round(last.valid_alignment, 3)


def test_alignment_stays_near_zero_without_the_regularizer_and_rises_with_it(histories, means):
    for name, history in histories.items():
        late = history.valid_alignment[EPOCHS // 2 :].mean()
        assert abs(late) < 0.15 if name.startswith("darts") else late > 0.15
    without, with_it = means.valid_alignment["darts"], means.valid_alignment["lambda"]
    assert without.abs().max() < 0.15 and with_it[EPOCHS // 2 :].min() > without.max()


def test_the_derived_cells_are_as_described(summary):
    left = summary.cell.map(lambda cell: len(computes(cell).applied))
    assert sorted(left[summary.method == "darts"])[:2] == [0, 1]
    assert left[summary.method == "lambda"].min() >= 2
    means = summary.groupby("method")["test accuracy"].mean()
    assert means["lambda"] > means["darts"]


def test_the_validation_losses_are_alike(means):
    assert (means.valid_loss["darts"] - means.valid_loss["lambda"])[10:].abs().mean() < 0.1


def test_three_epochs_of_one_search_derived_a_disconnected_cell(histories):
    cut = {name: sum(computes(g).key == "0" for g in h.genotype) for name, h in histories.items()}
    assert {name: count for name, count in cut.items() if count} == {"lambda-seed0": 3}


@pytest.mark.slow
def test_a_recorded_accuracy_can_be_made_again(summary):
    """Another machine rounds otherwise, so within the noise of one training."""
    images = load_images("noisy-digits")
    for row in summary.iloc[[1, 4]].itertuples(index=False):
        settings = protocol(method=row.method, seed=row.seed)
        accuracy = standalone_accuracy(parse(row.cell), settings, images)
        assert accuracy == pytest.approx(row[4], abs=0.08)
