"""The fast supernet against the reference, in float64."""

from itertools import product

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import DEPTHS, random_weights, small_batch, small_supernet, statistics
from ldarts_lib.bilevel.gradients import gradients
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


class Calls(TorchDispatchMode):
    """Counts gradients of convolutions by their kernels, and what makes the host wait for a device."""

    kernel_gradients = syncs = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.kernel_gradients += name == "convolution_backward" and args[-1][1]
        self.syncs += name == "_local_scalar_dense"
        return function(*args, **(kwargs or {}))


def pair(space, way, monkeypatch, training=True, **settings):
    """A reference and a fast supernet with the same weights, statistics and random numbers."""
    if way in ("separate", "separate, checkpoints"):
        monkeypatch.setattr(execution, "SMALL", 0)
    generator = torch.Generator().manual_seed(3)
    reference = small_supernet(space, generator=generator, **settings).train(training)
    sizes = {"channels": 2, "depth": DEPTHS[SPACES[space].macro], "classes": 3, "channels_in": 1}
    generator = torch.Generator().manual_seed(3)
    fast = FastSupernet(SPACES[space], generator=generator, **sizes, **settings, **WAYS[way])
    fast = fast.double().train(training)
    fast.load_state_dict(reference.state_dict())
    return reference, fast


def error(found, expected):
    """Relative Euclidean distance of two lists of tensors."""
    difference = sum((a - b).square().sum() for a, b in zip(found, expected, strict=True))
    return (difference / sum(b.square().sum() for b in expected)).sqrt().item()


def assert_same_gradients(found, expected):
    assert error([found.output], [expected.output]) < TOLERANCE
    assert error(list(found.cells.values()), list(expected.cells.values())) < TOLERANCE
    assert found.cells.keys() == expected.cells.keys()
    assert error(found.weights, expected.weights) < TOLERANCE


def assert_same_statistics(fast, reference):
    expected = statistics(reference)
    for name, buffer in fast.named_buffers():
        if name in expected:
            torch.testing.assert_close(buffer, expected[name], rtol=TOLERANCE, atol=1e-12)
    assert expected.keys() == {name for name, _ in fast.named_buffers() if "rows_" not in name}


def assert_equal(reference, fast, batch, weights, regularizer):
    """Logits, all gradients, the regularizer's too, and the statistics."""
    expected, of_reference = regularized_gradients(reference, batch, weights, regularizer)
    found, penalty = regularized_gradients(fast, batch, weights, regularizer)
    assert_same_gradients(found, expected)
    assert max(p.abs().max() for p in of_reference) > 1e-3
    assert error(penalty, of_reference) < TOLERANCE
    assert_same_statistics(fast, reference)


EXACT = Regularizer("cosine", "exact")


@pytest.mark.parametrize(
    ("space", "way"),
    [*product(SPACES, list(WAYS)[:3]), *product(["nasbench201", "darts", "s4"], list(WAYS)[3:])],
)
def test_everything_equals_the_reference(space, way, monkeypatch):
    reference, fast = pair(space, way, monkeypatch)
    weights = random_weights(reference)
    for regularizer in (EXACT, Regularizer("sign", "central", 1e-3)):
        assert_equal(reference, fast, small_batch(), weights, regularizer)


@EVERY_SPACE
@TWO_WAYS
def test_everything_equals_the_reference_in_evaluation(space, way, monkeypatch):
    reference, fast = pair(space, way, monkeypatch, training=False)
    assert_equal(reference, fast, small_batch(), random_weights(reference), Regularizer("sign", "exact"))


@SOME_SPACES
@TWO_WAYS
def test_perturbed_weights_off_the_simplex(space, way, monkeypatch):
    """Zero and negative weights, as a perturbation makes them."""
    reference, fast = pair(space, way, monkeypatch)
    draw = torch.Generator().manual_seed(5)
    weights = {
        kind: (
            torch.randn(w.shape, generator=draw, dtype=w.dtype) * (torch.rand(w.shape, generator=draw) > 0.3)
        )
        for kind, w in random_weights(reference).items()
    }
    weights = {kind: w.requires_grad_() for kind, w in weights.items()}
    assert_equal(reference, fast, small_batch(), weights, EXACT)


@TWO_WAYS
def test_odd_image_sizes(way, monkeypatch):
    """12 pixels become 6 and 3: the tricks that need even sizes step aside."""
    reference, fast = pair("darts", way, monkeypatch)
    draw, batch = torch.Generator().manual_seed(0), small_batch()
    images = torch.randn(6, 1, 12, 12, generator=draw, dtype=torch.float64)
    assert_equal(reference, fast, type(batch)(images, batch.targets), random_weights(reference), EXACT)


@SOME_SPACES
@TWO_WAYS
def test_gradients_by_the_architecture_weights_alone(space, way, monkeypatch):
    reference, fast = pair(space, way, monkeypatch)
    weights = random_weights(reference)
    expected = gradients(reference, small_batch(), weights)
    found = gradients(fast, small_batch(), weights, of_parameters=False)
    assert found.weights == ()
    assert error(list(found.cells.values()), list(expected.cells.values())) < TOLERANCE
    assert fast.run.parameters  # the next pass differentiates ω again


@TWO_WAYS
def test_no_work_for_gradients_that_are_not_asked_for(way, monkeypatch):
    """The α half-step calls no convolution's gradient by its kernel."""
    _, fast = pair("darts", way, monkeypatch)
    weights = random_weights(fast)
    with Calls() as seen:
        gradients(fast, small_batch(), weights, of_parameters=False)
    assert seen.kernel_gradients == 0
    with Calls() as seen:
        gradients(fast, small_batch(), weights)
    assert seen.kernel_gradients > 0


@SOME_SPACES
def test_weights_cross_both_ways(space, monkeypatch):
    reference, fast = pair(space, "batched", monkeypatch)
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter.mul_(0.5)
    reference.load_state_dict(fast.state_dict())
    images, weights = small_batch().inputs, random_weights(reference)
    torch.testing.assert_close(fast(images, weights), reference(images, weights))
    assert [name for name, _ in fast.named_parameters()] == [name for name, _ in reference.named_parameters()]


def test_the_same_seed_gives_the_same_initial_weights():
    sizes = {"channels": 4, "depth": 3, "classes": 10}
    torch.manual_seed(0)
    reference = Supernet(SPACES["darts"], **sizes)
    torch.manual_seed(0)
    fast = FastSupernet(SPACES["darts"], **sizes)
    assert all(map(torch.equal, fast.parameters(), reference.parameters()))


@pytest.mark.parametrize("way", WAYS)
def test_the_hessian_by_architecture_weights(way, monkeypatch):
    """Second derivatives by the mixing weights themselves, for methods that look at the curvature."""
    reference, fast = pair("nasbench201", way, monkeypatch)
    products = []
    for net in (reference, fast):
        weights, batch = random_weights(net), small_batch()
        with net.architecture_only():
            loss = torch.nn.functional.cross_entropy(net(batch.inputs, weights), batch.targets)
            (g,) = torch.autograd.grad(loss, weights["normal"], create_graph=True)
        direction = torch.linspace(-1, 1, g.numel(), dtype=g.dtype).view_as(g)
        products.append(torch.autograd.grad((g * direction).sum(), weights["normal"])[0])
    assert error(products[1:], products[:1]) < TOLERANCE


def test_gradients_by_omega_cannot_be_differentiated_again(monkeypatch):
    _, fast = pair("darts", "separate", monkeypatch)
    batch, weights = small_batch(), random_weights(fast)
    loss = torch.nn.functional.cross_entropy(fast(batch.inputs, weights), batch.targets)
    with pytest.raises(RuntimeError, match="use the reference supernet"):
        torch.autograd.grad(loss, tuple(fast.parameters()), create_graph=True)


@SOME_SPACES
@pytest.mark.parametrize("strategy", ["separate", "batched"])
@pytest.mark.parametrize("estimator", ["central", "forward", "exact"])
def test_no_host_synchronization_inside_a_step(space, strategy, estimator):
    depth = DEPTHS[SPACES[space].macro]
    chosen = protocol(space, channels=2, depth=depth, estimator=estimator, strategy=strategy, ramp="constant")
    net = make_supernet(chosen, classes=3, channels_in=1, generator=torch.Generator()).double()
    alphas = initial_alphas(SPACES[space], dtype=torch.float64)
    problem = Bilevel(net, alphas, chosen)
    problem.start_epoch(0)
    with Calls() as seen:
        problem.step(small_batch(0), small_batch(1))
    assert seen.syncs == 0


def test_the_counter_of_synchronizations_counts():
    with Calls() as seen:
        torch.ones(()).item()
    assert seen.syncs == 1


def test_steps_equal_those_of_the_reference():
    """Three whole steps, optimizers included."""
    moved = []
    for implementation in ("reference", "fast"):
        chosen = protocol("s3", supernet=implementation, channels=2, ramp="constant", estimator="exact")
        torch.manual_seed(0)
        net = make_supernet(chosen, classes=3, channels_in=1, generator=torch.Generator()).double()
        alphas = initial_alphas(SPACES["s3"], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        problem = Bilevel(net, alphas, chosen)
        problem.start_epoch(0)
        for step in range(3):
            problem.step(small_batch(2 * step), small_batch(2 * step + 1))
        moved.append([*(p.detach() for p in problem.parameters), *(a.detach() for a in alphas.values())])
    assert error(moved[1], moved[0]) < TOLERANCE


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="unknown strategy 'fused'; choose one of auto, separate, batched"):
        FastSupernet(SPACES["s2"], channels=2, depth=5, classes=3, strategy="fused")


def test_finite_differences_refuse_low_precision(monkeypatch):
    _, fast = pair("nasbench201", "separate", monkeypatch)
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


def test_bfloat16_changes_the_convolutions_only(monkeypatch):
    """Results keep the type of the images, and come close to full precision."""
    _, fast = pair("darts", "separate", monkeypatch)
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
        ({"cuda_graph": True, "space": "s4"}, "cannot replay the random operation of space 's4'"),
        ({"strategy": "fused"}, "strategy = 'fused'"),
        ({"precision": "float16"}, "precision = 'float16'"),
    ],
)
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(ProtocolError, match=message):
        protocol(settings.pop("space", "s2"), **settings)


@pytest.mark.parametrize("name", ["reference", "fast"])
def test_the_protocol_chooses_the_supernet(name):
    chosen = protocol("s2", supernet=name, strategy="batched", checkpoint_cells=name == "fast")
    net = make_supernet(chosen, classes=10, channels_in=1, generator=torch.Generator())
    assert type(net) is (Supernet if name == "reference" else FastSupernet)
    if name == "fast":
        assert net.run.strategy == "batched" and net.run.checkpoint and net.run.precision is None


@TWO_WAYS
def test_a_smooth_supernet_equals_the_reference(way, monkeypatch):
    reference, fast = pair("nasbench201", way, monkeypatch, activation="gelu")
    batch, weights = small_batch(), random_weights(reference)
    assert_equal(reference, fast, batch, weights, EXACT)
    kinked, _ = pair("nasbench201", way, monkeypatch)
    assert not torch.allclose(kinked(batch.inputs, weights), reference(batch.inputs, weights))


def test_separable_convolutions_are_fused_with_relu_only():
    sizes = {"channels": 4, "depth": 3, "classes": 10}
    with pytest.raises(ValueError, match=r"'s2' are fused with ReLU, not with activation 'gelu'"):
        FastSupernet(SPACES["s2"], activation="gelu", **sizes)
