"""The classes of computations, against cells that are evaluated with random functions in float64."""

import itertools

import numpy as np
import pytest
import torch

from ldarts_lib.networks.discrete import DiscreteCell
from ldarts_lib.spaces.genotype import GenotypeError
from ldarts_lib.spaces.literals import decode
from ldarts_lib.spaces.notations import parse
from ldarts_lib.tables.computation import EDGES, OPERATIONS, all_ops, classes, computation, encode

WIDTH = 4
DRAW = np.random.default_rng(0)
KERNELS = DRAW.standard_normal((2, 6, WIDTH, WIDTH))  # six independent functions of each kind
CHANGED = DRAW.standard_normal((WIDTH, WIDTH))
POOL, START, DIRECTION = DRAW.standard_normal((WIDTH, WIDTH)), DRAW.standard_normal(WIDTH), DRAW.random(WIDTH)


def evaluate(ops, kernels, pool):
    """Outputs [n, WIDTH] of a cell; ``kernels`` [n, 6, WIDTH, WIDTH] are those of its edges."""
    nodes = [np.tile(START, (len(kernels), 1))]
    for number, (target, source) in enumerate(EDGES):
        if target == len(nodes):
            nodes.append(np.zeros_like(nodes[0]))
        x, name = nodes[source], OPERATIONS[int(ops[number])]
        if name == "skip_connect":
            nodes[target] = nodes[target] + x
        elif name == "avg_pool_3x3":
            nodes[target] = nodes[target] + pool(x)
        elif "conv" in name:
            # tanh keeps zero: a convolution that reads nothing gives nothing
            nodes[target] = nodes[target] + np.einsum("nij,nj->ni", kernels[:, number], np.tanh(x))
    return nodes[-1]


def fingerprint(ops, pool):
    """A number that does not depend on which of the applications is called which.

    The mean of a nonlinear function of the output over all ways to give the functions out; an edge is dead
    if another function on it does not change the output.
    """
    kinds = {n: int(d) - 2 for n, d in enumerate(ops) if d in "23"}
    one = np.zeros((1, 6, WIDTH, WIDTH))
    for number, kind in kinds.items():
        one[0, number] = KERNELS[kind, number]
    live = {0: [], 1: []}
    for number, kind in kinds.items():
        other = one.copy()
        other[0, number] = CHANGED
        if not np.array_equal(evaluate(ops, other, pool), evaluate(ops, one, pool)):
            live[kind].append(number)
    orders = list(itertools.product(*(itertools.permutations(range(len(live[kind]))) for kind in (0, 1))))
    kernels = np.zeros((len(orders), 6, WIDTH, WIDTH))
    for kind in (0, 1):
        for place, number in enumerate(live[kind]):
            kernels[:, number] = KERNELS[kind, [order[kind][place] for order in orders]]
    return np.sin(evaluate(ops, kernels, pool) @ DIRECTION + 1).mean()


def count_apart(values, gap=1e-11):
    """How many groups of numbers lie further apart than ``gap``."""
    return 1 + int((np.diff(np.sort(values)) > gap).sum())


@pytest.mark.parametrize("every", [15, pytest.param(1, marks=pytest.mark.slow)])
def test_classes_are_exactly_the_cells_that_compute_the_same(every):
    assert sum(map(len, classes().values())) == 5**6 and len(classes()) == 5044
    some = list(classes().values())[::every]
    found = [[fingerprint(ops, lambda x: x @ POOL.T) for ops in cells] for cells in some]
    assert max(map(np.ptp, found)) < 1e-12
    assert count_apart([values[0] for values in found]) == len(some)


@pytest.mark.slow
def test_linear_pooling_is_what_merges_the_last_216():
    found = [fingerprint(ops, lambda x: x @ POOL.T + x**3) for ops in all_ops()]
    assert count_apart(found) == 5260


def test_cells_of_a_class_are_the_same_network_with_renamed_kernels():
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(5, 2, 8, 8, generator=draw, dtype=torch.float64)
    large = [cells for cells in classes().values() if len(cells) > 2 and len(computation(cells[0]).applied)]
    for cells in large[::40]:
        outputs = []
        for ops in (cells[0], cells[-1]):
            cell = DiscreteCell(decode(ops).normal, 2, halve=False).double()
            weights = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for edge in computation(ops).applied:
                    for parameter in cell.operations[EDGES.index(edge)].parameters():
                        parameter.copy_(torch.randn(parameter.shape, generator=weights, dtype=torch.float64))
            outputs.append(cell([images], None))
        torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("ops", "key"),
    [
        ("000000", "0"),
        ("111111", "4x"),
        ("300000", "0"),
        ("300001", "0"),
        ("300010", "a=conv3(x); a"),
        ("011000", "0"),
        ("012100", "x"),
        ("320310", "a=conv3(x); b=conv3(x); a+b"),
        ("301011", "a=conv3(x); 2a"),
        ("140001", "pool(x)"),
        ("444444", "pool(x)+2pool(pool(x))+pool(pool(pool(x)))"),
    ],
)
def test_keys_can_be_read(ops, key):
    assert computation(ops).key == key


def test_digits_are_read_and_written():
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|none~2|"
    assert encode(parse(text)) == "301240"
    assert str(decode("301240")) == text
    for bad in ("30124", "301245", "x01240", ""):
        with pytest.raises(GenotypeError, match="expected 6 digits"):
            decode(bad)
    darts = "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], normal_concat=[2])"
    with pytest.raises(GenotypeError):
        encode(parse(darts))
