"""Sphinx extension: notebook outputs in the book always belong to the code that is here.

The engine keys its cache of executed notebooks by the notebook's own cells. Here the cache lies in
a folder that is named after a fingerprint of everything else an output depends on: the library, the book's
own code, the data, ``pyproject.toml`` and the installed packages. When one of them changes, the folder's name
changes with it; since that name is part of the configuration, Sphinx then reads every page again, and every
notebook is executed.

A build that gave warnings is forgotten, so that the next one gives them again. Otherwise a strict
build after a lenient one would pass, for Sphinx reads only the pages that changed.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sphinx.application import ENV_PICKLE_FILENAME, Sphinx
from sphinx.config import Config


def source_files(book: Path) -> Iterator[Path]:
    """Yield, in a fixed order, the files of the library, the book's code, the data and ``pyproject.toml``.

    Both packages are those that notebooks import, wherever they are installed.
    """
    packages = (Path(find_spec(name).origin).parent for name in ("ldarts_lib", "ldarts_book"))
    for folder in (*packages, book / "data"):
        files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name[0] != ".")
        yield from (path for path in files if "__pycache__" not in path.parts)
    yield book / "pyproject.toml"


def installed_packages() -> list[str]:
    """Return ``name==version`` of every installed package, sorted."""
    return sorted({f"{package.name}=={package.version}" for package in distributions()})


def fingerprint(book: Path) -> str:
    """Return 16 hexadecimal digits that change whenever an output of a notebook may change.

    Args:
        book: the folder of ``_config.yml``.
    """
    digest = hashlib.sha256()
    for path in source_files(book):
        digest.update(f"{path}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    digest.update("\n".join([platform.python_version(), *installed_packages()]).encode())
    return digest.hexdigest()[:16]


def choose_cache(app: Sphinx, config: Config) -> None:
    """Point the engine to the cache folder of the present fingerprint."""
    folder = Path(app.outdir).parent / ".jupyter_cache" / fingerprint(Path(app.srcdir))
    folder.mkdir(parents=True, exist_ok=True)
    config.nb_execution_cache_path = str(folder)


def forget_warned_build(app: Sphinx, exception: Exception | None) -> None:
    """Remove the saved state of a build that gave warnings."""
    if app._warncount:
        (Path(app.doctreedir) / ENV_PICKLE_FILENAME).unlink(missing_ok=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension (called by Sphinx)."""
    app.connect("config-inited", choose_cache)
    app.connect("build-finished", forget_warned_build)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
