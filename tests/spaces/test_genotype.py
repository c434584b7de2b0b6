import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldarts_lib.networks.operations import OPERATIONS
from ldarts_lib.networks.recurrent import ACTIVATIONS
from ldarts_lib.spaces.genotype import (
    ACTIVATION_NAMES,
    Cell,
    Edge,
    Genotype,
    GenotypeError,
    operation_names,
)
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.published import published as shipped
from ldarts_lib.spaces.space import Space

NASBENCH201 = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"
DARTS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 2), ('max_pool_3x3', 0)], "
    "normal_concat=range(2, 4), "
    "reduce=[('max_pool_3x3', 1), ('avg_pool_3x3', 0), ('skip_connect', 2), ('sep_conv_5x5', 1)], "
    "reduce_concat=range(2, 4))"
)
RECURRENT = (shipped("DARTS_V1_ptb"), shipped("DARTS_V2_ptb"), shipped("ENAS_ptb"))
V2 = str(RECURRENT[1])
ALONE = "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)])"


def random_genotype(space: Space, draw: random.Random) -> Genotype:
    """Any genotype of a space, the edges of a node in any order."""
    cells = {}
    for kind, cell in space.cells.items():
        names = dict(zip(cell.edges, cell.candidates, strict=True))
        edges = []
        for node in range(cell.inputs, cell.inputs + cell.nodes):
            sources = draw.sample(range(node), space.kept) if space.kept else range(node)
            for source in sources:
                allowed = [name for name in names[node, source] if name != "none" or not space.kept]
                edges.append(Edge(node, source, draw.choice(allowed)))
        cells[kind] = Cell(cell.inputs, tuple(edges), cell.output_nodes)
    return Genotype(**cells)


@given(seed=st.integers(0, 2**32))
def test_recurrent_cells_round_trip(seed):
    """Any cell whose nodes read one node each, with any output."""
    draw = random.Random(seed)
    nodes = draw.randint(1, 12)
    edges = [Edge(node, draw.randrange(node), draw.choice(ACTIVATION_NAMES)) for node in range(1, nodes + 1)]
    output = sorted(draw.sample(range(nodes + 1), draw.randint(1, nodes + 1)))
    genotype = Genotype(Cell(1, tuple(edges), tuple(output)))
    assert str(genotype).startswith("Genotype(recurrent=[") and genotype.kind == "recurrent"
    assert parse(str(genotype)) == genotype


def test_a_nasbench201_string_is_read_edge_by_edge():
    cell = parse(NASBENCH201).normal
    assert cell.inputs == 1 and cell.nodes == 3 and cell.output == (3,)
    assert cell.edges[0] == Edge(1, 0, "nor_conv_3x3")
    assert cell.incoming(2) == cell.edges[1:3] == (Edge(2, 0, "none"), Edge(2, 1, "avg_pool_3x3"))
    assert cell.edges[3:5] == (Edge(3, 0, "skip_connect"), Edge(3, 1, "nor_conv_1x1"))
    assert parse(NASBENCH201).count("none") == 2


def test_a_darts_tuple_is_read_edge_by_edge():
    genotype = parse(DARTS)
    assert genotype.normal.edges[:2] == (Edge(2, 0, "sep_conv_3x3"), Edge(2, 1, "skip_connect"))
    assert genotype.normal.edges[2:] == (Edge(3, 2, "dil_conv_5x5"), Edge(3, 0, "max_pool_3x3"))
    assert genotype.reduce.operations == ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_5x5")
    assert genotype.normal.inputs == 2 and genotype.normal.output == (2, 3)
    assert genotype.count("skip_connect") == 2


def test_a_recurrent_tuple_is_read_edge_by_edge():
    cell = parse(V2).normal
    assert cell.inputs == 1 and cell.nodes == 8 and cell.output == tuple(range(1, 9))
    assert cell.edges[0] == Edge(1, 0, "sigmoid") and cell.edges[5] == Edge(6, 5, "sigmoid")
    assert RECURRENT[2].normal.output == (2, 5, 6, 9, 10, 11)
    assert parse(V2.replace(", concat=range(1, 9)", "")) == parse(V2)


@pytest.mark.parametrize(
    ("genotype", "kind"),
    [
        *[(genotype, "recurrent") for genotype in RECURRENT],
        (parse("|tanh~0|+|relu~1|"), "recurrent"),
        (parse("|none~0|+|skip_connect~1|"), "nasbench201"),
        (parse(NASBENCH201), "nasbench201"),
        (Genotype(Cell(1, (Edge(2, 0, "tanh"),), (2,))), "nasbench201"),
        (parse(DARTS), "darts"),
        (shipped("NASNet"), "darts"),
    ],
)
def test_kinds(genotype, kind):
    assert genotype.kind == kind
    for other in {"darts", "nasbench201", "recurrent"} - {kind}:
        with pytest.raises(GenotypeError, match=f"is no {other} cell"):
            genotype.require(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ALONE, r"'skip_connect', 1\)\], .* has no reduction cell: write Genotype\(normal=.*reduce="),
        (V2.replace("identity", "none"), "none on edge 4<-1; choose one of tanh"),
        (DARTS.replace("max_pool_3x3', 1", "max_pool_5x5', 1"), "reduce cell: .* max_pool_5x5 on edge 2<-1"),
    ],
)
def test_what_no_network_can_be_built_of_is_refused(text, message):
    assert str(parse(str(parse(text)))) == str(parse(text))
    with pytest.raises(GenotypeError, match=message):
        parse(text).require("nasbench201", "darts", "recurrent")


def test_every_name_has_its_module_or_function():
    assert tuple(OPERATIONS) == operation_names() and tuple(ACTIVATIONS) == ACTIVATION_NAMES


def test_the_output_may_be_a_list_of_nodes():
    text = DARTS.replace("normal_concat=range(2, 4)", "normal_concat=[3]", 1)
    assert parse(text).normal.output == (3,)
    assert parse(str(parse(text))) == parse(text)
    skipping = DARTS.replace("normal_concat=range(2, 4)", "normal_concat=[1, 3]", 1)
    assert str(parse(skipping)) == skipping


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('pathlib').Path('hacked').touch()",
        "open('hacked', 'w')",
        "range(__import__('pathlib').Path('hacked').touch())",
        "[x for x in range(3)]",
        "(lambda: [])()",
    ],
)
@pytest.mark.parametrize(("pairs", "output"), [("normal", "normal_concat"), ("recurrent", "concat")])
@pytest.mark.parametrize("bad", [0, 1])
def test_text_is_never_evaluated(expression, pairs, output, bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {pairs: "[('none', 0), ('none', 1)]", output: "[2]"}
    field = (pairs, output)[bad]
    values[field] = expression
    with pytest.raises(GenotypeError, match=f"{field}: expected a literal"):
        parse(f"Genotype({pairs}={values[pairs]}, {output}={values[output]})")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet50", "'resnet50' is no genotype"),
        ("", "'' is no genotype"),
        ("|skip_connect~1|", "skip_connect on edge 1<-1: node 1 can read the nodes 0..0"),
        ("|none~0|+|none~0|none|", "node 2: expected 'op~source', got 'none'"),
        ("|none~0|+|none~0|none~-1|", "node 2: expected 'op~source', got 'none~-1'"),
        ("|none~0|+none~0|", r"node 2: expected '\|op~source\|...\|', got 'none~0\|'"),
        ("Genotype(", "is no genotype .is it whole"),
        ("Genotype([('none', 0)])", "1 fields without names; write Genotype"),
        ("Genotype(a=1)(normal=[('none', 0), ('none', 1)])", "has the fields"),
        ("Genotype(reduce=[('none', 0), ('none', 1)])", "has the fields"),
        ("Genotype(normal=[('none', 0), ('none', 1)], normals=1)", "has the fields.*normals"),
        ("Genotype(recurrent=[('tanh', 0)], normal=[('none', 0), ('none', 1)])", "has the fields"),
        ("Genotype(recurrent=[('tanh', 0)], recurrent_concat=[1])", "has the fields"),
        ("Genotype(recurrent=[('tanh', 0), ('relu', '1')])", r"recurrent, entry 1: .*\('relu', '1'\)"),
        ("Genotype(recurrent=[('tanh', 0), ('relu', 2)])", "relu on edge 2<-2: node 2 can read"),
        ("Genotype(recurrent=[('tanh', 0)], concat=[2])", r"nodes \[2\], but the cell has the nodes 0..1"),
        ("Genotype(recurrent=[('tanh', 0)], concat='x')", "concat: expected node numbers"),
        ("Genotype(normal=[])", "normal: expected a list"),
        ("Genotype(normal=[('none', 0), (1, 'none')])", r"normal, entry 1: .*\(1, 'none'\)"),
        ("Genotype(normal=[('none', 0)])", "normal: every node reads two edges, but 1 are given"),
        ("Genotype(normal=[('none', 0), ('none', -1)])", "none on edge 2<--1: node 2 can read"),
        ("Genotype(normal=[('none', 0), ('none', 1)], normal_concat=[])", "concatenates"),
        ("Genotype(normal=[('none', 0), ('none', 1)], normal_concat=['2'])", "normal_concat"),
        ("Genotype(normal=[('none', 0), ('none', 1)], normal_concat=range())", "normal_concat"),
        ("Genotype(normal=[('none', 0), ('none', 1)], normal_concat=range(2**60))", "normal_concat"),
    ],
)
def test_bad_text_names_what_is_wrong(text, message):
    with pytest.raises(GenotypeError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ((1, [Edge(2, 0, "none"), Edge(1, 0, "none")], (2,)), "ordered by their target"),
        ((2, [Edge(1, 0, "none")], (1,)), "none on edge 1<-0: node 1 is an input"),
    ],
)
def test_impossible_cells_are_refused(cell, message):
    inputs, edges, output = cell
    with pytest.raises(GenotypeError, match=message):
        Cell(inputs, tuple(edges), output)
