"""How a process ended that did not end well."""

from __future__ import annotations

import signal

from ldarts_lib.errors import LdartsError


class ProcessFailed(LdartsError, RuntimeError):
    """One of several processes raised an error or was killed; the message says which error or signal."""


def ending(code: int) -> str:
    """How a process ended, in words, by its exit code: the negative ones are signals."""
    if code >= 0:
        return f"ended with exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    reason = " (out of memory, most often)" if code == -signal.SIGKILL else ""
    return f"was killed by {known.get(-code, f'signal {-code}')}{reason}"
