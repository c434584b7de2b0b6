"""One process at a time in a folder, where the system and its file system can lock files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ldarts_lib.errors import LdartsError

LOCK = ".sweep.lock"
WAIT_SECONDS = 30.0
"""How long to wait for who is there."""
POLL_SECONDS = 0.2


class FolderBusy(LdartsError, RuntimeError):
    """Another process works in the folder."""


@contextmanager
def alone(folder: Path) -> Iterator[IO[str] | None]:
    """Keep others that ask for it out of a folder, which is made if missing.

    Yields:
        The locked file; the lock lasts until every process that inherits it has ended, however it ends. None
        on a system without such locks; where only the file system has none, nobody is kept out.

    Raises:
        FolderBusy: another process is there and stays for :data:`WAIT_SECONDS`.
    """
    try:
        import fcntl
    except ImportError:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + WAIT_SECONDS
    with (folder / LOCK).open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise FolderBusy(f"another sweep runs in {folder}") from None
                time.sleep(POLL_SECONDS)
            except OSError:
                break
        yield file
