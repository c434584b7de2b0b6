"""NAS-Bench-201 as it ships, against published facts, and `ldarts query` for both benchmarks."""

from __future__ import annotations

import csv
import hashlib
import json
import statistics
import time
from importlib.resources import files

import pytest

from ldarts_lib.tables.computation import all_ops, computation, decode
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
        (("query", "33313", "--benchmark", "nasbench201"), "6 digits from 0 to 4, got '33313'"),
        (("query", "333135"), "6 digits from 0 to 4, got '333135'"),
        (("query", "conv"), "'conv' is no genotype"),
        (("query", "|skip_connect~0|"), "3 intermediate nodes, got 1 and 1"),
        (("query", "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)])"), "nasbench201"),
    ],
)
def test_wrong_use_is_one_line(ldarts, arguments, expected):
    code, out, error = ldarts(*arguments)
    assert (code, out) == (2, "")
    assert error.startswith("ldarts: error: ") and error.count("\n") == 1
    assert expected in error


def test_an_unknown_benchmark_lists_the_known_ones(ldarts):
    code, out, error = ldarts("query", "333133", "--benchmark", "nasbench101")
    assert code == 2
    assert "digits-201" in out + error and "nasbench201" in out + error


def test_help_teaches_query(ldarts):
    assert "ldarts query 333133" in ldarts("--help")[1]
    text = ldarts("query", "--help")[1]
    for part in ("ARCH", "digits-201", "nasbench201", "nor_conv_3x3", "six digits"):
        assert part in text


@pytest.mark.parametrize("arch", ["333133", WINNER])
def test_query_prints_the_row_of_nasbench201(ldarts, arch):
    code, text, _ = ldarts("query", arch, "--benchmark", "nasbench201")
    assert code == 0
    assert {line[:16].strip(): line[16:] for line in text.splitlines()} == {
        "cell": WINNER,
        "digits": "333133",
        "index": "9930",
        "CIFAR-10": "91.55 % validation, 94.36 % test",
        "CIFAR-100": "73.49 % validation, 73.51 % test",
        "ImageNet16-120": "46.37 % validation, 46.34 % test",
        "place": "3 of 15,625 by CIFAR-10 test accuracy",
        "regret": "0.01 percent points of it below the best",
    }


def test_query_prints_the_row_of_digits201(ldarts, digits201):
    with (files("ldarts_data") / "digits201" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    seeds = [name for name in rows[0] if name.startswith("accuracy_")]
    means = [statistics.fmean(float(row[name]) for name in seeds) for row in rows]
    ranked = sorted(range(len(rows)), key=lambda number: -means[number])
    for number in (ranked[0], ranked[len(rows) // 2]):
        row = rows[number]
        deviation = statistics.stdev(float(row[name]) for name in seeds)
        code, text, _ = ldarts("query", row["ops"])
        assert code == 0
        lines = {line[:16].strip(): line[16:] for line in text.splitlines()}
        assert lines["cell"] == str(decode(row["ops"]))
        found, _, rest = lines["test accuracy"].partition(" ± ")
        assert float(found) == pytest.approx(means[number], abs=6e-5)
        assert float(rest.split()[0]) == pytest.approx(deviation, abs=6e-5)
        assert f"{len(seeds)} seeds" in rest
        better = sum(mean > means[number] + 1e-9 for mean in means)
        assert lines["place"].startswith(f"{1 + better:,} of {len(rows):,} ")
        regret = means[ranked[0]] - means[number]
        assert float(lines["regret"].split()[0]) == pytest.approx(regret, abs=6e-5)
        assert lines["parameters"].replace(",", "") == str(round(float(row["parameters"])))
        assert lines["FLOPs"].split()[0].replace(",", "") == str(round(float(row["flops"])))
