"""The one loop, with a state that needs no network: what is written, and that it can be stopped anywhere."""

import json
import multiprocessing
import os
import pickle
import signal
import time

import numpy as np
import pytest
import torch

from ldarts_lib.errors import RunError
from ldarts_lib.files import read_json
from ldarts_lib.runs import record as module
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.processes import ProcessFailed
from ldarts_lib.runs.record import Diverged, OutOfMemory, begun, record, require_finite, run_epochs
from runfolders import assert_same_run
from walker import Walk, Walker, walk

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def whole(tmp_path):
    """A walk that nobody interrupted."""
    return walk(tmp_path / "whole")


def test_a_run_leaves_its_files(whole, tmp_path, capsys):
    settings = Walk(epochs=3)
    run = record(tmp_path / "run", settings, lambda: Walker(settings))
    error = capsys.readouterr().err
    assert "walking" in error and "6/6" in error and "epoch=3, at=" in error
    assert [row["epoch"] for row in run.read_history()] == [0, 1, 2]
    last = run.read_history()[-1]["position"]
    metrics = {"version": 1, "position": last, "seconds": 0.75}
    assert read_json(run.path / "metrics.json") == metrics
    assert run.read_json("genotype.json") == {"genotype": "walk"}
    assert run.read_json("config.json") == {"seed": 0, "epochs": 3}
    assert run.read_json("environment.json")["device"].startswith("cpu")
    assert run.read_checkpoint()["epoch"] == 2
    assert (run.path / "extra").read_text() == str(last)


def test_a_finished_run_returns_at_once(whole):
    before = {path.name: path.stat().st_mtime_ns for path in whole.path.iterdir()}
    again = record(whole.path, Walk(), lambda: pytest.fail("begun again"))
    assert again.path == whole.path
    assert {path.name: path.stat().st_mtime_ns for path in whole.path.iterdir()} == before


def test_a_run_of_other_settings_is_refused_and_they_are_named(whole):
    with pytest.raises(RunError, match=r"holds another run \(epochs: 4 → 5, seed: 0 → 7\); choose another"):
        walk(whole.path, Walk(seed=7, epochs=5))


@pytest.mark.parametrize("where", ["run_epoch", "save", "write_history", "write_checkpoint", "write_outcome"])
@pytest.mark.parametrize("moment", [1, 3])
def test_a_run_that_is_interrupted_anywhere_goes_on_as_if_it_had_not_been(
    whole, tmp_path, monkeypatch, where, moment
):
    owner = Walker if hasattr(Walker, where) else Run
    original, calls = getattr(owner, where), []

    def interrupted(*arguments):
        calls.append(where)
        if len(calls) == moment or where == "write_outcome":
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, where, interrupted)
        walk(tmp_path / "broken")
    assert not Run(tmp_path / "broken").finished
    broken = walk(tmp_path / "broken")
    assert_same_run(whole, broken)
    assert "continues" in broken.read_json("environment.json")


def test_a_killed_run_goes_on_and_nothing_of_it_is_left(tmp_path, monkeypatch):
    """SIGKILL in the middle of a write: the lock ends with the process, and half a file is removed."""
    expected = walk(tmp_path / "whole")
    broken = Run(tmp_path / "broken")

    def die(*_):
        (broken.path / f".checkpoint.pt.{os.getpid()}.tmp").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Run, "write_checkpoint", die)
    process = FORK.Process(target=walk, args=(broken.path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    monkeypatch.undo()
    assert list(broken.path.glob("*.tmp")) or list(broken.path.glob(".*.tmp"))
    assert_same_run(expected, walk(broken.path))
    assert not list(broken.path.glob(".*.tmp"))


def test_one_process_at_a_time_and_the_other_one_is_named(tmp_path):
    run = Run(tmp_path / "run")
    process = FORK.Process(target=walk, args=(run.path,), kwargs={"pause": 5.0})
    process.start()
    try:
        while not (run.path / "environment.json").exists():
            time.sleep(0.01)
        with pytest.raises(RunError, match=rf"is in use by process {process.pid} on .+ since 20\d\d-"):
            walk(run.path)
    finally:
        process.kill()
        process.join()
    assert walk(run.path).finished


def test_a_diverging_run_stops_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    original = Walker.run_epoch

    def poisoned(self, epoch, on_step):
        if epoch == 2:
            self.position += torch.nan
        return original(self, epoch, on_step)

    monkeypatch.setattr(Walker, "run_epoch", poisoned)
    with pytest.raises(Diverged, match=r"the train loss is nan in epoch 2 \(counted.* smaller stride may"):
        walk(tmp_path)
    assert Run(tmp_path).read_checkpoint()["epoch"] == 1 and not Run(tmp_path).finished
    with pytest.raises(Diverged, match=r"the valid loss is inf in epoch 0, step 1 \("):
        require_finite(torch.tensor([1.0, torch.inf, torch.nan]), 0, "valid", "stride")


class Model(Walk):
    batch_size: int = 64
    channels: int = 16
    checkpoint_cells: bool = False


ON_GPU = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 11 GiB"


@pytest.mark.parametrize(
    ("lacks", "message"),
    [
        (lambda: torch.empty(2**50), "on cpu, where 4503599627370496 bytes more were needed; lower"),
        (lambda: raises(torch.cuda.OutOfMemoryError(ON_GPU)), "where 20.00 GiB more were needed; lower"),
        (lambda: raises(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling")), "on cpu; lower"),
        (lambda: np.empty(2**58), "on cpu; lower"),
        (lambda: raises(ProcessFailed("torch.OutOfMemoryError: " + ON_GPU)), "20.00 GiB"),
    ],
)
@pytest.mark.parametrize("where", ["__init__", "run_epoch"])
def test_a_lack_of_memory_is_one_line_that_says_what_to_lower(tmp_path, monkeypatch, lacks, message, where):
    monkeypatch.setattr(Walker, where, lambda *_: lacks())
    with pytest.raises(OutOfMemory) as error:
        record(tmp_path / "run", Model(), Walker, progress=False)
    lower = "batch_size (now 64) or channels (now 16), or set checkpoint_cells, in another directory"
    assert message in str(error.value) and str(error.value).endswith(lower)
    assert "\n" not in str(error.value) and str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_what_is_recorded_of_the_arithmetic_is_that_of_the_steps(tmp_path, precision):
    class Precise(Walk):
        precision: str

    with begun(tmp_path / "run", Precise(precision=precision), "cpu") as run:
        flags = run.read_json("environment.json")["determinism"]
    expected = {"float32": (False, "highest"), "tf32": (True, "high")}[precision]
    assert (flags["allow_tf32"], flags["float32_matmul_precision"]) == expected


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), Diverged("the loss is nan")])
def test_other_errors_stay_what_they_are(tmp_path, monkeypatch, error):
    monkeypatch.setattr(Walker, "run_epoch", lambda *_: raises(error))
    with pytest.raises(type(error), match=str(error)):
        record(tmp_path / "run", Model(), Walker, progress=False)


def raises(error):
    raise error


def test_a_history_behind_its_checkpoint_is_replaced_or_refused_as_is_another_versions(whole, capsys):
    (whole.path / "metrics.json").unlink()
    history = whole.path / "history.csv"
    rows = history.read_text().splitlines(keepends=True)
    history.write_text("".join(rows[:2]))
    walk(whole.path)
    assert history.read_text() == "".join(rows)
    assert "history.csv is damaged; it is replaced from checkpoint.pt" in capsys.readouterr().err
    (whole.path / "metrics.json").unlink()
    history.write_text("".join(rows[:2]))
    saved = whole.read_checkpoint()
    del saved["history"]  # as in older ones
    whole.write_checkpoint(saved)
    with pytest.raises(RunError, match="history has 1 epochs, the checkpoint 4"):
        walk(whole.path)
    history.write_text("".join(rows))
    del saved["generator"]
    whole.write_checkpoint(saved)
    with pytest.raises(RunError, match=r"of another run or version \(it has no 'generator'"):
        walk(whole.path)


def test_several_runs_together_go_on_from_where_each_one_stands(tmp_path):
    """Those at the same epoch are stepped as one; the others by themselves."""
    runs, asked = [Run(tmp_path / str(seed)) for seed in range(3)], []
    everything = [Walk(seed=seed) for seed in range(3)]

    def together(states):
        asked.append(len(states))
        return lambda epoch: [state.run_epoch(epoch, lambda: None) for state in states]

    for run, settings in zip(runs, everything, strict=True):
        with Run.claim(run.path, settings):
            pass
    ahead = Walker(everything[0])
    runs[0].write_history([ahead.run_epoch(0, lambda: None)])
    runs[0].write_checkpoint({"epoch": 0, **ahead.checkpoint()})
    run_epochs(runs, [Walker(settings) for settings in everything], together)
    assert asked == [2]
    for run, settings in zip(runs, everything, strict=True):
        assert_same_run(walk(tmp_path / f"alone{settings.seed}", settings), run)


def test_saves_can_be_rare_and_one_process_of_several_writes(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(module, "_save", lambda run, state, rows: saved.append(len(rows)))
    with Run.claim(tmp_path, Walk()) as run:
        run_epochs([run], [Walker()], writes=False)
        assert not saved and not run.finished
        run_epochs([run], [Walker()], save_seconds=60)
    assert saved == [4] and run.finished
    assert json.loads((tmp_path / "metrics.json").read_text())["seconds"] == 1
