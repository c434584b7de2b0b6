"""Files that a crash leaves whole, and folders in which one process works at a time."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from ldarts_lib.errors import RunError

LOCK, OWNER = ".lock", ".owner"


def make_folder(path: Path) -> None:
    """Make a directory, and those above it; RunError says why it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the directory {path}: {error.strerror}") from None


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file so that it is the old or the new one, never half: under another name, then renamed.

    Raises:
        RunError: the disk is full or not writable; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        raise RunError(f"cannot write {path}: {error}; the previous version is intact") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        RunError: it is missing, cannot be read, is damaged or no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path.parent} has no {path.name}") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged (truncated?): {error}") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged: expected an object, got {type(content).__name__}")
    return content


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of a folder, and remove what a killed one left half written there.

    The operating system holds the lock, so that it ends with the process, however that ends. Where a file
    system has no such locks, filelock takes a marker file instead, with a warning, or cannot lock at all.

    Args:
        wait: for another process to leave, instead of an error.

    Raises:
        RunError: another process is there (it is named), or nothing can be locked.
    """
    try:
        lock = FileLock(folder / LOCK, timeout=-1 if wait else 0)
        lock.acquire()
    except Timeout:
        raise RunError(f"{folder} is in use by {_owner(folder)}; wait for it or end it") from None
    except (OSError, NotImplementedError) as error:
        raise RunError(f"cannot lock {folder}: {error}; choose a directory on another file system") from None
    try:
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        owner = f"process {os.getpid()} on {platform.node()} since {since}"
        write_atomically(folder / OWNER, lambda file: file.write(owner.encode()))
        yield
    finally:
        (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def _owner(folder: Path) -> str:
    try:
        return (folder / OWNER).read_text(encoding="utf-8")
    except OSError:  # it has just come or is about to go
        return "another process"
