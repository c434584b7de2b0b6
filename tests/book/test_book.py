"""The book: its parts fit together, outputs are never stale, warnings are errors."""

from __future__ import annotations

import base64
import importlib
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import numpy as np
import pytest
import yaml
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx.events import EventManager

from builds import build, build_strictly
from ldarts_book import studies
from ldarts_lib import open_table, parse
from ldarts_lib.spaces.space import SPACES
from ldarts_lib.tables.computation import encode

pytestmark = pytest.mark.xdist_group("book")  # one worker builds the books that tests share
OPS = SPACES["nasbench201"].cells["normal"].candidates[0]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "_build", "runs", "*cache__", ".*_cache")


@pytest.fixture
def execution_cache(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The Sphinx extension, looking at whatever ``ldarts_lib`` stands first on the path."""
    monkeypatch.syspath_prepend(str(repository / "book" / "_ext"))
    return importlib.import_module("execution_cache")


@pytest.fixture(scope="module")
def small_book(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book's configuration and library around one page and one notebook."""
    book = tmp_path_factory.mktemp("small") / "book"
    shutil.copytree(repository, book, ignore=LEFT_OUT)
    for page in [*book.glob("book/*.md"), *book.glob("book/*.ipynb")]:
        page.unlink()
    (book / "book" / "index.md").write_text("# Title\n")
    (book / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n  - file: book/chapter\n")
    for stray in (".pytest_cache/README.md", "runs/one/report.md", "NOTES.md"):
        (book / stray).parent.mkdir(parents=True, exist_ok=True)
        (book / stray).write_text("# Stray\n\n[nowhere](nowhere.md)\n")
    cells = [
        nbformat.v4.new_markdown_cell("# Chapter"),
        nbformat.v4.new_code_cell(
            "import ldarts_lib\nfrom pathlib import Path\n"
            f"with Path({str(book / 'executions')!r}).open('a') as file:\n    file.write('x')\n"
            "print('version', ldarts_lib.__version__)"
        ),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), book / "book" / "chapter.ipynb")
    return book


def shown(book: Path) -> str:
    """Return the version that the chapter's page prints."""
    page = (book / "_build" / "html" / "book" / "chapter.html").read_text()
    return re.search(r">version ([\w.]+)", page)[1]


def executions(book: Path) -> int:
    return len((book / "executions").read_text())


def test_contents_exist(repository: Path) -> None:
    toc = yaml.safe_load((repository / "_toc.yml").read_text())
    chapters = [item for part in toc["parts"] for item in part["chapters"]]
    below = [item for chapter in chapters for item in chapter.get("sections", ())]
    files = [toc["root"], *(item["file"] for item in chapters + below)]
    pages = [path for path in (repository / "book").iterdir() if path.suffix in (".md", ".ipynb")]
    assert sorted(f"book/{path.stem}" for path in pages) == sorted(files)


def test_every_module_is_on_a_page_of_the_library(repository: Path) -> None:
    pages = "".join(path.read_text() for path in (repository / "book").glob("api*.md"))
    documented = re.findall(r"^\.\. automodule:: (\S+)$", pages, re.MULTILINE)
    homes = {"ldarts_lib": repository, "ldarts_book": repository / "book"}
    paths = (path.relative_to(home) for name, home in homes.items() for path in (home / name).rglob("*.py"))
    public = [".".join(path.with_suffix("").parts) for path in paths if not path.name.startswith("_")]
    assert sorted(documented) == sorted(public)


LAZY = """from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from ldarts_lib.late import shown
def __getattr__(name): ...
"""
SOURCES = {
    "ldarts_lib/__init__.py": LAZY,
    "ldarts_lib/late.py": "from ldarts_lib import __version__",
    "ldarts_lib/other.py": "def inside():\n    import ldarts_lib.deep.low",
    "ldarts_lib/deep/__init__.py": "",
    "ldarts_lib/deep/low.py": "",
    "ldarts_book/__init__.py": "",
    "ldarts_book/parts/__init__.py": "def __getattr__(name): ...",
    "ldarts_book/parts/one.py": "",
    "ldarts_book/parts/two.py": "",
    "ldarts_book/style.css": "a {}",
    "data/table.csv": "1",
    "pyproject.toml": "one = 1",
}
PARTS = "book/parts/__init__ book/parts/one book/parts/two"
EVERYWHERE = {"ldarts_book/style.css", "data/table.csv", "pyproject.toml"}


@pytest.mark.parametrize(
    ("code", "followed"),
    [
        ("", ""),
        ("if True:\n    %pip install ldarts-lib\nimport ldarts_lib", "lib/__init__"),
        ("from ldarts_lib import shown", "lib/__init__ lib/late"),
        ("import ldarts_lib as l\nl.shown", "lib/__init__ lib/late"),
        ("from ldarts_lib import other", "lib/__init__ lib/other lib/deep/__init__ lib/deep/low"),
        ("run('ldarts_lib.deep')", "lib/__init__ lib/deep/__init__"),
        ("from ldarts_book import parts\nparts.one.x", "book/__init__ book/parts/__init__ book/parts/one"),
        (
            "from ldarts_book.parts import x",
            "book/__init__ book/parts/__init__ book/parts/one book/parts/two",
        ),
        (
            "load(f'ldarts_book.parts.{name}')",
            "book/__init__ book/parts/__init__ book/parts/one book/parts/two",
        ),
    ],
)
def test_the_fingerprint_of_a_notebook_follows_what_it_imports_and_what_all_need(
    execution_cache: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, followed: str
) -> None:
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for package in execution_cache.PACKAGES:
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(execution_cache, "installed_packages", lambda: ["one==1.0"])
    notebook = tmp_path / "chapter.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), notebook)

    def fingerprint() -> str:
        return execution_cache.Sources(tmp_path).fingerprint(notebook)

    before, changed = fingerprint(), set()
    (tmp_path / "ldarts_lib" / "__pycache__").mkdir()
    (tmp_path / "ldarts_lib" / "__pycache__" / "x.pyc").write_text("bytecode")
    assert fingerprint() == before
    for name, text in SOURCES.items():
        (tmp_path / name).write_text(text + "\n")
        changed |= {name} if fingerprint() != before else set()
        (tmp_path / name).write_text(text)
    assert changed == {f"ldarts_{name}.py" for name in followed.split()} | EVERYWHERE

    monkeypatch.setattr(execution_cache, "installed_packages", lambda: ["one==1.1"])
    assert fingerprint() != before


def test_figures_are_counted_again_only_where_a_page_is_read_again(execution_cache: ModuleType) -> None:
    app = SimpleNamespace()
    app.events = EventManager(app)
    app.disconnect = app.events.disconnect
    app.events.connect("env-get-updated", TocTreeCollector().get_updated_docs, 500)
    app.events.connect("env-get-updated", print, 500)
    for pages, left in ((["book/chapter"], 2), ([], 1)):
        execution_cache.keep_numbers(app, None, pages)
        assert len(app.events.listeners["env-get-updated"]) == left
    assert app.events.listeners["env-get-updated"][0].handler is print


@pytest.mark.slow
def test_outputs_follow_the_library(small_book: Path) -> None:
    library = small_book / "ldarts_lib" / "__init__.py"

    first = build_strictly(small_book)
    assert first.returncode == 0, first.stdout + first.stderr
    before, runs = shown(small_book), executions(small_book)
    library.write_text(library.read_text().replace(before, "9.9.9"))

    assert build_strictly(small_book).returncode == 0
    assert (shown(small_book), executions(small_book)) == ("9.9.9", runs + 1)

    assert build_strictly(small_book).returncode == 0
    assert (shown(small_book), executions(small_book)) == ("9.9.9", runs + 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "sound", "broken", "lenient"),
    [
        (
            "index.md",
            "# Title",
            "# Title\n\n[nowhere](nowhere.md)",
            0,
        ),  # the warning is printed, the book built
        ("index.md", "# Title", "# Title\n\n{py:func}`ldarts_lib.no_such_function`", 0),
        ("index.md", "# Title", "# Title\n\n{cite}`nobody1900`", 0),
        ("chapter.ipynb", "import ldarts_lib", "import no_such_module", 1),
    ],
)
def test_a_mistake_fails_until_it_is_mended(small_book: Path, page, sound, broken, lenient) -> None:
    path = small_book / "book" / page
    before = path.read_text()
    path.write_text(before.replace(sound, broken))
    try:
        if page == "index.md":  # leniently, the warning is printed and the book built
            assert build(small_book).returncode == 0
        assert build_strictly(small_book).returncode != 0
        assert build_strictly(small_book).returncode != 0
    finally:
        path.write_text(before)
    assert build_strictly(small_book).returncode == 0


@pytest.mark.slow
def test_launch_buttons_lead_home(repository: Path, whole_book: Path) -> None:
    url = yaml.safe_load((repository / "_config.yml").read_text())["repository"]["url"]
    slug = url.removeprefix("https://github.com/")
    page = (whole_book / "quickstart.html").read_text()
    for link in (
        f"https://colab.research.google.com/github/{slug}/blob/main/book/colab/quickstart.ipynb",
        f"{url}/edit/main/book/quickstart.ipynb",
    ):
        assert link in page


def test_no_two_figures_have_the_same_caption(repository: Path) -> None:
    cells = [c for path in repository.glob("book/*.ipynb") for c in json.loads(path.read_text())["cells"]]
    figures = [cell["metadata"].get("mystnb", {}).get("figure", {}) for cell in cells]
    captions = [figure["caption"] for figure in figures if "caption" in figure]
    assert len(captions) > 90 and len(set(captions)) == len(captions)


@pytest.mark.slow
def test_notebooks_for_colab_number_theorems_and_exercises_as_the_book_does(
    repository: Path, whole_book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / "book" / "_ext"))
    names = importlib.import_module("colab_notebooks").Book(repository).names
    titled = r'id="([\w-]+)">\s*<p class="admonition-title"><span class="caption-number">(\w+ \d+) '
    equation = r'id="equation-([\w-]+)">\s*<span class="eqno">(\(\d+\))'
    shown = {
        label: name
        for path in whole_book.glob("*.html")
        for pattern in (titled, equation)
        for label, name in re.findall(pattern, path.read_text())
    }
    assert len(shown) > 90
    assert shown == {label: name for label, (_, name) in names.items() if name}


def test_the_cell_builder_has_the_tables_and_the_searches(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / "book" / "_ext"))
    found = importlib.import_module("cell_builder").contents()
    assert [look["label"] for look in found["operations"]] == ["none", "skip", "1×1", "3×3", "avg"]
    tables = {name: np.frombuffer(base64.b64decode(text), "<u2") for name, text in found["tables"].items()}
    for name, whole in (("digits-201", 1), ("nasbench201", 100)):
        table, column = open_table(name), tables.pop(next(iter(tables)))
        assert len(column) == 5**6
        for ops in ("000000", "333333", "012340"):
            a, b, c, d, e, f = (OPS[int(digit)] for digit in ops)
            accuracy = table.accuracy(f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|") / whole
            assert abs(column[int(ops, 5)] / found["steps"] - accuracy) <= 0.5001 / found["steps"]
    search = studies.watched("smoke", found["seed"], "")
    for name, cells in found["walks"].items():
        assert cells == [int(encode(parse(row["genotype"])), 5) for row in search[name].history]
    assert len(json.dumps(found)) < 100_000


def test_the_script_of_the_cell_builder_is_made_again_when_what_it_is_made_of_changes(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / "book" / "_ext"))
    builder, made = importlib.import_module("cell_builder"), []
    reached = builder.sources_of(repository).reached(Path(builder.__file__).read_text())
    assert {"ldarts_lib.tables.tables", "ldarts_book.studies.records", "ldarts_book.figures.style"} <= reached
    monkeypatch.setattr(builder, "contents", lambda: made.append(1) or {})
    app = SimpleNamespace(outdir=tmp_path, srcdir=repository)
    for mark, count in (("one", 1), ("one", 1), ("another", 2)):
        sources = SimpleNamespace(mark=lambda code, mark=mark: mark)
        monkeypatch.setattr(builder, "sources_of", lambda folder, sources=sources: sources)
        builder.write_tables(app)
        assert len(made) == count
    assert (tmp_path / "_static" / "cells.js").read_text().endswith("window.LDARTS_CELLS = {};\n")
