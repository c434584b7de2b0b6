"""The notebooks for Colab: up to date, the same code, and nothing that only the book understands."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import yaml


@pytest.fixture(scope="module")
def made(repository: Path) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "book" / "_ext"))
        return importlib.import_module("colab_notebooks")


@pytest.fixture(scope="module")
def book(repository: Path, made: ModuleType):
    return made.Book(repository)


def markdown(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown")


def code(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_they_are_those_of_the_chapters(repository, book):
    folder = repository / "book" / "colab"
    assert {path.stem for path in folder.iterdir()} == {*book.pages}
    assert {*book.pages} == {path.stem for path in (repository / "book").glob("*.ipynb")}
    for page, source in book.pages.items():
        found = nbformat.read(folder / f"{page}.ipynb", as_version=4)
        assert found == book.notebook(page), f"{page}: make colab writes it anew"
        assert code(found) == code(source)
        assert next(cell for cell in found["cells"] if cell["cell_type"] == "code")["source"].count("%pip")
        assert any(cell["metadata"].get("cellView") == "form" for cell in found["cells"])


def test_nothing_is_left_that_only_the_book_understands(repository, book):
    pages = {path.stem for path in (repository / "book").glob("*.*")}
    for page in book.pages:
        text = markdown(book.notebook(page))
        assert not re.search(r":::|\{[\w:]+\}`|^\([\w-]+\)=", text, re.MULTILINE), page
        for address in re.findall(r"\]\(([^)\s]+)\)", text):
            if address.startswith(book.online):
                assert Path(address.partition("#")[0]).stem in pages, address
            elif address.startswith("#"):
                assert f'<a id="{address[1:]}"></a>' in text, address
            else:
                assert address.startswith("https://"), address


def test_titles_have_the_numbers_of_the_book(repository, tmp_path, made):
    pages = {
        "one": [
            "# One\n\n:::{admonition} First\n:class: note\nSee [two](two.ipynb#x), {prf:ref}`far`.\n:::",
            "size = 1  # @param [1, 2]",
            ":::{prf:theorem} Near\n:label: near\nLet\n\n$$\na\n= b.\n$$\n:::\n\n:::{prf:proof}\nClear.\n:::",
        ],
        "two": [
            "# Two\n(spot)=\nBy {cite:p}`a,b`, {cite}`a`; {ref}`here <spot>`, {py:mod}`m.n`.\n\n"
            "$$\na\n$$ (sum)\n\nBy {eq}`sum` a {term}`big net <super net>`.",
            "pass",
            ":::{prf:theorem}\n:label: far\nB.\n:::\n\n::::{exercise}\n:label: task\nDo.\n:::{figure} x.png\n"
            ":alt: seen\nSay.\n:::\n::::\n\n:::{solution} task\n:class: dropdown\nBy {prf:ref}`near`.\n:::",
        ],
    }
    (tmp_path / "book").mkdir()
    for name, (head, line, tail) in pages.items():
        new = nbformat.v4
        cells = [new.new_markdown_cell(head), new.new_code_cell(line), new.new_markdown_cell(tail)]
        nbformat.write(new.new_notebook(cells=cells), tmp_path / "book" / f"{name}.ipynb")
    chapters = [{"file": "book/index"}, *({"file": f"book/{name}"} for name in pages)]
    (tmp_path / "_toc.yml").write_text(yaml.dump({"parts": [{"chapters": chapters}]}))
    home = {"repository": {"url": "https://github.com/Me/it", "branch": "main"}}
    (tmp_path / "_config.yml").write_text(yaml.dump(home))
    entries = "".join(
        f"@article{{{key}, author={{{who}}}, title={{T}}, year={{2020}}{more}}}\n"
        for key, who, more in (("a", "Doe, Jo and Roe, Al", ", url={https://a.b}"), ("b", "van Dyk, Ed", ""))
    )
    (tmp_path / "book" / "api_m.md").write_text(".. automodule:: m.n\n")
    (tmp_path / "book" / "references.bib").write_text(entries)
    said: list[str] = []
    made.write(tmp_path, said.append)
    assert said[0].startswith("2 notebooks in ")
    one, two = (
        markdown(nbformat.read(tmp_path / "book" / "colab" / f"{name}.ipynb", as_version=4)) for name in pages
    )
    online = "https://me.github.io/it/book"
    assert f"> **First.**\n>\n> See [two]({online}/two.html#x), [Theorem 2]({online}/two.html#far)." in one
    assert '> <a id="near"></a>**Theorem 1 (Near).**\n>\n> Let\n>\n> $$ a = b. $$' in one
    assert "> **Proof.**\n>\n> Clear." in one
    works = f"By ([Doe and Roe, 2020](https://a.b); [van Dyk, 2020]({online}/bibliography.html))"
    assert works in two and "Doe and Roe [2020](https://a.b); [here](#spot)" in two
    assert f"[`m.n`]({online}/api_m.html#module-m.n)" in two
    assert '<a id="sum"></a>\n\n$$\na\n\\tag{1}$$' in two
    assert f"By [(1)](#sum) a [big net]({online}/glossary.html#term-super-net)." in two
    assert '<a id="spot"></a>' in two and '> <a id="task"></a>**Exercise 1.**' in two
    picture = "https://raw.githubusercontent.com/Me/it/main/book/x.png"
    assert f"> ![seen]({picture})\n>\n> *Say.*" in two
    solution = (
        f"<details><summary>Solution to Exercise 1</summary>\n\nBy [Theorem 1]({online}/one.html#near)."
    )
    assert solution in two
