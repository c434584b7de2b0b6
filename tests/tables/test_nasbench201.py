"""NAS-Bench-201 as it ships, against published facts, and `ldarts query` for both benchmarks."""

from __future__ import annotations

import hashlib
import json
import time
from importlib.resources import files

import pytest

from ldarts_lib.spaces.literals import decode
from ldarts_lib.tables.computation import all_ops, computation
from ldarts_lib.tables.tables import open_table

COLUMNS = [
    "cifar10_valid",
    "cifar10_test",
    "cifar100_valid",
    "cifar100_test",
    "imagenet16_valid",
    "imagenet16_test",
]
WINNER = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


@pytest.fixture(scope="module")
def nasbench201():
    return open_table("nasbench201")


@pytest.fixture(scope="module")
def table(nasbench201):
    return nasbench201.frame


def test_every_cell_is_there_once_with_six_accuracies(table):
    assert sorted(table.index) == list(all_ops())
    assert table["index"].tolist() == list(range(15_625))
    assert list(table.columns) == ["index", *COLUMNS]
    assert table[COLUMNS].stack().between(0, 100).all()


def test_the_published_numbers_are_there(table):
    assert table[COLUMNS].max().tolist() == [91.61, 94.37, 73.49, 73.51, 46.73, 47.31]
    assert table.loc["111111", COLUMNS].tolist() == [39.77, 54.30, 15.03, 15.61, 16.43, 16.32]
    assert table.loc["333133", COLUMNS[1::2]].tolist() == [94.36, 73.51, 46.34]


def test_the_numbers_are_the_official_ones(table):
    first = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    second = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    assert [str(decode(ops)) for ops in table.index[:2]] == [first, second]


def test_exactly_the_cells_without_a_path_do_not_learn(table):
    """Would another order of the edges be read, cells that do nothing would seem to classify."""
    nothing = [ops for ops in all_ops() if computation(ops).key == "0"]
    assert table.loc[nothing, "cifar10_test"].max() <= 10 < 46 < table.drop(nothing)["cifar10_test"].min()


def test_the_file_is_small_quick_to_open_and_says_where_it_is_from():
    folder = files("ldarts_data") / "nasbench201"
    packed = (folder / "table.csv.gz").read_bytes()
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts["sha256"] == hashlib.sha256(packed).hexdigest()
    assert {"source", "date", "rights", "compared"} <= set(facts)
    assert len(packed) < 350_000
    durations = []
    for _ in range(3):
        start = time.process_time()
        open_table("nasbench201")
        durations.append(time.process_time() - start)
    assert min(durations) < 0.2


def test_the_benchmark_answers_by_genotype(nasbench201):
    row = nasbench201.query(WINNER)
    assert (row["cifar10_test"], row["cifar100_test"], row["place"]) == (94.36, 73.51, 3)
    assert row["index"] == 9930
    assert nasbench201.regret(WINNER) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("query", "333135"), "6 digits from 0 to 4, got '333135'"),
        (("query", "conv"), "unknown architecture 'conv'"),
        (("query", "|skip_connect~0|"), "expected 3 intermediate nodes, got 1"),
        (("query", "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)])"), "no reduction cell"),
    ],
)
def test_wrong_use_is_one_line(ldarts, arguments, expected):
    code, out, error = ldarts(*arguments)
    assert (code, out) == (2, "")
    assert error.startswith("ldarts: error: ") and error.count("\n") == 1
    assert expected in error


def printed(text: str) -> dict[str, list[str]]:
    """The columns of both tables, under the names of the lines."""
    return {line[:16].strip(): [line[16:56].strip(), line[56:]] for line in text.splitlines()[2:]}


@pytest.mark.parametrize("arch", ["333133", WINNER])
def test_query_prints_both_tables_side_by_side(ldarts, arch):
    code, text, _ = ldarts("query", arch)
    assert code == 0
    cell, digits = text.splitlines()[:2]
    assert (cell.split(), digits.split()) == (["cell", WINNER], ["digits", "333133"])
    found = printed(text)
    assert found[""] == ["Digits-201", "NAS-Bench-201"]
    assert {name: columns[1] for name, columns in found.items() if name and columns[1]} == {
        "test accuracy": "94.36 % (91.55 % validation), CIFAR-10",
        "place": "3 of 15,625 cells",
        "regret": "0.01 points below the best",
        "CIFAR-100": "73.51 % (73.49 % validation)",
        "ImageNet16-120": "46.34 % (46.37 % validation)",
        "index": "9930",
    }


def test_query_prints_the_row_of_digits201(ldarts, digits201):
    table = digits201.frame.reset_index().sort_values("accuracy", ascending=False, ignore_index=True)
    for place in (0, len(table) // 2):
        row, best = table.loc[place], table.loc[0, "accuracy"]
        code, text, _ = ldarts("query", row["ops"])
        assert code == 0
        better = (table["accuracy"] > row["accuracy"]).sum()
        assert {name: first for name, (first, _) in printed(text).items() if name and first} == {
            "test accuracy": f"{row['accuracy']:.4f} ± {row['std']:.4f} (3 seeds)",
            "place": f"{1 + better:,} of {len(table):,} computations",
            "regret": f"{best - row['accuracy']:.4f} below the best",
            "parameters": f"{row['parameters']:,}",
            "FLOPs": f"{row['flops']:,} for one image",
        }
