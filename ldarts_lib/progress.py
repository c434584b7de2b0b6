"""Progress bars that are lines, one a minute, where standard error is a file."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

SECONDS = 60.0


class Bar(tqdm):
    """A bar of tqdm; in a file, where nothing can be drawn anew, a line a minute and one at the end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # A notebook has a standard error of its own, which draws anew.
        in_file = sys.stderr is sys.__stderr__ and not sys.stderr.isatty()
        self._every, self._shown = SECONDS if in_file else 0.0, 0.0
        options |= {"mininterval": SECONDS, "maxinterval": SECONDS} if in_file else {}
        super().__init__(*args, **options)

    def status_printer(self, file: Any) -> Any:
        if not self._every:
            return tqdm.status_printer(file)
        return lambda text: print(text, file=file, flush=True) if text else None

    def refresh(self, *args: Any, **options: Any) -> None:
        if time.monotonic() - self._shown >= self._every:
            self._shown = time.monotonic()
            super().refresh(*args, **options)
