import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import naive_norm
from ldarts_lib.networks.discrete import DiscreteNetwork
from ldarts_lib.networks.operations import OPERATIONS, OperationSettings
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.published import published
from ldarts_lib.spaces.space import SPACES

DARTS_V2 = published("DARTS_V2")


def size(module):
    return sum(p.numel() for p in module.parameters())


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
    sizes = {"channels": 2, "depth": 1, "classes": 3, "channels_in": 1, "reduction": "light"}
    net = DiscreteNetwork(SPACES["nasbench201"], parse(text), **sizes).double()
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


def test_a_row_and_a_column_of_seven_pixels_by_hand():
    module = OPERATIONS["conv_7x1_1x7"](OperationSettings(3, 2, affine=False)).double()
    x = torch.randn(2, 3, 10, 12, dtype=torch.float64)
    row, column = module[1].weight, module[2].weight
    wide = F.conv2d(x.relu(), row, padding=(0, 3))
    expected = naive_norm(F.conv2d(wide, column, padding=(3, 0))[:, :, ::2, ::2], module[3])
    torch.testing.assert_close(module(x), expected)


@pytest.fixture(scope="module")
def chain():
    """A small chain of DARTS_V2 with an auxiliary head, in training."""
    torch.manual_seed(0)
    return DiscreteNetwork(None, DARTS_V2, channels=4, depth=6, classes=3, auxiliary=True).double()


def test_a_path_that_is_dropped_is_a_zero_operation(chain):
    """Factors of 0 and 2 equal operations replaced by hand; identities are never dropped."""
    x = torch.randn(5, 3, 32, 32, dtype=torch.float64)
    factors = 2.0 * torch.randint(2, (sum(chain.edges), 5)).double()
    expected = copy.deepcopy(chain)
    edge = 0
    for cell in expected.macro.cells:
        for position, operation in enumerate(cell.operations):
            if not isinstance(operation, nn.Identity):
                cell.operations[position] = Scaled(operation, factors[edge])
            edge += 1
    torch.testing.assert_close(chain(x, factors), expected(x))
    torch.testing.assert_close(chain(x, torch.ones_like(factors)), chain(x))


class Scaled(nn.Module):
    def __init__(self, operation, factors):
        super().__init__()
        self.operation, self.factors = operation, factors

    def forward(self, x):
        return self.operation(x) * self.factors.view(-1, 1, 1, 1)


def test_the_auxiliary_head_reads_the_last_reduction_cell(chain):
    """Cells 0 to 5: those at 2 and 4 reduce; the head reads the output of cell 4."""
    outputs = []
    hook = chain.macro.cells[4].register_forward_hook(lambda *call: outputs.append(call[-1]))
    x = torch.randn(5, 3, 32, 32, dtype=torch.float64)
    logits, second = chain.with_auxiliary(x)
    hook.remove()
    torch.testing.assert_close(logits, chain(x))
    pooled = F.avg_pool2d(outputs[0].relu(), 5, 3)
    assert outputs[0].shape == (5, 64, 8, 8)
    head = chain.auxiliary
    narrow = naive_norm(F.conv2d(pooled, head[2].weight), head[3]).relu()
    wide = naive_norm(F.conv2d(narrow, head[5].weight), head[6]).relu()
    expected = wide.flatten(1) @ head[9].weight.T + head[9].bias
    torch.testing.assert_close(second, expected)


def test_the_stem_for_imagenet():
    """Three convolutions of stride 2; the first cell reads states of different sizes."""
    sizes = {"channels": 8, "depth": 6, "classes": 3}
    net = DiscreteNetwork(None, DARTS_V2, stem="imagenet", auxiliary=True, **sizes)
    x = torch.randn(2, 3, 224, 224)
    assert net.macro.stem(x[:1]).shape == (1, 8, 56, 56)
    assert net.macro.second_stem(net.macro.stem(x[:1])).shape == (1, 8, 28, 28)
    logits, second = net.with_auxiliary(x)
    assert logits.shape == second.shape == (2, 3)


@pytest.mark.parametrize(
    ("space", "genotype", "options", "message"),
    [
        (None, parse("|nor_conv_3x3~0|"), {"auxiliary": True}, "only a chain"),
        (None, parse("|my_conv~0|"), {}, "unknown operation my_conv on edge 1<-0; choose one of none"),
        ("s2", DARTS_V2, {}, "space 's2', normal cell: dil_conv_3x3 on edge 5<-2"),
        (None, published("DARTS_V2_ptb"), {}, "is no darts or nasbench201 cell"),
        (None, parse(f"Genotype(normal={[('skip_connect', 0)] * 2})"), {}, "has no reduction cell"),
    ],
)
def test_what_cannot_be_built_is_refused(space, genotype, options, message):
    with pytest.raises(ValueError, match=message):
        DiscreteNetwork(SPACES.get(space), genotype, channels=4, depth=1, classes=3, **options)


def test_cells_may_concatenate_different_numbers_of_nodes():
    """NASNet: five nodes of the normal cell, three of the reduction cell."""
    cell = "[('sep_conv_3x3', 0), ('skip_connect', 1), ('avg_pool_3x3', 0), ('skip_connect', 2)]"
    text = f"Genotype(normal={cell}, normal_concat=[2, 3], reduce={cell}, reduce_concat=[3])"
    net = DiscreteNetwork(None, parse(text), channels=4, depth=6, classes=3)
    assert net.macro.widths == [8, 8, 8, 16, 16, 32]
    assert net(torch.randn(2, 3, 16, 16)).shape == (2, 3)
