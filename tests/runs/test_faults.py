"""Each opening, write, fsync and rename of a run fails once, or kills it; then the run goes on as if not."""

import multiprocessing
import os
import signal
import sys
import time

import pytest
import torch

from disk import Disk, full
from ldarts_lib import cli
from ldarts_lib.errors import RunError
from ldarts_lib.runs import record as module
from ldarts_lib.runs.directory import Run
from runfolders import assert_same_run
from walker import Walk, walk

FORK = multiprocessing.get_context("fork")
SETTINGS = Walk(epochs=2)


def kill(_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """A walk that nothing disturbed, and how many steps of it reach the disk."""
    monkeypatch.setattr(module, "environment", lambda device: {"command": ["walk"]})
    monkeypatch.setattr(os, "fsync", lambda file: None)  # counted, but not waited for
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, full, at=0)
        run = walk(tmp_path / "whole", SETTINGS)
    return run, disk.steps


def left_over(run):
    return [file.name for file in run.path.iterdir() if file.name.endswith((".tmp", ".owner"))]


def test_a_disk_that_is_full_once_stops_the_run_which_goes_on_later(whole, tmp_path):
    expected, steps = whole
    assert steps > 30
    for at in range(1, steps + 1):
        broken = Run(tmp_path / f"at{at}")
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, full, at)
            with pytest.raises(
                RunError, match=r"cannot write .*at\d+/.*; the previous version is intact"
            ) as error:
                walk(broken.path, SETTINGS)
            assert "\n" not in str(error.value)
        assert not left_over(broken)
        assert_same_run(expected, walk(broken.path, SETTINGS))


def killed(path, at):
    Disk(pytest.MonkeyPatch(), kill, at)
    walk(path, SETTINGS)


def test_a_run_that_is_killed_at_any_step_goes_on_and_nothing_is_left(whole, tmp_path):
    expected, steps = whole
    for at in range(1, steps + 1, 3):
        process = FORK.Process(target=killed, args=(tmp_path / f"at{at}", at))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        broken = walk(tmp_path / f"at{at}", SETTINGS)
        assert_same_run(expected, broken)
        assert not left_over(broken)


def at_once(path, barrier):
    barrier.wait()
    try:
        walk(path, SETTINGS, pause=0.01)
    except RunError as error:
        sys.exit(3 if "is in use by" in str(error) else 1)


def test_of_two_that_start_in_the_same_instant_one_works(whole, tmp_path):
    for repeat in range(5):
        barrier, path = FORK.Barrier(2), tmp_path / str(repeat)
        both = [FORK.Process(target=at_once, args=(path, barrier)) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join()
        assert sorted(process.exitcode for process in both) in ([0, 3], [0, 0])
        assert_same_run(whole[0], Run(path))


def test_what_a_computer_that_is_gone_left_locked_is_free(whole, tmp_path):
    """The lock is the operating system's, not the file."""
    path = tmp_path / "run"
    path.mkdir()
    for name, text in ((".lock", ""), (".owner", "process 1 on gone"), (".config.json.1.tmp", "{")):
        (path / name).write_text(text)
    run = walk(path, SETTINGS)
    assert_same_run(whole[0], run)
    assert not left_over(run)


def command(path, stops):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job in the background
    sys.argv = ["ldarts", "search", "--out", "my run"]
    sys.stderr = path.open("w")
    cli.app.cli = lambda **_: stops.set() or time.sleep(60)
    try:
        cli.main()
    finally:
        sys.stderr.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_with_one_line_and_its_code(tmp_path, number, code):
    begun = FORK.Event()
    process = FORK.Process(target=command, args=(tmp_path / "err", begun))
    process.start()
    begun.wait()
    os.kill(process.pid, number)
    process.join(10)
    assert process.exitcode == code
    [line] = (tmp_path / "err").read_text().splitlines()
    assert line.endswith("what is finished is kept; to go on: ldarts search --out 'my run'")


def test_a_checkpoint_tells_a_flipped_number_and_other_settings(tmp_path):
    run = walk(tmp_path / "run", SETTINGS)
    saved = torch.load(run.path / "checkpoint.pt", weights_only=True)
    without = {key: value for key, value in saved.items() if key != "digest"}
    for damaged in (saved | {"position": saved["position"] + 1e-6}, without, {}):
        torch.save(damaged, run.path / "checkpoint.pt")
        with pytest.raises(RunError, match=r"checkpoint\.pt is damaged, or does not belong to the settings"):
            run.read_checkpoint()
    other = walk(tmp_path / "other", Walk(epochs=2, seed=1))
    (run.path / "checkpoint.pt").write_bytes((other.path / "checkpoint.pt").read_bytes())
    with pytest.raises(RunError, match=r"checkpoint\.pt is damaged, or does not belong to the settings"):
        run.read_checkpoint()
