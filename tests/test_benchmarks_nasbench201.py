"""NAS-Bench-201 from files in the official layouts, written here, and from the real table if it is there."""

from __future__ import annotations

import bz2
import csv
import io
import os
import pickle
import random
import statistics
import tarfile
import time
import tracemalloc
from collections import OrderedDict
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import held

from ldarts_lib.benchmarks.computation import all_ops, computation, decode
from ldarts_lib.benchmarks.errors import BenchmarkCorrupt, BenchmarkMissing
from ldarts_lib.benchmarks.nasbench201 import Fact, convert, known_facts, location, read
from ldarts_lib.benchmarks.tables import open_benchmark

COUNT = 15625
COLUMNS = [
    "cifar10_valid",
    "cifar10_test",
    "cifar100_valid",
    "cifar100_test",
    "imagenet16_valid",
    "imagenet16_test",
]
TRAININGS = {
    "cifar10-valid": {"x-valid": 0, "ori-test": None},
    "cifar10": {"ori-test": 1},
    "cifar100": {"x-valid": 2, "x-test": 3, "ori-test": None},
    "ImageNet16-120": {"x-valid": 4, "x-test": 5, "ori-test": None},
}
SEEDS = (777, 888, 999)
DISTINCT = 61  # cells share their trainings, so that the files are written in seconds
KINDS = ("torch file", "zipped torch file", "folder", "archive", "single file")
OFFICIAL_ORDER = random.Random(0).sample(list(all_ops()), COUNT)


def accuracy(index: int, column: int, seed: int) -> float:
    return 10 + (137 * (index % DISTINCT) + 211 * column + 97 * seed) % 8000 / 100


def trials(index: int) -> int:
    return 1 + index % DISTINCT % len(SEEDS)


def trial(index: int, dataset: str, seed: int, epochs: int = 200) -> dict:
    """One training; every accuracy that the table must not take is 99."""
    evaluated = {}
    for split, column in TRAININGS[dataset].items():
        evaluated[f"{split}@{epochs - 2}"] = 99.0
        right = column is not None and epochs == 200
        evaluated[f"{split}@{epochs - 1}"] = accuracy(index, column, seed) if right else 99.0
    return {
        "name": dataset,
        "seed": f"{seed:04d}",
        "epochs": epochs,
        "params": np.float64(0.129306),
        "train_acc1es": {epochs - 1: 99.0},
        "train_times": OrderedDict({0: 7.2}),
        "eval_names": list(TRAININGS[dataset]),
        "eval_acc1es": evaluated,
        "net_state_dict": None,
    }


def entry(index: int, ops: str, epochs: int = 200) -> dict:
    seeds = SEEDS[: trials(index)]
    return {
        "arch_index": index,
        "arch_str": str(decode(ops)),
        "all_results": {
            (dataset, seed): trial(index, dataset, seed, epochs) for dataset in TRAININGS for seed in seeds
        },
        "dataset_seed": {dataset: list(seeds) for dataset in TRAININGS},
        "clear_net_done": True,
    }


def content(entries: dict[int, dict]) -> dict:
    return {
        "meta_archs": [str(decode(ops)) for ops in OFFICIAL_ORDER],
        "arch2infos": entries,
        "evaluated_indexes": set(entries),
    }


def write_torch(path: Path, entries: dict[int, dict]) -> Path:
    torch.save(content(entries), path, _use_new_zipfile_serialization=False)
    return path


def packed(value: object) -> bytes:
    return bz2.compress(pickle.dumps(value, protocol=4), compresslevel=1)


@pytest.fixture(scope="module")
def full() -> dict[int, dict]:
    """The 200-epoch entries of all cells."""
    shared = [entry(index, "000000") for index in range(DISTINCT)]
    return {
        index: {**shared[index % DISTINCT], "arch_index": index, "arch_str": str(decode(ops))}
        for index, ops in enumerate(OFFICIAL_ORDER)
    }


@pytest.fixture(scope="module")
def releases(full, tmp_path_factory) -> dict[str, Path]:
    """The same trainings in every published layout."""
    root = tmp_path_factory.mktemp("releases")
    less = entry(0, "000000", epochs=12)
    old = content({index: {"full": one, "less": less} for index, one in reversed(full.items())})
    torch.save(old, root / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(old, root / "zipped.pth")
    new = {index: OrderedDict({"12": less, "200": one}) for index, one in full.items()}
    (root / "all.pickle.pbz2").write_bytes(packed(content(new)))
    members = {f"{index:06d}.pickle.pbz2": packed(one) for index, one in new.items()}
    members["meta.pickle.pbz2"] = packed({**content({}), "arch2infos": None})
    (root / "simple").mkdir()
    with tarfile.open(root / "simple.tar", "w") as archive:
        for name, data in members.items():
            (root / "simple" / name).write_bytes(data)
            member = tarfile.TarInfo(f"NATS-tss-v1_0-3ffb9-simple/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    names = ("old.pth", "zipped.pth", "simple", "simple.tar", "all.pickle.pbz2")
    return {kind: root / name for kind, name in zip(KINDS, names, strict=True)}


def complete_table() -> pd.DataFrame:
    """A table of all cells that no published fact contradicts: 90 % everywhere else."""
    table = pd.DataFrame({"index": range(COUNT), "ops": OFFICIAL_ORDER, **dict.fromkeys(COLUMNS, 90.0)})
    table = table.set_index("ops")
    table.loc["111111", ["cifar10_valid", "cifar10_test"]] = 39.77, 54.30
    table.loc["333133", ["cifar10_test", "cifar100_test", "imagenet16_test"]] = 94.36, 73.51, 46.34
    table.loc["313333", "cifar10_test"] = 94.37
    return table


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "source.csv"
    complete_table().reset_index().to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_release_gives_the_mean_over_the_seeds_after_the_last_epoch(releases, tmp_path, kind):
    table = convert(releases[kind], tmp_path)
    assert list(table.columns) == ["index", *COLUMNS]
    assert table.index.tolist() == OFFICIAL_ORDER
    assert table["index"].tolist() == list(range(COUNT))
    for column, name in enumerate(COLUMNS):
        means = [
            sum(accuracy(index, column, seed) for seed in SEEDS[: trials(index)]) / trials(index)
            for index in range(COUNT)
        ]
        assert np.abs(table[name].to_numpy() - means).max() <= 0.005 + 1e-9
        assert np.allclose(table[name] * 100, (table[name] * 100).round(), atol=1e-6)
    assert location(tmp_path) == tmp_path / "nasbench201.csv.gz"
    assert location(tmp_path).stat().st_size < 1_000_000
    pd.testing.assert_frame_equal(read(tmp_path), table)


def test_real_trainings_give_the_published_means(full, tmp_path):
    """Cell 0 of NATS-Bench: the accuracies of its three trainings."""
    real = {
        ("cifar10", "ori-test"): (85.79, 85.62, 86.18),
        ("cifar100", "x-test"): (53.07999995117188, 51.97999997558594, 53.67999995727539),
        ("ImageNet16-120", "x-test"): (27.099999954223634, 27.033333257039388, 25.766666610717774),
    }
    cell = "421211"
    place = OFFICIAL_ORDER.index(cell)
    seeds = {dataset: list(SEEDS) for dataset in TRAININGS}
    results = {**full[place], "dataset_seed": seeds, "all_results": {}}
    entries = {index: {"full": results if index == place else one} for index, one in full.items()}
    for dataset in TRAININGS:
        for number, seed in enumerate(SEEDS):
            results["all_results"][dataset, seed] = one = trial(place, dataset, seed)
            for (name, split), values in real.items():
                if name == dataset:
                    one["eval_acc1es"][f"{split}@199"] = values[number]
    table = convert(write_torch(tmp_path / "real.pth", entries), tmp_path)
    row = table.loc[cell, ["cifar10_test", "cifar100_test", "imagenet16_test"]]
    assert row.tolist() == [85.86, 52.91, 26.63]


def test_short_column_names_and_its_own_table_are_read_too(source, tmp_path):
    table = convert(source, tmp_path / "a")
    short = table.rename(
        columns=lambda name: name.replace("cifar", "c").replace("imagenet", "in"),
    ).reset_index()
    assert list(short.columns[2:4]) == ["c10_valid", "c10_test"]
    short.sample(frac=1, random_state=0).to_csv(tmp_path / "short.csv.gz", index=False)
    again = convert(tmp_path / "short.csv.gz", tmp_path / "b")
    pd.testing.assert_frame_equal(again, table)
    convert(location(tmp_path / "a"), tmp_path / "c")
    contents = {location(tmp_path / folder).read_bytes() for folder in "abc"}
    assert len(contents) == 1


def test_known_facts_agree_or_warn_with_both_numbers(source, tmp_path):
    table = convert(source, tmp_path)
    assert len(known_facts(table)) == 6
    assert all(fact.agrees and "warning" not in str(fact) for fact in known_facts(table))
    table.loc["111111", "cifar10_valid"] = 39.82
    assert all(fact.agrees for fact in known_facts(table))
    table.loc["111111", "cifar10_valid"] = 39.83
    table.loc["313333", "cifar10_test"] = 90.0
    (off,) = (fact for fact in known_facts(table) if not fact.agrees)
    assert off == Fact("the cell 111111", "cifar10_valid", 39.77, 39.83)
    for part in ("warning", "39.83", "39.77", "another release"):
        assert part in str(off)


def test_an_incomplete_release_is_refused_and_the_old_table_stays(source, full, tmp_path):
    convert(source, tmp_path)
    before = location(tmp_path).read_bytes()
    entries = {index: {"full": one} for index, one in full.items() if index != 4711}
    with pytest.raises(BenchmarkCorrupt, match=r"part\.pth holds 15,624 architectures, expected 15,625"):
        convert(write_torch(tmp_path / "part.pth", entries), tmp_path)
    assert location(tmp_path).read_bytes() == before
    assert [path.name for path in tmp_path.glob("*nasbench201*")] == ["nasbench201.csv.gz"]


def without_a_split(one: dict) -> None:
    for seed in SEEDS[: trials(5)]:
        del one["all_results"]["cifar100", seed]["eval_acc1es"]["x-test@199"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without_a_split, "'x-test@199'"),
        (lambda one: one["all_results"].pop(("cifar10", 777)), r"\('cifar10', 777\)"),
        (lambda one: one["dataset_seed"].update({"ImageNet16-120": []}), "at least one"),
        (lambda one: one.update(arch_str="64:64:64:64:64"), "64:64:64:64:64"),
        (lambda one: one.update(arch_str=one["arch_str"].replace("~0", "~3")), "3"),
        (lambda one: one["all_results"]["cifar10", 777].update(epochs=12), "12 epochs on cifar10.*200"),
    ],
)
def test_a_foreign_entry_is_named(tmp_path, change, expected):
    one = entry(5, "421211")
    change(one)
    path = write_torch(tmp_path / "foreign.pth", {5: {"full": one}})
    with pytest.raises(BenchmarkCorrupt, match=rf"foreign\.pth: architecture 5 is not .*{expected}"):
        convert(path, tmp_path)


def damaged(table: pd.DataFrame, damage: str) -> pd.DataFrame:
    if damage == "fewer":
        return table.iloc[:-1]
    if damage == "twice":
        table.loc[7, "ops"] = table.loc[8, "ops"]
    elif damage == "above":
        table.loc[7, "cifar100_valid"] = 100.5
    elif damage == "nan":
        table.loc[7, "imagenet16_test"] = float("nan")
    elif damage == "numbers":
        table["index"] = table["index"] + 1
    elif damage == "column":
        return table.drop(columns="cifar10_test")
    elif damage == "text":
        table["cifar10_test"] = "good"
    return table


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("fewer", "15,624 architectures, expected 15,625"),
        ("twice", "every cell of NAS-Bench-201 once"),
        ("above", f"accuracy of the cell {OFFICIAL_ORDER[7]} is not between 0 and 100"),
        ("nan", f"accuracy of the cell {OFFICIAL_ORDER[7]} is not between 0 and 100"),
        ("numbers", "0 to 15624"),
        ("column", "columns cifar10_test are missing"),
        ("text", "good"),
    ],
)
@pytest.mark.parametrize("use", ["convert", "read"])
def test_a_damaged_table_is_refused(tmp_path, damage, expected, use):
    table = damaged(complete_table().reset_index(), damage)
    path = tmp_path / "other.csv.gz" if use == "convert" else location(tmp_path)
    table.to_csv(path, index=False)
    with pytest.raises(BenchmarkCorrupt) as error:
        convert(path, tmp_path) if use == "convert" else read(tmp_path)
    assert expected in str(error.value) and path.name in str(error.value)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "flipped"])
def test_damaged_bytes_are_refused(source, tmp_path, damage):
    convert(source, tmp_path)
    whole = location(tmp_path).read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    changed = {"truncated": whole[:-100], "foreign": b"<html></html>", "empty": b"", "flipped": flipped}
    location(tmp_path).write_bytes(changed[damage])
    with pytest.raises(BenchmarkCorrupt, match=r"nasbench201\.csv\.gz"):
        read(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_release_is_refused(releases, tmp_path, kind):
    original = releases[kind]
    if kind == "folder":
        path, damaged_file = tmp_path, tmp_path / "000000.pickle.pbz2"
        whole = (original / damaged_file.name).read_bytes()
    else:
        path = damaged_file = tmp_path / original.name
        whole = original.read_bytes()
    damaged_file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BenchmarkCorrupt) as error:
        convert(path, tmp_path)
    assert damaged_file.name in str(error.value)
    assert not location(tmp_path).exists()


@pytest.mark.parametrize("content", [b"", b"<html>quota exceeded</html>", pickle.dumps({"weights": 1})])
def test_what_is_no_release_is_refused(tmp_path, content):
    path = tmp_path / "page.pth"
    path.write_bytes(content)
    with pytest.raises(BenchmarkCorrupt, match=r"page\.pth"):
        convert(path, tmp_path)


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(BenchmarkCorrupt, match="holds 0 architectures"):
        convert(tmp_path, tmp_path)


class MakesDirectory:
    """What an attacker would put into a pickle: a call that is made while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", KINDS)
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, kind):
    proof = tmp_path / "executed"
    evil = MakesDirectory(proof)
    pickle.loads(pickle.dumps(evil))
    assert proof.is_dir()  # it would work
    proof.rmdir()
    name = "000000.pickle.pbz2"
    path = tmp_path / {"folder": "folder", "archive": "a.tar", "single file": name}.get(kind, "a.pth")
    if "torch" in kind:
        torch.save(content({0: evil}), path, _use_new_zipfile_serialization="zipped" in kind)
    elif kind == "folder":
        path.mkdir()
        (path / name).write_bytes(packed(evil))
    elif kind == "archive":
        (tmp_path / name).write_bytes(packed(evil))
        with tarfile.open(path, "w") as archive:
            archive.add(tmp_path / name, name)
    else:
        path.write_bytes(packed(content({0: evil})))
    with pytest.raises(BenchmarkCorrupt, match=r"refers to (posix|nt)\.mkdir"):
        convert(path, tmp_path)
    assert not proof.exists()


def test_trained_weights_are_refused(tmp_path):
    path = write_torch(tmp_path / "weights.pth", {0: {"full": torch.ones(2)}})
    with pytest.raises(BenchmarkCorrupt, match=r"torch\._utils\._rebuild_tensor"):
        convert(path, tmp_path)


def test_a_missing_table_says_what_to_download_from_where_how_big_and_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "data"))
    for call in (read, lambda: open_benchmark("nasbench201"), lambda: convert(tmp_path / "nowhere.pth")):
        with pytest.raises(BenchmarkMissing) as error:
            call()
        assert isinstance(error.value, FileNotFoundError)
        for part in (
            "NAS-Bench-201-v1_0-e61699.pth (2.2 GB)",
            "NAS-Bench-201-v1_1-096897.pth (4.7 GB)",
            "NATS-tss-v1_0-3ffb9-simple.tar (1.1 GB)",
            "https://drive.google.com/",
            "ldarts data nasbench201 --from FILE",
        ):
            assert part in str(error.value)
    with pytest.raises(BenchmarkMissing, match=r"nowhere\.pth"):
        convert(tmp_path / "nowhere.pth")
    with pytest.raises(BenchmarkMissing, match="data/nasbench201"):
        read()


def test_the_benchmark_answers_by_genotype(source, tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path))
    convert(source)
    benchmark = open_benchmark("nasbench201")
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    row = benchmark.query(cell)
    assert (row["cifar10_test"], row["cifar100_test"], row["place"]) == (94.36, 73.51, 2)
    assert row["index"] == OFFICIAL_ORDER.index("333133")
    assert benchmark.regret(cell) == pytest.approx(0.01)


@pytest.fixture
def real_table(tmp_path) -> pd.DataFrame:
    convert(held("nb201_200ep_compact.csv.gz"), tmp_path)
    return read(tmp_path)


def test_the_real_table_has_the_published_numbers_and_order(real_table):
    facts = known_facts(real_table)
    assert [fact.found for fact in facts] == [fact.expected for fact in facts]
    best = real_table[COLUMNS].max().tolist()
    assert best == [91.61, 94.37, 73.49, 73.51, 46.73, 47.31]
    assert real_table.loc["111111", COLUMNS].tolist() == [39.77, 54.30, 15.03, 15.61, 16.43, 16.32]
    first = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    second = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    assert [str(decode(ops)) for ops in real_table.index[:2]] == [first, second]  # the official index


def test_cells_without_a_path_do_not_learn_in_the_real_table(real_table):
    """Would another order of the edges be read, cells that do nothing would seem to classify."""
    nothing = [ops for ops in all_ops() if computation(ops).key == "0"]
    assert real_table.loc[nothing, "cifar10_test"].max() < 11 < real_table["cifar10_test"].median()


def test_the_real_table_is_small_and_quick_to_open(real_table, tmp_path):
    assert location(tmp_path).stat().st_size < 1_000_000
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        read(tmp_path)
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.2
    tracemalloc.start()
    try:
        read(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50e6


@pytest.fixture
def ldarts(ldarts, monkeypatch, tmp_path):
    """The command line, with a data folder of its own."""
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "data"))
    return ldarts


def test_data_converts_and_prints_the_facts(ldarts, source, tmp_path):
    code, text, _ = ldarts("data", "nasbench201", "--from", source)
    assert code == 0
    for part in (tmp_path / "data" / "nasbench201.csv.gz", "15,625", "94.37", "39.77", "54.30", "73.51"):
        assert str(part) in text
    assert "warning" not in text
    assert ldarts("data", "nasbench201") == (0, text, "")


def test_data_warns_of_another_release(ldarts, source):
    table = pd.read_csv(source, dtype={"ops": str})
    table.loc[table["ops"] == "111111", "cifar10_test"] = 55.12
    table.to_csv(source, index=False)
    code, text, _ = ldarts("data", "nasbench201", "--from", source)
    assert code == 0
    (line,) = (line for line in text.splitlines() if line.startswith("warning"))
    assert "55.12" in line and "54.30" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("data", "nasbench201"), "--from FILE"),
        (("data", "nasbench201", "--from", "nowhere.pth"), "nowhere.pth"),
        (("data", "nasbench201", "--from", __file__), "no file of NAS-Bench-201"),
        (("data", "cifar10", "--from", "x.pth"), "cifar10 is not made from a file, only nasbench201 is"),
        (("query", "333133", "--benchmark", "nasbench201"), "ldarts data nasbench201 --from FILE"),
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


def test_help_teaches_query_and_data(ldarts):
    code, text, _ = ldarts("--help")
    assert code == 0
    assert "ldarts query 333133" in text and "ldarts data nasbench201 --from FILE" in text
    text = ldarts("data", "--help")[1]
    for part in ("cifar10", "nasbench201", "--from FILE", "NAS-Bench-201-v1_0-e61699.pth"):
        assert part in text
    text = ldarts("query", "--help")[1]
    for part in ("ARCH", "digits-201", "nor_conv_3x3", "six digits"):
        assert part in text


@pytest.mark.parametrize("arch", ["333133", str(decode("333133"))])
def test_query_prints_the_row_of_nasbench201(ldarts, source, arch):
    ldarts("data", "nasbench201", "--from", source)
    code, text, _ = ldarts("query", arch, "--benchmark", "nasbench201")
    assert code == 0
    lines = {line[:16].strip(): line[16:] for line in text.splitlines()}
    assert lines["cell"] == str(decode("333133"))
    assert lines["digits"] == "333133"
    assert lines["index"] == str(OFFICIAL_ORDER.index("333133"))
    assert lines["CIFAR-10"] == "90.00 % validation, 94.36 % test"
    assert lines["CIFAR-100"] == "90.00 % validation, 73.51 % test"
    assert lines["ImageNet16-120"] == "90.00 % validation, 46.34 % test"
    assert lines["place"].startswith("2 of 15,625 ")
    assert lines["regret"].startswith("0.01 ")


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
