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
from ldarts_lib.tables.tables import open_table

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
    names = [f"{method}-seed{seed}" for method in ("darts", "lambda") for seed in range(10)]
    assert list(histories) == names == [f"{row.method}-seed{row.seed}" for row in summary.itertuples()]
    assert all(len(history) == EPOCHS for history in histories.values())
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["command"] == "make demo SEEDS=10"
    assert {"commit", "date", "cpu", "versions", "seconds"} <= set(provenance)


def test_the_summary_is_the_last_epoch(summary, histories):
    table = open_table("digits-201")
    for row in summary.itertuples():
        last = histories[f"{row.method}-seed{row.seed}"].iloc[-1]
        assert row.cell == last.genotype
        assert row.skips == last.skips
        assert row.convolutions == len(computes(row.cell).applied)
        assert row.alignment == round(last.valid_alignment, 3)
        known = table.query(parse(row.cell))
        assert (row[6], row.place) == (round(known["accuracy"], 4), known["place"])


def test_alignment_stays_near_zero_without_the_regularizer_and_rises_with_it(histories, means):
    for name, history in histories.items():
        late = history.valid_alignment[EPOCHS // 2 :].mean()
        assert abs(late) < 0.15 if name.startswith("darts") else late > 0.2
    without, with_it = means.valid_alignment["darts"], means.valid_alignment["lambda"]
    assert without.abs().max() < 0.1 and with_it[EPOCHS // 2 :].min() > without.max()


def test_the_demonstration_takes_as_long_as_the_readme_says(repository):
    seconds = json.loads((repository / "data/recorded/timings/provenance.json").read_text())["demo"][
        "seconds"
    ]
    assert round(seconds / 60) == 2
    assert "two minutes on two free CPU cores" in (repository / "README.md").read_text()


@pytest.mark.slow
def test_a_recorded_accuracy_can_be_made_again(summary):
    """Another machine rounds otherwise, so within the noise of one training."""
    images = load_images("noisy-digits")
    for row in summary.iloc[[2, 12]].itertuples(index=False):
        settings = protocol(method=row.method, seed=row.seed)
        accuracy = standalone_accuracy(parse(row.cell), settings, images)
        assert accuracy == pytest.approx(row[5], abs=0.08)
