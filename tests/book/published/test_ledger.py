"""Every number in prose is computed from a record, printed by a source, or a constant with a reason."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest

from ldarts_book.published import ledger

ROOT = Path(__file__).parents[3]
UNCOVERED: tuple[str, ...] = ()
"""Pages whose numbers are not all in the ledger yet."""
APPENDICES = ("made", "api", "notation", "glossary", "bibliography", "ledger")
FILES = [path for path in sorted((ROOT / "book").glob("*.*")) if path.suffix in (".md", ".ipynb")]
PAGES = ["README.md", *(f"book/{path.name}" for path in FILES if path.stem not in (*UNCOVERED, *APPENDICES))]
FAST = ("README.md", "book/watching.ipynb", "book/quickstart.ipynb")
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
ROWS = ledger.entries().to_dict("records")
CONSTANTS = ledger.entries("ledger_constants").to_dict("records")
REMOVED = (
    r"\$\$.*?\$\$", r"<!--.*?-->", r"(?m)^#.*$", r"(?m)^:{3,}.*$", r"(?m)^:[\w-]+:.*$", r"(?m)^\(.*\)=$",
    r"(?m)^- \*\*It takes\*\*.*$", r"(?m)^ *\d+\. ", r"!\[[^\]]*\]\([^)]*\)", r"\{[\w:]+\}`[^`]*`",
    r"`[^`]*`",
)  # fmt: skip


@cache
def prose(page):
    """The text of a page and its captions; no code, formulas, exercises, links, headings and run times."""
    text = (ROOT / page).read_text()
    if page.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        shown = [cell["metadata"].get("mystnb", {}).get("figure", {}) for cell in cells]
        text = "\n\n".join(texts + [figure["caption"] for figure in shown if "caption" in figure])
    lines, until = [], None
    for line in text.splitlines():
        if until:
            until = None if line.strip() == until else until
        elif opened := re.match(r"(:{3,})\{(?:exercise|solution)\}|(`{3,})", line):
            until = opened[1] or opened[2]
        else:
            lines.append(line)
    text = "\n".join(lines).replace(r"\le", "≤").replace(r"\ge", "≥")
    text = re.sub(r"\$(p(?:\s*[=<>≤≥]\s*[\d.]+)?)\$", r"\1", text)  # p is a claim, not a formula
    for pattern in REMOVED:
        text = re.sub(pattern, " ", text, flags=re.DOTALL if pattern[0] != "(" else 0)
    for pattern, kept in ((r"\$[^$]*\$", " "), (r"\]\([^)]*\)", "]"), (r"[*\[\]]", "")):
        text = re.sub(pattern, kept, text)
    return " ".join(text.split())


def constants(page):
    return [row["pattern"] for row in CONSTANTS if row["page"] in ("", page)]


def numbers(text, page):
    """The numbers of a text as they are printed, without constants."""
    for pattern in constants(page):
        text = re.sub(pattern, " ", text)
    return ledger.NUMBER.findall(text)


def parameter(row):
    """A row as a parameter; of most pages they are read and computed in the slow tests only."""
    name = f"{row['page']}: {row['quote'][:40]}"
    return pytest.param(row, id=name, marks=() if row["page"] in FAST else pytest.mark.slow)


def printed(text):
    """A printed number, and half a unit of its last digit."""
    digits = text.lstrip("+±").replace("−", "-").replace(",", "")
    places = len(digits.partition(".")[2])
    return pytest.approx(float(digits), rel=0, abs=0.5001 * 10**-places)


@pytest.mark.parametrize("row", map(parameter, ROWS))
def test_a_statement_is_computed_from_its_record_and_stands_on_its_page(row):
    assert row["quote"] in prose(row["page"])
    found, shown = ledger.compute(row), numbers(row["quote"], row["page"])
    if found.dtype == bool:
        assert found.all() and not shown
    else:
        words = [str(WORDS.index(word)) for word in re.findall(r"\w+", row["quote"].lower()) if word in WORDS]
        assert [printed(text) for text in shown or words] == found.tolist()


@pytest.mark.parametrize("page", PAGES)
def test_every_number_of_a_page_is_accounted_for(page):
    text = prose(page)
    for row in ROWS:
        text = text.replace(row["quote"], " ") if row["page"] == page else text
    for pattern in constants(page):
        text = re.sub(pattern, " ", text)
    left = [text[max(found.start() - 40, 0) : found.end() + 20] for found in ledger.NUMBER.finditer(text)]
    assert not left


def test_only_what_is_said_in_prose_is_searched(tmp_path, monkeypatch):
    """A number in words of the text is found; one in code, a formula, an exercise or a link is not."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    hidden = (
        "# 1",
        "`2`",
        "$3$",
        "$$4$$",
        "[x](5.md)",
        "```\n6\n```",
        ":::{solution} a\n7\n:::",
        "{cite}`eight8`",
    )
    (tmp_path / "page.md").write_text(
        "\n\n".join([*hidden, "**0.90** ± 0.05, $p = 0.03$, 1,200 [at 1/4](y.md)"])
    )
    assert numbers(prose("page.md"), "page.md") == ["0.90", "0.05", "0.03", "1,200", "1", "4"]


@pytest.mark.parametrize(
    ("shown", "found", "agrees"),
    [("0.12", 0.1226, True), ("0.12", 0.1251, False), ("−0.03", -0.0349, True), ("1,900", 1899.6, True)],
)
def test_a_printed_number_is_the_computed_one_rounded(shown, found, agrees):
    assert (printed(shown) == found) is agrees


def test_a_row_may_say_that_something_holds():
    row = {"record": "demonstration", "seeds": "10-19"}
    assert ledger.compute(row | {"computed": "len(end('DARTS')) == 10"}).dtype == bool
    assert ledger.compute(row | {"computed": "len(end('DARTS')), ci(gain('DARTS'))"}).tolist() == [10, 0, 0]
    with pytest.raises(NameError, match="open"):
        ledger.compute(row | {"computed": "open('anything')"})
