"""Architectures that are written as a value of Python or JSON: what each notation means.

Nothing is evaluated: of the syntax tree, numbers, texts, lists, dictionaries, ``range(2, 6)`` and wrappers as
``np.int64(0)`` are understood.
"""

from __future__ import annotations

import ast
import re
import warnings
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
    "reduce_concat=[...]), or of NAS-Bench-201 |op~0|+|op~0|op~1|+..."
)
_LARGEST = 100
"""Nodes that a cell may have, so that a wrong number takes no memory."""
_WRAPPER = re.compile(r"list|tuple|array|tensor|str_?|u?int\d*|float\d*")
_NESTED = re.compile(r"[\[(]{3}")
"""How a list per node begins."""

_NASBENCH201, _DARTS = (SPACES[name].cells["normal"] for name in ("nasbench201", "darts"))
_NNI_1 = {name.replace("_", "").replace("pool3x3", "pool"): name for name in _DARTS.candidates[0]}
"""What NNI 1 called the operations of DARTS."""


class NotLiteral(GenotypeError):
    """Code that computes a cell, which it only is when it runs."""


def decode(ops: str) -> Genotype:
    """The cell of NAS-Bench-201 that :func:`~ldarts_lib.tables.computation.encode` writes as these digits.

    Raises:
        GenotypeError: they are not six digits from 0 to 4.
    """
    edges, names = _NASBENCH201.edges, _NASBENCH201.candidates[0]
    if not re.fullmatch("[0-4]{6}", ops):
        official = f", or nb201:{ops} for an official number" if len(ops) <= 5 else ""
        raise GenotypeError(f"expected 6 digits from 0 to 4{official}, got {ops[:60]!r}")
    chosen = (Edge(*edge, names[int(digit)]) for edge, digit in zip(edges, ops, strict=True))
    return Genotype(Cell(1, tuple(chosen), _NASBENCH201.output_nodes))


def of_literal(text: str) -> Genotype:
    """The architecture that an expression writes, in the notation that its form tells.

    Raises:
        GenotypeError: it is in none, or could be in two, or an edge is impossible.
        NotLiteral: it would have to be evaluated.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python, about odd code
            node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        whole = " (is it whole?)" * bool(re.search(r"[\[({]", text))
        raise NotLiteral(f"{text[:60]!r} is no genotype{whole}; {_WRITE}") from error
    match _Plain().visit(node):
        case ast.Call(func=ast.Name(id=kind) | ast.Attribute(attr=kind), args=args, keywords=keywords):
            if kind.endswith("Structure") and len(args) == 1:
                return _of_nodes(kind, _literal(kind, args[0]))
            if "Genotype" in kind:
                named = [(str(one.arg), _literal(str(one.arg), one.value)) for one in keywords]
                return _of_fields([_literal("a field", one) for one in args], named)
        case ast.Dict() as cells:
            return _of_dictionary({str(key): v for key, v in _literal("a dictionary", cells).items()})
        case ast.List() | ast.Tuple() as cell:
            value = _literal("a cell", cell)
            if len(value) == 4 and _are_numbers(value[1]):
                return _of_fields(value, [])
            if not re.search(r"[^\d\s\[\](),-]", repr(value)):
                return _of_numbers(value)
            if _NESTED.match(repr(value)) and len(value[0]) == 1:  # the first node has one edge
                return _of_nodes("a list", value)
            raise GenotypeError(f"a list of a single cell; {_WRITE}")
    raise NotLiteral(f"{text[:60]!r} is no genotype; {_WRITE}")


def _of_fields(args: Sequence[Any], named: Sequence[tuple[str, Any]]) -> Genotype:
    """DARTS's fields, with their names or in their order; AutoDL-Projects has two more, of nothing."""
    fields, count = (*_DARTS_FIELDS, "connectN", "connects"), len(args) + len(named)
    if args and count < len(_DARTS_FIELDS):
        fields = _RECURRENT_FIELDS
        if not {pair[0] for pair in _pairs("recurrent", args[0])} <= set(ACTIVATION_NAMES):
            raise GenotypeError(f"a Genotype of {count} fields without names; {_WRITE}")
    given = dict([*zip(fields, args, strict=False), *named])
    if len(given) < count:
        raise GenotypeError(f"a Genotype with two fields of one name, or too many; {_WRITE}")
    values = {name: value for name, value in given.items() if value is not None}
    if {"recurrent"} <= set(values) <= set(_RECURRENT_FIELDS):
        return Genotype(_cell("recurrent", "concat", values, 1))
    if not {"normal"} <= set(values) <= set(_DARTS_FIELDS):
        raise GenotypeError(
            f"a DARTS genotype has the fields {_DARTS_FIELDS} or {_RECURRENT_FIELDS}, got {sorted(values)}"
        )
    names = [name for name in ("normal", "reduce") if name in values]
    return Genotype(**{name: _cell(name, f"{name}_concat", values, 2) for name in names})


def _cell(field: str, concat: str, values: Mapping[str, Any], inputs: int) -> Cell:
    edges = _edges(field, values[field], inputs)
    targets = {edge.target for edge in edges}
    output = values.get(concat, list(range(inputs, max(targets) + 1)))
    if not _are_numbers(output):
        raise GenotypeError(f"{concat}: expected node numbers, got {output!s:.80}")
    if [type(part) for part in values[field][0]] == [
        str,
        int,
        int,
    ]:  # FairDARTS leaves out nodes without edges
        output = [node for node in output if node in targets or node < inputs]
    return Cell(inputs, edges, tuple(output))


def _edges(field: str, value: Any, inputs: int) -> tuple[Edge, ...]:
    """Edges from pairs, so many per node as there are inputs, from a list per node, or from triples."""
    nested = _NESTED.match(repr(value))
    entries = [pair for node in (value if nested else [value]) for pair in _pairs(field, node)]
    kinds = {tuple(map(type, pair)) for pair in entries}
    if kinds == {(str, int, int)} and not nested:
        # FairDARTS: (operation, target, source); others put the source first, which is the smaller one
        if len({target > source for _, target, source in entries}) > 1:
            raise GenotypeError(f"{field}: which numbers are targets? Write (operation, target, source)")
        placed = [(max(pair[1:]), min(pair[1:]), pair[0]) for pair in entries]
    elif not kinds <= {(str, int), (str, int, float)}:
        raise GenotypeError(f"{field}: pairs and triples of different kinds; write (operation, source)")
    else:
        if not nested and len(entries) % inputs:
            raise GenotypeError(f"{field}: every node reads two edges, but {len(entries)} are given")
        nodes = value if nested else [entries[k : k + inputs] for k in range(0, len(entries), inputs)]
        placed = [(inputs + k, source, name) for k, node in enumerate(nodes) for name, source, *_ in node]
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


def _of_nodes(name: str, value: Any) -> Genotype:
    """AutoDL-Projects' list per node of a cell of NAS-Bench-201."""
    edges = _edges(name, value, 1)
    return Genotype(Cell(1, edges, (edges[-1].target,)))


def _of_numbers(value: Any) -> Genotype:
    """NASLib's tuples: the operations of a cell of NAS-Bench-201, or (source, operation) of two of DARTS."""
    if re.fullmatch(r"\(([0-4], ){5}[0-4]\)", repr(value)):
        # its operations are skip_connect, none, nor_conv_3x3, nor_conv_1x1, avg_pool_3x3, its third edge 3<-0
        return decode("".join("10324"[value[k]] for k in (0, 1, 3, 2, 4, 5)))
    pairs = r"\((\(\d, [0-6]\)(, |(?=\)))){8}\)"
    if not re.fullmatch(rf"\({pairs}, {pairs}\)", repr(value)):
        raise GenotypeError(
            "numbers: NASLib writes tuples, of six operations 0 to 4 or (((source, operation 0 to 6), ...), "
            f"(...)) of eight pairs each; in lists, others count otherwise; {_WRITE}, or six digits"
        )
    names = _DARTS.candidates[0]
    normal, reduce = ([(names[number], source) for source, number in cell] for cell in value)
    return _of_fields([normal, None, reduce, None], [])


def _of_dictionary(given: Mapping[str, Any]) -> Genotype:
    """The fields of a genotype, or what NNI and NAS-Bench-301 export: an entry per edge."""
    if {"normal", "recurrent"} & set(given):
        return _of_fields([], [*given.items()])
    rows: dict[str, list[tuple[int, int, Any, Any]]] = {"normal": [], "reduce": []}
    for key, name in given.items():
        if match := re.fullmatch(r"(?:.*/)?(normal|reduce)/op_(\d{1,2})_(\d)", key):
            target, order, source = int(match[2]), int(match[3]), given.get(key.replace("/op_", "/input_"))
            source = source[0] if isinstance(source, list) and len(source) == 1 else source
        elif match := re.fullmatch(r"(normal|reduce)_n(\d{1,2})_p(\d{1,2})", key):
            target, source, switch = int(match[2]), int(match[3]), given.get(key.split("_p")[0] + "_switch")
            chosen = [number in (key, source) for number in switch] if isinstance(switch, list) else []
            if not any(chosen):
                continue
            order, name = chosen.index(True), _NNI_1.get(str(name))
        elif match := re.fullmatch(r"(?:.*:)?edge_(normal|reduce)_(\d{1,2})", key):
            target, source = dict(enumerate(_DARTS.edges)).get(int(match[2]), (0, 0))
            order = source
        else:
            continue
        rows[match[1]].append((target, order, name, source))
    if not any(rows.values()):
        raise GenotypeError(f"a dictionary with the keys {', '.join(list(given)[:8])[:200]}; {_WRITE}")
    for name, edges in rows.items():
        edges.sort(key=lambda edge: edge[:2])
        if [target for target, *_ in edges] != [2, 2, 3, 3, 4, 4, 5, 5]:
            raise GenotypeError(
                "NNI's or NAS-Bench-301's dictionary: expected two edges into each of nodes 2 to 5 of the "
                f"{name} cell, as in DARTS's space; for another, {_WRITE}"
            )
    return _of_fields([], [(name, [edge[2:] for edge in edges]) for name, edges in rows.items()])


class _Plain(ast.NodeTransformer):
    """Writes as literals what stands for them."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        json = {"null": None, "true": True, "false": False}
        return ast.Constant(json[node.id]) if node.id in json else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        kind = getattr(node.func, "attr", getattr(node.func, "id", ""))
        bounds = [getattr(argument, "value", None) for argument in node.args]
        if kind == "range" and 0 < len(bounds) < 3 and _are_numbers(bounds) and max(bounds) <= _LARGEST:
            return ast.List([ast.Constant(number) for number in range(*bounds)])
        return node.args[0] if _WRAPPER.fullmatch(kind) and len(bounds) == 1 else node


def _literal(name: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise NotLiteral(f"{name}: expected a literal, got {ast.unparse(node)[:80]}") from None


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(item) is int for item in value)
