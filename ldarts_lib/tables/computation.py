"""What a cell of NAS-Bench-201 computes: 15,625 strings write far fewer different computations.

An edge that no path connects to the input or to the output does nothing, a skip connection only renames its
input, sums have no order, and average pooling is linear: pool(a + b) = pool(a) + pool(b). What remains of a
cell are the *applications* of its convolutions, each with weights of its own, and the sums that they read.
Two cells compute the same if the applications of one can be renamed to those of the other. An application
that is used twice, 2·f(x), stays apart from two applications, f(x) + f'(x).

A convolution that reads an empty node counts as absent, as in the benchmark's own rule, although the
offset of its BatchNorm could learn a constant.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from ldarts_lib.spaces.genotype import Genotype
from ldarts_lib.spaces.space import SPACES

SPACE = SPACES["nasbench201"]
CELLS = SPACE.cells["normal"]
OPERATIONS = CELLS.candidates[0]
EDGES = CELLS.edges

_INPUT = -1
_POOL, _SKIP, _NONE = "avg_pool_3x3", "skip_connect", "none"
_SHORT = {"nor_conv_1x1": "conv1", "nor_conv_3x3": "conv3"}

Term = tuple[int, int]
"""How often it was pooled, and what: an application of a convolution, or the input."""
Sum = Mapping[Term, int]
"""How often each term occurs."""


def encode(genotype: Genotype) -> str:
    """Six digits, the operations of the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2.

    0 is none, 1 skip_connect, 2 nor_conv_1x1, 3 nor_conv_3x3, 4 avg_pool_3x3.

    Raises:
        GenotypeError: the genotype is not of the space nasbench201.
    """
    SPACE.validate(genotype)
    by_edge = {(edge.target, edge.source): edge.operation for edge in genotype.normal.edges}
    return "".join(str(OPERATIONS.index(by_edge[edge])) for edge in EDGES)


def all_ops() -> Iterator[str]:
    """The digits of all 15,625 cells, in ascending order."""
    return map("".join, itertools.product("01234", repeat=len(EDGES)))


@dataclass(frozen=True)
class Computation:
    """A cell without what makes no difference.

    Attributes:
        key: a text that two cells share exactly if they compute the same, such as
            ``a=conv3(x); b=conv1(a+x); 2a+b+pool(x)``; ``0`` if no path reaches the output.
        applied: the edge of each application of a convolution, (target, source), in the order of its letters.
    """

    key: str
    applied: tuple[tuple[int, int], ...]


@cache
def computation(ops: str) -> Computation:
    """What a cell computes, in a form that does not depend on how it is written.

    Of all orders of the applications that a program could compute them in, that of the smallest text is
    taken: six applications at most, 720 orders.

    Args:
        ops: the six digits of :func:`encode`.
    """
    applications, output = _sums(ops)
    live = _live(applications, output)
    texts = ((_text(order, applications, output), order) for order in _orders(live, applications))
    key, order = min(texts)
    return Computation(key, tuple(EDGES[edge] for edge in order))


@cache
def classes() -> dict[str, tuple[str, ...]]:
    """All cells by what they compute: the key, and the digits of the cells in ascending order."""
    members: dict[str, list[str]] = {}
    for ops in all_ops():
        members.setdefault(computation(ops).key, []).append(ops)
    return {key: tuple(cells) for key, cells in members.items()}


def _sums(ops: str) -> tuple[dict[int, tuple[str, Sum]], Sum]:
    """The convolution and what it reads, by the number of its edge, and the value of the output node."""
    nodes: list[Counter[Term]] = [Counter({(0, _INPUT): 1})]
    applications: dict[int, tuple[str, Sum]] = {}
    for number, ((target, source), digit) in enumerate(zip(EDGES, ops, strict=True)):
        if target == len(nodes):
            nodes.append(Counter())
        operation, value = OPERATIONS[int(digit)], nodes[source]
        if not value or operation == _NONE:
            continue
        if operation == _SKIP:
            nodes[target].update(value)
        elif operation == _POOL:  # pool(Σ_k n_k t_k) = Σ_k n_k pool(t_k)
            nodes[target].update({(pooled + 1, base): count for (pooled, base), count in value.items()})
        else:
            applications[number] = _SHORT[operation], dict(value)
            nodes[target][0, number] += 1
    return applications, nodes[-1]


def _live(applications: Mapping[int, tuple[str, Sum]], output: Sum) -> set[int]:
    """The applications that the output depends on."""
    live: set[int] = set()
    pending = [base for _, base in output]
    while pending:
        base = pending.pop()
        if base != _INPUT and base not in live:
            live.add(base)
            pending += [inner for _, inner in applications[base][1]]
    return live


def _orders(live: set[int], applications: Mapping[int, tuple[str, Sum]]) -> Iterator[tuple[int, ...]]:
    """All orders in which each application comes after those that it reads."""
    if not live:
        yield ()
    for last in sorted(live):
        rest = live - {last}
        if not any((pooled, last) in applications[other][1] for other in rest for pooled in range(3)):
            for before in _orders(rest, applications):
                yield (*before, last)


def _text(order: tuple[int, ...], applications: Mapping[int, tuple[str, Sum]], output: Sum) -> str:
    names = {_INPUT: "x"} | {number: "abcdef"[place] for place, number in enumerate(order)}

    def written(value: Sum) -> str:
        terms = sorted((names[base], pooled, count) for (pooled, base), count in value.items())
        return "+".join(
            ("" if count == 1 else str(count)) + "pool(" * pooled + name + ")" * pooled
            for name, pooled, count in terms
        )

    lines = [f"{names[n]}={applications[n][0]}({written(applications[n][1])})" for n in order]
    return "; ".join([*lines, written(output) or "0"])
