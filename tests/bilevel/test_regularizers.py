from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers import random_weights, small_batch, small_supernet, statistics
from ldarts_lib.bilevel.alignment import (
    cosine_delta,
    edge_alignment,
    edge_delta,
    layer_alignment,
    projected_alignment,
    projected_delta,
    random_delta,
    sign_alignment,
    sign_delta,
)
from ldarts_lib.bilevel.gradients import flat, gradients, total_lengths
from ldarts_lib.bilevel.regularizers import (
    Regularizer,
    penalized_gradients,
    perturbation,
    regularized_gradients,
)
from ldarts_lib.spaces.space import SPACES

SEEDS = st.integers(0, 2**32)
PROJECTED = (partial(projected_delta, operations=2), partial(projected_alignment, operations=2))


def by_edge(function):
    """With edges of several operations, whose p differ from cell to cell."""

    def of_rows(g):
        draw = torch.Generator().manual_seed(0)
        operations = 3 if g.shape[1] % 4 else 4
        p = torch.randn(9, g.shape[1] // operations, operations, generator=draw).softmax(-1)
        return function(g, p[-len(g) :].to(g.dtype))

    return of_rows


BY_EDGE = by_edge(edge_delta), by_edge(edge_alignment)
FORMS = [(cosine_delta, layer_alignment), (sign_delta, sign_alignment), PROJECTED, BY_EDGE]
EACH_DELTA = pytest.mark.parametrize(
    ("delta", "alignment"), FORMS, ids=["cosine", "sign", "projected", "edge"]
)
EACH_FORM = pytest.mark.parametrize("form", ["cosine", "sign"])
EACH_ESTIMATOR = pytest.mark.parametrize("estimator", ["central", "forward", "exact"])


def draw_rows(seed, cells):
    rows = np.random.default_rng(seed).standard_normal((cells, 12))
    return torch.tensor(rows) * torch.logspace(-2, 2, cells, dtype=torch.float64)[:, None]


def distance(found, expected):
    """‖found − expected‖ / ‖expected‖ over all parameters together."""
    squares = [((a - b).square().sum(), b.square().sum()) for a, b in zip(found, expected, strict=True)]
    return (sum(s[0] for s in squares) / sum(s[1] for s in squares)).sqrt().item()


@EACH_DELTA
@given(seed=SEEDS, cells=st.integers(2, 9))
def test_delta_equals_autograd(delta, alignment, seed, cells):
    g = draw_rows(seed, cells).requires_grad_()
    (expected,) = torch.autograd.grad(alignment(g), g)
    found = delta(g.detach())
    for ours, theirs in zip(found, expected, strict=True):  # the rows' lengths differ by 10⁴
        assert (ours - theirs).norm() <= 1e-10 * theirs.norm() + 1e-13 / cells


@EACH_DELTA
@given(seed=SEEDS)
def test_delta_equals_numerical_differentiation(delta, alignment, seed):
    g = torch.tensor(np.random.default_rng(seed).standard_normal((6, 20)))
    g = torch.where(g.abs() < 1e-3, 1e-3, g)  # the sign form has kinks where an entry changes its sign
    step, numerical = 1e-5, torch.zeros_like(g)
    for index in np.ndindex(*g.shape):
        ahead, behind = g.clone(), g.clone()
        ahead[index] += step
        behind[index] -= step
        numerical[index] = (alignment(ahead) - alignment(behind)) / (2 * step)
    assert (delta(g) - numerical).abs().max() < 1e-8


@EACH_DELTA
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_gradients_give_zero(delta, alignment, dtype):
    g = torch.randn(4, 6, dtype=dtype, generator=torch.Generator().manual_seed(0))
    full = delta(g[1:])
    g[0] = 0
    found = delta(g)
    assert not found[0].any() if delta is cosine_delta else found.isfinite().all()
    assert not delta(torch.zeros(4, 6, dtype=dtype)).any()
    pairs = (4 * 3) / (3 * 2)  # a row that agrees with nobody only dilutes the mean
    torch.testing.assert_close(found[1:] * pairs, full)
    one = torch.zeros(4, 6, dtype=dtype)
    one[2] = g[2]
    assert delta(one)[2].abs().max() < 1e-7  # the direction of a row is all that Λ sees
    assert delta(one).isfinite().all()
    assert found.dtype == dtype


@EACH_DELTA
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_disjoint_or_tiny_gradients_never_give_nan(delta, alignment, dtype):
    for g in (torch.eye(4, dtype=dtype), torch.full((3, 4), torch.finfo(dtype).tiny, dtype=dtype)):
        assert delta(g).isfinite().all()
        assert alignment(g).isfinite()


@EACH_DELTA
def test_one_cell_is_refused(delta, alignment):
    with pytest.raises(ValueError, match="at least two cells, got 1"):
        delta(torch.ones(1, 4))


def naive_edge_alignment(g, p):
    """Mean over edges and pairs of cells of the cosine of J(p_e) g_{l,e}, with J written out, in loops."""
    cells, edges, _ = g.shape
    found = []
    for e in range(edges):
        felt = [(torch.diag(p[c, e]) - torch.outer(p[c, e], p[c, e])) @ g[c, e] for c in range(cells)]
        found += [
            (felt[a] @ felt[b]) / (felt[a].norm() * felt[b].norm()) for a in range(cells) for b in range(a)
        ]
    return torch.stack(found).mean()


def brute_force(net, batch, weights, form):
    """∂R/∂ω by differentiating the alignment of ∇p L itself, nothing held fixed."""
    logits = net(batch.inputs, weights, update_statistics=False)
    loss = -logits.log_softmax(1)[torch.arange(len(batch.targets)), batch.targets].mean()
    (g,) = torch.autograd.grad(loss, weights["normal"], create_graph=True)
    alignment = {
        "cosine": layer_alignment,
        "sign": sign_alignment,
        "projected": lambda rows: projected_alignment(rows, g.shape[-1]),
        "edge": lambda rows: naive_edge_alignment(rows.view_as(g), weights["normal"].detach()),
    }[form](g.flatten(1))
    return torch.autograd.grad(alignment, tuple(net.parameters()), materialize_grads=True)


def scene(space, seed=0, **settings):
    net = small_supernet(space, generator=torch.Generator().manual_seed(5), **settings)
    dtype = settings.get("dtype", torch.float64)
    return net, small_batch(seed, dtype), random_weights(net, seed)


OTHER_FORMS = [(space, form) for space in ("nasbench201", "s1") for form in ("sign", "projected")] + [
    ("nasbench201", "edge"), ("s3", "edge"),
]  # fmt: skip
EACH_SPACE = [(space, "cosine") for space in SPACES if space != "darts"]  # darts8 has all that it has
SOME_SPACES = [(space, "cosine") for space in ("nasbench201", "s2", "s4")]


@pytest.mark.parametrize(("space", "form"), EACH_SPACE + OTHER_FORMS)
def test_the_exact_gradient_equals_brute_force(space, form):
    net, batch, weights = scene(space)
    state = net.random_state()
    expected = brute_force(net, batch, weights, form)
    net.set_random_state(state)
    found, penalty = regularized_gradients(net, batch, weights, Regularizer(form, "exact"))
    assert max(p.abs().max() for p in penalty) > 1e-3
    assert distance(penalty, expected) < 1e-10
    net.set_random_state(state)
    plain = gradients(net, batch, weights)
    assert distance(found.weights, plain.weights) < 1e-12
    assert torch.equal(found.loss, plain.loss) and torch.equal(found.output, plain.output)
    for kind, g in plain.cells.items():
        torch.testing.assert_close(found.cells[kind], g, rtol=1e-10, atol=1e-12)
        assert not found.cells[kind].requires_grad


@pytest.mark.parametrize(("space", "form"), SOME_SPACES + OTHER_FORMS)
@pytest.mark.parametrize(
    ("estimator", "epsilon", "error"), [("central", 1e-6, 1e-5), ("forward", 1e-8, 1e-4)]
)
def test_finite_differences_approach_the_exact_gradient(space, form, estimator, epsilon, error):
    """In S4 this also shows that all passes see the same noise."""
    net, batch, weights = scene(space)
    state = net.random_state()
    base, expected = regularized_gradients(net, batch, weights, Regularizer(form, "exact"))
    net.set_random_state(state)
    regularizer = Regularizer(form, estimator, epsilon)
    found, penalty = regularized_gradients(net, batch, weights, regularizer)
    assert distance(penalty, expected) < error
    assert distance(found.weights, base.weights) < 1e-12
    for kind, g in base.cells.items():
        torch.testing.assert_close(found.cells[kind], g, rtol=1e-10, atol=1e-12)


def smooth(module):
    """Replace every ReLU, in place, so that the loss has all derivatives."""
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU):
            setattr(module, name, nn.GELU())
        else:
            smooth(child)


@EACH_FORM
@pytest.mark.parametrize(("estimator", "order"), [("central", 2), ("forward", 1)])
def test_the_order_of_convergence(form, estimator, order):
    net, batch, weights = scene("nasbench201")
    smooth(net)
    _, expected = regularized_gradients(net, batch, weights, Regularizer(form, "exact"))
    steps = [2e-3, 1e-3, 5e-4]
    errors = [
        distance(
            regularized_gradients(net, batch, weights, Regularizer(form, estimator, step))[1],
            expected,
        )
        for step in steps
    ]
    orders = [np.log2(errors[i] / errors[i + 1]) for i in range(2)]
    assert orders == pytest.approx([order] * 2, abs=0.1)


@pytest.mark.parametrize("estimator", ["central", "forward"])
def test_the_perturbation_has_length_epsilon_over_all_cells(estimator, monkeypatch):
    net, batch, weights = scene("s2")
    seen = []
    original = type(net).forward

    def spy(self, images, weights, **keywords):
        seen.append({kind: w.detach().clone() for kind, w in weights.items()})
        return original(self, images, weights, **keywords)

    monkeypatch.setattr(type(net), "forward", spy)
    regularized_gradients(net, batch, weights, Regularizer("cosine", estimator, 0.05))
    assert len(seen) == (3 if estimator == "central" else 2)
    shifts = [pass_["normal"] - weights["normal"].detach() for pass_ in seen]
    assert not shifts[0].any()
    assert [s.norm().item() for s in shifts[1:]] == pytest.approx([0.05] * (len(seen) - 1))
    if estimator == "central":
        torch.testing.assert_close(shifts[1], -shifts[2])
    assert all(torch.equal(pass_["reduce"], weights["reduce"]) for pass_ in seen)


def test_two_kinds_of_cells_share_the_length_of_the_perturbation():
    draw = torch.Generator().manual_seed(0)
    cells = {kind: torch.randn(3, 4, 5, generator=draw) for kind in ("normal", "reduce")}
    directions, length = perturbation(Regularizer(kinds="all"), cells)
    delta = torch.stack([cosine_delta(g.flatten(1)) / 2 for g in cells.values()])
    torch.testing.assert_close(length, delta.norm())
    torch.testing.assert_close(torch.stack([*directions.values()]).flatten(2), delta / delta.norm())


@pytest.mark.parametrize(("size", "apart"), [(0.0, 1.0), (1e-25, 1.0), (1e18, 1e-7)])
def test_a_direction_too_small_to_have_a_length_moves_nothing(size, apart):
    """In float32: no gradient, gradients whose squares are zero, and cells that agree but for roundings."""
    draw = torch.Generator().manual_seed(0)
    g = size * (torch.randn(4, 5, generator=draw) + apart * torch.randn(3, 4, 5, generator=draw))
    directions, length = perturbation(Regularizer(), {"normal": g})
    assert length == 0 and not directions["normal"].any()


@EACH_ESTIMATOR
def test_all_passes_see_the_same_noise(estimator):
    """The random state moves on by exactly one pass, and the estimate repeats bit for bit."""
    net, batch, weights = scene("s4")
    state = net.random_state()
    gradients(net, batch, weights)
    after_one_pass = net.random_state()
    regularizer = Regularizer("cosine", estimator)
    repeats = []
    for _ in range(2):
        net.set_random_state(state)
        repeats.append(regularized_gradients(net, batch, weights, regularizer)[1])
        assert torch.equal(net.random_state(), after_one_pass)
    assert all(map(torch.equal, *repeats))


@pytest.mark.parametrize("space", ["nasbench201", "s1", "s4"])
@EACH_ESTIMATOR
def test_statistics_move_once_as_in_a_plain_pass(space, estimator):
    (net, batch, weights), (plain, _, _) = scene(space), scene(space)
    gradients(plain, batch, weights, update_statistics=True)
    before = statistics(net)
    regularized_gradients(net, batch, weights, Regularizer("cosine", estimator, 0.1))
    expected = statistics(plain)
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, expected[name])
        if name.endswith("num_batches_tracked"):
            assert buffer == before[name] + 1


@EACH_FORM
@EACH_ESTIMATOR
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_without_gradients_gives_no_penalty(form, estimator, dtype):
    net, batch, weights = scene("nasbench201", dtype=dtype)
    with torch.no_grad():
        net.macro.head[-1].weight.zero_()
    found, penalty = regularized_gradients(net, batch, weights, Regularizer(form, estimator))
    assert not found.cells["normal"].any()
    assert all(not p.any() for p in penalty)
    assert found.loss.isfinite()


@EACH_FORM
@EACH_ESTIMATOR
def test_float32_is_enough(form, estimator):
    """At a length of 1e-3, with some loss of accuracy in the differences."""
    net, batch, weights = scene("nasbench201")
    smooth(net)
    _, expected = regularized_gradients(net, batch, weights, Regularizer(form, "exact"))
    net, batch, weights = scene("nasbench201", dtype=torch.float32)
    smooth(net)
    _, penalty = regularized_gradients(net, batch, weights, Regularizer(form, estimator, 1e-3))
    assert penalty[0].dtype == torch.float32
    allowed = 1e-3 if estimator == "exact" else 0.1
    assert distance([p.double() for p in penalty], expected) < allowed


@pytest.mark.parametrize("estimator", ["central", "forward", "exact"])
def test_the_penalty_is_subtracted(estimator):
    net, batch, weights = scene("nasbench201")
    regularizer = Regularizer("cosine", estimator, 1e-7)
    found, penalty = regularized_gradients(net, batch, weights, regularizer)
    total = penalized_gradients(net, batch, weights, regularizer, 0.5)
    for t, g, r in zip(total.weights, found.weights, penalty, strict=True):
        torch.testing.assert_close(t, g - 0.5 * r)
    torch.testing.assert_close(total.loss, found.loss)
    torch.testing.assert_close(total.cells, found.cells)


@pytest.mark.parametrize("space", ["nasbench201", "s1"])
def test_gradients_equal_backward(space):
    net, batch, weights = scene(space)
    found = gradients(net, batch, weights)
    logits = net(batch.inputs, weights, update_statistics=False)
    loss = -logits.log_softmax(1)[torch.arange(len(batch.targets)), batch.targets].mean()
    loss.backward()
    torch.testing.assert_close(found.loss, loss.detach())
    torch.testing.assert_close(found.output, logits.detach())
    for ours, parameter in zip(found.weights, net.parameters(), strict=True):
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(ours, expected)
    for kind, w in weights.items():
        torch.testing.assert_close(found.cells[kind], w.grad)
    without = gradients(net, batch, weights, of_parameters=False)
    assert without.weights == ()
    assert torch.equal(without.cells["normal"], found.cells["normal"])


@pytest.mark.parametrize(
    "settings",
    [{"form": "tanh"}, {"estimator": "backward"}, {"kinds": "both"}]
    + [{"epsilon": epsilon} for epsilon in (0.0, -1e-4, float("nan"), float("inf"))],
)
def test_bad_regularizers_are_refused_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Regularizer(**settings)


def test_the_random_control_is_as_long_as_the_cosine_form():
    draw = torch.Generator().manual_seed(0)
    g, noise = (torch.randn(4, 12, generator=draw, dtype=torch.float64) for _ in range(2))
    delta = random_delta(g, noise)
    torch.testing.assert_close(delta.norm(dim=1), cosine_delta(g).norm(dim=1))
    cosines = (delta * noise).sum(1) / (delta.norm(dim=1) * noise.norm(dim=1))
    torch.testing.assert_close(cosines, torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("space", ["nasbench201", "s4"])
def test_the_random_control_draws_new_directions_and_repeats(space):
    def penalties(estimator):
        net, batch, weights = scene(space)
        smooth(net)
        regularizer = Regularizer("random", estimator, 1e-5)
        return [regularized_gradients(net, batch, weights, regularizer)[1] for _ in range(2)]

    first, second = penalties("exact")
    assert all(torch.equal(a, b) for a, b in zip(first, penalties("exact")[0], strict=True))
    assert not torch.allclose(
        torch.cat([p.flatten() for p in first]), torch.cat([p.flatten() for p in second])
    )
    for ours, exact in zip(penalties("central")[0], first, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("estimator", ["exact", "central"])
def test_all_kinds_of_cells_are_aligned_together(estimator):
    net, batch, weights = scene("s2")
    smooth(net)
    logits = net(batch.inputs, weights, update_statistics=False)
    loss = nn.functional.cross_entropy(logits, batch.targets)
    by_kind = torch.autograd.grad(loss, tuple(weights.values()), create_graph=True)
    mean = sum(layer_alignment(g.flatten(1)) for g in by_kind) / len(by_kind)
    expected = torch.autograd.grad(mean, tuple(net.parameters()), materialize_grads=True)
    _, found = regularized_gradients(net, batch, weights, Regularizer("cosine", estimator, 1e-5, "all"))
    _, of_normal = regularized_gradients(net, batch, weights, Regularizer("cosine", estimator, 1e-5))
    assert distance(found, expected) < (1e-9 if estimator == "exact" else 1e-4)
    assert distance(of_normal, expected) > 0.1


@EACH_ESTIMATOR
def test_the_noise_control_is_a_random_vector_of_the_same_length(estimator):
    net, batch, weights = scene("nasbench201")
    _, penalty = regularized_gradients(net, batch, weights, Regularizer("cosine", estimator, 0.1))
    (base, one), (_, two) = (
        regularized_gradients(net, batch, weights, Regularizer("noise", estimator, 0.1)) for _ in range(2)
    )
    lengths = [total_lengths(each, 1).item() for each in (penalty, one, two)]
    assert lengths == pytest.approx([lengths[0]] * 3)
    for other in (penalty, two):
        inner = sum((a * b).sum() for a, b in zip(one, other, strict=True)).item()
        assert abs(inner) < 0.2 * lengths[0] ** 2
    again = scene("nasbench201")[0]
    total = penalized_gradients(again, batch, weights, Regularizer("noise", estimator, 0.1), 0.5)
    for ours, plain, noise in zip(total.weights, base.weights, one, strict=True):
        torch.testing.assert_close(ours, plain - 0.5 * noise)


@pytest.mark.parametrize(("space", "seeds"), [("nasbench201", 4), ("s4", 1)])
def test_two_controls_draw_the_sign_of_the_difference_or_of_its_error(space, seeds):
    """Also where operations are random: all estimates see the same noise."""
    net, batch, weights = scene(space)
    estimates = [("cosine", "exact"), ("cosine", "central"), ("flipped", "central"), ("blurred", "central")]
    signs, kept = [], []
    for seed in range(seeds):
        found = []
        for form, estimator in estimates:
            net.generator.manual_seed(seed)
            penalty = regularized_gradients(net, batch, weights, Regularizer(form, estimator, 0.1))[1]
            found.append(flat(penalty))
        exact, difference, flipped, blurred = found
        signs.append((flipped @ difference / difference.square().sum()).round().item())
        assert torch.equal(flipped, signs[-1] * difference)
        torch.testing.assert_close((blurred - exact).abs(), (difference - exact).abs())
        kept.append(((blurred - exact) * (difference - exact)).sign().mean().item())
    assert {*signs} == {-1.0, 1.0} or (seeds == 1 and abs(signs[0]) == 1)
    assert max(map(abs, kept)) < 0.2


def test_the_penalty_of_both_batches_is_the_mean_of_theirs():
    (net, batch, weights), other = scene("nasbench201"), small_batch(1)
    regularizer = Regularizer("cosine", "exact")
    one, two = (regularized_gradients(net, each, weights, regularizer) for each in (batch, other))
    found = penalized_gradients(net, batch, weights, regularizer, 0.5, other, both=True)
    expected = flat(one[0].weights) - 0.25 * (flat(one[1]) + flat(two[1]))
    torch.testing.assert_close(flat(found.weights), expected)
