"""Every notebook of the book takes checked parameters, imports what a chapter may, and runs."""

from __future__ import annotations

import ast
import importlib
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import nbformat
import pandas as pd
import pytest

import ldarts_lib
from ldarts_book import notebook as notebooks
from ldarts_book.notebook import ParameterError, notebook_parameters, run_notebook, validate
from ldarts_lib.runs.directory import Run
from ldarts_lib.spaces.genotype import parse

BOOK = Path(__file__).parents[2] / "book"
CHAPTERS = sorted(BOOK.glob("*.ipynb"))
SHARED = {"studies", "figures", "published", "grid"}
LINES, WIDTH = 6, 75
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def sources(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code" and "%pip" not in cell.source]


@each_chapter
def test_it_is_bare_and_its_parameters_are_checked_in_the_next_cell(path):
    assert not any(cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells)
    declared = notebook_parameters(path)
    assert {"size", "out"} <= set(declared.model_fields)
    assert declared().size == "smoke"
    _, begin, *_ = sources(path)
    assert begin.startswith("from ldarts_book.notebook import begin\n\nfolder, where = begin(globals()")
    for given, expected in (({"size": "hugee"}, "size = 'hugee'"), ({"sede": 3}, "unknown parameter 'sede'")):
        with pytest.raises(ParameterError, match=expected):
            validate(declared, given)


@each_chapter
def test_a_chapter_imports_public_names_its_own_module_and_what_chapters_share(path):
    parameters, begin, *rest = sources(path)
    tree = ast.parse("\n".join(rest))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(imports) <= LINES
    for node in imports:
        for alias in node.names:
            home = getattr(node, "module", alias.name).split(".")
            if home[0] == "ldarts_book":
                assert (home[1:] or [alias.name])[0] in {path.stem, *SHARED}
            if home == ["ldarts_lib"]:
                assert alias.name in ldarts_lib.__all__
            assert not any(name.startswith("_") for name in (*home, alias.name))
            assert home[0].startswith("ldarts") or home[0] in sys.stdlib_module_names | {
                "IPython", "numpy", "pandas", "scipy", "torch",
            }  # fmt: skip
    assert all(len(line) <= WIDTH for source in (parameters, begin, *rest) for line in source.splitlines())


@each_chapter
def test_what_a_chapter_takes_of_its_module_is_written_there(path):
    if not (BOOK / "ldarts_book" / f"{path.stem}.py").exists():
        return
    module = importlib.import_module(f"ldarts_book.{path.stem}")
    tree = ast.parse("\n".join(sources(path)[2:]))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == path.stem
    }
    assert used
    for name in used:
        found = getattr(module, name)
        assert not isinstance(found, ModuleType) and not name.startswith("_")
        assert getattr(found, "__module__", module.__name__) == module.__name__, name


def test_each_module_of_a_chapter_is_kept_apart_from_the_others(repository):
    contracts = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    (apart,) = (contract["modules"] for contract in contracts if contract["type"] == "independence")
    modules = {path.stem for path in Path(notebooks.__file__).parent.glob("*.py")} - {"__init__", "notebook"}
    assert set(apart) == {f"ldarts_book.{name}" for name in modules}
    pages = {path.stem for path in (*BOOK.glob("*.md"), *CHAPTERS)}
    assert modules <= pages


@pytest.mark.slow
def test_the_quickstart_searches_compares_and_says_where(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(notebooks.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    executed = run_notebook(BOOK / "quickstart.ipynb", {"seeds": "1", "out": "runs"}, tmp_path / "out")
    folder = tmp_path / "runs" / "noisy-digits-smoke"
    summary = pd.read_csv(folder / "summary.csv")
    assert list(summary.method) == ["darts", "lambda"]
    for row in summary.itertuples():
        run = Run(folder / f"{row.method}-seed0")
        assert run.finished
        assert parse(run.read_json("genotype.json")["genotype"]) == parse(row.cell)
    last = nbformat.read(executed, as_version=4).cells[-1]
    said = "".join(output.text for output in last.outputs)
    for place in (folder, folder / "searches.png", folder / "summary.csv"):
        assert place.exists()
        assert str(place) in said
    assert all(cell in said for cell in summary.cell)
