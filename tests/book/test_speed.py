"""The chapter on speed: what it says must be what the records say, and these can be made again."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from ldarts_book import speed
from ldarts_book.speed import precision_effects

ROWS = {"official": 39, "quick": 36}


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "data" / "recorded" / "bench"


def rows(folder: Path, name: str) -> pd.DataFrame:
    return pd.DataFrame(json.loads((folder / f"{name}.json").read_text()))


@pytest.mark.parametrize("name", ROWS)
def test_the_page_shows_the_measured_rows(folder, name):
    shown, measured = pd.read_csv(folder / f"{name}.csv"), rows(folder, name)
    assert len(shown) == len(measured) == ROWS[name]
    assert list(shown.regularizer.fillna("none")) == list(measured.regularizer)
    rounded = measured.round({"seconds": 3, "ratio": 2, "peak_memory_mb": 0})
    rounded = rounded.rename(columns={"peak_memory_mb": "MiB", "operator_calls": "calls"})
    for column in ("space", "seconds", "n", "ratio", "MiB", "calls"):
        assert list(shown[column]) == list(rounded[column])


def test_intervals_are_shown_and_drawn(folder, monkeypatch):
    shown, measured = pd.read_csv(folder / "official.csv"), rows(folder, "official")
    known = [None if pd.isna(x) else round(100 * x) for x in measured["uncertainty"]]
    assert [None if text == "?" else int(text) for text in shown["±%"].astype(str)] == known
    assert [axes.get_xlabel() for axes in speed.costs(measured).axes[::2]] == ["seconds a step", "GiB"]
    monkeypatch.setattr(speed.figures, "intervals", lambda table, *_, **__: table)
    drawn = speed.costs(measured).loc[("S2, exact", "fast")]
    (row,) = measured.query("space == 's2' and regularizer == 'exact' and implementation == 'fast'").iloc
    assert (drawn["high"] - drawn["low"]) / 2 == pytest.approx(row["ratio"] * row["uncertainty"])
    assert drawn["low"] < row["ratio"] < drawn["high"]


def test_the_page_says_how_much_longer_the_official_code_takes(folder, repository):
    shown = pd.read_csv(folder / "official_code.csv")
    assert set(shown["space"]) == {"darts", "s2", "nasbench201"} and (shown["±%"] < 10).all()
    said = f"takes {shown['ratio'].min():.1f} to {shown['ratio'].max():.1f} times as long"
    assert said in (repository / "book" / "speed.md").read_text()


@pytest.mark.parametrize("name", ROWS)
def test_the_exact_gradient_is_faster_and_the_batched_strategy_makes_about_a_third_of_the_calls(folder, name):
    table = rows(folder, name)
    table = table[~table.checkpoint].set_index(["implementation", "regularizer", "space"]).sort_index()
    assert (table.seconds["fast", "exact"] < table.seconds["fast", "central"]).all()
    calls = table.operator_calls
    assert calls["batched", "central", "darts"] <= 0.35 * calls["reference", "central", "darts"]


def test_packs_finish_three_times_as_many_searches(folder):
    shown, measured = pd.read_csv(folder / "together.csv"), rows(folder, "together")
    assert list(shown["ratio"]) == list(measured["ratio"].round(2))
    assert list(shown["seconds"]) == list(measured["seconds"].round(1))
    packed = measured[measured["together"] == 10]
    assert (packed["ratio"] >= 3).all() and set(packed["method"]) == {"darts", "lambda"}


def test_where_the_records_come_from(folder):
    provenance = json.loads((folder / "provenance.json").read_text())
    assert {"commands", "commit", "date", "cpu", "threads", "versions"} <= set(provenance)
    assert set(provenance["commands"]) == {"official", "official_code", "quick", "precision", "together"}
    shown, measured = pd.read_csv(folder / "precision.csv"), rows(folder, "precision")
    assert list(shown["error of the loss gradient"]) == pytest.approx(list(measured.loss), rel=0.01)
    half = measured[measured.precision == "bfloat16"]
    errors = half[["cells", "loss", "regularizer"]]
    assert len(half) == 3 and (errors > 0.05).all().all() and (errors < 0.5).all().all()


def test_lower_precision_is_measured():
    table = precision_effects(["nasbench201"], epochs=1).set_index("precision")
    assert list(table.index) == ["float32", "bfloat16"]
    assert table["alignment_float64"].nunique() == 1
    errors = table[["cells", "loss", "regularizer"]]
    assert (errors > 0).all().all()  # float32 by machine
    assert (errors.loc["float32"] < 0.01).all() and errors.loc["bfloat16"].between(0.01, 1).all()
