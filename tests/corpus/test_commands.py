"""What a command must not take: one line that says why, exit code 2, nothing written, no work done first."""

import io
import json
import multiprocessing
import os
import re
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from ldarts_book.grid import evaluations, sweep
from ldarts_book.grid.grid import read_grid
from ldarts_lib import cli
from ldarts_lib.bilevel import protocols

IMPORTED = evaluations, sweep, protocols
"""What the commands below import, so that it is not counted."""

SIZED = ("size", "DARTS_V2")
STUDIED = ("study", "demonstration")
NUMBERS = [
    (("search",), "--seed", [-1, 2**32, 10**30]),
    (("search",), "--epochs", [0, -1, 10**7]),
    (("search",), "--threads", [0, -1, 10**6]),
    (("evaluate", "DARTS_V2"), "--seed", [-1, 2**32]),
    (("evaluate", "DARTS_V2"), "--epochs", [0, 10**12]),
    (("evaluate", "DARTS_V2"), "--devices", [0, -1, 10**6]),
    (SIZED, "--channels", [0, -1, 10**6]),
    (SIZED, "--cells", [0, 10**6]),
    (SIZED, "--classes", [0, -3, 10**7]),
    (SIZED, "--resolution", [0, 10**6]),
    (("bench",), "--batch", [0, 10**9]),
    (("bench",), "--rounds", [0, -1]),
    (STUDIED, "--seeds", [0, -1, 10**9]),
    (STUDIED, "--first-seed", [-1, 2**32]),
    (STUDIED, "--workers", [0, -1, 10**6]),
    (("sweep", "smoke"), "--jobs", [0, -1, 10**6]),
    (("sweep", "smoke"), "--gpus", [-1, 10**6]),
    (("predict", "run", "x.png"), "--threads", [0]),
]
NAMED = ("space", "dataset", "method", "size", "seed", "fingerprint", "folder", "pictures", "definition")
NAMED_TOO = ("recipe", "architecture", "genotype", "searched", "dataset", "size", "seed", "folder")
SETTINGS = [
    ("channels", "0"),
    ("channels", "1000000"),
    ("channels", "x"),
    ("channels", ""),
    ("depth", "1000000"),
    ("depth", "-1"),
    ("depth", "2.5"),
    ("batch_size", "-1"),
    ("batch_size", "9" * 5000),
    ("weight_lr", "nan"),
    ("weight_lr", "inf"),
    ("lambda_max", "-1"),
    ("epsilon", "0"),
    ("split", "1"),
    ("split", "[]"),
    ("momentum", "1e400"),
    ("clip_factors", "-1"),
    ("clip_factors", "[1, 2]"),
    ("reduction", "heavy"),
    ("estimator", "[/red]"),
    ("nothing", "1"),
    ("[/red]", "1"),
    ("", "1"),
    ("__class__", "1"),
]
GENOTYPES = {
    "a thousand brackets": "[" * 1000,
    "a thousand calls": "Genotype(" * 1000,
    "a thousand signs": f"Genotype(normal=[('skip_connect', {'-' * 1000}1)], reduce=[])",
    "a thousand not": f"Genotype(normal={'not ' * 5000}1)",
    "a sum of a thousand": f"Genotype(normal={'1+' * 5000}1)",
    "a large range": "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)], "
    "normal_concat=range(2, 10**9), reduce=[('skip_connect', 0), ('skip_connect', 1)])",
    "a larger range": "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)], "
    "normal_concat=range(2, 1000000000), reduce=[('skip_connect', 0), ('skip_connect', 1)])",
    "thousands of digits": f"Genotype(normal=[('skip_connect', {'9' * 6000})], reduce=[])",
    "digits between bars": f"|skip_connect~{'9' * 6000}|",
    "a power": "Genotype(normal=[('skip_connect', 9**9**9)], reduce=[])",
    "a call of the system": "Genotype(normal=__import__('os').system('touch owned'))",
    "an unknown operation": "|teleport~0|",
    "markup": "[/red]",
    "no name": "none-of-these",
    "nothing": "",
    "half": "Genotype(normal=[('skip_connect', 0), (",
    "a surrogate": "\udcff",
    "a node that is not there": "|skip_connect~7|",
    "a number that is not there": "nb201:99999999999",
    "a zero byte": "|skip\0~0|",
    "too long": "|" * 2**18,
    "one long word": "Genotype" * 15_000,
    "spaces": f"Genotype{' ' * 100_000}|~0",
    "quoted lines": f"'{chr(10) * 50_000}Genotype(",
    "many edges": "|none~0" * 15_000 + "|",
}
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
LAUGHS += "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in pairwise("abcdefghi"))
YAML = {
    "binary": bytes(range(256)),
    "utf-16": "size: smoke".encode("utf-16"),
    "zeros": bytes(100),
    "empty": b"",
    "a list": b"[1, 2]",
    "a text": b"hello",
    "a number": b"7",
    "a date": b"2020-01-01",
    "no integer": b"size: !!int x",
    "no date": b"size: !!timestamp 1",
    "bytes": b"size: !!binary aGVsbG8=",
    "a set": b"size: !!set {a, b}",
    "an unknown tag": b"size: !python/object:os.system x",
    "laughs": LAUGHS.encode(),
    "nested": b"[" * 5000,
    "nested pairs": b"{a: " * 5000,
    "a long line": b"size: " + b"x" * 2**20,
    "a long number": b"size: " + b"9" * 6000,
    "twice": b"size: smoke\nsize: demo\n",
    "tabs": b"size:\n\t- smoke\n",
    "markup": b"'[/red]': '[/red]'\n",
    "an alias of nothing": b"size: *nothing",
    "itself": b"&a [*a]",
    "a key that is a list": b"[a, b]: c",
    "keys of keys": b"? " * 50,
    "a merge of itself": b"a: &a {<<: *a}",
    "no truth": b"size: !!bool x",
}
PART = "size: smoke\nparts:\n  one:\n    spaces: [s2]\n    datasets: [digits]\n    methods: [lambda]\n"
GRIDS = {
    "a billion seeds": f"{PART}    seeds: 1000000000\n",
    "a seed below zero": f"{PART}    seeds: [-1]\n",
    "a large seed": f"{PART}    seeds: [99999999999]\n",
    "no seeds": f"{PART}    seeds: []\n",
    "a date for seeds": f"{PART}    seeds: 2020-01-01\n",
    "bytes for seeds": f"{PART}    seeds: !!binary aGVsbG8=\n",
    "an unknown space": f"{PART}    seeds: [0]\n".replace("s2", "'[/red]'"),
    "an unknown key": f"{PART}    seeds: [0]\n    seedz: [0]\n",
    "a part with a comma": f"{PART}    seeds: [0]\n".replace("one:", "'a,b':"),
    "data without a name": f"{PART}    seeds: [0]\n".replace("digits", "''"),
}
CELLS = "name: mine\nmacro: stages\ncells:\n  normal: {nodes: NODES, candidates: [skip_connect, none]}\n"
SPACES = {
    "a billion nodes": CELLS.replace("NODES", "1000000000"),
    "no nodes": CELLS.replace("NODES", "0"),
    "fewer": CELLS.replace("NODES", "-3"),
    "a text": CELLS.replace("NODES", "'[/red]'"),
    "a date": CELLS.replace("NODES", "2020-01-01"),
    "a truth": CELLS.replace("NODES", "true"),
    "an unknown operation": CELLS.replace("NODES", "2").replace("none", "teleport"),
}
NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
CELL = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "seeds: int = 3  # how many"}
CELL |= {"id": "0", "outputs": [], "execution_count": None}
NOTEBOOKS = {
    "a list": [],
    "null": None,
    "a number": 7,
    "no cells": {"metadata": {}, "nbformat": 4, "nbformat_minor": 5},
    "no cell": NOTEBOOK,
    "cells that are none": NOTEBOOK | {"cells": 7},
    "a cell that is none": NOTEBOOK | {"cells": [7]},
    "a cell without a source": NOTEBOOK | {"cells": [{"cell_type": "code"}]},
    "of a future format": NOTEBOOK | {"nbformat": 99},
    "a format that is none": NOTEBOOK | {"nbformat": "x"},
    "a minor format that is none": NOTEBOOK | {"cells": [CELL], "nbformat_minor": "x"},
    "metadata that are none": NOTEBOOK | {"cells": [CELL], "metadata": None},
    "metadata of papermill that are none": NOTEBOOK | {"cells": [CELL], "metadata": {"papermill": 7}},
    "outputs that are none": NOTEBOOK | {"cells": [CELL | {"outputs": None}]},
    "two cells of parameters": NOTEBOOK | {"cells": [CELL, CELL | {"id": "1"}]},
    "a name of our own": NOTEBOOK | {"cells": [CELL | {"source": "model_config: int = 3  # x"}]},
    "code for a parameter": NOTEBOOK | {"cells": [CELL | {"source": "seeds: int = open('owned', 'w')  # x"}]},
    "no Python": NOTEBOOK | {"cells": [CELL | {"source": "seeds: int = ("}]},
    "a zero byte": NOTEBOOK | {"cells": [CELL | {"source": "seeds: int = 3\0"}]},
    "a comment of spaces": NOTEBOOK | {"cells": [CELL | {"source": f"seeds: int = 3  #{' ' * 100_000}"}]},
    "nested code": NOTEBOOK | {"cells": [CELL | {"source": f"seeds: int = {'(' * 5000}  # x"}]},
}
PARAMETERS = [("seeds", "x"), ("seeds", "9" * 6000), ("seeds", "1.5"), ("nothing", "1"), ("[/red]", "1")]
PARAMETERS += [("seeds", ""), ("seeds", "True"), ("", "1")]
LONG = "x" * 300
PLACES = [
    (("search", "--size", "smoke", "--out", "file/run"), "file"),
    (("search", "--size", "smoke", "--out", "file"), "file"),
    (("search", "--size", "smoke", "--out", LONG), LONG),
    (("search", "--size", "smoke", "--out", "full"), "full"),
    (("evaluate", "DARTS_V2", "--recipe", "cifar-small", "--dataset", "digits", "--out", "file/run"), "file"),
    (("evaluate", "DARTS_V2", "--recipe", "cifar-small", "--dataset", "digits", "--out", LONG), LONG),
    (("evaluate", "full", "--recipe", "cifar-small"), "full"),
    (("search", "--space", "missing.yaml"), "missing.yaml"),
    (("search", "--space", "full"), "full"),
    (("search", "--dataset", "missing"), "missing"),
    (("search", "--dataset", "full", "--pixels", "8"), "full"),
    (("search", "--dataset", "file"), "file"),
    (("search", "--space", "ptb", "--dataset", "full"), "full"),
    (("search", "--device", "cuda:99"), "cuda"),
    (("search", "--device", "[/red]"), "[/red]"),
    (("search", "--method", "[/red]"), "[/red]"),
    (("search", "--size", "[/red]"), "[/red]"),
    (("search", "--method", "drnas", "--set", "remedy", "1"), "remedy"),
    (("discretize", "missing"), "missing"),
    (("discretize", "file"), "file"),
    (("discretize", "full"), "full"),
    (("discretize", "run", "--draw", "missing/cell.png"), "missing"),
    (("discretize", "run", "--draw", "cell.txt"), "cell.txt"),
    (("discretize", "run", "--draw", "cell"), "cell"),
    (("discretize", "run", "--draw", "file/cell.png"), "file"),
    (("predict", "missing", "x.png"), "missing"),
    (("predict", "file", "x.png"), "file"),
    (("export", "missing", "--to", "m.onnx"), "missing"),
    (("export", "file", "--to", "m.onnx"), "file"),
    (("export", "full", "--to", "m.exe"), ".exe"),
    (("collect", "missing"), "missing"),
    (("collect", "file"), "file"),
    (("data", "missing"), "missing"),
    (("data", "[/red]"), "[/red]"),
    (("run-notebook", "missing.ipynb"), "missing.ipynb"),
    (("run-notebook", "full"), "full"),
    (("plan", "missing"), "missing"),
    (("plan", "full"), "full"),
    (("plan", "smoke", "--parts", "[/red]"), "[/red]"),
    (("sweep", "smoke", "--out", "file"), "file"),
    (("sweep", "smoke", "--out", "file/grid"), "file"),
    (("sweep", "smoke", "--profile", "missing"), "missing"),
    (("study", "missing"), "missing"),
    (("study", "demonstration", "--out", "file", "--size", "smoke"), "file"),
    (("study", "demonstration", "--record", "file", "--size", "smoke"), "file"),
    (("study", "demonstration", "--variants", "[/red]"), "[/red]"),
    (("bench", "--quick", "--json", "file/rows.json"), "file"),
    (("bench", "--quick", "--json", "full"), "full"),
    (("bench", "--spaces", "[/red]"), "[/red]"),
    (("bench", "--quick", "--spaces", "ptb"), "ptb"),
    (("size", "DARTS_V2", "--recipe", "[/red]"), "[/red]"),
    (("size", "--channels", "4"), "architecture"),
    (("search", "--dataset", ""), "dataset"),
    (("evaluate", "DARTS_V2", "--dataset", ""), "dataset"),
    (("search", "--size", "smoke", "--out", "pipe.yaml"), "pipe.yaml"),
    (("predict", "run", "x.png", "--csv", "pipe.yaml"), "pipe.yaml: it is no file"),
    (("predict", "run", "x.png", "--csv", "/"), "/: it is a directory"),
    (("predict", "run", "x.png", "--csv", "."), "it is a directory"),
    (("export", "run", "--to", "pipe.yaml"), "pipe.yaml: it is no file"),
    (("export", "run", "--to", "/"), "/: it is a directory"),
    (("bench", "--quick", "--json", "pipe.yaml"), "pipe.yaml: it is no file"),
    (("search", "--space", "pipe.yaml"), "pipe.yaml: it is no file"),
    (("run-notebook", "pipe.yaml"), "pipe.yaml: it is no file"),
    (("plan", "pipe.yaml"), "pipe.yaml"),
    (("size", "pipe.yaml"), "pipe.yaml"),
    (("search", "--dataset", "pipe.yaml"), "pipe.yaml"),
    (("discretize", "a\nb"), "a\\nb"),
    (("search", "--size", "smoke", "--out", "a\nb\0"), "zero byte"),
    (("size", "\x1b[31mred"), "\\x1b[31mred"),
    (("collect", "~nobody-here"), "~nobody-here"),
    (("search", "--dataset", "~nobody-here/x"), "~nobody-here/x"),
    (("study", "demonstration", "--seeds", "1001"), "seeds = 1001"),
    (("study", "costs", "--variants", "x"), "costs: unknown variant 'x'"),
    (("study", "digits201", "--variants", "x"), "digits201: unknown variant 'x'"),
    (("study", "predictions", "demonstration", "--variants", "x"), "predictions: unknown variant 'x'"),
    (("sweep", "smoke", "--profile", ""), "profile"),
    (("sweep", "smoke", "--snakemake", "'"), "--snakemake"),
    (("sweep", "smoke", "--config", "x"), "unknown setting 'x'"),
    (("sweep", "smoke", "--config", "=x"), "unknown setting ''"),
    (("sweep", "smoke", "--config", "gpus=x"), "gpus=x"),
    (("sweep", "smoke", "--config", "parts"), "parts="),
]
CASES = [((*command, name, n), name[2:].replace("-", "_")) for command, name, ns in NUMBERS for n in ns]
CASES += [(("search", "--set", name, "1"), name) for name in NAMED]
CASES += [(("evaluate", "DARTS_V2", "--set", name, "1"), name) for name in NAMED_TOO]
CASES += [(("search", "--set", *pair), pair[0]) for pair in SETTINGS]
CASES += [((command, text), "") for text in GENOTYPES.values() for command in ("size", "query", "evaluate")]
CASES += PLACES


@pytest.fixture
def refused(ldarts, tmp_path, monkeypatch):
    """Runs a command that must be refused, in a folder with a file, and a folder that holds no run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    for name in ("file", "full/thesis.tex"):
        (tmp_path / name).write_text("precious")
    os.mkfifo(tmp_path / "pipe.yaml")

    def run(*command, word="", code=2):
        before, began = sorted(map(str, tmp_path.rglob("*"))), time.process_time()
        found, _, err = ldarts(*command)
        seconds = time.process_time() - began
        assert found == code and "Traceback" not in err and word in err, err
        lines = err.splitlines()  # of a grid or a space all problems are listed, each with file and line
        assert len(lines) == 1 or (len(lines) < 9 and all(word and word in line for line in lines)), err
        assert err.startswith("ldarts: error: ") and len(err) < 2000, err
        assert (
            sorted(map(str, tmp_path.rglob("*"))) == before and (tmp_path / "file").read_text() == "precious"
        )
        assert seconds < 10  # imports included
        return err

    return run


@pytest.mark.parametrize(
    ("command", "word"), CASES, ids=[" ".join(map(str, command))[:60] for command, _ in CASES]
)
def test_a_command_is_refused_before_it_works(refused, command, word):
    refused(*command, word=word[:60])


@pytest.mark.parametrize("command", [("plan",), ("sweep",), ("search", "--space")])
@pytest.mark.parametrize("content", YAML.values(), ids=YAML)
def test_a_file_that_is_no_grid_or_space_is_named(refused, tmp_path, command, content):
    (tmp_path / "x.yaml").write_bytes(content)
    refused(*command, "x.yaml", word="x.yaml")


@pytest.mark.parametrize("text", GRIDS.values(), ids=GRIDS)
def test_a_grid_with_impossible_values_is_refused(refused, tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    refused("plan", "x.yaml", word="x.yaml")


def test_names_that_are_markup_are_printed_and_a_damaged_notebook_tells_nothing(ldarts, tmp_path):
    (tmp_path / "x.yaml").write_text(f"{PART}    seeds: [0]\n".replace("one:", "'[/red]':"))
    [job] = read_grid(tmp_path / "x.yaml").jobs()
    (tmp_path / job.executed).parent.mkdir(parents=True)
    for content in ("", "null", "[1]", '{"cells": 7}', '{"cells": [7]}', '{"cells": [{"outputs": [7]}]}'):
        (tmp_path / job.executed).write_text(content)
        code, out, err = ldarts("plan", tmp_path / "x.yaml", "--out", tmp_path)
        assert (code, err) == (0, "") and "[/red]" in out


@pytest.mark.parametrize("text", SPACES.values(), ids=SPACES)
def test_a_space_with_impossible_values_is_refused(refused, tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    refused("search", "--space", "x.yaml", word="x.yaml")


@pytest.mark.parametrize("content", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_notebook_that_is_none_is_named(refused, tmp_path, content):
    (tmp_path / "x.ipynb").write_text(json.dumps(content))
    refused("run-notebook", "x.ipynb", "--out", "out", word="x.ipynb")


@pytest.mark.parametrize("content", [YAML["binary"], YAML["zeros"], b"", b"[" * 10**5, YAML["utf-16"]])
def test_a_notebook_that_is_no_json_is_named(refused, tmp_path, content):
    (tmp_path / "x.ipynb").write_bytes(content)
    refused("run-notebook", "x.ipynb", "--out", "out", word="x.ipynb")


@pytest.mark.parametrize(
    ("study", "name"),
    [("demonstration", "epochs.csv.gz"), ("demonstration", "provenance.json"), ("costs", "costs.csv")],
)
@pytest.mark.parametrize("content", [b"", bytes(9), b"a,b\n1,2\n", b"[1]", b'{"earlier": [1]}'])
def test_a_record_that_is_none_is_named_before_anything_is_searched(refused, tmp_path, study, name, content):
    (tmp_path / "out" / study).mkdir(parents=True)
    (tmp_path / "out" / study / name).write_bytes(content)
    refused("study", study, "--size", "smoke", "--out", "out", word=name)


@pytest.mark.parametrize(("name", "value"), PARAMETERS)
def test_a_parameter_that_is_none_is_named(refused, tmp_path, name, value):
    (tmp_path / "x.ipynb").write_text(json.dumps(NOTEBOOK | {"cells": [CELL]}))
    refused("run-notebook", "x.ipynb", "-p", name, value, "--out", "out", word=name)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
@pytest.mark.parametrize("command", [("plan",), ("search", "--space"), ("size",), ("run-notebook",)])
def test_what_may_not_be_read_is_named(refused, tmp_path, command):
    (tmp_path / "x.yaml").write_text("size: smoke")
    (tmp_path / "x.yaml").chmod(0)
    refused(*command, "x.yaml", word="x.yaml")


HEAVY = {
    "laughs.yaml": YAML["laughs"],
    "nested.yaml": YAML["nested pairs"],
    "indented.yaml": "".join(f"{' ' * n}a:\n" for n in range(1000)).encode(),
    "anchors.yaml": "".join(f"a{n}: &a{n} x\n" for n in range(1000)).encode(),
    "keys.yaml": b"".join(b"k%d: 1\n" % n for n in range(1700)),
    "nested.ipynb": b'{"cells":' * 100_000,
    "open.txt": b"Genotype(" * 200_000,
    "cells.txt": "".join(
        f"a{n} = Genotype(normal=[('op{n}', 0), ('op', 1)], reduce=[('op', 0), ('op', 1)])\n"
        for n in range(8000)
    ).encode(),
    "bars.txt": b"|none~0" * 200_000,
    "words.txt": b"Genotype" * 200_000,
    "spaces.txt": b"'" + b" " * 10**6 + b"Genotype(",
    "lines.txt": b"'" + b"\n" * 10**6 + b"Genotype(",
}
"""Files that may take long or much."""
READ = {
    ".yaml": [("plan",), ("search", "--space")],
    ".ipynb": [("run-notebook",)],
    ".txt": [("size",), ("query",)],
}


def measured(folder, pipe):
    """Of each command the exit code, the seconds, and the megabytes beyond the imports."""
    os.chdir(folder)
    for name in HEAVY:
        for command in READ[Path(name).suffix]:
            sys.argv, sys.stderr = ["ldarts", *command, name], io.StringIO()
            Path("/proc/self/clear_refs").write_text("5")
            before, began = megabytes("VmRSS"), time.process_time()
            with pytest.raises(SystemExit) as end:
                cli.main()
            pipe.send((sys.argv, end.value.code, time.process_time() - began, megabytes("VmHWM") - before))
    pipe.close()


def megabytes(what):
    return int(re.search(rf"{what}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts the memory")
def test_no_file_takes_long_or_much_to_be_refused(tmp_path):
    for name, content in HEAVY.items():
        (tmp_path / name).write_bytes(content)
    mine, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=measured, args=(tmp_path, theirs))
    process.start()
    theirs.close()
    found = []
    with suppress(EOFError):
        while True:
            found.append(mine.recv())
    process.join()
    assert len(found) == sum(len(READ[Path(name).suffix]) for name in HEAVY)
    # Ten times what it takes alone: a full core triples the seconds, what grows as the square takes minutes.
    bad = [case for case in found if not (case[1] == 2 and case[2] < 6 and case[3] < 200)]
    assert not bad
