"""Whatever a command writes: if one step on the disk fails, one line says so, what was there before is whole,
nothing half written is left, and the same command, repeated, comes to its end."""

import json
import os
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from disk import Disk, full
from ldarts_book.published.results import write_tables
from ldarts_book.studies import writing
from ldarts_lib import Run
from ldarts_lib.errors import LdartsError
from ldarts_lib.files import read_json
from runfolders import TRAINING, assert_same_run

TEXT = ("search", "--space", "ptb", "--dataset", "text", "--size", "smoke", "--epochs", 1, "--device", "cpu")
TEXT += ("--set", "units", 4, "--set", "batch_size", 4, "--set", "evaluation_columns", 2)
WRITERS = {
    "a look-up": ("search", ("evaluate", "run", "--recipe", "lookup", "--out", "new"), 1),
    "a drawing": ("search", ("discretize", "run", "--draw", "old.png"), 1),
    "a model file": ("training", ("export", "run", "--to", "old.safetensors"), 1),
    "predictions": ("training", ("predict", "run", "1.png", "--csv", "old.csv"), 1),
    "a collection": ("search", ("collect", ".", "--target", "../records", "--overwrite"), 1),
    "a training": ("search", (*TRAINING, "--out", "new"), 11),
    "a language search": ("search", (*TEXT, "--out", "new"), 37),
}
"""What is written: the run directory that is there, the command, and every how many steps one fails."""
LONG = {"a training", "a language search"}


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """Makes a directory to work in, with older files of the names that a command writes."""

    def fresh(kind, name):
        folder = tmp_path / name / "here"
        shutil.copytree(made / kind, folder / "run")
        shutil.copytree(made / "other", tmp_path / name / "records" / "run")
        for file in ("old.png", "old.safetensors", "old.csv"):
            (folder / file).write_text("before")
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "1.png")
        (folder / "text").mkdir()
        for part in ("train", "valid", "test"):
            (folder / "text" / f"{part}.txt").write_text("a b c d e f g\n" * 20)
        monkeypatch.chdir(folder)
        return tmp_path / name

    return fresh


def contents(folder):
    """Each file that is not hidden, by its name, but for what the clock says."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    names = {file.relative_to(folder).as_posix(): file for file in files}
    return {name: _timeless(file) for name, file in names.items() if "/." not in f"/{name}"}


def _timeless(file):
    if file.name in ("metrics.json", "environment.json"):
        return {k: v for k, v in read_json(file).items() if k in ("version", "genotype", "stage", "recipe")}
    content = file.read_bytes()
    return sorted(content) if file.suffix == ".safetensors" else content  # which has no order of its keys


def left_over(folder):
    return [str(path) for path in folder.rglob(".*") if path.name.endswith((".tmp", ".owner"))]


@pytest.mark.parametrize(
    "what", [pytest.param(w, marks=pytest.mark.slow) if w in LONG else w for w in WRITERS]
)
def test_one_step_fails_and_the_command_goes_on_later(what, place, ldarts, monkeypatch):
    kind, command, every = WRITERS[what]
    monkeypatch.setattr(os, "fsync", lambda file: None)  # counted, but not waited for
    place(kind, "first")
    assert ldarts(*command)[0] == 0  # caches of others are written, too
    whole = place(kind, "whole")
    before = contents(whole)
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, full, at=0)
        assert ldarts(*command)[0] == 0
    after = contents(whole)
    assert after != before and disk.steps >= 3
    for at in range(1, disk.steps + 1, every):
        folder = place(kind, f"at{at}")
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, full, at)
            code, _, err = ldarts(*command)
        assert code == 2 and "Traceback" not in err
        last = err.splitlines()[-1]  # where torch writes, the reason is in its own words
        assert "No space left on device" in last or "the previous version is intact" in last, err
        found = contents(folder)
        assert all(found[name] in (before[name], after.get(name)) for name in before)
        assert not left_over(folder)
        assert ldarts(*command)[0] == 0
        assert contents(folder).keys() == after.keys() and not left_over(folder)
        if what in LONG:
            assert_same_run(Run(whole / "here/new"), Run(folder / "here/new"))
        else:
            assert contents(folder) == after


@pytest.mark.parametrize("write", ["tables", "record"])
def test_tables_are_old_or_new(write, made, tmp_path, monkeypatch):
    """Those of a sweep, and the record of a study with what says how it was made."""
    study = "demonstration"
    rows = pd.DataFrame([{"variant": "DARTS", "seed": 10, "epoch": 79, "accuracy": 0.5}])
    monkeypatch.setattr(os, "fsync", lambda file: None)

    def once(folder):
        if write == "tables":
            write_tables(made / "search", folder)
        else:
            writing.add(rows, study, folder / "rows.csv")
            writing.write_provenance(folder, f"ldarts study {study}", torch.device("cpu"), seeds=[10])

    def stale(name):
        (tmp_path / name).mkdir()
        for file in ("results.csv", "summary.csv"):
            (tmp_path / name / file).write_text("before")
        return tmp_path / name

    once(stale("first"))
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, full, at=0)
        once(stale("whole"))
    after = contents(tmp_path / "whole")
    for at in range(1, disk.steps + 1):
        folder = stale(f"at{at}")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(LdartsError, match="cannot write"):
            Disk(patch, full, at)
            once(folder)
        assert all(text in (b"before", after[name]) for name, text in contents(folder).items())
        assert not left_over(folder)
        once(folder)
        assert contents(folder) == after


@pytest.mark.slow
def test_an_executed_notebook_is_the_old_or_the_new_one(tmp_path, ldarts, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [nbformat.v4.new_code_cell(source) for source in ("seeds: int = 3  # how many", "print(seeds)")]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), "x.ipynb")
    Path("out").mkdir()
    Path("out/x.ipynb").write_text("before")
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, full, at=1)  # the renaming; papermill opens its files by itself
        code, _, err = ldarts("run-notebook", "x.ipynb", "--out", "out")
    assert code == 2 and "No space left" in err.splitlines()[-1]
    assert Path("out/x.ipynb").read_text() == "before"
    assert ldarts("run-notebook", "x.ipynb", "--out", "out")[0] == 0
    assert [file.name for file in Path("out").iterdir()] == ["x.ipynb"]
    assert json.loads(Path("out/x.ipynb").read_text())["nbformat"] == 4
