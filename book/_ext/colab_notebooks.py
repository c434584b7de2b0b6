"""Chapters as notebooks for Colab and Jupyter, which show none of the book's directives and roles.

Run in a checkout, this writes them all; as an extension of Sphinx it lets the launch buttons lead to them and
leaves out the live code of thebe, which the engine loads on every page although no chapter uses it.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import yaml
from pybtex.database import Entry, parse_file
from sphinx.application import Sphinx
from sphinx.config import Config

_FENCE = re.compile(r"(:{3,})\{([\w:-]+)\} *(.*)")
_OPTION = re.compile(r":([\w-]+): *(.*)")
_ROLE = re.compile(r"\{([\w:]+)\}`([^`]+)`")
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)\s]+)\)")
_TARGET = re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE)
_DESCRIBED = re.compile(r"^\.\. auto\w+:: (\S+)$", re.MULTILINE)
_FORMULA = re.compile(r"\$\$.*?\$\$", re.DOTALL)
_EQUATION = re.compile(r"\$\$([^$]*)\$\$ \(([\w-]+)\)")  # a formula and its label


@dataclass(frozen=True)
class Block:
    """A directive: its kind, what stands behind it, its options and its body."""

    kind: str
    argument: str
    options: Mapping[str, str]
    body: str

    @property
    def label(self) -> str:
        """What refers to it."""
        return self.options.get("label", self.options.get("name", ""))


def parsed(text: str) -> Iterator[str | Block]:
    """Markdown as lines and directives, whose bodies may hold more of them."""
    lines = iter(text.split("\n"))
    for line in lines:
        if not (opened := _FENCE.fullmatch(line)):
            yield line
            continue
        body = []
        while (inner := next(lines)).strip() != opened[1]:
            body.append(inner)
        options = {}
        while body and (option := _OPTION.fullmatch(body[0])):
            options[option[1]] = option[2]
            del body[0]
        yield Block(opened[2], opened[3], options, "\n".join(body).strip())


class Book:
    """The chapters of a checkout, and what a notebook refers to outside itself.

    Attributes:
        pages: the chapters in the order of the book, by name.
        library: of each module and public name of the library its page.
        names: of each label the page, and the title with the number that the book gives it.
    """

    def __init__(self, repository: Path) -> None:
        """Read all chapters of the folder with ``_toc.yml``."""
        self.folder = repository / "book"
        toc = yaml.safe_load((repository / "_toc.yml").read_text(encoding="utf-8"))
        files = [repository / chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
        paths = [found for path in files for found in path.parent.glob(f"{path.name}.*")]
        every = {path.stem: _read(path) for path in paths if path.suffix in {".ipynb", ".md"}}
        self.pages = {path.stem: every[path.stem] for path in paths if path.suffix == ".ipynb"}
        library = {path.stem: path.read_text(encoding="utf-8") for path in self.folder.glob("api*.md")}
        self.library = {name: page for page, text in library.items() for name in _DESCRIBED.findall(text)}
        self.works = parse_file(str(self.folder / "references.bib")).entries
        config = yaml.safe_load((repository / "_config.yml").read_text(encoding="utf-8"))
        owner, name = config["repository"]["url"].rsplit("/", 2)[1:]
        branch = config["repository"]["branch"]
        self.online = f"https://{owner.lower()}.github.io/{name}/book"
        self.files = f"https://raw.githubusercontent.com/{owner}/{name}/{branch}/book"
        self.names = dict(self._numbered(every))

    def _numbered(self, pages: Mapping[str, nbformat.NotebookNode]) -> Iterator[tuple[str, tuple[str, str]]]:
        counts: Counter[str] = Counter()
        for page, notebook in pages.items():
            for text in (cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown"):
                yield from ((label, (page, "")) for label in _TARGET.findall(text))
                for _, label in _EQUATION.findall(text):
                    counts["equation"] += 1
                    yield label, (page, f"({counts['equation']})")
                for block in (part for part in parsed(text) if isinstance(part, Block) and part.label):
                    kind = block.kind.removeprefix("prf:")
                    numbered = kind == "exercise" or block.kind.startswith("prf:")  # proofs have no label
                    counts[kind] += numbered
                    yield block.label, (page, f"{kind.capitalize()} {counts[kind]}" if numbered else "")

    def notebook(self, page: str) -> nbformat.NotebookNode:
        """A chapter in Markdown that every notebook shows; its code is not touched."""
        found = nbformat.from_dict(self.pages[page])
        cells, found["cells"] = found["cells"], []
        for cell in cells:
            found["cells"].append(cell)
            if cell["cell_type"] == "markdown":
                cell["source"] = self.plain(cell["source"], page)
            elif "# @param" in cell["source"]:
                cell["metadata"]["cellView"] = "form"
            # A caption stands below its figure.
            if caption := cell["metadata"].pop("mystnb", {}).get("figure", {}).get("caption"):
                below = nbformat.v4.new_markdown_cell(f"*{self.plain(caption, page)}*")
                found["cells"].append(below)
        for position, cell in enumerate(found["cells"]):
            cell["id"] = str(position)  # as stripped notebooks have it
        note = f"*This notebook is made from [the chapter of the book]({self.online}/{page}.html).*"
        title, _, rest = found["cells"][0]["source"].partition("\n")
        found["cells"][0]["source"] = f"{title}\n\n{note}\n{rest}"
        return found

    def plain(self, text: str, page: str) -> str:
        """Markdown of the book without directives, roles and relative addresses."""
        lines = (self._block(part, page) if isinstance(part, Block) else part for part in parsed(text))
        text = _TARGET.sub(lambda target: f'<a id="{target[1]}"></a>', "\n".join(lines))
        text = _EQUATION.sub(
            lambda found: (
                f'<a id="{found[2]}"></a>\n\n$${found[1]}\\tag{{{self.names[found[2]][1][1:-1]}}}$$'
            ),
            text,
        )
        return _LINK.sub(self._address, _ROLE.sub(partial(self._role, page), text))

    def _block(self, block: Block, page: str) -> str:
        kind, anchor = block.kind, f'<a id="{block.label}"></a>' if block.label else ""
        if kind == "figure":
            return f"![{block.options['alt']}]({self.files}/{block.argument})\n\n{anchor}*{block.body}*"
        if kind == "csv-table":
            with (self.folder / block.options["file"]).open(encoding="utf-8", newline="") as file:
                names, *table = csv.reader(file)
            rows = [names, ["---"] * len(names), *table]
            return f"*{block.argument}*\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)
        body = self.plain(block.body, page)
        if kind == "solution":
            title = f"Solution to {self.names[block.argument][1]}"
            return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"
        _, title = self.names.get(block.label, (page, ""))
        words = block.argument or kind.removeprefix("prf:").capitalize()
        title = f"{title} ({block.argument})" if title and block.argument else title or words
        # Quoted lines would put their mark into a formula.
        body = _FORMULA.sub(lambda formula: " ".join(formula[0].split("\n")), body)
        return "\n".join(f"> {line}".rstrip() for line in f"{anchor}**{title}.**\n\n{body}".split("\n"))

    def _role(self, page: str, role: re.Match[str]) -> str:
        kind, text = role.groups()
        if kind.startswith("cite"):
            works = [self._cited(self.works[key.strip()], kind) for key in text.split(",")]
            return f"({'; '.join(works)})" if kind == "cite:p" else "; ".join(works)
        words, _, label = text.rstrip(">").rpartition("<")
        if kind == "term":
            anchor = re.sub(r"\W+", "-", label)
            return f"[{words.strip() or label}]({self.online}/glossary.html#term-{anchor})"
        if kind not in {"ref", "prf:ref", "eq"}:  # py:mod, py:func, ...: a name of the library
            name = text.lstrip("~")
            anchor = f"module-{name}" if kind.endswith("mod") else name
            near = max((known for known in self.library if f"{name}.".startswith(f"{known}.")), key=len)
            return f"[`{name}`]({self.online}/{self.library[near]}.html#{anchor})"
        other, name = self.names[label]
        return f"[{words.strip() or name}]({'' if other == page else f'{self.online}/{other}.html'}#{label})"

    def _cited(self, work: Entry, kind: str) -> str:
        names = [" ".join(person.prelast_names + person.last_names) for person in work.persons["author"]]
        who = {1: names[0], 2: " and ".join(names)}.get(len(names), f"{names[0]} et al.")
        address = work.fields.get("url") or f"{self.online}/bibliography.html"
        year = work.fields["year"]
        return f"[{who}, {year}]({address})" if kind == "cite:p" else f"{who} [{year}]({address})"

    def _address(self, link: re.Match[str]) -> str:
        path, mark, anchor = link[1].partition("#")
        page = Path(path)
        if page.suffix in {".ipynb", ".md"}:
            return f"]({self.online}/{page.with_suffix('.html')}{mark}{anchor})"
        return f"]({self.files}/{path})"


def _read(path: Path) -> nbformat.NotebookNode:
    """A chapter; a page of Markdown as one cell."""
    if path.suffix == ".ipynb":
        return nbformat.read(path, as_version=4)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(path.read_text(encoding="utf-8"))])


def write(repository: Path, report: Callable[[str], None] = print) -> None:
    """Write ``book/colab`` anew: one notebook per chapter, without outputs."""
    book, folder = Book(repository), repository / "book" / "colab"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.ipynb"):
        path.unlink()
    for page in book.pages:
        nbformat.write(book.notebook(page), folder / f"{page}.ipynb")
    report(f"{len(book.pages)} notebooks in {folder}")


def lead_to_them(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Let the button of Colab open the notebook that is made of this chapter."""
    for group in context.get("header_buttons", ()):
        for button in group.get("buttons", ()):
            if button.get("text") == "Colab":
                button["url"] = button["url"].replace(f"/{page}.", f"/book/colab/{Path(page).name}.")


def leave_out_thebe(app: Sphinx, config: Config) -> None:
    """Disconnect an extension that is always loaded and twice declares the same constant on a page."""
    every = [listener for listeners in app.events.listeners.values() for listener in listeners]
    for listener in every:
        if listener.handler.__module__ == "sphinx_thebe":
            app.disconnect(listener.id)
    app.registry.css_files = [file for file in app.registry.css_files if "thebe" not in file[0]]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension (called by Sphinx)."""
    app.connect("config-inited", leave_out_thebe)
    app.connect("html-page-context", lead_to_them, priority=502)  # the theme adds its buttons at 501
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    write(Path.cwd())
