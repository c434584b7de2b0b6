import pytest
import torch
from helpers import naive_norm
from torch import nn
from torch.nn import functional as F

from ldarts_lib.genotype import GenotypeError, parse
from ldarts_lib.network import DiscreteNetwork
from ldarts_lib.spaces import SPACES

DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)


def size(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_darts_v2_equal_the_published_number():
    net = DiscreteNetwork(SPACES["darts8"], parse(DARTS_V2), channels=36, depth=20, classes=10)
    assert size(net) == 3_349_342


def test_parameters_of_nasbench201_networks():
    """By hand for C = 16 and N = 5: macro network, then the convolutions with their scales."""
    macro = 29 * 16 + 2 * 64 + 65 * 10
    macro += sum(2 * c * c * 9 + 4 * c * c * 9 + 8 * c + 2 * c * c for c in (16, 32))
    for text, kernels in (
        ("|skip_connect~0|+|none~0|avg_pool_3x3~1|+|none~0|none~1|none~2|", []),
        ("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|nor_conv_3x3~2|", [9, 1, 9]),
    ):
        net = DiscreteNetwork(SPACES["nasbench201"], parse(text), channels=16, depth=5, classes=10)
        cells = sum(5 * (k * c * c + 2 * c) for k in kernels for c in (16, 32, 64))
        assert size(net) == macro + cells


def test_a_small_network_equals_the_same_network_by_hand():
    """One stage cell after the other: node 1 is a convolution of the input, the output adds the input
    to the pooled node 1."""
    text = "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    net = DiscreteNetwork(
        SPACES["nasbench201"],
        parse(text),
        channels=2,
        depth=1,
        classes=3,
        channels_in=1,
        reduction="light",
    ).double()
    x = images = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    x = naive_norm(F.conv2d(x, net.macro.stem[0].weight, padding=1), net.macro.stem[1])
    for stage, cell in enumerate(net.macro.cells):
        if stage:
            block = net.macro.reductions[stage - 1]
            x = naive_norm(F.conv2d(F.avg_pool2d(x, 2), block[1].weight), block[2])
        conv3, conv1 = cell.operations[0], cell.operations[5]
        first = naive_norm(F.conv2d(x.relu(), conv3[1].weight, padding=1), conv3[2])
        area = F.avg_pool2d(torch.ones_like(first), 3, 1, 1)
        second = x + F.avg_pool2d(first, 3, 1, 1) / area
        x = x + naive_norm(F.conv2d(second.relu(), conv1[1].weight), conv1[2])
    x = naive_norm(x, net.macro.head[0]).relu().mean((2, 3))
    expected = x @ net.macro.head[-1].weight.T + net.macro.head[-1].bias
    torch.testing.assert_close(net(images), expected)


@pytest.mark.parametrize("space", SPACES)
def test_every_space_builds_and_learns(space):
    draw = torch.Generator().manual_seed(0)
    weights = {kind: torch.rand(cell.shape, generator=draw) for kind, cell in SPACES[space].cells.items()}
    genotype = SPACES[space].discretize(weights)
    depth = 1 if space == "nasbench201" else 5
    net = DiscreteNetwork(SPACES[space], genotype, channels=4, depth=depth, classes=3)
    logits = net(torch.randn(6, 3, 8, 8, generator=draw))
    assert logits.shape == (6, 3)
    logits.square().sum().backward()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.affine for m in norms)
    assert net.macro.stem[0].weight.grad.abs().max() > 0


def test_a_genotype_of_another_space_is_refused():
    with pytest.raises(GenotypeError, match="space 's2', normal cell: dil_conv_3x3 on edge 5<-2"):
        DiscreteNetwork(SPACES["s2"], parse(DARTS_V2), channels=4, depth=5, classes=10)
