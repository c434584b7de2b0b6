"""Bring tests/colab.txt up to date with a package list of Colab's image.

Usage: python scripts/newest_image.py PIP_FREEZE.txt
"""

from __future__ import annotations

import re
import sys
from datetime import date
from pathlib import Path

IMAGE = Path(__file__).parents[1] / "tests" / "colab.txt"


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main(path: str, image: Path = IMAGE) -> None:
    """Give every package of the file the version of the list; stop if the list lacks one."""
    listed = re.findall(r"^([\w.-]+)\s*(?:==|@.*?[-/]v?)\s*([\d.]+\d)", Path(path).read_text(), re.MULTILINE)
    newest = {canonical(name): version for name, version in listed}
    lines, missing = [], []
    for line in image.read_text(encoding="utf-8").splitlines():
        name, pinned, _ = line.partition("==")
        missing += [name] if pinned and canonical(name) not in newest else []
        lines.append(f"{name}=={newest.get(canonical(name), pinned)}" if pinned else line)
    if missing:
        sys.exit(f"{path} has no version of {', '.join(missing)}; {image.name} stays as it is")
    lines[0] = re.sub(r"of \w+ \d{4} ", f"of {date.today():%B %Y} ", lines[0])
    lines[0] = re.sub(r"recorded [\d-]+", f"recorded {date.today()}", lines[0])
    image.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
