"""Copy the built book into ``_build/offline``, a folder that needs no network (run in a checkout; needs npm).

All that the pages load from elsewhere is MathJax, which npm installs into ``_build/npm``, checked against the
checksums of ``scripts/npm``. A page that is opened as a file may not read others: a search shows no excerpts.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

BUILD = Path("_build")
NPM, MATHJAX = BUILD / "npm", "_static/mathjax/"
ELSEWHERE = re.compile(r"https://cdn\.jsdelivr\.net/npm/mathjax@3/es5/")
PRELOADED = re.compile(r'<link rel="preload" as="font"[^>]*>')


def install() -> None:
    """Install the packages of npm, if they are others than those that are there."""
    lock, installed = Path("scripts/npm/package-lock.json"), NPM / "node_modules" / "installed.json"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        shutil.copytree(lock.parent, NPM, dirs_exist_ok=True)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=NPM, check=True)  # noqa: S607 -- npm of the path
        shutil.copy(lock, installed)


def copy(built: Path, offline: Path) -> None:
    """Make the folder anew."""
    shutil.rmtree(offline, ignore_errors=True)
    shutil.copytree(built, offline)
    shutil.copytree(NPM / "node_modules" / "mathjax" / "es5", offline / MATHJAX)
    for page in offline.rglob("*.html"):
        up = "../" * len(page.relative_to(offline).parent.parts)
        text = PRELOADED.sub("", page.read_text(encoding="utf-8"))
        page.write_text(ELSEWHERE.sub(up + MATHJAX, text), encoding="utf-8")
    options = offline / "_static" / "documentation_options.js"
    text = options.read_text(encoding="utf-8")
    options.write_text(text.replace("SUMMARY: true", "SUMMARY: false"), encoding="utf-8")


if __name__ == "__main__":
    install()
    copy(BUILD / "html", BUILD / "offline")
