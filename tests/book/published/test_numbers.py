"""Published numbers: those that we read, with their sources, and no others."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from ldarts_book.published import numbers as published_results
from ldarts_book.published.numbers import PublishedError

FROM_MEMORY = {
    "nasbench201": {"DARTS-", "CDARTS"},
    "s1-s4-one-search": {
        "PC-DARTS", "DARTS-ES", "ES", "R-DARTS(DP)", "R-DARTS(L2)", "SDARTS-RS", "SDARTS-ADV",
    },
}  # fmt: skip
"""Methods whose numbers were not read in a source, by table."""
NB = "nasbench201"
NOT_LEGIBLE = {("cifar10", "s1"), ("cifar100", "s1"), ("cifar100", "s3"), ("svhn", "s1"), ("svhn", "s4")}


@pytest.fixture
def rows():
    return published_results.rows_of()


def value(rows, **wanted):
    for column, name in wanted.items():
        rows = rows[rows[column] == name]
    (found,) = rows.to_dict("records")
    return found


@pytest.mark.parametrize(
    ("table", "method", "space", "dataset", "quantity", "shown", "origin"),
    [
        ("nasbench201", "Λ-DARTS", NB, "cifar10", "test_accuracy", "94.36 ± 0.00", "GENIUS"),
        ("nasbench201", "Λ-DARTS", NB, "imagenet16-120", "valid_accuracy", "46.37 ± 0.00", "GENIUS"),
        ("nasbench201", "DARTS", NB, "cifar10", "test_accuracy", "54.30 ± 0.00", "RELIZO"),
        ("nasbench201", "DSNAS", NB, "cifar100", "valid_accuracy", "30.87 ± 16.40", "GENIUS; EEEA"),
        ("nasbench201", "best cell", NB, "imagenet16-120", "test_accuracy", "47.31", "EEEA"),
        ("darts-space", "Λ-DARTS", "darts", "cifar10", "test_accuracy", "97.48 ± 0.11", "APD"),
        ("darts-space", "Λ-DARTS", "darts", "cifar100", "test_accuracy", "83.47", "APD"),
        ("darts-space", "Λ-DARTS", "darts", "imagenet", "test_accuracy", "75.7", "APD"),
        ("darts-space", "Λ-DARTS", "darts", "", "gpu_days", "0.8", "K117"),
        ("darts-space", "SDARTS-ADV", "darts", "cifar10", "test_error", "2.61 ± 0.02", "ROME"),
        ("s1-s4-one-search", "DARTS", "s4", "cifar10", "test_error", "7.20", "PT"),
        ("s1-s4-one-search", "EM-DARTS", "s3", "svhn", "test_error", "2.30", "EM"),
        ("darts-space", "EM-DARTS", "darts", "cifar10", "test_accuracy", "97.62 ± 0.05", "EM"),
        ("darts-space", "ROME", "darts", "cifar100", "test_error", "17.71 ± 0.11", "ROME"),
        ("darts-space", "FairDARTS", "darts", "cifar10", "test_accuracy", "97.46 ± 0.05", "FairDARTS"),
        ("darts-space", "ZARTS", "darts", "cifar10", "best_test_error", "2.46", "ZARTS"),
        ("darts-space", "DARTS+", "darts", "cifar100", "best_test_error", "14.87", "DARTSplus"),
        ("s1-s4-three-searches", "DARTS", "s1", "svhn", "test_error", "9.88 ± 5.50", "ROME"),
        ("s1-s4-three-searches", "ROME", "s2", "cifar100", "test_error", "22.91 ± 0.75", "ROME"),
    ],
)  # fmt: skip
def test_values_are_those_of_the_sources(rows, table, method, space, dataset, quantity, shown, origin):
    found = value(rows, table=table, method=method, space=space, evaluated=dataset, quantity=quantity)
    assert (found["shown"], found["source"]) == (shown, origin)
    assert found["value"] == float(shown.partition(" ")[0])


def test_second_hand_numbers_say_so(rows):
    own = {("DARTS+PT", "PT"), ("PT, fixed α", "PT"), ("EM-DARTS", "EM"), ("DARTS, second order", "DARTS")}
    own |= {(f"{name}, run by ROME", "ROME") for name in ("P-DARTS", "PC-DARTS")}
    own |= {("ROME", "ROME"), ("GDAS", "ROME"), ("ZARTS", "ZARTS"), ("DARTS+", "DARTSplus")}
    own |= {("FairDARTS", "FairDARTS")}
    for row in rows[rows["value"].notna()].to_dict("records"):
        assert row["reported_by"] == ("" if (row["method"], row["source"]) in own else row["source"])
    assert published_results.nasbench201().loc["Λ-DARTS", "source"] == "as reported by GENIUS"
    assert published_results.origin("", "") == "no source found"


def test_no_number_from_memory(rows):
    for table, methods in FROM_MEMORY.items():
        assert not methods & set(rows.loc[rows["table"] == table, "method"])
    assert 3.11 not in set(rows.loc[rows["table"] == "s1-s4-one-search", "value"])
    rome = rows[(rows["table"] == "s1-s4-three-searches") & (rows["method"] == "ROME")]
    empty = rome[rome["value"].isna()]
    assert set(zip(empty["evaluated"], empty["space"], strict=True)) == NOT_LEGIBLE


def test_lambda_darts_has_no_number_on_s1_to_s4(rows):
    ours = rows[(rows["method"] == "Λ-DARTS") & rows["table"].str.startswith("s1-s4")]
    assert len(ours) == 24
    assert ours[["value", "std"]].isna().all(axis=None) and (ours["shown"] == "").all()
    for table in ("s1-s4-one-search", "s1-s4-three-searches"):
        shown = published_results.s1_s4(table)
        assert "Λ-DARTS" not in shown and shown.shape[0] == 12


def test_two_protocols_share_no_table(rows):
    tables = {
        table: set(several.loc[several["value"].notna(), "protocol"])
        for table, several in rows[rows["table"].str.startswith("s1-s4")].groupby("table")
    }
    one, three = tables["s1-s4-one-search"], tables["s1-s4-three-searches"]
    assert len(one) == len(three) == 1 and one != three
    with pytest.raises(ValueError, match="choose one of s1-s4-one-search, s1-s4-three-searches"):
        published_results.s1_s4("s1-s4")


def test_the_accuracy_and_the_error_of_a_row_agree(rows):
    space = rows[(rows["table"] == "darts-space") & (rows["evaluated"] == "cifar10")]
    wide = space.pivot(index="method", columns="quantity", values="value")
    both = wide[["test_accuracy", "test_error"]].dropna()
    assert len(both) == 8
    assert (both.sum(axis=1) - 100).abs().max() < 1e-9


def test_no_cell_is_better_than_the_best(rows):
    table = rows[rows["table"] == "nasbench201"]
    wide = table.pivot(index="method", columns=["evaluated", "quantity"], values="value")
    assert (wide.drop(index="best cell").fillna(0) <= wide.loc["best cell"]).all(axis=None)


def test_wide_tables(rows):
    wide = published_results.nasbench201()
    assert list(wide.columns[:2]) == ["cifar10 valid", "cifar10 test"]
    assert wide.loc["Λ-DARTS", "cifar100 test"] == "73.51 ± 0.00"
    space = published_results.darts_space()
    assert space.loc["Λ-DARTS", "GPU-days"] == "0.8" and space.loc["GDAS", "cifar10 accuracy"] == ""
    assert published_results.imagenet().loc["β-DARTS", "searched on"] == "cifar100"


@pytest.mark.slow
@pytest.mark.browser
def test_the_listing_is_filtered_and_sorted_by_keyboard(tmp_path, browser, rows):
    path = tmp_path / "page.html"
    path.write_text(published_results.filtered_table().data, encoding="utf-8")
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        page.goto(path.as_uri())
        status, there = page.get_by_role("status"), rows["value"].notna().sum()
        assert status.inner_text() == f"{there} of {there} numbers"
        page.get_by_role("combobox", name="table").select_option("DARTS space")
        page.get_by_role("combobox", name="quantity").select_option("accuracy")
        page.get_by_role("searchbox", name="search").fill("λ-darts apd")
        assert status.inner_text() == f"3 of {there} numbers"
        heading = page.get_by_role("columnheader", name="value")
        values = page.locator("tbody tr:visible td:nth-child(5)")
        for order, expected in (("ascending", ["75.7", "83.47", "97.48 ± 0.11"]), ("descending", None)):
            heading.get_by_role("button").press("Enter")
            assert heading.get_attribute("aria-sort") == order
            assert expected is None or values.all_inner_texts() == expected
        assert values.first.inner_text() == "97.48 ± 0.11"


def test_figure_1_runs_over_fifty_epochs():
    figure = published_results.figure1()
    assert set(figure["method"]) == {"DARTS", "Λ-DARTS"}
    assert figure["epoch"].min() == 0 and figure["epoch"].max() == 49
    assert (figure[["alignment_error", "accuracy_error"]] > 0).all(axis=None)
    last = figure[figure["epoch"] == 49].set_index("method")
    assert last.loc["Λ-DARTS", ["alignment", "accuracy"]].tolist() == [0.67, 94.0]


def test_sources_have_titles_and_citations_that_exist(repository):
    found = published_results.sources()
    assert found["title"].str.len().min() > 20
    keys = set(re.findall(r"^@\w+\{(\S+),$", (repository / "book" / "references.bib").read_text(), re.M))
    assert set(found["citation"]) - {""} <= keys


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "s1-s4"}, "line 6: an unknown table: .*'s1-s4'"),
        ({"quantity": "accuracy"}, "an unknown quantity"),
        ({"source": "memory"}, "an unknown source"),
        ({"protocol": ""}, "without a source or a protocol"),
        ({"value": float("nan"), "note": ""}, "no note"),
    ],
)
def test_a_row_that_breaks_a_rule_is_named(rows, change, message):
    broken = rows[list(published_results.COLUMNS)].copy()
    broken.loc[4, list(change)] = list(change.values())
    with pytest.raises(PublishedError, match=message):
        published_results.checked(broken)


def test_doubles_and_mixed_protocols_are_refused(rows):
    rows = rows[list(published_results.COLUMNS)]
    with pytest.raises(PublishedError, match="twice"):
        published_results.checked(pd.concat([rows, rows.iloc[[3]]], ignore_index=True))
    first = rows.index[rows["table"] == "s1-s4-one-search"][0]
    mixed = rows.copy()
    mixed.loc[first, "protocol"] = "mean of 3 searches"
    with pytest.raises(PublishedError, match="mixes protocols"):
        published_results.checked(mixed)
    with pytest.raises(PublishedError, match="expected the columns"):
        published_results.checked(rows.drop(columns="note"))
