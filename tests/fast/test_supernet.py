"""The fast supernet against the reference, in float64."""

import copy
from functools import cache
from itertools import product
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import error, random_weights, small_batch, small_space, small_supernet, statistics
from ldarts_lib.bilevel.gradients import Gradients, gradients
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.regularizers import (
    ImpreciseDifference,
    Regularizer,
    regularized_gradients,
    require_full_precision,
)
from ldarts_lib.bilevel.state import make_supernet
from ldarts_lib.errors import ProtocolError
from ldarts_lib.fast import execution
from ldarts_lib.fast.supernet import FastSupernet
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet, initial_alphas
from ldarts_lib.spaces.space import SPACES

EVERY_SPACE = pytest.mark.parametrize("space", SPACES)
SOME_SPACES = pytest.mark.parametrize("space", ["nasbench201", "s1", "s4"])
TWO_WAYS = pytest.mark.parametrize("way", ["separate", "batched"])
WAYS = {
    "separate, small states": {"strategy": "separate"},
    "separate": {"strategy": "separate"},
    "batched": {"strategy": "batched"},
    "batched, checkpoints": {"strategy": "batched", "checkpoint": True},
    "separate, checkpoints": {"strategy": "separate", "checkpoint": True},
}
TOLERANCE = 1e-9
EXACT = Regularizer("cosine", "exact")


class Calls(TorchDispatchMode):
    """Counts gradients of convolutions by their kernels, and what makes the host wait for a device."""

    kernel_gradients = syncs = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.kernel_gradients += name == "convolution_backward" and args[-1][1]
        self.syncs += name == "_local_scalar_dense"
        return function(*args, **(kwargs or {}))


def generator():
    return torch.Generator().manual_seed(3)


def depth(space):
    return 4 if SPACES[space].macro == "chain" else 1  # two or three normal cells


class Case(NamedTuple):
    """What the reference makes of a batch."""

    state: dict[str, Tensor]  # parameters and statistics before the pass
    batch: Batch
    weights: dict[str, Tensor]
    found: Gradients
    penalty: tuple[Tensor, ...]
    statistics: dict[str, Tensor]  # after the pass


@cache
def reference(
    space, regularizer=EXACT, *, training=True, pixels=8, off_the_simplex=False, activation="relu"
) -> Case:
    options = {"depth": depth(space), "generator": generator(), "activation": activation}
    net = small_supernet(small_space(space), **options).train(training)
    state, batch, weights = copy.deepcopy(net.state_dict()), small_batch(pixels=pixels), random_weights(net)
    if off_the_simplex:  # zero and negative weights, as a perturbation makes them
        draw = torch.Generator().manual_seed(5)
        for w in weights.values():
            noise = torch.randn(w.shape, generator=draw, dtype=w.dtype)
            w.data = noise * (torch.rand(w.shape, generator=draw) > 0.3)
    found, penalty = regularized_gradients(net, batch, weights, regularizer)
    assert max(p.abs().max() for p in penalty) > 1e-3
    return Case(state, batch, weights, found, penalty, statistics(net))


def fast_supernet(space, way, monkeypatch, activation="relu"):
    """In training, with the weights, statistics and random numbers of the reference."""
    if way in ("separate", "separate, checkpoints"):
        monkeypatch.setattr(execution, "SMALL", 0)
    sizes = {"channels": 2, "depth": depth(space), "classes": 3, "channels_in": 1}
    options = {"generator": generator(), "activation": activation, **WAYS[way]}
    fast = FastSupernet(small_space(space), **options, **sizes).double()
    fast.load_state_dict(reference(space, activation=activation).state)
    return fast


def assert_equals_the_reference(space, way, monkeypatch, regularizer=EXACT, activation="relu", **options):
    """Logits, all gradients, the regularizer's too, and the statistics."""
    expected = reference(space, regularizer, activation=activation, **options)
    fast = fast_supernet(space, way, monkeypatch, activation).train(options.get("training", True))
    found, penalty = regularized_gradients(fast, expected.batch, expected.weights, regularizer)
    assert error([found.output], [expected.found.output]) < TOLERANCE
    assert found.cells.keys() == expected.found.cells.keys()
    assert error([*found.cells.values()], [*expected.found.cells.values()]) < TOLERANCE
    assert error(found.weights, expected.found.weights) < TOLERANCE
    assert error(penalty, expected.penalty) < TOLERANCE
    buffers = {name: buffer for name, buffer in fast.named_buffers() if "rows_" not in name}
    torch.testing.assert_close(buffers, expected.statistics, rtol=TOLERANCE, atol=1e-12)


@pytest.mark.parametrize(
    ("space", "way"),
    [  # all that s2 has, s3 has too
        *product([name for name in SPACES if name != "s2"], list(WAYS)[:3]),
        *product(["nasbench201", "s4"], list(WAYS)[3:]),
        ("darts", "batched, checkpoints"),
    ],
)
def test_everything_equals_the_reference(space, way, monkeypatch):
    assert_equals_the_reference(space, way, monkeypatch)


@SOME_SPACES
@TWO_WAYS
def test_finite_differences_equal_those_of_the_reference(space, way, monkeypatch):
    assert_equals_the_reference(space, way, monkeypatch, Regularizer("sign", "central", 1e-3))


@pytest.mark.parametrize("space", ["nasbench201", "darts8", "s1", "s4"])
@TWO_WAYS
def test_everything_equals_the_reference_in_evaluation(space, way, monkeypatch):
    assert_equals_the_reference(space, way, monkeypatch, Regularizer("sign", "exact"), training=False)


@SOME_SPACES
@TWO_WAYS
def test_weights_off_the_simplex(space, way, monkeypatch):
    assert_equals_the_reference(space, way, monkeypatch, off_the_simplex=True)


@TWO_WAYS
def test_odd_image_sizes(way, monkeypatch):
    """12 pixels become 6 and 3: the tricks that need even sizes step aside."""
    assert_equals_the_reference("darts", way, monkeypatch, pixels=12)


@TWO_WAYS
def test_a_smooth_supernet_equals_the_reference(way, monkeypatch):
    assert_equals_the_reference("nasbench201", way, monkeypatch, activation="gelu")
    smooth, kinked = (reference("nasbench201", activation=name).found for name in ("gelu", "relu"))
    assert not torch.allclose(smooth.output, kinked.output)


@SOME_SPACES
@TWO_WAYS
def test_gradients_by_the_architecture_weights_alone(space, way, monkeypatch):
    """The α half-step calls no convolution's gradient by its kernel."""
    fast, expected = fast_supernet(space, way, monkeypatch), reference(space)
    with Calls() as seen:
        found = gradients(fast, expected.batch, expected.weights, of_parameters=False)
    assert found.weights == () and seen.kernel_gradients == 0
    assert error([*found.cells.values()], [*expected.found.cells.values()]) < TOLERANCE
    with Calls() as seen:  # the next pass differentiates ω again
        gradients(fast, expected.batch, expected.weights)
    assert seen.kernel_gradients > 0


@EVERY_SPACE
def test_names_and_initial_weights_are_those_of_the_reference(space):
    sizes = {"channels": 2, "depth": 3, "classes": 10}
    torch.manual_seed(0)
    reference = Supernet(small_space(space), **sizes)
    torch.manual_seed(0)
    fast = FastSupernet(small_space(space), **sizes)
    pairs = zip(fast.named_parameters(), reference.named_parameters(), strict=True)
    assert all(ours == theirs and torch.equal(p, q) for (ours, p), (theirs, q) in pairs)
    reference.load_state_dict(fast.state_dict())


@pytest.mark.parametrize("way", WAYS)
def test_the_hessian_by_architecture_weights(way, monkeypatch):
    """Second derivatives by the mixing weights themselves, for methods that look at the curvature."""
    products = []
    for net in (small_supernet("nasbench201"), fast_supernet("nasbench201", way, monkeypatch)):
        weights, batch = random_weights(net), small_batch()
        with net.architecture_only():
            loss = torch.nn.functional.cross_entropy(net(batch.inputs, weights), batch.targets)
            (g,) = torch.autograd.grad(loss, weights["normal"], create_graph=True)
        direction = torch.linspace(-1, 1, g.numel(), dtype=g.dtype).view_as(g)
        products.append(torch.autograd.grad((g * direction).sum(), weights["normal"])[0])
    assert error(products[1:], products[:1]) < TOLERANCE


def test_gradients_by_omega_cannot_be_differentiated_again(monkeypatch):
    fast = fast_supernet("darts", "separate", monkeypatch)
    batch, weights = small_batch(), random_weights(fast)
    loss = torch.nn.functional.cross_entropy(fast(batch.inputs, weights), batch.targets)
    with pytest.raises(RuntimeError, match="use the reference supernet"):
        torch.autograd.grad(loss, tuple(fast.parameters()), create_graph=True)


@pytest.mark.parametrize(
    ("space", "strategy", "estimator"),
    [
        *product(["nasbench201"], ["separate", "batched"], ["central", "forward", "exact"]),
        *product(["s1"], ["separate", "batched"], ["exact"]),
        ("s4", "separate", "central"),
        ("s4", "batched", "exact"),
    ],
)
def test_no_host_synchronization_inside_a_step(space, strategy, estimator):
    options = {"estimator": estimator, "strategy": strategy, "ramp": "constant"}
    chosen = protocol(space, channels=2, depth=depth(space), **options)
    net = make_supernet(chosen, classes=3, channels_in=1, generator=torch.Generator()).double()
    alphas = initial_alphas(SPACES[space], dtype=torch.float64)
    problem = Bilevel(net, alphas, chosen)
    problem.start_epoch(0)
    with Calls() as seen:
        problem.step(small_batch(0), small_batch(1))
    assert seen.syncs == 0
    with Calls() as seen:
        torch.ones(()).item()
    assert seen.syncs == 1


def test_steps_equal_those_of_the_reference():
    """Three whole steps, optimizers included."""
    moved = []
    for implementation in ("reference", "fast"):
        options = {"channels": 2, "depth": 4, "ramp": "constant", "estimator": "exact"}
        chosen = protocol("s3", supernet=implementation, **options)
        torch.manual_seed(0)
        net = make_supernet(chosen, classes=3, channels_in=1, generator=torch.Generator()).double()
        alphas = initial_alphas(SPACES["s3"], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        problem = Bilevel(net, alphas, chosen)
        problem.start_epoch(0)
        for step in range(3):
            problem.step(small_batch(2 * step), small_batch(2 * step + 1))
        moved.append([*(p.detach() for p in problem.parameters), *(a.detach() for a in alphas.values())])
    assert error(moved[1], moved[0]) < TOLERANCE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "fused"}, "unknown strategy 'fused'; choose one of auto, separate, batched"),
        ({"activation": "gelu"}, r"'s2' are fused with ReLU, not with activation 'gelu'"),
    ],
)
def test_what_the_fast_supernet_cannot_do_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FastSupernet(SPACES["s2"], channels=2, depth=5, classes=3, **options)


def test_finite_differences_refuse_low_precision(monkeypatch):
    fast = fast_supernet("nasbench201", "separate", monkeypatch)
    weights, difference = random_weights(fast), Regularizer("cosine", "central")
    with torch.autocast("cpu"), pytest.raises(ImpreciseDifference, match="autocast is on: the perturbation"):
        regularized_gradients(fast, small_batch(), weights, difference)
    fast.run.precision = torch.bfloat16
    with pytest.raises(ImpreciseDifference, match=r"computes in torch\.bfloat16.*'exact'"):
        regularized_gradients(fast, small_batch(), weights, difference)
    regularized_gradients(fast, small_batch(), weights, Regularizer("cosine", "exact"))
    fast.run.precision = None
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with pytest.raises(ImpreciseDifference, match=r"cudnn\.allow_tf32 is on"):
        require_full_precision(fast.float(), torch.device("cuda"))
    require_full_precision(fast.double(), torch.device("cuda"))  # which TF32 does not touch
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    require_full_precision(fast.float(), torch.device("cuda"))
    for lower in ("high", "medium"):
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda found=lower: found)
        with pytest.raises(ImpreciseDifference, match=rf"matmul_precision\(\) is '{lower}'"):
            require_full_precision(fast.float(), torch.device("cpu"))
        require_full_precision(fast.double(), torch.device("cpu"))


def test_bfloat16_changes_the_convolutions_only(monkeypatch):
    """Results keep the type of the images, and come close to full precision."""
    fast = fast_supernet("darts", "separate", monkeypatch)
    weights = random_weights(fast)
    full = gradients(fast, small_batch(), weights)
    fast.run.precision = torch.bfloat16
    found = gradients(fast, small_batch(), weights)
    assert found.output.dtype == torch.float64
    assert 1e-4 < error([found.output], [full.output]) < 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "bfloat16", "estimator": "central"}, "does not go with the estimator 'central'"),
        ({"precision": "tf32", "estimator": "forward"}, "does not go with the estimator 'forward'"),
        ({"precision": "bfloat16", "supernet": "reference"}, "need the fast supernet"),
        ({"checkpoint_cells": True, "supernet": "reference"}, "need the fast supernet"),
        ({"cuda_graph": True, "space": "s4"}, "cannot replay the random numbers of space 's4'"),
        ({"strategy": "fused"}, "strategy = 'fused'"),
        ({"precision": "float16"}, "precision = 'float16'"),
    ],
)
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(ProtocolError, match=message):
        protocol(settings.pop("space", "s2"), **settings)


def test_the_protocol_chooses_the_supernet():
    options = {"strategy": "batched", "channels": 2, "depth": 4}
    sizes = {"classes": 10, "channels_in": 1, "generator": torch.Generator()}
    assert type(make_supernet(protocol("s2", supernet="reference", **options), **sizes)) is Supernet
    run = make_supernet(protocol("s2", checkpoint_cells=True, **options), **sizes).run
    assert run.strategy == "batched" and run.checkpoint and run.precision is None
