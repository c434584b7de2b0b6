"""Architectures in the notations that people hold them in; text is parsed, never evaluated.

======================================================  ==================================================
``|op~0|+|op~0|op~1|+...``                              NAS-Bench-201; ``Structure(4 nodes with ...)``
``Structure([(('op', 0),), (('op', 0), ('op', 1))])``   the same as lists, with or without its name
``Genotype(normal=[('op', 0), ...], ...)``              DARTS, also without names of fields, with a list per
                                                        node, as a dictionary; recurrent cells
``('op', 0, 0.3)``, ``('op', 2, 0)``                    in it, with a strength, which is dropped, or a target
``{"normal/op_2_0": "op", ...}``                        NNI; ``normal_n2_p0`` of its version 1
``{"...:edge_normal_0": "op", ...}``                    NAS-Bench-301
``(4, 0, 3, 1, 4, 3)``, ``(((0, 3), ...), (...))``      NASLib, of NAS-Bench-201 and of DARTS
======================================================  ==================================================

They may stand in a line of a log, behind a name, or in a file. What could mean two architectures is refused.
"""

from __future__ import annotations

import csv
import gzip
import os
import re
from collections.abc import Iterator
from importlib.resources import files

from ldarts_lib.files import expanded
from ldarts_lib.spaces.genotype import Cell, Edge, Genotype, GenotypeError
from ldarts_lib.spaces.literals import OPERATION, NotLiteral, decode, of_literal

_CALL = re.compile(r"\b\w{0,80}(?:Genotype|Structure)\w{0,80}\s*\(|\{(?=\s*['\"](?:normal|reduce)[^{}]*\})")
_BRACKET = re.compile(r"[()\[\]{}]")
_BARS = re.compile(r"[\w~|+.\-/:@*]+")
_EDGE = re.compile(rf"(?P<operation>{OPERATION})~(?P<source>[0-9]{{1,3}})")
_NAME = re.compile(r"([A-Za-z_]\w*)['\"]?\s*[=:]\s*\[?['\"]?\s*$")

_LONGEST, _MOST = 50_000, 1000
"""Characters of an architecture, and how many different ones a file may hold."""


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
        file = expanded(path)
        file /= "genotype.json" if path and os.path.isdir(file) else ""
        if path and os.path.isfile(file):
            try:
                if file.stat().st_size > 2**26:
                    raise GenotypeError(f"{path} has more than 64 MB: give the line of the architecture")
                return text, _one(file.read_text(encoding="utf-8-sig", errors="replace"), path, name)
            except OSError as error:
                raise GenotypeError(f"cannot read {path}: {error.strerror}") from None
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
    read: dict[str, tuple[str, Genotype | GenotypeError]] = {}
    known: set[str] = set()
    try:
        for label, source in _found(text.strip("\ufeff \t\r\n")):
            if name in ("", label) and source not in known:
                known.add(source)
                try:
                    value = _read(source)
                except GenotypeError as error:
                    value = type(error)(" ".join(str(error).split()))
                read.setdefault(str(value), (label, value))
            if len(known) > _MOST:
                raise GenotypeError(f"{path or 'the text'} holds more than {_MOST:,} architectures")
    except (RecursionError, MemoryError):
        raise GenotypeError(f"{text[:60]!r} is no genotype: its brackets are nested too deeply") from None
    found = [one for one in read.values() if not isinstance(one[1], NotLiteral)] or list(read.values())
    if not found:
        raise GenotypeError(f"{path} holds no architecture called {name!r}")
    if len(found) > 1:
        labels = list(dict.fromkeys(label for label, _ in found if label))
        listed = f": {', '.join(labels[:40])}" if labels else ""
        how = "write FILE:NAME" if path and len(labels) == len(found) else "give one, such as its line"
        raise GenotypeError(f"{path or 'the text'} holds {len(found)} different architectures{listed}; {how}")
    if isinstance(found[0][1], GenotypeError):
        raise found[0][1]
    return found[0][1]


def _found(text: str) -> Iterator[tuple[str, str]]:
    """What stands in a text, with its name if it has one; if nothing is recognized, the text as a whole."""
    # a text in the source of a program or of JSON is escaped, and may end and begin again between lines
    plain = text.replace("\\n", " ").replace('\\"', '"').replace("\\'", "'")
    plain = re.sub(r"(['\"])[^\S\n]*+\\?[^\S\n]*+\n\s*+f?\1", "", plain)
    # comments go to the ends of lines; in lines that were joined, only numbers of nodes are known to be some
    bare = re.sub(r"#\s*(?:node|step)?[ -]?\d+", "", plain)
    calls = list(_calls(re.sub(r"#[^\n]*", "", plain))) if "\n" in plain else []
    found = [*_cells(plain), *(calls or _calls(bare))]
    return iter(found or [("", re.sub(r"^\w+\s*=\s*", "", plain))])


def _cells(text: str) -> Iterator[tuple[str, str]]:
    """Cells between bars; the whitespace in them counts for nothing."""
    text = re.sub(r"(?<!\s)\s*~\s*(?=\d)", "~", text)
    text = re.sub(rf"\|\s+(?={OPERATION}~)", "|", text)
    text = re.sub(r"(~\d{1,3})\s+\|", r"\1|", text)
    text = re.sub(r"\|\s*\+\s*\|", "|+|", text)
    found = (match for match in _BARS.finditer(text) if {"|", "~"} <= set(match[0]))
    return ((_before(text, match), match[0]) for match in found)


def _calls(text: str) -> Iterator[tuple[str, str]]:
    """``Genotype(...)``, ``Structure(...)`` and dictionaries of cells, from bracket to bracket."""
    end = 0
    for match in _CALL.finditer(text):
        if match.start() < end:
            continue
        depth, end = 0, len(text)
        for bracket in _BRACKET.finditer(text, match.end() - 1):
            depth += 1 if bracket[0] in "([{" else -1
            if depth == 0:
                end = bracket.end()
                break
        if "~" not in (source := text[match.start() : end]):
            yield _before(text, match), source


def _before(text: str, match: re.Match[str]) -> str:
    """The name that what is found is given, or nothing."""
    name = _NAME.search(text[max(0, match.start() - 120) : match.start()])
    return name[1] if name else ""


def _read(source: str) -> Genotype:
    if len(source) > _LONGEST:
        raise NotLiteral(f"{source[:60]!r} is no genotype: it has {len(source):,} characters")
    if source.isdecimal():
        return decode(source)
    if not ({"|", "~"} <= set(source) and _BARS.fullmatch(source)):
        return of_literal(source)
    edges = []
    for target, node in enumerate(source.split("+"), start=1):
        if len(node) < 2 or not (node.startswith("|") and node.endswith("|")):
            raise GenotypeError(f"node {target}: expected '|op~source|...|', got {node!r:.80}")
        for item in node[1:-1].split("|") if node != "||" else ():
            match = _EDGE.fullmatch(item)
            if match is None:
                raise GenotypeError(f"node {target}: expected 'op~source', got {item!r:.80}")
            edges.append(Edge(target, int(match["source"]), match["operation"]))
    return Genotype(Cell(inputs=1, edges=tuple(edges), output=(target,)))


def _official(number: str) -> str:
    """The digits of a cell of NAS-Bench-201, by its number in the benchmark."""
    with gzip.open(str(files("ldarts_data") / "nasbench201/table.csv.gz"), "rt", encoding="utf-8") as file:
        digits = {row["index"]: row["ops"] for row in csv.DictReader(file)}
    if number.strip() not in digits:
        raise GenotypeError(f"nb201:{number[:20]}: expected a number from 0 to {len(digits) - 1:,}")
    return digits[number.strip()]
