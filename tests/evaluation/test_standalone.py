import pytest

from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.datasets.images import load_images
from ldarts_lib.evaluation.standalone import Recipe, evaluate_all, standalone_accuracy
from ldarts_lib.spaces.genotype import GenotypeError
from ldarts_lib.spaces.notations import parse

CONVOLUTIONS = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|"
DISCONNECTED = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|none~0|none~1|none~2|"


@pytest.fixture(scope="module")
def digits():
    return load_images("digits")


def test_a_network_of_convolutions_learns_and_repeats(digits):
    settings = protocol(dataset="digits", size="smoke")
    given = parse(CONVOLUTIONS), settings, digits, Recipe(epochs=3)
    assert standalone_accuracy(*given, seed=1) == standalone_accuracy(*given, seed=1) > 0.7


def test_a_disconnected_cell_is_at_chance(digits):
    settings = protocol(dataset="digits", size="smoke")
    accuracy = standalone_accuracy(parse(DISCONNECTED), settings, digits, Recipe(epochs=2))
    assert 0.05 < accuracy < 0.2


def test_a_genotype_of_another_space_is_refused(digits):
    with pytest.raises(GenotypeError, match="cell kinds"):
        standalone_accuracy(parse(CONVOLUTIONS), protocol("s2", "digits", size="smoke"), digits)


@pytest.mark.slow
def test_cells_are_trained_side_by_side(digits):
    settings = {"a": protocol(dataset="digits", size="smoke"), "b": protocol(dataset="digits", size="smoke")}
    cells = {"a": parse(CONVOLUTIONS), "b": parse(DISCONNECTED)}
    found = evaluate_all(cells, settings, Recipe(epochs=1))
    assert found["a"] == standalone_accuracy(cells["a"], settings["a"], digits, Recipe(epochs=1))
