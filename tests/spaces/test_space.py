from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import RELEASED, random_weights, small_batch, small_supernet
from ldarts_lib.spaces.genotype import Cell, Edge, Genotype, GenotypeError
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.space import PTB, SPACES, CellSpace, Space

SKIPS = "[" + "('skip_connect', 0), ('skip_connect', 1), " * 4 + "]"
SKIPS = f"Genotype(normal={SKIPS}, reduce={SKIPS})"
EVERY_SPACE = pytest.mark.parametrize("space", [*SPACES.values(), PTB], ids=[*SPACES, "ptb"])


def naive_darts_cell(names_of, matrix):
    """The DARTS rule, node by node: two edges by their strongest operation that is not none."""
    edges, start = [], 0
    for node in range(2, 6):
        best = []
        for row in range(start, start + node):
            pairs = zip(matrix[row], names_of[row], strict=True)
            best.append(max(((v, name) for v, name in pairs if name != "none"), key=lambda pair: pair[0]))
        kept = sorted(range(node), key=lambda source: -best[source][0])[:2]
        edges += [Edge(node, source, best[source][1]) for source in kept]
        start += node
    return Cell(2, tuple(edges), (2, 3, 4, 5))


def naive_nasbench201(matrix):
    names = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
    ends = [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    best = [names[list(row).index(max(row))] for row in matrix]
    return Cell(1, tuple(Edge(t, s, n) for (t, s), n in zip(ends, best, strict=True)), (3,))


def naive_recurrent(matrix):
    """The rule of the DARTS code in its own words: the best source first, then its best activation."""
    names, edges, start = ["none", "tanh", "relu", "sigmoid", "identity"], [], 0
    for node in range(1, 9):
        rows = matrix[start : start + node].tolist()
        source = max(range(node), key=lambda j: (max(rows[j][1:]), -j))
        best = max(range(1, 5), key=lambda k: (rows[source][k], -k))
        edges.append(Edge(node, source, names[best]))
        start += node
    return Cell(1, tuple(edges), tuple(range(1, 9)))


def naive_discretize(space, weights):
    if space.macro != "chain":
        rule = naive_nasbench201 if space.macro == "stages" else naive_recurrent
        return Genotype(rule(weights["normal"]))
    return Genotype(
        **{kind: naive_darts_cell(cell.candidates, weights[kind]) for kind, cell in space.cells.items()}
    )


def draw_weights(space, seed, levels=None):
    draw = np.random.default_rng(seed)
    sample = (lambda shape: draw.integers(levels, size=shape) / 4) if levels else draw.standard_normal
    return {kind: sample(cell.shape) for kind, cell in space.cells.items()}


@EVERY_SPACE
@given(seed=st.integers(0, 2**32), levels=st.sampled_from([None, 1, 2, 4]))
def test_discretization_equals_the_rule(space, seed, levels):
    """With few levels there are ties: the earlier source and the earlier operation win."""
    weights = draw_weights(space, seed, levels)
    genotype = space.discretize(weights)
    assert genotype == naive_discretize(space, weights)
    space.validate(genotype)


@pytest.mark.parametrize("more", [1e-4, 1e-12])
def test_the_least_difference_decides(more):
    """Too small for half, or for single precision; of equals the earlier would win."""
    weights = np.full((6, 5), 0.2)
    weights[:, 3] += more
    cell = SPACES["nasbench201"].discretize({"normal": weights}).normal
    assert set(cell.operations) == {"nor_conv_3x3"}


def test_edges_are_compared_by_weights_not_by_parameters():
    """α ranks edge 3<-0 first, whose two operations are equally strong; the weights rank it last."""
    space = SPACES["s2"]
    alpha = np.zeros((14, 2))
    alpha[2:5] = [[5.0, 5.0], [1.0, -5.0], [0.0, 3.0]]
    weights = np.exp(alpha) / np.exp(alpha).sum(-1, keepdims=True)
    chosen = [space.discretize({"normal": w, "reduce": w}).normal for w in (weights, alpha)]
    assert chosen[0].incoming(3) == (Edge(3, 1, "skip_connect"), Edge(3, 2, "sep_conv_3x3"))
    assert chosen[1].incoming(3) == (Edge(3, 0, "skip_connect"), Edge(3, 2, "sep_conv_3x3"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w[1:], r"reduce: expected weights of shape \(14, 7\), got \(13, 7\)"),
        (lambda w: w / 0, "reduce: the weights are not finite"),
        (lambda w: [], r"got \(0,\)"),
    ],
)
def test_weights_of_another_shape_or_not_finite_are_refused(change, message):
    weights = {kind: np.ones((14, 7)) for kind in ("normal", "reduce")}
    with pytest.raises(ValueError, match=message), np.errstate(divide="ignore"):
        SPACES["darts"].discretize(weights | {"reduce": change(weights["reduce"])})


def test_candidate_operations_equal_the_published_ones():
    for name, edges in RELEASED["candidates"].items():
        for kind, cell in SPACES[name].cells.items():
            theirs = edges[kind] if kind in edges else [edges["every"]] * 14
            assert [" ".join(names) for names in cell.candidates] == theirs
    with_none = SPACES["darts8"].cells["normal"].candidates[0]
    assert with_none == ("none", *SPACES["darts"].cells["normal"].candidates[0])


def test_layouts():
    assert SPACES["nasbench201"].layout(5) == ("normal",) * 15 and PTB.layout(2) == ("normal",) * 2
    reductions = {8: [2, 5], 20: [6, 13]}
    for depth, places in reductions.items():
        layout = SPACES["darts"].layout(depth)
        assert [i for i, kind in enumerate(layout) if kind == "reduce"] == places and len(layout) == depth
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        SPACES["darts"].layout(0)


@pytest.mark.parametrize(
    ("space", "text", "message"),
    [
        ("nasbench201", "|sep_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|",
         "sep_conv_3x3 on edge 1<-0 is not among the candidates .*nor_conv_3x3"),
        ("nasbench201", "|none~0|+|none~0|none~1|", "expected 3 intermediate nodes, got 2"),
        ("nasbench201", "|none~0|+|none~0|+|none~0|none~1|none~2|", "node 2 must read 2 different"),
        ("nasbench201", "|none~0|+|none~0|none~0|+|none~0|none~1|none~2|", r"reads \[0, 0\]"),
        ("darts", "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", r"kinds \['normal', 'reduce'\]"),
        ("ptb", "Genotype(recurrent=[('tanh', 0), ('relu', 1)])", "expected 8 intermediate nodes, got 2"),
        ("ptb", f"Genotype(recurrent={[('tanh', 0)] * 8}, concat=range(2, 9))", "output nodes, got .2, 3"),
        ("darts", SKIPS.replace("1", "0", 1), r"normal cell: node 2 must read 2 different .*\[0, 0\]"),
        ("darts", SKIPS[:-1] + ", reduce_concat=[3, 4, 5])", r"2, 3, 4, 5. output nodes, got .3, 4, 5"),
        ("s1", SKIPS, "reduce cell: skip_connect on edge 2<-0"),
    ],
)  # fmt: skip
def test_genotypes_of_other_spaces_are_refused(space, text, message):
    SPACES["darts"].validate(parse(SKIPS))
    with pytest.raises(GenotypeError, match=message):
        {**SPACES, "ptb": PTB}[space].validate(parse(text))


def test_a_new_space_is_a_description():
    cell = CellSpace.uniform(1, 2, ("none", "skip_connect", "nor_conv_3x3"), "last")
    space = Space("tiny", {"normal": cell}, macro="stages", pooling_norm=False)
    genotype = space.discretize({"normal": [[0.1, 0.2, 0.7], [0.5, 0.4, 0.1], [0.0, 1.0, 0.0]]})
    assert str(genotype) == "|nor_conv_3x3~0|+|none~0|skip_connect~1|"
    assert_usable(space, genotype)


def test_a_new_two_cell_space_is_a_description():
    cell = CellSpace.uniform(2, 2, ("skip_connect", "sep_conv_3x3"), "concat")
    space = Space("two", {"normal": cell, "reduce": cell}, macro="chain")
    assert_usable(space, space.discretize(draw_weights(space, 0)))


def assert_usable(space, genotype):
    space.validate(parse(str(genotype)))
    net = small_supernet(space)
    assert net.layout.count("normal") == 3
    logits = net(small_batch().inputs, random_weights(net))
    assert logits.shape == (6, 3) and logits.isfinite().all()


NAMES = ("none", "skip_connect")


@pytest.mark.parametrize(
    ("inputs", "nodes", "candidates", "output", "message"),
    [
        (1, 2, (NAMES,) * 2, "last", "make 3 edges, but .* given for 2"),
        (1, 2, (NAMES, NAMES, ("none",)), "last", "same number"),
        (1, 2, ((),) * 3, "last", "at least one"),
        (
            1,
            2,
            (NAMES, NAMES, ("none", "conv")),
            "last",
            "unknown operation on edge 2<-1: 'conv'; choose one of",
        ),
        (1, 2, (NAMES, ("none", "none"), NAMES), "last", "edge 2<-0: an operation is listed twice"),
        (1, 0, (), "last", "at least one"),
    ],
)
def test_bad_cells_are_refused(inputs, nodes, candidates, output, message):
    with pytest.raises(ValueError, match=message):
        CellSpace(inputs, nodes, candidates, output)


ONE = CellSpace(1, 2, (NAMES,) * 3, "last")
TWO = CellSpace(2, 1, (NAMES,) * 2, "concat")


@pytest.mark.parametrize(
    ("cells", "macro", "message"),
    [
        ({"normal": ONE}, "chain", r"'chain' needs the cell kinds \['normal', 'reduce'\]"),
        ({"normal": ONE, "reduce": ONE}, "stages", r"'stages' needs the cell kinds \['normal'\]"),
        ({"normal": ONE}, "ring", "unknown macro 'ring'; choose one of"),
        ({"normal": TWO}, "stages", "cells of 1 input nodes .* cell has 2 and concat"),
        ({"normal": ONE, "reduce": ONE}, "chain", "cells of 2 input nodes"),
        ({"normal": replace(ONE, output="concat")}, "stages", "the output last"),
        ({"normal": CellSpace(0, 2, (NAMES,), "last")}, "stages", "cell has 0 and last"),
    ],
)
def test_bad_spaces_are_refused(cells, macro, message):
    with pytest.raises(ValueError, match=message):
        Space("bad", cells, macro)
