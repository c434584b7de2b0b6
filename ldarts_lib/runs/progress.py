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
        if sys.stderr is sys.__stderr__ and not sys.stderr.isatty():
            options |= {"mininterval": SECONDS, "maxinterval": SECONDS}
        super().__init__(*args, **options)

    @staticmethod
    def status_printer(file: Any) -> Any:
        if file is not sys.__stderr__ or file.isatty():
            return tqdm.status_printer(file)
        return lambda text: print(text, file=file, flush=True) if text else None

    def refresh(self, *args: Any, **options: Any) -> None:
        if self.mininterval < SECONDS or time.time() - self.last_print_t >= SECONDS:
            super().refresh(*args, **options)
