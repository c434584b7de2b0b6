"""Give the book another home: rewrite every address that follows from ``repository.url``.

Usage: python scripts/set_address.py https://github.com/OWNER/NAME
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ADDRESS = re.compile(r"https://github\.com/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+?)(?:\.git)?/?")
SETTING = re.compile(r"^repository:\n  url: (\S+)$", re.MULTILINE)
SUFFIXES = {".md", ".ipynb", ".toml", ".yml", ".yaml", ".cff", ".py"}
SKIPPED = {".git", ".venv", "_build", "runs"}


def parse(address: str) -> tuple[str, str]:
    """Return owner and name of a GitHub address.

    Raises:
        ValueError: if it is not of the form ``https://github.com/OWNER/NAME``.
    """
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(f"not an address https://github.com/OWNER/NAME: {address!r}")
    return match[1], match[2]


def forms(owner: str, name: str) -> list[str]:
    """Return the ways in which files spell the book's home: GitHub, its files, Colab, Pages."""
    return [
        f"github.com/{owner}/{name}",
        f"colab.research.google.com/github/{owner}/{name}",
        f"raw.githubusercontent.com/{owner}/{name}",
        f"{owner.lower()}.github.io/{name}",
    ]


def text_files(book: Path) -> list[Path]:
    """Return the files of the repository that may hold an address."""
    return [
        path
        for path in sorted(book.rglob("*"))
        if path.suffix in SUFFIXES and path.is_file() and SKIPPED.isdisjoint(path.relative_to(book).parts)
    ]


def current_address(book: Path) -> str:
    """Return ``repository.url`` of ``_config.yml``."""
    match = SETTING.search((book / "_config.yml").read_text(encoding="utf-8"))
    if match is None:
        raise ValueError("_config.yml has no line `  url: …` below `repository:`")
    return match[1]


def set_address(book: Path, address: str) -> list[Path]:
    """Replace the book's address everywhere; return the files that changed.

    Args:
        book: the root of the repository.
        address: ``https://github.com/OWNER/NAME``.
    """
    old, new = forms(*parse(current_address(book))), forms(*parse(address))
    changed = []
    for path in text_files(book):
        text = before = path.read_text(encoding="utf-8")
        for here, there in zip(old, new, strict=True):
            text = re.sub(rf"{re.escape(here)}(?![\w-])", there, text)
        if text != before:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    try:
        for path in set_address(Path(__file__).parents[1], "".join(sys.argv[1:])):
            print(path)
    except ValueError as error:
        sys.exit(f"set_address: {error}")
