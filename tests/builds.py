"""Builds of the book, or of a small one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def build(book: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build a book with its own ``ldarts_lib``, without the Makefile."""
    command = ["-c", "from jupyter_book.cli.main import main; main()", "build", ".", *options]
    environment = {**os.environ, "PYTHONPATH": str(book)}
    return subprocess.run(
        [sys.executable, *command], cwd=book, env=environment, capture_output=True, text=True
    )


def build_strictly(book: Path) -> subprocess.CompletedProcess[str]:
    """The same, where a warning is an error."""
    return build(book, "-W", "--keep-going")
