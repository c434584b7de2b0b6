import pytest
import torch
from torch.func import functional_call

from helpers import small_batch, small_supernet, statistics
from ldarts_lib.bilevel import half_steps as bilevel
from ldarts_lib.bilevel.alignment import layer_alignment
from ldarts_lib.bilevel.gradients import NORMS, flat, gradients
from ldarts_lib.bilevel.half_steps import Bilevel, softmax_backward
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.regularizers import Regularizer, regularized_gradients
from ldarts_lib.networks.supernet import architecture_weights, initial_alphas

SPACES_TO_TRY = pytest.mark.parametrize("space", ["nasbench201", "s3", "s4"])


def make(space="nasbench201", **settings):
    """A bilevel problem in float64, in the first of ten epochs unless stated otherwise."""
    epoch = settings.pop("epoch", 0)
    net = small_supernet(space, generator=torch.Generator().manual_seed(5))
    alphas = initial_alphas(net.space, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    with torch.no_grad():
        for alpha in alphas.values():
            alpha *= 1e3
    depth = 1 if space == "nasbench201" else 5
    problem = Bilevel(net, alphas, protocol(space, **{"depth": depth, "epochs": 10} | settings))
    problem.start_epoch(epoch)
    return problem


def cross_entropy(logits, labels):
    return -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()


def naive_loss(problem, batch, alphas=None, parameters=None):
    """The loss as a function of α and ω themselves, without the library's gradients."""
    net = problem.supernet
    weights = {
        kind: alpha.softmax(-1).expand(net.layout.count(kind), -1, -1)
        for kind, alpha in (alphas or problem.alphas).items()
    }
    parameters = parameters or dict(net.named_parameters())
    keywords = {"update_statistics": False}
    return cross_entropy(functional_call(net, parameters, (batch.inputs, weights), keywords), batch.targets)


def copies(tensors):
    return [t.detach().clone() for t in tensors]


@pytest.mark.parametrize("cells", [1, 4])
def test_softmax_backward_equals_autograd(cells):
    draw = torch.Generator().manual_seed(0)
    alpha = torch.randn(6, 5, dtype=torch.float64, generator=draw, requires_grad=True)
    g = torch.randn(cells, 6, 5, dtype=torch.float64, generator=draw)
    (expected,) = torch.autograd.grad((alpha.softmax(-1) * g).sum(), alpha)
    found = softmax_backward(alpha, g)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert found.sum(-1).abs().max() < 1e-14
    assert not found.requires_grad
    offset = g + torch.randn(cells, 6, 1, dtype=torch.float64, generator=draw)
    torch.testing.assert_close(softmax_backward(alpha, offset), found)


@SPACES_TO_TRY
@pytest.mark.parametrize("clip", [0.05, 1e9])
def test_weight_steps_equal_momentum_sgd_by_hand(space, clip):
    problem = make(space, method="darts", clip=clip, momentum=0.8, weight_decay=0.01)
    net = problem.supernet
    expected, velocity, alphas = copies(problem.parameters), None, copies(problem.alphas.values())
    names = [name for name, _ in net.named_parameters()]
    for step in range(3):
        batch = small_batch(step)
        state = net.random_state()
        leaves = {n: w.clone().requires_grad_() for n, w in zip(names, expected, strict=True)}
        loss = naive_loss(problem, batch, parameters=leaves)
        grads = torch.autograd.grad(loss, tuple(leaves.values()), materialize_grads=True)
        norm = torch.cat([g.flatten() for g in grads]).norm()
        assert (norm > clip) == (clip < 1)
        grads = [
            g * min(1.0, clip / (norm.item() + 1e-6)) + 0.01 * w for g, w in zip(grads, expected, strict=True)
        ]
        velocity = grads if velocity is None else [0.8 * v + g for v, g in zip(velocity, grads, strict=True)]
        expected = [w - problem.protocol.weight_lr * v for w, v in zip(expected, velocity, strict=True)]
        net.set_random_state(state)
        found = problem.weight_step(batch)
        torch.testing.assert_close(found.loss, loss.detach())
        for ours, naive in zip(problem.parameters, expected, strict=True):
            torch.testing.assert_close(ours.detach(), naive, rtol=1e-9, atol=1e-10)
    assert all(map(torch.equal, problem.alphas.values(), alphas))


@SPACES_TO_TRY
def test_alpha_steps_equal_adam_by_hand(space):
    problem = make(space, method="darts", alpha_lr=0.01, alpha_weight_decay=0.1)
    net, before = problem.supernet, statistics(problem.supernet)
    start = copies(problem.parameters)
    expected = {kind: alpha.detach().clone() for kind, alpha in problem.alphas.items()}
    first = {kind: torch.zeros_like(a) for kind, a in expected.items()}
    second = {kind: torch.zeros_like(a) for kind, a in expected.items()}
    for step in range(1, 4):
        state = net.random_state()
        leaves = {kind: a.clone().requires_grad_() for kind, a in expected.items()}
        loss = naive_loss(problem, small_batch(step), alphas=leaves)
        for kind, g in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
            g = g + 0.1 * expected[kind]
            first[kind] = 0.5 * first[kind] + 0.5 * g
            second[kind] = 0.999 * second[kind] + 0.001 * g * g
            m, v = first[kind] / (1 - 0.5**step), second[kind] / (1 - 0.999**step)
            expected[kind] = expected[kind] - 0.01 * m / (v.sqrt() + 1e-8)
        net.set_random_state(state)
        found = problem.alpha_step(small_batch(99), small_batch(step))
        torch.testing.assert_close(found.loss, loss.detach())
        for kind, alpha in problem.alphas.items():
            torch.testing.assert_close(alpha.detach(), expected[kind], rtol=1e-9, atol=1e-10)
    assert all(map(torch.equal, problem.parameters, start))
    assert all(torch.equal(before[name], b) for name, b in net.named_buffers())


@SPACES_TO_TRY
def test_the_second_order_gradient_is_that_of_the_unrolled_step(space, monkeypatch):
    """Against autograd through ω' = ω − ξ(∇L + wd·ω + momentum), once with and once without momentum."""
    monkeypatch.setattr(bilevel, "UNROLLED_PERTURBATION", 1e-6)
    problem = make(space, method="darts-2nd", weight_lr=0.5, weight_decay=0.01, alpha_lr=1e-9)
    net, training, validation = problem.supernet, small_batch(0), small_batch(1)
    names = [name for name, _ in net.named_parameters()]
    for momentum in (False, True):
        if momentum:
            problem.weight_step(small_batch(2))
        lr = problem.weight_optimizer.param_groups[0]["lr"]
        state = net.random_state()
        leaves = {n: p.detach().clone().requires_grad_() for n, p in net.named_parameters()}
        loss = naive_loss(problem, training, parameters=leaves)
        grads = torch.autograd.grad(loss, tuple(leaves.values()), create_graph=True, materialize_grads=True)
        buffers = [problem.weight_optimizer.state[p].get("momentum_buffer") for p in problem.parameters]
        assert all((b is not None) == momentum for b in buffers)
        moved = {
            name: w - lr * (g + 0.01 * w + (0.9 * b if momentum else 0))
            for name, w, g, b in zip(names, leaves.values(), grads, buffers, strict=True)
        }
        unrolled = naive_loss(problem, validation, parameters=moved)
        expected = torch.autograd.grad(unrolled, list(problem.alphas.values()))
        first_order = torch.autograd.grad(
            naive_loss(problem, validation, parameters={n: w.detach() for n, w in moved.items()}),
            list(problem.alphas.values()),
        )
        start, before = copies(problem.parameters), statistics(net)
        net.set_random_state(state)
        found = problem.alpha_step(training, validation)
        assert all(map(torch.equal, problem.parameters, start))
        assert all(torch.equal(before[name], b) for name, b in net.named_buffers())
        torch.testing.assert_close(found.loss, unrolled.detach())
        for alpha, exact, first in zip(problem.alphas.values(), expected, first_order, strict=True):
            torch.testing.assert_close(alpha.grad, exact, rtol=1e-5, atol=1e-7)
            assert (exact - first).abs().max() > 1e-3


def test_the_second_order_difference_moves_the_weights_by_a_hundredth(monkeypatch):
    problem, seen = make(method="darts-2nd"), []
    forward, start = type(problem.supernet).forward, flat(problem.parameters)

    def spy(net, *arguments, **keywords):
        seen.append(flat(problem.parameters) - start)
        return forward(net, *arguments, **keywords)

    monkeypatch.setattr(type(problem.supernet), "forward", spy)
    problem.alpha_step(small_batch(0), small_batch(1))
    at_start, _, ahead, behind = seen
    assert not at_start.any() and ahead.norm().item() == pytest.approx(0.01)
    torch.testing.assert_close(behind, -ahead)


@pytest.mark.parametrize("half", ["training", "validation"])
def test_a_weight_step_follows_the_loss_minus_lambda_times_the_regularizer(half):
    """By a numerical derivative of L − λΛ along the step that was taken; Λ is that of either batch."""
    settings = {"lambda_max": 0.7, "estimator": "exact", "epoch": 9, "weight_decay": 0.0, "clip": 1e9}
    problem = make(method="lambda", regularizer_batch=half, **settings)
    net, start = problem.supernet, copies(problem.parameters)
    training, validation = small_batch(0), small_batch(1)
    weights = architecture_weights(problem.alphas, net.layout)

    def objective(sign, direction, length):
        with torch.no_grad():
            for p, s, d in zip(problem.parameters, start, direction, strict=True):
                p.copy_(s + sign * length * d)
        loss = gradients(net, training, weights).loss
        aligned = gradients(net, training if half == "training" else validation, weights)
        return loss - 0.7 * layer_alignment(aligned.cells["normal"].flatten(1))

    problem.weight_step(training, validation)
    rate = problem.weight_optimizer.param_groups[0]["lr"]
    direction = [(p.detach() - s) / -rate for p, s in zip(problem.parameters, start, strict=True)]
    squared = sum(d.square().sum() for d in direction)
    length = 1e-7 / squared.sqrt()
    slope = (objective(1, direction, length) - objective(-1, direction, length)) / (2 * length)
    torch.testing.assert_close(slope, squared, rtol=1e-5, atol=0)


@pytest.mark.parametrize("estimator", ["central", "exact", None])
def test_a_weight_step_tells_how_long_loss_and_penalty_are_and_how_far_it_is_clipped(estimator):
    settings = {"method": "lambda", "estimator": estimator} if estimator else {"method": "darts"}
    problem = make(epoch=9, lambda_max=0.7, clip=0.05, **settings)
    net, batch = problem.supernet, small_batch(0)
    weights = architecture_weights(problem.alphas, net.layout)
    regularizer = problem.protocol.regularizer or Regularizer()
    found, penalty = regularized_gradients(net, batch, weights, regularizer, update_statistics=False)
    of_loss, of_penalty = flat(found.weights), flat(penalty) * (0.7 if estimator else 0)
    both = (of_loss - of_penalty).norm()
    expected = torch.stack([of_loss.norm(), of_penalty.norm(), both, 0.05 / (both + 1e-6)])
    if estimator == "exact":  # one pass for both
        expected[:2] = torch.nan
    norms = problem.weight_step(batch).norms
    assert len(norms) == len(NORMS)
    torch.testing.assert_close(norms, expected, equal_nan=True)


def test_a_step_is_as_long_as_the_clip_factor_of_its_epoch_says():
    settings = {"method": "darts", "momentum": 0.0, "weight_decay": 0.0, "epochs": 2, "epoch": 1}
    problem = make(clip_factors=(1.0, 0.3), clip=1e-9, **settings)
    start, batch = copies(problem.parameters), small_batch(0)
    weights = architecture_weights(problem.alphas, problem.supernet.layout)
    followed = gradients(problem.supernet, batch, weights).weights
    assert problem.weight_step(batch).norms[-1] == pytest.approx(0.3)
    for before, after, g in zip(start, problem.parameters, followed, strict=True):
        torch.testing.assert_close(before - after.detach(), problem.protocol.learning_rate(1) * 0.3 * g)


@pytest.mark.parametrize("half", ["training", "validation"])
def test_only_the_training_batch_moves_the_statistics(half):
    regularized = make(method="lambda", regularizer_batch=half, estimator="exact", epoch=9)
    plain = make(method="darts", epoch=9)
    before = statistics(plain.supernet)
    for problem in (regularized, plain):
        problem.weight_step(small_batch(0), small_batch(1))
    expected = statistics(plain.supernet)
    for name, buffer in statistics(regularized.supernet).items():
        torch.testing.assert_close(buffer, expected[name])
        assert not name.endswith("tracked") or buffer == before[name] + 1


def test_the_strength_follows_the_ramp():
    problem = make(method="lambda", lambda_max=0.5)
    assert problem.strength == 0
    problem.start_epoch(9)
    assert problem.strength == 0.5
    assert problem.weight_optimizer.param_groups[0]["lr"] == problem.protocol.learning_rate(9)
    with_ramp, plain = make(method="lambda"), make(method="darts")
    for problem in (with_ramp, plain):  # λ = 0 in the first epoch
        problem.weight_step(small_batch(0))
    assert all(map(torch.equal, with_ramp.parameters, plain.parameters))


@pytest.mark.parametrize("order", ["alpha-first", "weights-first"])
def test_the_order_of_the_half_steps(order):
    training, validation = small_batch(0), small_batch(1)
    together, apart = make(step_order=order, method="darts"), make(step_order=order, method="darts")
    of_weights, of_alpha = together.step(training, validation)
    if order == "alpha-first":
        second = apart.alpha_step(training, validation)
        first = apart.weight_step(training)
    else:
        first = apart.weight_step(training)
        second = apart.alpha_step(training, validation)
    assert torch.equal(of_weights.loss, first.loss) and torch.equal(of_alpha.loss, second.loss)
    assert all(map(torch.equal, together.parameters, apart.parameters))
    assert torch.equal(together.alphas["normal"], apart.alphas["normal"])
