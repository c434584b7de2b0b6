import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldarts_lib.spaces.genotype import Cell, Edge, Genotype, GenotypeError, parse
from ldarts_lib.spaces.recurrent import ACTIVATIONS, PTB, RecurrentSpace, recurrent_cell
from ldarts_lib.spaces.space import SPACES

V2 = (
    "Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), "
    "('sigmoid', 5), ('tanh', 3), ('relu', 5)], concat=range(1, 9))"
)


def official(matrix):
    """The rule of the DARTS code in its own words: the best source first, then its best activation."""
    names, found, start = ["none", "tanh", "relu", "sigmoid", "identity"], [], 0
    for node in range(8):
        rows = matrix[start : start + node + 1].tolist()
        source = max(range(node + 1), key=lambda j: (max(rows[j][1:]), -j))
        best = max(range(1, 5), key=lambda k: (rows[source][k], -k))
        found.append((names[best], source))
        start += node + 1
    return found


@given(seed=st.integers(0, 2**32 - 1), ties=st.booleans())
def test_discretization_is_that_of_the_darts_code(seed, ties):
    random = np.random.default_rng(seed)
    matrix = random.integers(0, 4, PTB.shape).astype(float) if ties else random.random(PTB.shape)
    matrix[:, 0] += random.random()  # none is often the strongest, and never chosen
    genotype = PTB.discretize({"normal": matrix})
    PTB.validate(genotype)
    assert [(edge.operation, edge.source) for edge in genotype.normal.edges] == official(matrix)
    assert str(genotype).endswith("concat=range(1, 9))")
    assert parse(str(genotype)) == genotype


def test_the_shape_of_alpha_is_that_of_the_darts_code():
    assert PTB.shape == (36, 5)
    assert PTB.edges[:4] == ((1, 0), (2, 0), (2, 1), (3, 0)) and PTB.edges[-1] == (8, 7)
    assert PTB.candidates == ("none", "tanh", "relu", "sigmoid", "identity")
    assert PTB.name not in SPACES


def test_weights_of_another_shape_or_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"shape \(36, 5\), got \(36, 4\)"):
        PTB.discretize({"normal": np.ones((36, 4))})
    with pytest.raises(ValueError, match=r"shape \(36, 5\), got \(0,\)"):
        PTB.discretize({})
    with pytest.raises(ValueError, match="not finite"):
        PTB.discretize({"normal": np.full((36, 5), np.nan)})


def test_the_published_cell_belongs_to_the_space():
    PTB.validate(parse(V2))
    assert recurrent_cell(parse(V2)).nodes == 8
    with pytest.raises(GenotypeError, match="expected 8 nodes"):
        PTB.validate(parse("Genotype(recurrent=[('tanh', 0), ('relu', 1)])"))
    with pytest.raises(GenotypeError, match="the output"):
        PTB.validate(parse(V2.replace("range(1, 9)", "range(2, 9)")))
    RecurrentSpace(nodes=2).validate(parse("Genotype(recurrent=[('tanh', 0), ('relu', 1)])"))


@pytest.mark.parametrize(
    ("genotype", "message"),
    [
        (parse("|none~0|+|none~0|none~1|"), "is no recurrent cell"),
        (parse("Genotype(normal=[('tanh', 0), ('tanh', 1)])"), "is no recurrent cell"),
        (Genotype(Cell(1, (Edge(2, 0, "tanh"),), (2,))), "is no recurrent cell"),
        (parse(V2.replace("identity", "none")), "none on edge 4<-1: unknown activation; choose one of tanh"),
    ],
)
def test_what_cannot_be_trained_as_a_recurrent_cell_is_refused(genotype, message):
    with pytest.raises(GenotypeError, match=message):
        recurrent_cell(genotype)


def test_a_single_output_node_makes_a_recurrent_cell_too():
    assert recurrent_cell(parse("|tanh~0|+|relu~1|")).output == (2,)
    assert set(ACTIVATIONS) == {"tanh", "relu", "sigmoid", "identity"}
