"""A run directory whose files were damaged, exchanged or taken away: one line, or mended."""

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ldarts_lib import Run
from ldarts_lib.bilevel.search import SearchResult
from ldarts_lib.errors import LdartsError
from ldarts_lib.files import locked
from runfolders import SEARCHING, TRAINING

LOOKUP = ("evaluate", "run", "--recipe", "lookup", "--out", "looked-up")
NOT_JSON = {
    "null": b"null",
    "a list": b"[1, 2]",
    "a number": b"7",
    "a text": b'"x"',
    "true": b"true",
    "empty": b"",
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "binary": bytes(range(256)),
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "zeros": bytes(300),
    "half": None,
    "a long number": b'{"a": ' + b"9" * 6000 + b"}",
    "not a number": b'{"size": NaN}',
    "no keys": b"{}",
    "two objects": b"{}{}",
    "a surrogate": b'{"dataset": "\\ud800"}',
}
READERS = {
    "config.json": [
        ("search", (*SEARCHING, "--out", "run")),
        ("search", ("discretize", "run", "--selection", "perturbation")),
    ],
    "environment.json": [("stopped", (*SEARCHING, "--out", "run"))],
    "images.json": [
        ("search", ("evaluate", "run", "--size", "smoke")),
        ("training", ("predict", "run", "x.png")),
    ],
    "genotype.json": [("search", (*SEARCHING, "--out", "run"))],
    "metrics.json": [("search", LOOKUP), ("training", (*TRAINING, "--out", "run"))],
}
WRONG = {
    "config.json": [
        ("seed", -1),
        ("seed", "x"),
        ("size", "huge"),
        ("dataset", 7),
        ("epochs", 10**30),
        ("epochs", None),
    ],
    "environment.json": [("command", None), ("command", []), ("command", [1]), ("continues", 3)],
    "images.json": [
        ("class_names", []),
        ("class_names", [1]),
        ("channels", 2),
        ("size", 10**9),
        ("mean", [0.1, 0.1]),
        ("std", [0.0]),
        ("std", ["x"]),
        ("mean", None),
        ("folder", 1),
        ("name", ""),
    ],
    "genotype.json": [
        ("genotype", None),
        ("genotype", "x"),
        ("genotype", 5),
        ("genotype", "[" * 5000),
        ("genotype", "|a~9|"),
    ],
    "metrics.json": [
        ("version", 2),
        ("version", "1"),
        ("stage", "x"),
        ("seconds", -1),
        ("seconds", "soon"),
        ("genotype", ""),
        ("seed", 7),
        ("size", "huge"),
    ],
}


def refused(result, *named):
    """The command ended with one line that names what is wrong, and with nothing else."""
    code, _, err = result
    lines = [line for line in err.split("\n") if line and "\r" not in line]
    assert code == 2 and len(lines) == 1 and lines[0].startswith("ldarts: error: "), err
    assert all(word in err for word in named), err


@pytest.mark.parametrize("damage", NOT_JSON)
@pytest.mark.parametrize(
    ("name", "kind", "command"), [(n, *case) for n, cases in READERS.items() for case in cases[:1]]
)
def test_a_json_file_that_is_none_is_named(ldarts, copy_of, name, kind, command, damage):
    file = copy_of(kind) / name
    content = NOT_JSON[damage]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if content is None else content)
    before = sorted(os.listdir())
    refused(ldarts(*command), "run" if (name, damage) == ("config.json", "no keys") else name)
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("name", "key", "value"), [(name, *pair) for name, pairs in WRONG.items() for pair in pairs]
)
@pytest.mark.parametrize("position", [0, -1])
def test_a_value_that_cannot_be_is_named(ldarts, copy_of, name, key, value, position):
    kind, command = READERS[name][position]
    run = copy_of(kind)
    content = json.loads((run / name).read_text())
    (run / name).write_text(json.dumps(content | {key: value}))
    refused(ldarts(*command), *((key,) if key != "genotype" else ()))


@pytest.mark.parametrize("name", [*READERS, "history.csv", "checkpoint.pt", "trajectory.npz"])
def test_a_folder_in_place_of_a_file_is_named(ldarts, copy_of, name):
    run = copy_of("stopped" if name == "environment.json" else "search")
    (run / name).unlink()
    (run / name).mkdir()
    code, _, err = ldarts(*SEARCHING, "--out", "run")
    if name in ("metrics.json", "history.csv", "images.json"):
        assert code in (0, 2)
    else:
        assert code == 2
    assert "Traceback" not in err and (code == 0 or name in err)


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.json", "genotype.json", "checkpoint.pt", "trajectory.npz"]
)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(ldarts, copy_of, name):
    file = copy_of("search") / name
    file.unlink()
    os.mkfifo(file)
    refused(ldarts(*SEARCHING, "--out", "run"), f"{name}: it is no file")


HISTORIES = {
    "binary": lambda raw: bytes(range(256)),
    "empty": lambda raw: b"",
    "half": lambda raw: raw[: len(raw) // 2],
    "zeros": lambda raw: bytes(len(raw)),
    "utf-16": lambda raw: raw.decode().encode("utf-16"),
    "no header": lambda raw: raw.partition(b"\n")[2],
    "text for a number": lambda raw: raw.replace(b"\n1,", b"\nx,"),
    "a row too few": lambda raw: raw.rpartition(b"\n1,")[0] + b"\n",
    "rows exchanged": lambda raw: raw.replace(b"\n0,", b"\n1,"),
    "a column too many": lambda raw: raw.replace(b"\n1,", b"\n1,2,"),
    "a zero byte": lambda raw: raw.replace(b"\n1,", b"\n1,\0"),
    "a megabyte in one field": lambda raw: raw + b'"' + b"x" * 2**20 + b'"\n',
}


@pytest.mark.parametrize("damage", HISTORIES)
def test_a_history_is_replaced_from_the_checkpoint_and_that_is_said(ldarts, copy_of, made, damage):
    run = copy_of("stopped")
    whole = (run / "history.csv").read_bytes()
    (run / "history.csv").write_bytes(HISTORIES[damage](whole))
    code, _, err = ldarts(*SEARCHING, "--out", "run")
    assert code == 0 and "history.csv is damaged; it is replaced from checkpoint.pt" in err
    assert (run / "history.csv").read_bytes() == whole
    (run / "history.csv").write_bytes(b"epoch,seconds\n0,x\n")
    code, out, err = ldarts("discretize", "run")
    assert code == 0 and "its rows are taken from checkpoint.pt" in err
    assert out.strip() == Run(made / "search").read_json("genotype.json")["genotype"]
    (run / "checkpoint.pt").unlink()
    refused(ldarts("discretize", "run"), "history.csv is damaged")


def test_any_bit_of_a_checkpoint_is_missed(copy_of):
    """One flip in each hundredth part of the file, in a bit that goes round."""
    run = Run(copy_of("search"))
    whole, state = (run.path / "checkpoint.pt").read_bytes(), run.read_checkpoint()
    for k in range(100):
        raw = bytearray(whole)
        raw[k * len(raw) // 100] ^= 1 << k % 8
        (run.path / "checkpoint.pt").write_bytes(raw)
        try:
            read = run.read_checkpoint()
        except LdartsError as error:
            assert "checkpoint.pt" in str(error)
        else:  # in the file's own padding
            assert all(map(torch.equal, state["alphas"].values(), read["alphas"].values()))
            assert state["history"] == read["history"] and state["supernet"].keys() == read["supernet"].keys()


@pytest.mark.parametrize("name", ["config.json", "checkpoint.pt", "trajectory.npz", "genotype.json"])
def test_a_file_of_another_run_is_not_taken_for_ones_own(ldarts, copy_of, made, name):
    run = copy_of("search")
    (run / name).write_bytes((made / "other" / name).read_bytes())
    refused(ldarts(*SEARCHING, "--out", "run"), "run")


@pytest.mark.parametrize("name", ["config.json", "checkpoint.pt", "trajectory.npz", "genotype.json"])
def test_a_file_that_has_gone_is_named(ldarts, copy_of, name):
    (copy_of("search") / name).unlink()
    refused(ldarts(*SEARCHING, "--out", "run"), "run")


@pytest.mark.parametrize(
    "command", [("discretize",), ("export", "--to", "m.onnx"), ("predict", "x.png"), ("evaluate",)]
)
def test_a_directory_of_another_kind_is_refused_with_what_it_is(ldarts, copy_of, command):
    training = command[0] in ("discretize", "evaluate")
    copy_of("training" if training else "search")
    refused(ldarts(command[0], "run", *command[1:]), "training" if training else "is a search")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([*READERS, "history.csv", "checkpoint.pt", "trajectory.npz"]), data=st.data())
def test_mutated_bytes_give_the_run_or_an_error_of_ours(made, tmp_path, name, data):
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    for file in (made / "search").glob("[!.]*"):
        (run / file.name).write_bytes(file.read_bytes())
    raw = bytearray((run / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        raw = raw or bytearray(b"x")
    (run / name).write_bytes(raw)
    try:
        result = SearchResult.read(run)
    except LdartsError as error:
        assert str(run) in str(error)
    else:
        assert len(result.history) == 2 and Path(result.path) == run


def test_a_selection_that_was_left_damaged_is_named(ldarts, copy_of):
    (copy_of("search") / "perturbation.pt").write_bytes(b"half")
    refused(ldarts("discretize", "run", "--selection", "perturbation", "--device", "cpu"), "perturbation.pt")


def test_a_selection_that_another_process_makes_is_left_alone(ldarts, copy_of):
    with locked(copy_of("search")):
        refused(
            ldarts("discretize", "run", "--selection", "perturbation", "--device", "cpu"), "in use by process"
        )
