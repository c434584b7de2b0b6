import pytest

from ldarts_lib.networks.discrete import DiscreteNetwork
from ldarts_lib.networks.sizes import sizes
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.published import published


def test_darts_v2_has_the_published_number_of_parameters():
    assert sizes(published("DARTS_V2"), channels=36, depth=20, classes=10).parameters == 3_349_342


def test_multiply_adds_by_hand():
    """NAS-Bench-201's all-3×3 cell, C = 4, one cell a stage, light reductions, 8×8 images of one channel."""
    cell = parse("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|nor_conv_3x3~2|")
    found = sizes(cell, channels=4, depth=1, classes=10, channels_in=1, resolution=8, reduction="light")
    stages = [(4, 64), (8, 16), (16, 4)]
    cells = sum(19 * c * c * pixels for c, pixels in stages)
    assert found.multiply_adds == cells + 9 * 4 * 64 + 4 * 8 * 16 + 8 * 16 * 4 + 16 * 10


def test_multiply_adds_of_a_chain_by_hand():
    """Two reduction cells of one node that reads both inputs."""
    one = "[('sep_conv_3x3', 0), ('skip_connect', 1)]"
    cell = parse(f"Genotype(normal={one}, normal_concat=[2], reduce={one}, reduce_concat=[2])")
    found = sizes(cell, channels=4, depth=2, classes=3, channels_in=1, resolution=8)
    stem = 9 * 12 * 64
    # both cells halve (depth // 3 = 0, 2·depth // 3 = 1): 64 → 16 → 4 pixels, 8 and 16 channels
    first = 2 * (12 * 8 * 64) + 16 * 8 * (9 + 8) + 16 * 8 * (9 + 8) + 8 * 8 * 16
    second = 12 * 16 * 16 + 8 * 16 * 16 + 4 * 16 * (9 + 16) + 4 * 16 * (9 + 16) + 16 * 16 * 4
    assert found.multiply_adds == stem + first + second + 16 * 3


@pytest.mark.parametrize("name", ["DARTS_V2", "NASNet", "AmoebaNet"])
def test_parameters_are_those_of_the_real_network(name):
    options = {"channels": 4, "depth": 3, "classes": 7, "stem": "imagenet"}
    expected = sum(p.numel() for p in DiscreteNetwork(None, published(name), **options).parameters())
    for auxiliary in (False, True):  # which is not counted
        found = sizes(published(name), resolution=224, auxiliary=auxiliary, **options)
        assert found.parameters == expected
