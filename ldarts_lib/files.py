"""Files that a crash leaves whole, and folders in which one process works at a time."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from filelock import AcquireReturnProxy, FileLock, Timeout

from ldarts_lib.errors import RunError

LOCK, OWNER = ".lock", ".owner"
LARGEST = 2**26
"""Bytes of a file that is read as a whole."""


def make_folder(path: Path) -> None:
    """Make a directory, and those above it; RunError says why it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the directory {path}: {error.strerror}") from None


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path whose ``~`` is one's home; that of somebody unknown stays, where ``Path.expanduser`` raises."""
    return Path(os.path.expanduser(path))


def require_place(path: Path) -> None:
    """Check that a file could be written, before the work whose result it shall hold.

    Raises:
        RunError: a directory or a device lies there, or a file where one above it should, or nothing may be
            written.
    """
    _require_replaceable(path)
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise RunError(f"cannot write {path}: {above} is a file")
    if not os.access(above, os.W_OK):
        raise RunError(f"cannot write {path}: nothing may be written in {above}")


def _require_replaceable(path: Path) -> None:
    """A renaming would put a file in the place of a pipe or of a device, such as /dev/null."""
    if path.exists() and not path.is_file():
        raise RunError(f"cannot write {path}: it is {'a directory' if path.is_dir() else 'no file'}")


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file so that it is the old or the new one, never half: under another name, then renamed.

    Raises:
        RunError: a directory or a device lies there, or the disk is full or not writable; an old file is
            untouched.
    """
    _require_replaceable(path)
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
        with suppress(OSError):  # also of a folder that has gone or is a file now
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    content = text.encode(errors="backslashreplace")  # a name that is no Unicode, as JSON writes it
    write_atomically(path, lambda file: file.write(content))


def require_file(path: Path) -> None:
    """Check that no pipe or device lies there: to read it may never end.

    Raises:
        RunError: it is one.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise RunError(f"cannot read {path}: it is no file")


def read_bytes(path: Path, most: int = LARGEST) -> bytes:
    """The whole content of a file of at most so many bytes.

    Raises:
        RunError: it is missing, is no file (:func:`require_file`), cannot be read, or is larger.
    """
    try:
        require_file(path)
        with path.open("rb") as file:
            small = os.fstat(file.fileno()).st_size <= most
            content = file.read(most + 1) if small else b""
    except FileNotFoundError:
        raise RunError(f"{path.parent} has no {path.name}") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    if not small or len(content) > most:
        raise RunError(f"{path} is damaged: expected at most {most:,} bytes")
    return content


def read_text(path: Path, most: int = LARGEST) -> str:
    """The whole text of a file in UTF-8, of at most so many bytes.

    Raises:
        RunError: as :func:`read_bytes`, or it is no such text.
    """
    try:
        return read_bytes(path, most).decode()
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: no text in UTF-8 ({error.reason})") from None


def require_shallow(text: str, most: int = 100) -> None:
    """Check, before YAML is parsed, which takes long for it, that nothing in it is nested deeply.

    Raises:
        ValueError: it is.
    """
    depths = accumulate(1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text))
    if max(depths, default=0) > most or re.search(rf"(?:[-?] +){{{most}}}", text):
        raise ValueError(f"it is nested more than {most} deep")


def require_small(content: Any, most: int = 100_000) -> None:
    """Check how many values a file stands for: by aliases of YAML, a small one may mean more than fits.

    Raises:
        ValueError: they are more.
    """
    waiting, seen = [content], 0
    while waiting:
        value = waiting.pop()
        parts = [*value.values()] if isinstance(value, Mapping) else value
        waiting += parts if isinstance(parts, list | tuple | set) else ()
        if (seen := seen + 1) > most:
            raise ValueError(f"it stands for more than {most:,} values")


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        RunError: it cannot be read (:func:`read_text`), is damaged or no object.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise RunError(f"{path} is damaged (truncated?): {why}") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged: expected an object, got {type(content).__name__}")
    return content


def acquired(lock: Path, *, wait: bool = False) -> AcquireReturnProxy:
    """A lock that is ours, as a context that releases it.

    The operating system holds it, so that it ends with the process, however that ends. Where a file system
    has no such locks, filelock takes a marker file instead, with a warning, or cannot lock at all.

    Raises:
        Timeout: another process has it, and we do not wait.
        RunError: nothing can be locked.
    """
    try:
        return FileLock(lock).acquire(-1 if wait else 0)
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        where = lock.parent
        raise RunError(f"cannot lock {where}: {error}; choose a directory on another file system") from None


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of a folder, and remove what a killed one left half written there.

    Args:
        wait: for another process to leave, instead of an error.

    Raises:
        RunError: another process is there (it is named), or nothing can be locked.
    """
    try:
        lock = acquired(folder / LOCK, wait=wait)
    except Timeout:
        raise RunError(f"{folder} is in use by {_owner(folder)}; wait for it or end it") from None
    try:
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        owner = f"process {os.getpid()} on {platform.node()} since {since}"
        write_atomically(folder / OWNER, lambda file: file.write(owner.encode()))
        yield
    finally:
        with suppress(OSError):
            (folder / OWNER).unlink(missing_ok=True)
        lock.lock.release()


def _owner(folder: Path) -> str:
    try:
        return (folder / OWNER).read_text(encoding="utf-8")
    except OSError:  # it has just come or is about to go
        return "another process"
