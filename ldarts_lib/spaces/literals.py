"""Architectures that are written as a value of Python or JSON: what each notation means.

Nothing is evaluated: of the syntax tree, numbers, texts, lists, dictionaries, ``range(2, 6)`` and wrappers as
``np.int64(0)`` are understood.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ldarts_lib.spaces.genotype import ACTIVATION_NAMES, Cell, Edge, Genotype, GenotypeError
from ldarts_lib.spaces.space import SPACES

OPERATION = r"[\w.\-/:@*]{1,80}"
"""What the name of an operation may be."""
_DARTS_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_RECURRENT_FIELDS = ("recurrent", "concat")
_WRITE = (
    "write Genotype(normal=[(operation, source), ...], normal_concat=[node, ...], reduce=[...], "
    "reduce_concat=[...])"
)
_LARGEST = 100
"""Nodes that a cell may have, so that a wrong number takes no memory."""
_WRAPPER = re.compile(r"list|tuple|array|tensor|str_?|u?int\d*|float\d*")

_NASBENCH201, _DARTS = (SPACES[name].cells["normal"] for name in ("nasbench201", "darts"))
_NASLIB = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
"""NASLib's numbers of the operations of NAS-Bench-201; it orders the edges by their sources."""
_NNI_1 = dict(
    zip(
        ("maxpool", "avgpool", "skipconnect", "sepconv3x3", "sepconv5x5", "dilconv3x3", "dilconv5x5"),
        _DARTS.candidates[0],
        strict=True,
    )
)
"""What NNI 1 called the operations of DARTS."""


class NotLiteral(GenotypeError):
    """Code that computes a cell, which it only is when it runs."""


def decode(ops: str) -> Genotype:
    """The cell of NAS-Bench-201 that :func:`~ldarts_lib.tables.computation.encode` writes as these digits.

    Raises:
        GenotypeError: they are not six digits from 0 to 4.
    """
    edges, names = _NASBENCH201.edges, _NASBENCH201.candidates[0]
    if len(ops) != len(edges) or not set(ops) <= set("01234"):
        official = f", or nb201:{ops} for an official number" if len(ops) <= 5 else ""
        raise GenotypeError(f"expected {len(edges)} digits from 0 to 4{official}, got {ops[:60]!r}")
    chosen = (Edge(*edge, names[int(digit)]) for edge, digit in zip(edges, ops, strict=True))
    return Genotype(Cell(1, tuple(chosen), _NASBENCH201.output_nodes))


def of_literal(node: ast.expr) -> Genotype:
    """The architecture that an expression writes, in the notation that its form tells.

    Raises:
        GenotypeError: it is in none, or could be in two, or an edge is impossible.
        NotLiteral: it would have to be evaluated.
    """
    match node:
        case ast.Call(func=ast.Name(id=kind) | ast.Attribute(attr=kind), args=args, keywords=keywords):
            if kind.endswith("Structure") and len(args) == 1:
                return _of_nodes(kind, _literal(kind, args[0]))
            if "Genotype" in kind:
                return _of_fields(args, {str(one.arg): one.value for one in keywords})
        case ast.Dict(keys=keys, values=values):
            named = [str(_literal("a key", key)) if key else "**" for key in keys]
            return _of_dictionary(dict(zip(named, values, strict=True)))
        case ast.List(elts=items) | ast.Tuple(elts=items):
            value = _literal("a cell", node)
            if len(items) == 4 and _are(int, value[1]):
                return _of_fields(items, {})
            return _of_numbers(value) if _numbers(value) else _of_nodes("", value)
    raise NotLiteral(f"{_code(node)!r} is no genotype; {_WRITE} or of NAS-Bench-201 |op~0|+|op~0|op~1|+...")


def _of_fields(args: Sequence[ast.expr], named: Mapping[str, ast.expr]) -> Genotype:
    """DARTS's fields, with their names or in their order."""
    fields = _DARTS_FIELDS
    if args and len(args) + len(named) < len(fields):
        fields = _RECURRENT_FIELDS
        names = {str(pair[0]) for pair in _pairs("recurrent", _literal("the first field", args[0]))}
        if not names <= set(ACTIVATION_NAMES):
            raise GenotypeError(f"a Genotype of {len(args) + len(named)} fields without names; {_WRITE}")
    fields = (*fields, *(f"field {number}" for number in range(len(fields) + 1, len(args) + 1)))
    given = [*zip(fields, args, strict=False), *named.items()]
    values = {name: value for name, value in given if _code(value) not in ("None", "null")}
    if len(dict(given)) < len(given):
        raise GenotypeError(f"a Genotype with two fields of one name; {_WRITE}")
    if {"recurrent"} <= set(values) <= set(_RECURRENT_FIELDS):
        return Genotype(_cell("recurrent", "concat", values, 1))
    if not {"normal"} <= set(values) <= set(_DARTS_FIELDS):
        raise GenotypeError(
            f"a DARTS genotype has the fields {_DARTS_FIELDS} or {_RECURRENT_FIELDS}, got {sorted(values)}"
        )
    names = [name for name in ("normal", "reduce") if name in values]
    return Genotype(**{name: _cell(name, f"{name}_concat", values, 2) for name in names})


def _cell(field: str, concat: str, values: Mapping[str, ast.expr], inputs: int) -> Cell:
    value = _literal(field, values[field])
    edges = _edges(field, value, inputs)
    targets = {edge.target for edge in edges}
    output = list(range(inputs, max(targets) + 1))
    if concat in values:
        output = _literal(concat, values[concat])
    if not _are(int, output):
        raise GenotypeError(f"{concat}: expected node numbers, got {output!s:.80}")
    if len(_first(value)) == 3 and type(value[0][2]) is int:  # FairDARTS leaves out nodes without an edge
        output = [node for node in output if node in targets or node < inputs]
    return Cell(inputs, edges, tuple(output))


def _edges(field: str, value: Any, inputs: int) -> tuple[Edge, ...]:
    """Edges from pairs, so many per node as there are inputs, from a list per node, or from triples."""
    nested = isinstance(value, Sequence) and not any(isinstance(_first(node), str) for node in value)
    nodes = [_pairs(field, node) for node in value] if nested and value else None
    entries = [pair for node in nodes for pair in node] if nodes else _pairs(field, value)
    kinds = {tuple(map(type, pair)) for pair in entries}
    if kinds == {(str, int, int)} and not nodes:
        # FairDARTS: (operation, target, source); others put the source first, which is the smaller one
        if len({target > source for _, target, source in entries}) > 1:
            raise GenotypeError(f"{field}: which numbers are targets? Write (operation, target, source)")
        placed = [(max(pair[1:]), min(pair[1:]), pair[0]) for pair in entries]
    elif not kinds <= {(str, int), (str, int, float)}:
        raise GenotypeError(f"{field}: pairs and triples of different kinds; write (operation, source)")
    elif nodes:
        placed = [(inputs + k, source, name) for k, node in enumerate(nodes) for name, source, *_ in node]
    else:
        if len(entries) % inputs:
            raise GenotypeError(f"{field}: every node reads two edges, but {len(entries)} are given")
        placed = [(inputs + k // inputs, source, name) for k, (name, source, *_) in enumerate(entries)]
    if max(target for target, *_ in placed) > _LARGEST:
        raise GenotypeError(f"{field}: a cell has at most {_LARGEST} nodes")
    return tuple(Edge(*edge) for edge in sorted(placed, key=lambda edge: edge[0]))


def _pairs(field: str, value: Any) -> list[Sequence[Any]]:
    if not isinstance(value, list | tuple) or not value:
        raise GenotypeError(f"{field}: expected a list of (operation, source) pairs")
    for position, pair in enumerate(value):
        types = [type(part) for part in pair] if isinstance(pair, list | tuple) else []
        if types[:2] != [str, int] or types[2:] not in ([], [int], [float]):
            raise GenotypeError(f"{field}, entry {position}: expected (operation, source), got {pair!r:.80}")
        if not re.fullmatch(OPERATION, pair[0]):
            raise GenotypeError(f"{field}, entry {position}: {pair[0][:80]!r} is no name of an operation")
    return list(value)


def _of_nodes(kind: str, value: Any) -> Genotype:
    """AutoDL-Projects' list per node of a cell of NAS-Bench-201, where the first node reads one edge."""
    first = _first(value)
    if not kind and not (isinstance(first, list | tuple) and len(first) == 1):
        raise GenotypeError(f"a list of a single cell; {_WRITE}, or of NAS-Bench-201 |op~0|+|op~0|op~1|+...")
    edges = _edges(kind or "a list", value, 1)
    return Genotype(Cell(1, edges, (edges[-1].target,)))


def _of_numbers(value: Any) -> Genotype:
    """NASLib's tuples: the operations of a cell of NAS-Bench-201, or (source, operation) of two of DARTS."""
    if _are(int, value) and isinstance(value, tuple) and len(value) == 6 and set(value) <= set(range(5)):
        by_source = sorted(_NASBENCH201.edges, key=lambda edge: edge[::-1])
        edges = sorted(Edge(*edge, _NASLIB[number]) for edge, number in zip(by_source, value, strict=True))
        return Genotype(Cell(1, tuple(edges), _NASBENCH201.output_nodes))
    names = dict(enumerate(_DARTS.candidates[0]))
    pairs = [pair for cell in value if isinstance(cell, tuple) and len(cell) == 8 for pair in cell]
    known = len(value) == 2 and all(_are(int, pair) and len(pair) == 2 and pair[1] in names for pair in pairs)
    if len(pairs) != 16 or not known or "[" in repr(value):
        raise GenotypeError(
            "numbers: NASLib writes tuples, of six operations 0 to 4 or (((source, operation 0 to 6), ...), "
            f"(...)) of eight pairs each; in lists, others count otherwise; {_WRITE}, or six digits"
        )
    cells = [_edges("NASLib's tuple", [(names[number], k) for k, number in cell], 2) for cell in value]
    return Genotype(*(Cell(2, edges, _DARTS.output_nodes) for edges in cells))


def _of_dictionary(given: Mapping[str, ast.expr]) -> Genotype:
    """The fields of a genotype, or what NNI and NAS-Bench-301 export: an entry per edge."""
    if {"normal", "recurrent"} & set(given):
        return _of_fields([], given)
    values = {key: _literal(key, value) for key, value in given.items()}
    rows: dict[str, list[tuple[int, int, Any, Any]]] = {"normal": [], "reduce": []}
    for key, value in values.items():
        if match := re.fullmatch(r"(?:.*/)?(normal|reduce)/op_(\d{1,2})_(\d)", key):
            source = values.get(key.replace("/op_", "/input_"))
            source = source[0] if isinstance(source, list) and len(source) == 1 else source
            rows[match[1]].append((int(match[2]), int(match[3]), value, source))
        elif match := re.fullmatch(r"((normal|reduce)_n(\d{1,2}))_switch", key):
            for place, chosen in enumerate(value if isinstance(value, list) else ()):
                number = re.search(r"(?:_p|^)(\d{1,2})$", str(chosen))
                name = values.get(f"{match[1]}_p{number[1]}") if number else None
                rows[match[2]].append(
                    (int(match[3]), place, _NNI_1.get(str(name)), number and int(number[1]))
                )
        elif match := re.fullmatch(r"(?:.*:)?edge_(normal|reduce)_(\d{1,2})", key):
            target, source = dict(enumerate(_DARTS.edges)).get(int(match[2]), (0, 0))
            rows[match[1]].append((target, source, value, source))
    if not any(rows.values()):
        raise GenotypeError(f"a dictionary with the keys {', '.join(list(values)[:8])[:200]}; {_WRITE}")
    for name, edges in rows.items():
        edges.sort(key=lambda edge: edge[:2])
        if [target for target, *_ in edges] != [2, 2, 3, 3, 4, 4, 5, 5]:
            raise GenotypeError(
                "NNI's or NAS-Bench-301's dictionary: expected two edges into each of nodes 2 to 5 of the "
                f"{name} cell, as in DARTS's space; for another, {_WRITE}"
            )
    chosen = {name: _edges(name, [edge[2:] for edge in edges], 2) for name, edges in rows.items()}
    return Genotype(**{name: Cell(2, edges, _DARTS.output_nodes) for name, edges in chosen.items()})


def _literal(name: str, node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id="null" | "true" | "false" as value):
            return {"null": None, "true": True, "false": False}[value]
        case ast.Tuple(elts=items):
            return tuple(_literal(name, item) for item in items)
        case ast.List(elts=items):
            return [_literal(name, item) for item in items]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Call(func=ast.Name(id="range"), args=[_, *_] as bounds, keywords=[]):
            numbers = [_literal(name, bound) for bound in bounds]
            if len(numbers) < 3 and _are(int, numbers) and max(map(abs, numbers)) <= _LARGEST:
                return list(range(*numbers))
        case ast.Call(func=ast.Name(id=kind) | ast.Attribute(attr=kind), args=[item]):
            if _WRAPPER.fullmatch(kind):
                return _literal(name, item)
    raise NotLiteral(f"{name}: expected a literal, got {_code(node)}")


def _numbers(value: Any) -> bool:
    """Whether there are only numbers, however deep."""
    return bool(value) and all(_numbers(v) if isinstance(v, list | tuple) else type(v) is int for v in value)


def _are(kind: type, value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(item) is kind for item in value)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and value else None


def _code(node: ast.expr) -> str:
    return ast.unparse(node)[:80]
