"""Sphinx extension: notebook outputs in the book always belong to the code that is here.

The engine keys its cache of executed notebooks by the notebook's own cells. Here each notebook has a folder
of its own for that, named after a fingerprint of everything else its outputs depend on: the modules of ours
that it imports, directly or not, the data, ``pyproject.toml`` and the installed packages. When one of them
changes, the folder's name changes with it, and Sphinx reads again the notebooks whose fingerprint changed.

The notebooks that are not there yet are executed before the pages are read, one per core.

A build that gave warnings is forgotten, so that the next one gives them again. Otherwise a strict
build after a lenient one would pass, for Sphinx reads only the pages that changed.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import re
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import zmq
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from jupyter_client.manager import KernelManager
from sphinx.application import ENV_PICKLE_FILENAME, Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx.util.display import status_iterator

PACKAGES = ("ldarts_lib", "ldarts_book")
_OURS = re.compile(r"ldarts_(lib|book)(\.\w+)*")
_MAGIC = re.compile(r"^( *)[%!].*", re.MULTILINE)


class Imports:
    """What a piece of code names of our modules.

    Attributes:
        names: modules, or what is taken of them, also where a string names them.
        begun: packages of which it imports modules whose names it computes.
        typed: names that are imported for type checkers alone, with their homes: a package loads them late.
        lazy: whether it is a package that loads its modules when they are used.
    """

    def __init__(self, code: str) -> None:
        nodes = {*ast.walk(ast.parse(code))}
        guards = [n for n in nodes if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
        guarded = {inner for guard in guards for inner in ast.walk(guard)}
        kept = nodes - guarded
        strings = {n.value for n in kept if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        bound = {pair for node in kept for pair in _imported(node)}
        attributes = [n for n in kept if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
        used = {(n.value.id, n.attr) for n in attributes}
        self.names = {name for _, name in bound} | {text for text in strings if "." in text}
        self.names |= {f"{name}.{taken}" for local, name in bound for user, taken in used if user == local}
        self.names = {name for name in self.names if _OURS.fullmatch(name) and "__" not in name}
        self.begun = {text[:-1] for text in strings if text[-1:] == "." and _OURS.fullmatch(text[:-1])}
        self.typed = dict(pair for node in guarded for pair in _imported(node))
        self.lazy = any(isinstance(n, ast.FunctionDef) and n.name == "__getattr__" for n in kept)


def _imported(node: ast.AST) -> Iterable[tuple[str, str]]:
    """What an import binds, with its full name."""
    home = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    aliases = node.names if isinstance(node, ast.Import | ast.ImportFrom) else ()
    return [(alias.asname or alias.name, f"{home}{alias.name}") for alias in aliases]


class Sources:
    """Both packages, wherever they are installed, and everything else that all outputs depend on.

    Args:
        book: the folder of ``_config.yml``.
    """

    def __init__(self, book: Path) -> None:
        self.texts: dict[str, str] = {}
        digest, homes = hashlib.sha256(), [Path(find_spec(name).origin).parent for name in PACKAGES]
        for folder in (*homes, book / "data", book / "pyproject.toml"):
            for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
                if path.suffix == ".py" and folder in homes:
                    name = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
                    self.texts[name.removesuffix(".__init__")] = path.read_text(encoding="utf-8")
                elif path.is_file() and path.name[0] != "." and path.suffix != ".pyc":
                    place = path.relative_to(folder.parent)
                    digest.update(f"{place}\0{path.stat().st_size}\0".encode() + path.read_bytes())
        digest.update("\n".join([platform.python_version(), *installed_packages()]).encode())
        self.shared = digest.hexdigest()
        self.imports = {name: Imports(text) for name, text in self.texts.items()}

    def reached(self, code: str) -> set[str]:
        """All modules that the code imports, and that those import."""
        found, names = set(), self._of(Imports(code))
        while names:
            name = names.pop()
            parts = name.split(".")
            *_, module = known = [
                prefix for k in range(len(parts)) if (prefix := ".".join(parts[: k + 1])) in self.texts
            ]
            for each in {*known} - found:
                names |= self._of(self.imports[each])
            found |= {*known}
            if self.imports[module].lazy and name != module:
                home = self.imports[module].typed.get(name.removeprefix(f"{module}."))
                names |= {home} if home else self._below(module) - found
        return found

    def _of(self, imports: Imports) -> set[str]:
        begun = () if imports.lazy else imports.begun
        return imports.names.union(*map(self._below, begun))

    def _below(self, package: str) -> set[str]:
        return {name for name in self.texts if name.startswith(f"{package}.")}

    def fingerprint(self, notebook: Path) -> str:
        """Return 16 hexadecimal digits that change whenever an output of a notebook may change."""
        cells = nbformat.read(notebook, as_version=4).cells
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        return self.mark(_MAGIC.sub(r"\1pass", code))

    def mark(self, code: str) -> str:
        """Return the same of what the code depends on, but for its own text."""
        texts = (self.texts[name] for name in sorted(self.reached(code)))
        return hashlib.sha256("\0".join([self.shared, *texts]).encode()).hexdigest()[:16]


sources_of = cache(Sources)
"""The sources as they are at the beginning of a build."""


def installed_packages() -> list[str]:
    """Return ``name==version`` of every installed package, sorted."""
    return sorted({f"{package.name}=={package.version}" for package in distributions()})


def outdated(app: Sphinx, env: BuildEnvironment, *changes: set[str]) -> list[str]:
    """Find the notebooks whose fingerprint is another than when they were read."""
    sources, before = sources_of(Path(app.srcdir)), getattr(env, "ldarts_fingerprints", {})
    notebooks = {page: Path(env.doc2path(page)) for page in env.found_docs}
    notebooks = {page: path for page, path in notebooks.items() if path.suffix == ".ipynb"}
    env.ldarts_fingerprints = {page: sources.fingerprint(path) for page, path in notebooks.items()}
    return [page for page, mark in env.ldarts_fingerprints.items() if before.get(page) != mark]


def _cache(app: Sphinx, page: str) -> str | None:
    """The folder with the outputs of a notebook."""
    mark = app.env.ldarts_fingerprints.get(page)
    return mark and str(Path(app.outdir).parent / ".jupyter_cache" / mark)


def execute(app: Sphinx, env: BuildEnvironment, pages: list[str]) -> None:
    """Execute the notebooks of which there are no outputs; what fails, the engine tries again and reports."""
    known = {page: folder for page in pages if (folder := _cache(app, page))}
    if app.config.nb_execution_mode != "cache" or not known:
        return

    def run(page: str) -> str:
        cache, path = get_cache(known[page]), env.doc2path(page)
        notebook = nbformat.read(path, as_version=4)
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            with tempfile.TemporaryDirectory() as folder:
                made = single_nb_execution(notebook, folder, app.config.nb_execution_timeout, False)
            if made.err is None:
                bundle = CacheBundleIn(notebook, path, data={"execution_seconds": made.time})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        return page

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(run, known)
        [*status_iterator(made, "executing notebooks... ", length=len(known), stringify_func=str)]


def keep_numbers(app: Sphinx, env: BuildEnvironment, pages: list[str]) -> None:
    """Where no page is read again, leave figures their numbers: to count them, Sphinx loads all pages."""
    for listener in [] if pages else [*app.events.listeners.get("env-get-updated", ())]:
        if isinstance(getattr(listener.handler, "__self__", None), TocTreeCollector):
            app.disconnect(listener.id)


def choose_cache(app: Sphinx, page: str, source: list[str]) -> None:
    """Point the engine to the cache folder of the notebook that it reads next."""
    if folder := _cache(app, page):
        app.env.mystnb_config = app.env.mystnb_config.copy(execution_cache_path=folder)


def forget_warned_build(app: Sphinx, exception: Exception | None) -> None:
    """Remove the saved state of a build that gave warnings."""
    if app._warncount:
        (Path(app.doctreedir) / ENV_PICKLE_FILENAME).unlink(missing_ok=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension (called by Sphinx)."""
    app.connect("env-get-outdated", outdated)
    app.connect("env-before-read-docs", execute)
    app.connect("env-before-read-docs", keep_numbers)
    app.connect("source-read", choose_cache)
    app.connect("build-finished", forget_warned_build)
    # Kernels whose connections are not encrypted warn of it, one line each.
    if zmq.has("curve") and (encryption := KernelManager.class_traits().get("transport_encryption")):
        encryption.default_value = "auto"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
