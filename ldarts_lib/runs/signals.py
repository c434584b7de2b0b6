"""Ending at SIGTERM as at Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM has come; whatever ends at Ctrl-C ends at it, too."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM, as a cluster or a container sends it, ends the work as Ctrl-C does, by :class:`Terminated`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
