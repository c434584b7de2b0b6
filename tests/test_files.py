"""Files are written as a whole or not at all, and bad ones are named; folders are locked."""

import json
import os
from pathlib import Path

import pytest

from ldarts_lib import files
from ldarts_lib.errors import RunError
from ldarts_lib.files import locked, read_json, require_place, write_atomically, write_json


def test_a_failed_write_keeps_the_old_version_and_leaves_nothing(tmp_path):
    path = tmp_path / "config.json"
    write_json(path, {"a": 1, "\udcff": "\udcff"})
    assert read_json(path) == {"a": 1, "\udcff": "\udcff"}
    write_json(path, {"a": 1})

    def half(file):
        file.write(b'{"a": ')
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"config\.json.*No space left.*previous version is intact"):
        write_atomically(path, half)
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{", json.dumps({"a": 1})[:-3], "NaN", "[1]", "null", '"text"', "\xff"])
def test_what_is_no_json_object_is_damaged(tmp_path, text):
    path = tmp_path / "metrics.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RunError, match=r"metrics\.json is damaged"):
        read_json(path)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(RunError, match=r"has no metrics\.json"):
        read_json(tmp_path / "metrics.json")
    with pytest.raises(RunError, match=r"cannot read .*: Is a directory"):
        read_json(tmp_path)


def test_a_pipe_is_neither_waited_for_nor_replaced(tmp_path):
    """Nor is /dev/null, to which the superuser might write."""
    pipe = tmp_path / "rows.json"
    os.mkfifo(pipe)
    with pytest.raises(RunError, match=r"cannot read .*rows\.json: it is no file"):
        read_json(pipe)
    for write in (require_place, lambda path: write_json(path, {})):
        with pytest.raises(RunError, match=r"cannot write .*rows\.json: it is no file"):
            write(pipe)
    assert [file.is_fifo() for file in tmp_path.iterdir()] == [True]
    with pytest.raises(RunError, match="cannot write /: it is a directory"):
        require_place(Path("/"))


def test_a_large_file_is_not_read(tmp_path):
    large = tmp_path / "config.json"
    large.touch()
    os.truncate(large, 2**40)
    with pytest.raises(RunError, match="expected at most"):
        read_json(large)


def test_a_locked_folder_is_refused_until_it_is_left(tmp_path):
    with locked(tmp_path), pytest.raises(RunError, match="in use by process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("error", [OSError(37, "No locks available"), NotImplementedError("No locks")])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(files.FileLock, "acquire", refuse)
    with pytest.raises(RunError, match=r"cannot lock .*No locks.* another file system"), locked(tmp_path):
        pass
