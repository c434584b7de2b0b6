"""Architectures in the notations that people hold them in; text is parsed, never evaluated.

======================================================  ===================================================
``|op~0|+|op~0|op~1|+...``                              NAS-Bench-201; in ``Structure(4 nodes with ...)``
``[(('op', 0),), (('op', 0), ('op', 1)), ...]``         the same as lists; in ``Structure([...])``
``Genotype(normal=[('op', 0), ...], ...)``              DARTS; without names of fields; with a list per node;
                                                        as a dictionary; by any name with Genotype in it
``('op', 0, 0.3)``, ``('op', 2, 0)``                    in these, with a strength, which is dropped, or with
                                                        the target before the source (FairDARTS)
``Genotype(recurrent=[('tanh', 0), ...], concat=...)``  recurrent cells
``{"normal/op_2_0": "op", "normal/input_2_0": 0, ...}`` NNI; in its version 1, ``normal_n2_p0``
``{"...:edge_normal_0": "op", ...}``                    NAS-Bench-301
``(4, 0, 3, 1, 4, 3)``, ``(((0, 3), ...), (...))``      NASLib, of NAS-Bench-201 and of DARTS
======================================================  ===================================================

They may stand in a line of a log, behind a name, or in a file. What could mean two architectures is refused.
"""

from __future__ import annotations

import ast
import csv
import gzip
import os
import re
import warnings
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

from ldarts_lib.spaces.genotype import Cell, Edge, Genotype, GenotypeError
from ldarts_lib.spaces.literals import OPERATION, NotLiteral, decode, of_literal

_EXPECTED = (
    "expected the NAS-Bench-201 notation '|op~0|+|op~0|op~1|+...' or the DARTS notation "
    "'Genotype(normal=[(op, source), ...], normal_concat=[...], reduce=[...], reduce_concat=[...])' or "
    "'Genotype(recurrent=[(activation, source), ...], concat=...)'"
)
_CALL = re.compile(r"\b\w*(?:Genotype|Structure)\w*\s*\(|\{(?=\s*['\"](?:normal|reduce))")
_BARS = re.compile(r"[\w~|+.\-/:@*]+")
_EDGE = re.compile(rf"(?P<operation>{OPERATION})~(?P<source>[0-9]{{1,3}})")
_NAME = re.compile(r"([A-Za-z_]\w*)['\"]?\s*[=:]\s*\[?['\"]?\s*$")
_MEGABYTES = 64
"""Of a file that is read."""

_Found = Iterator[tuple[str, Callable[[], Genotype]]]
"""What stands in a text: its name or an empty one, and what reads it."""


def architecture(text: str) -> tuple[str, Genotype]:
    """An architecture, and what to call it.

    Args:
        text: a published name; six digits, or ``nb201:`` and the official number, of a cell of NAS-Bench-201;
            a file (``FILE:NAME`` if it holds several); the directory of a run; or what :func:`parse` reads.

    Raises:
        GenotypeError: it is none of these, or holds several different architectures; they are named.
    """
    from ldarts_lib.spaces.published import published  # which is read by this module

    text = text.strip()
    if text in published():
        return text, published(text)
    if text.startswith("nb201:"):
        return text, decode(_official(text.removeprefix("nb201:")))
    if text.isdecimal():
        return text, decode(text)
    for path, name in ((text, ""), text.rpartition(":")[::2]):
        file = Path(os.path.expanduser(path))
        file /= "genotype.json" if path and os.path.isdir(file) else ""
        if path and os.path.isfile(file):
            return text, _one(_content(file), path, name)
    if re.search(r"[\[({|]", text):
        found = parse(text)
        return (text if text.startswith(("|", "Genotype(")) else str(found)), found
    raise GenotypeError(
        f"unknown architecture {text[:80]!r}: expected the run directory of a search, a file, a genotype in "
        f"quotes, six digits, nb201:NUMBER, or one of {', '.join(published())}"
    )


def parse(text: str) -> Genotype:
    """Read a genotype in any of the notations, alone or in a line of a log or of a program.

    Raises:
        GenotypeError: the text is in none of them, holds several different ones, or an edge is impossible; it
            is named.

    Examples:
        >>> from ldarts_lib import parse
        >>> parse("Genotype(recurrent=[('tanh', 0), ('relu', 1)])").normal.output
        (1, 2)
        >>> str(parse("11/22 03:04 PM arch: Structure(4 nodes with |none~0|+|none~0|none~1|), loss 0.3"))
        '|none~0|+|none~0|none~1|'
    """
    return _one(text)


def _one(text: str, path: str = "", name: str = "") -> Genotype:
    """The one architecture of a text, or the one of this name."""
    results: dict[str, tuple[str, Genotype | GenotypeError]] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python, about odd code
            for label, read in _found(text.strip("\ufeff \t\r\n")):
                if name in ("", label):
                    value = _outcome(read)
                    results.setdefault(str(value), (label, value))
    except (RecursionError, MemoryError):
        raise GenotypeError(f"{text[:60]!r} is no genotype: its brackets are nested too deeply") from None
    holds = f"{path} holds" if path else "the text holds"
    found = [one for one in results.values() if not isinstance(one[1], NotLiteral)] or list(results.values())
    if not found:
        raise GenotypeError(f"{holds} no architecture called {name!r}")
    if len(found) > 1:
        labels = list(dict.fromkeys(label for label, _ in found if label))
        listed = f": {', '.join(labels[:40])}" if labels else ""
        how = "write FILE:NAME" if path and len(labels) == len(found) else "give one, such as its line"
        raise GenotypeError(f"{holds} {len(found)} different architectures{listed}; {how}")
    if isinstance(found[0][1], GenotypeError):
        raise found[0][1]
    return found[0][1]


def _outcome(read: Callable[[], Genotype]) -> Genotype | GenotypeError:
    try:
        return read()
    except GenotypeError as error:
        return type(error)(" ".join(str(error).split()))


def _found(text: str) -> _Found:
    """All that stands in a text; if nothing is recognized, the text as a whole."""
    # a text in the source of a program or of JSON is escaped, and may end and begin again between lines
    plain = text.replace("\\n", " ").replace('\\"', '"').replace("\\'", "'")
    plain = re.sub(r"(['\"])\s*\\?\s*\n\s*f?\1", "", plain)
    # comments go to the ends of lines; in lines that were joined, only numbers of nodes are known to be some
    bare = re.sub(r"#\s*(?:node|step)?[ -]?\d+", "", plain)
    calls = list(_calls(re.sub(r"#[^\n]*", "", plain))) if "\n" in plain else []
    found = [*_cells(plain), *(calls or _calls(bare))]
    yield from found or [("", lambda: _whole(plain))]


def _cells(text: str) -> _Found:
    """Cells between bars; the whitespace in them counts for nothing."""
    text = re.sub(r"\s*~\s*(?=\d)", "~", text)
    text = re.sub(rf"\|\s+(?={OPERATION}~)", "|", text)
    text = re.sub(r"(~\d{1,3})\s+\|", r"\1|", text)
    text = re.sub(r"\|\s*\+\s*\|", "|+|", text)
    for match in _BARS.finditer(text):
        if "|" in match[0] and "~" in match[0]:
            yield _name(text, match.start()), lambda cell=match[0]: Genotype(_nasbench201(cell))


def _calls(text: str) -> _Found:
    """``Genotype(...)``, ``Structure(...)`` and dictionaries of cells, from bracket to bracket."""
    end = 0
    for match in _CALL.finditer(text):
        if match.start() < end:
            continue
        depth, end = 0, len(text)
        for bracket in re.finditer(r"[()\[\]{}]", text[match.end() - 1 :]):
            depth += 1 if bracket[0] in "([{" else -1
            if depth == 0:
                end = match.end() - 1 + bracket.end()
                break
        if "~" not in (source := text[match.start() : end]):
            yield _name(text, match.start()), lambda source=source: of_literal(_expression(source))


def _name(text: str, start: int) -> str:
    """What is assigned at this place of a text."""
    match = _NAME.search(text[max(0, start - 120) : start])
    return match[1] if match else ""


def _whole(text: str) -> Genotype:
    """A text that is digits or a list, perhaps behind a name."""
    value = re.sub(r"^\w+\s*=\s*", "", text)
    if value.isdecimal():
        return decode(value)
    if not value.startswith(("(", "[", "{")):
        raise GenotypeError(f"{text[:60]!r} is no genotype: {_EXPECTED}")
    return of_literal(_expression(value))


def _expression(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        problem = error.msg if isinstance(error, SyntaxError) else error
        raise NotLiteral(f"{text[:60]!r} is no genotype (is it whole?): {problem}; {_EXPECTED}") from None


def _nasbench201(text: str) -> Cell:
    edges = []
    for target, node in enumerate(text.split("+"), start=1):
        if len(node) < 2 or not (node.startswith("|") and node.endswith("|")):
            raise GenotypeError(f"node {target}: expected '|op~source|...|', got {node!r}")
        for item in node[1:-1].split("|") if node != "||" else ():
            match = _EDGE.fullmatch(item)
            if match is None:
                raise GenotypeError(f"node {target}: expected 'op~source', got {item!r}")
            edges.append(Edge(target, int(match["source"]), match["operation"]))
    return Cell(inputs=1, edges=tuple(edges), output=(target,))


def _official(number: str) -> str:
    """The digits of a cell of NAS-Bench-201, by its number in the benchmark."""
    with gzip.open(str(files("ldarts_data") / "nasbench201/table.csv.gz"), "rt", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    digits = {index: ops for index, ops, *_ in rows}
    if number.strip() not in digits:
        raise GenotypeError(f"nb201:{number[:20]}: expected a number from 0 to {len(digits) - 1:,}")
    return digits[number.strip()]


def _content(path: Path) -> str:
    try:
        if path.stat().st_size > _MEGABYTES * 2**20:
            raise GenotypeError(f"{path} has more than {_MEGABYTES} MB: give the line of the architecture")
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise GenotypeError(f"cannot read {path}: {error.strerror}") from None
