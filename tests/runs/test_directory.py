"""Run directories: who may use one, and what is read back from it."""

import json
import multiprocessing
import os
import resource
import signal

import pytest
import torch
from pydantic import BaseModel

from ldarts_lib.errors import RunError
from ldarts_lib.runs.directory import Run

ALL_SKIP = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"


class Settings(BaseModel):
    seed: int = 0
    activation: str = "relu"


def claim(path, settings=None):
    with Run.claim(path, settings or Settings()) as run:
        return run


def test_a_setting_that_is_newer_than_the_run_counts_with_its_default(tmp_path):
    run = claim(tmp_path / "run")
    assert run.read_json("config.json") == {"seed": 0, "activation": "relu"} and not run.finished
    (run.path / "config.json").write_text('{"seed": 0}')
    claim(run.path)
    with pytest.raises(RunError, match="activation: 'relu' → 'gelu'"):
        claim(run.path, Settings(activation="gelu"))


def test_the_users_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert claim("~/run").path == tmp_path / "home" / "run" and [*tmp_path.iterdir()] == [tmp_path / "home"]


def test_a_directory_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="not empty"):
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_is_no_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        claim(tmp_path / "file")
    with pytest.raises(RunError, match=r"cannot write .*config\.json: .*file is a file"):
        claim(tmp_path / "file" / "run")


def test_history_is_read_back_exactly(tmp_path):
    rows = [
        {"epoch": 0, "loss": 0.1 + 0.2, "lambda": 1e-300, "genotype": ALL_SKIP},
        {"epoch": 1, "loss": float("inf"), "lambda": 0.0, "genotype": ALL_SKIP},
    ]
    run = Run(tmp_path)
    assert run.read_history() == [] and run.epochs == 0
    run.write_history(rows)
    assert run.read_history() == rows and run.epochs == 2
    run.write_history([*rows, rows[1] | {"epoch": 2, "newer": 0.5}])  # a newer version goes on
    assert [row["newer"] for row in run.read_history()] == [None, None, 0.5]


def fill_the_disk(run):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    with pytest.raises(RunError, match=r"cannot write .*checkpoint\.pt"):
        run.write_checkpoint({"epoch": 1, "w": torch.ones(1_000_000)})


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    """A real write that fails: the process may write files of at most 100 kB."""
    run = Run(tmp_path)
    run.write_checkpoint({"epoch": 0, "w": torch.ones(100)})
    process = multiprocessing.get_context("fork").Process(target=fill_the_disk, args=(run,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert run.read_checkpoint()["epoch"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_truncated_checkpoint_is_named(tmp_path):
    run = Run(tmp_path)
    run.write_checkpoint({"w": torch.randn(1000)})
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(RunError, match=r"checkpoint\.pt is damaged"):
        run.read_checkpoint()


class Exploit:
    def __reduce__(self):
        return (os.system, ("touch owned",))


def test_a_checkpoint_never_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": 0, "w": Exploit()}, tmp_path / "checkpoint.pt")
    with pytest.raises(RunError):
        Run(tmp_path).read_checkpoint()
    assert not (tmp_path / "owned").exists()


def test_a_resumed_run_keeps_its_earlier_environment(tmp_path):
    run = Run(tmp_path)
    for torch_version in ("2.4", "2.5", "2.6"):
        run.write_environment({"command": ["ldarts"], "torch": torch_version})
    stored, found = json.loads((tmp_path / "environment.json").read_text()), []
    while stored:
        found.append(stored["torch"])
        stored = stored.get("continues")
    assert found == ["2.6", "2.5", "2.4"]
