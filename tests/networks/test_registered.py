"""Operations of users' own, in every network."""

import copy
import re
from itertools import product

import pytest
import torch
from torch import nn

import own_operations  # noqa: F401
from helpers import error, random_weights, small_batch, small_supernet, statistics
from ldarts_lib.bilevel.regularizers import Regularizer, regularized_gradients
from ldarts_lib.errors import SpaceError
from ldarts_lib.evaluation.training import has_dead_ends
from ldarts_lib.fast import execution
from ldarts_lib.fast.packed import PackedNetwork, PackedSupernet
from ldarts_lib.fast.supernet import FastSupernet
from ldarts_lib.networks import operations
from ldarts_lib.networks.discrete import DiscreteNetwork
from ldarts_lib.networks.operations import OPERATIONS, OperationSettings, register_operation
from ldarts_lib.networks.sizes import sizes
from ldarts_lib.spaces import genotype
from ldarts_lib.spaces.definition import modules_of
from ldarts_lib.spaces.genotype import GenotypeError
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.space import CellSpace, Space

CANDIDATES = ("gated", "skip_connect", "sep_conv_3x3", "sep_conv_1x1", "wide_pool")
NORMAL, REDUCE = (CellSpace.uniform(2, nodes, CANDIDATES, "concat") for nodes in (2, 1))
SPACES = {
    "chain": Space("mine", {"normal": NORMAL, "reduce": REDUCE}, "chain"),
    "stages": Space(
        "mine", {"normal": CellSpace.uniform(1, 2, ("gated", "wide_pool"), "last")}, "stages", False
    ),
}
DROPPED = Space("mine", {"normal": CellSpace.uniform(1, 1, ("dropped", "skip_connect"), "last")}, "stages")
SIZES = {"channels": 2, "classes": 3, "channels_in": 1}


@pytest.fixture
def register(monkeypatch):
    """Registers operations that are forgotten after the test."""
    monkeypatch.setattr(genotype, "REGISTERED", dict(genotype.REGISTERED))
    monkeypatch.setattr(operations, "OPERATIONS", dict(OPERATIONS))
    return register_operation


@pytest.mark.parametrize(
    ("macro", "estimator", "way"),
    [
        *product(["chain"], ["exact"], ["separate", "separate, small states", "batched"]),
        *product(["stages"], ["exact", "central"], ["separate", "batched"]),
    ],
)
def test_the_fast_supernet_equals_the_reference(macro, estimator, way, monkeypatch):
    """Loss, gradients by ω and α, the regularizer's, and the running statistics."""
    if way == "separate":
        monkeypatch.setattr(execution, "SMALL", 0)
    depth, regularizer = {"chain": 4, "stages": 1}[macro], Regularizer("cosine", estimator, 1e-3)
    net = small_supernet(SPACES[macro], depth=depth)
    fast = FastSupernet(SPACES[macro], strategy=way.partition(",")[0], depth=depth, **SIZES).double()
    fast.load_state_dict(copy.deepcopy(net.state_dict()))
    batch, weights = small_batch(), random_weights(net)
    (expected, penalty), (found, ours) = (
        regularized_gradients(each, batch, weights, regularizer) for each in (net, fast)
    )
    assert error([found.output], [expected.output]) < 1e-9
    assert error([*found.cells.values()], [*expected.cells.values()]) < 1e-9
    assert error(found.weights, expected.weights) < 1e-9
    assert error(ours, penalty) < 1e-9
    buffers = {name: buffer for name, buffer in fast.named_buffers() if "rows_" not in name}
    torch.testing.assert_close(buffers, statistics(net), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("implementation", [FastSupernet, small_supernet])
def test_random_numbers_follow_the_generator_of_the_supernet(implementation):
    sizes = {"depth": 1, **SIZES} if implementation is FastSupernet else {}
    net = implementation(DROPPED, generator=torch.Generator().manual_seed(0), **sizes).double()
    batch, weights, state = small_batch(), random_weights(net), net.random_state()
    before = torch.get_rng_state()
    first, second = net(batch.inputs, weights), net(batch.inputs, weights)
    net.set_random_state(state)
    assert torch.equal(net(batch.inputs, weights), first) and not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_work_with_them_is_refused():
    space = SPACES["stages"]
    with pytest.raises(ValueError, match="checkpoint: gated, wide_pool may not compute the same again"):
        FastSupernet(space, checkpoint=True, depth=1, **SIZES)
    with pytest.raises(ValueError, match="supernets of space 'mine' cannot be packed"):
        PackedSupernet(space, [torch.Generator()] * 2, depth=1, **SIZES)
    with pytest.raises(ValueError, match="built-in operations can be packed, not 'mine'"):
        PackedNetwork(space, [parse("|gated~0|+|gated~0|gated~1|")], 1, depth=1, **SIZES)


@pytest.mark.parametrize("name", ["sep_conv_3x3", "tanh", "gated", "my-operation", "3x3", "a.b", ""])
def test_a_name_that_is_none_or_taken_is_refused(name):
    with pytest.raises(SpaceError, match=repr(name)):
        register_operation(name, lambda *_: nn.Identity())


def test_a_notebook_may_run_its_cell_again(register):
    for _ in range(2):
        genotype.register_name("of_a_notebook", "__main__")
    assert modules_of(["of_a_notebook", "gated", "skip_connect"]) == ["own_operations"]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda c, s, affine: None, "built with channels=2, stride=1, affine=False, is None, no torch.nn"),
        (lambda c, s, affine: nn.AvgPool2d(2), "maps [2, 2, 8, 8] to [2, 2, 4, 4], not to [2, 2, 8, 8]"),
        (lambda c, s, affine: nn.Flatten(), "maps [2, 2, 8, 8] to [2, 128]"),
        (lambda c, s, affine: nn.Conv2d(3, 3, 1), "cannot read [2, 2, 8, 8] in channels_last: RuntimeError"),
        (lambda c, s, affine: nn.ReLU(inplace=True), "changes its input in place"),
        (lambda c, s, affine: nn.Conv2d(c, c, 3, groups=5), "raises ValueError"),
    ],
)
def test_a_factory_of_something_else_is_refused_when_a_network_is_built(register, factory, message):
    register("mistaken", factory)
    with pytest.raises(SpaceError, match=f"^operation 'mistaken', .*{re.escape(message)}.*$"):
        operations.OPERATIONS["mistaken"](OperationSettings(2))


def test_sizes_ask_for_the_cost_or_count():
    """The stated cost of gated is C·height·width; sep_conv_1x1 is a 1×1 convolution and an offset."""
    options = {"channels": 4, "depth": 1, "classes": 10, "resolution": 8}
    none, gated, counted = (
        sizes(parse(f"|{name}~0|"), **options) for name in ("none", "gated", "sep_conv_1x1")
    )
    cells = [(4, 64), (8, 16), (16, 4)]  # channels and pixels of the three stages
    assert gated.multiply_adds - none.multiply_adds == sum(c * pixels for c, pixels in cells)
    assert counted.multiply_adds - none.multiply_adds == sum(c * c * pixels for c, pixels in cells)
    assert gated.parameters - none.parameters == sum(c * c + 2 * c + 10 * c for c, _ in cells)


def test_a_discrete_network_has_them():
    network = DiscreteNetwork(SPACES["stages"], parse("|gated~0|+|gated~0|wide_pool~1|"), depth=1, **SIZES)
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 3)
    assert has_dead_ends(parse("|gated~0|+|skip_connect~0|wide_pool~1|"))  # perhaps
    with pytest.raises(GenotypeError, match=r"unknown operation mistaken on edge 1<-0; choose .* gated"):
        DiscreteNetwork(None, parse("|mistaken~0|"), depth=1, **SIZES)
