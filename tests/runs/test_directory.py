import json
import os
import resource
import subprocess
import sys

import pytest
import torch

from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.runs.directory import RunDirectory, RunError, write_atomically, write_json
from ldarts_lib.spaces.genotype import parse

ALL_SKIP = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"


@pytest.fixture
def smoke():
    return protocol(size="smoke")


def test_a_new_run_stores_its_protocol(tmp_path, smoke):
    run = RunDirectory.create(tmp_path / "run", smoke)
    assert RunDirectory(run.path).protocol == smoke
    assert not run.finished


def test_a_directory_with_a_run_is_refused_unless_resumed(tmp_path, smoke):
    RunDirectory.create(tmp_path, smoke)
    with pytest.raises(RunError, match="--resume"):
        RunDirectory.create(tmp_path, smoke)
    assert RunDirectory.create(tmp_path, smoke, resume=True).protocol == smoke


def test_resuming_another_protocol_names_what_differs(tmp_path, smoke):
    RunDirectory.create(tmp_path, smoke)
    other = protocol(size="smoke", seed=7, alpha_lr=0.5)
    with pytest.raises(RunError, match=r"alpha_lr: 0.01 → 0.5, seed: 0 → 7"):
        RunDirectory.create(tmp_path, other, resume=True)


def test_a_setting_that_is_newer_than_the_run_counts_with_its_default(tmp_path, smoke):
    run = RunDirectory.create(tmp_path / "run", smoke)
    config = json.loads((run.path / "config.json").read_text())
    del config["activation"]
    (run.path / "config.json").write_text(json.dumps(config))
    RunDirectory.create(run.path, smoke, resume=True)
    with pytest.raises(RunError, match="activation: 'relu' → 'gelu'"):
        RunDirectory.create(run.path, protocol(size="smoke", activation="gelu"), resume=True)


def test_a_directory_with_other_files_is_refused(tmp_path, smoke):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="not empty"):
        RunDirectory.create(tmp_path, smoke, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_directory_is_refused(tmp_path, smoke):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match="is a file"):
        RunDirectory.create(tmp_path / "run", smoke)


def test_a_directory_that_cannot_be_made_is_named(tmp_path, smoke):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot make the directory .*run: Not a directory"):
        RunDirectory.create(tmp_path / "file" / "run", smoke)


def test_history_is_read_back_exactly(tmp_path):
    rows = [
        {"epoch": 0, "loss": 0.1 + 0.2, "lambda": 1e-300, "genotype": ALL_SKIP},
        {"epoch": 1, "loss": float("inf"), "lambda": 0.0, "genotype": ALL_SKIP},
    ]
    run = RunDirectory(tmp_path)
    assert run.read_history() == [] and run.epochs == 0
    run.write_history(rows)
    assert run.read_history() == rows and run.epochs == 2


def test_a_failed_write_keeps_the_old_version_and_leaves_nothing(tmp_path):
    path = tmp_path / "config.json"
    write_json(path, {"a": 1})

    def half(file):
        file.write(b'{"a": ')
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"config\.json.*No space left.*previous version is intact"):
        write_atomically(path, half)
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    """A real write that fails: the process may write files of at most 100 kB."""
    script = f"""
import resource, signal, torch
from ldarts_lib.runs.directory import RunDirectory, RunError
run = RunDirectory({str(tmp_path)!r})
run.write_checkpoint({{"epoch": 0, "w": torch.ones(100)}})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    run.write_checkpoint({{"epoch": 1, "w": torch.ones(1_000_000)}})
except RunError as error:
    assert "checkpoint.pt" in str(error), error
else:
    raise SystemExit("the write did not fail")
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert RunDirectory(tmp_path).read_checkpoint()["epoch"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_truncated_checkpoint_is_named(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_checkpoint({"w": torch.randn(1000)})
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(RunError, match=r"checkpoint\.pt is truncated or damaged"):
        run.read_checkpoint()


class Exploit:
    def __reduce__(self):
        return (os.system, ("touch owned",))


def test_a_checkpoint_never_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": 0, "w": Exploit()}, tmp_path / "checkpoint.pt")
    with pytest.raises(RunError):
        RunDirectory(tmp_path).read_checkpoint()
    assert not (tmp_path / "owned").exists()


def test_the_outcome_is_marked_by_the_metrics(tmp_path, smoke):
    run = RunDirectory.create(tmp_path, smoke)
    genotype = parse(ALL_SKIP)
    run.write_outcome(genotype, {"skips": 6})
    stored = run.read_json("genotype.json")
    assert parse(stored["genotype"]) == genotype
    assert stored["cells"]["normal"][5] == {"target": 3, "source": 2, "operation": "skip_connect"}
    assert run.finished


def test_a_resumed_run_keeps_its_earlier_environment(tmp_path):
    run = RunDirectory(tmp_path)
    for torch_version in ("2.4", "2.5", "2.6"):
        run.write_environment({"torch": torch_version})
    stored = run.read_json("environment.json")
    assert stored == {"torch": "2.6", "continues": {"torch": "2.5", "continues": {"torch": "2.4"}}}


def test_a_damaged_json_file_is_named(tmp_path, smoke):
    run = RunDirectory.create(tmp_path, smoke)
    (tmp_path / "config.json").write_text('{"space": "nasb')
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        _ = run.protocol
