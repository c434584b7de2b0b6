"""One process at a time in a folder."""

import errno
import fcntl
import subprocess
import sys
import time

import pytest

from ldarts_book.grid import locks
from ldarts_book.grid.locks import FolderBusy, alone


def test_the_second_is_kept_out_and_comes_in_when_the_first_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.1)
    folder = tmp_path / "new"
    with alone(folder), pytest.raises(FolderBusy, match=f"another sweep runs in {folder}"), alone(folder):
        pass
    with alone(folder):
        pass


def test_the_lock_lasts_as_long_as_a_child_that_inherits_it_and_is_waited_for(tmp_path, monkeypatch):
    with alone(tmp_path) as file:
        command = [sys.executable, "-c", "import time; time.sleep(1)"]
        child = subprocess.Popen(command, pass_fds=[file.fileno()])
    began = time.monotonic()
    with child, alone(tmp_path):
        assert time.monotonic() - began > 0.3
        assert child.wait(5) == 0


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with alone(tmp_path), alone(tmp_path):
        pass
