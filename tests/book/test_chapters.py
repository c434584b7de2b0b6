"""Every notebook of the book takes checked parameters, imports what a chapter may, and runs."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Literal, get_origin

import nbformat
import pandas as pd
import papermill
import pytest

import ldarts_lib
from ldarts_book import notebook as notebooks
from ldarts_book.execution import run_notebook
from ldarts_book.notebook import ParameterError, begin, notebook_parameters, validate
from ldarts_lib.runs.directory import Run
from ldarts_lib.spaces.notations import parse

BOOK = Path(__file__).parents[2] / "book"
CHAPTERS = sorted(BOOK.glob("*.ipynb"))
SHARED = {"studies", "figures", "published", "grid", "notebook"}
MODULES = sorted({p.stem for p in (BOOK / "ldarts_book").glob("[!_]*.py")} - {"execution", "notebook"})
LIBRARIES = {"ldarts_lib", "ldarts_book", "IPython", "numpy", "pandas", "scipy", "torch"}
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
    cell, following, *_ = sources(path)
    assert "from ldarts_book.notebook import begin\n\nfolder, where = begin(globals()" in following
    assert {*re.findall("^from (.+) import", following, re.MULTILINE)} <= {"pathlib", "ldarts_book.notebook"}
    for name in {"seed", "seeds", "devices", "limit"} & {*declared.model_fields}:
        with pytest.raises(ParameterError, match=f"{name} = -1: Input should be greater"):
            begin({"In": [cell, f"# Parameters\n{name} = -1\n"], name: -1})
    for given, expected in (({"size": "hugee"}, "size = 'hugee'"), ({"sede": 3}, "unknown parameter 'sede'")):
        with pytest.raises(ParameterError, match=expected):
            validate(declared, given)


@each_chapter
def test_papermill_reads_every_parameter_of_it(path, caplog):
    read, declared = papermill.inspect_notebook(path), notebook_parameters(path).model_fields
    assert [*read] == [*declared] and not caplog.records
    for name, field in declared.items():
        kind = get_origin(field.annotation) or field.annotation
        expected = "str" if kind is Literal else kind.__name__
        assert read[name]["inferred_type_name"] == expected and "--" in read[name]["help"]


@each_chapter
def test_a_chapter_imports_public_names_its_own_module_and_what_chapters_share(path):
    tree = ast.parse("\n".join(sources(path)[2:]))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(imports) <= LINES
    for home, name in ((getattr(node, "module", a.name), a.name) for node in imports for a in node.names):
        package, *inner = home.split(".")
        assert package in LIBRARIES or package in sys.stdlib_module_names
        assert not any(part.startswith("_") for part in (*inner, name))
        if package == "ldarts_book":
            assert (*inner, name)[0] in {path.stem, *SHARED}
        if home == "ldarts_lib":
            assert name in ldarts_lib.__all__
    assert all(len(line) <= WIDTH for source in sources(path) for line in source.splitlines())


@pytest.mark.parametrize("name", [name for name in MODULES if (BOOK / f"{name}.ipynb").exists()])
def test_what_a_chapter_takes_of_its_module_is_written_there(name):
    module = importlib.import_module(f"ldarts_book.{name}")
    nodes = ast.walk(ast.parse("\n".join(sources(BOOK / f"{name}.ipynb")[2:])))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    used = {node.attr for node in attributes if getattr(node.value, "id", None) == name}
    assert used
    for each in used:
        found = getattr(module, each)
        assert not isinstance(found, ModuleType) and not each.startswith("_")
        assert getattr(found, "__module__", module.__name__) == module.__name__, each


def test_each_module_of_a_chapter_is_kept_apart_from_the_others(repository):
    linter = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"]
    (apart,) = (each["modules"] for each in linter["contracts"] if each["type"] == "independence")
    assert apart == [f"ldarts_book.{name}" for name in MODULES]


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
    assert f"IN {folder.relative_to(tmp_path)}\n" in said
    assert all((folder / name).exists() and name in said for name in ("searches.png", "summary.csv"))
