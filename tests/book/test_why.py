"""The dynamics of α and the loss on the way to a vertex, against SciPy, brute force and differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import softmax

from helpers import drawn_alphas, small_batch, small_supernet
from ldarts_book import why
from ldarts_book.studies.theory import cells, copies, gradient_flow, loss, shared, weighted_alignment
from ldarts_lib.bilevel.protocols import protocol

SEEDS = st.integers(0, 2**32)


def real(*values):
    return torch.tensor(values, dtype=torch.float64)


def draw(seed, *shape):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape))


def gap(path):
    return path[..., 0] - path[..., 1]


@given(seed=SEEDS, operations=st.integers(2, 7))
def test_what_is_not_saturated_lies_below_its_bound(seed, operations):
    alpha, slope = 3 * draw(seed, 50, operations), draw(seed + 1, 50, operations)
    p = alpha.softmax(-1)
    found = why.unsaturated_bound(p, slope)
    assert (1 - p.amax(-1) <= found * (1 + 1e-9)).all()
    row, k = 7, p[7].argmax()
    apart = sum(1 / (slope[row, o] - slope[row, k]).abs() for o in range(operations) if o != k)
    length = (p[row] * (slope[row] - p[row] @ slope[row])).norm()
    torch.testing.assert_close(found[row], math.sqrt(2) * length * apart)
    torch.testing.assert_close(why.unsaturated_bound(real(0.5, 0.5), real(3, 1)), torch.tensor(0.5).double())


@given(seed=SEEDS, operations=st.integers(2, 6), exponent=st.floats(-2, 2))
def test_no_slope_with_a_margin_gives_less_than_the_floor_at_steps_of_any_length(seed, operations, exponent):
    numbers, rate = np.random.default_rng(seed), 10**exponent
    start = draw(seed, operations).sort(descending=True).values
    margins = torch.tensor(numbers.uniform(0, 1, 20))

    def adversary(step, alpha):
        slope = torch.tensor(numbers.uniform(1, 5, operations))
        slope[0], slope[1 + alpha[1:].argmax()] = 0.0, margins[step]
        return slope + 7

    path = why.descend(adversary, start, steps=20, learning_rate=rate).softmax(-1)[:, 0]
    push = rate * torch.cat([torch.zeros(1), margins.cumsum(0)])
    assert (path >= why.margin_floor(start.softmax(0), push) * (1 - 1e-9)).all()
    assert (path.diff() >= -1e-12).all()
    n, even = operations, torch.full((operations,), 1 / operations)
    torch.testing.assert_close(1 - why.margin_floor(even, push), n * (n - 1) / (n * n + push))


@pytest.mark.parametrize("operations", [2, 5])
def test_the_slowest_flow_of_a_margin_takes_its_time(operations):
    slope = 0.7 * (torch.arange(operations) > 0).double()
    weights = real(0.6, 0.9, 0.99)
    times = why.margin_time(weights, 0.7, operations)
    path = gradient_flow(slope, torch.zeros_like(slope), times).softmax(-1)
    torch.testing.assert_close(path[:, 0], weights, rtol=1e-7, atol=0)
    a = weights.logit()
    if operations == 2:
        torch.testing.assert_close(times, (a.exp() + 2 * a - (-a).exp()) / 1.4)
    faster = gradient_flow(slope * torch.arange(operations), torch.zeros_like(slope), times).softmax(-1)
    assert (faster[:, 0] >= weights * (1 - 1e-7)).all()


def test_mirror_descent_is_exponential_and_a_slope_may_follow_the_path():
    slope = real(0.3, -0.2, 1.0)
    path = why.descend(slope, real(0, 0, 0), steps=20, learning_rate=0.5, optimizer="mirror")
    torch.testing.assert_close(path, -0.5 * torch.arange(21)[:, None] * slope)
    seen = []
    target = real(0.2, 0.5, 0.3)

    def inner(step, alpha):
        seen.append(step)
        return alpha.softmax(-1) - target

    end = why.descend(inner, real(1, 0, 0), steps=400, learning_rate=5.0)[-1]
    assert seen == [*range(400)]
    torch.testing.assert_close(end.softmax(-1), target, rtol=1e-6, atol=0)


@pytest.mark.parametrize("ratio", [0.3, 3.0])
def test_adam_drifts_by_signal_over_noise(ratio):
    noise = np.random.default_rng(0)

    def slope(step, alpha):
        return torch.tensor([0.0, 50.0]) * (1 + noise.standard_normal((1000, 1)) / ratio)

    options = {"learning_rate": 3e-4, "optimizer": "adam"}
    path = why.descend(slope, torch.zeros(1000, 2).double(), steps=300, **options)
    speed = (gap(path[300]) - gap(path[100])).mean() / 200
    torch.testing.assert_close(speed, why.adam_drift(3e-4, ratio), rtol=0.05, atol=0)


@pytest.mark.parametrize("optimizer", ["gradient", "adam"])
def test_descent_equals_its_textbook_form_with_the_decay_in_the_gradient(optimizer):
    slope, alpha, w, rate = np.array([0.3, -0.2, 1.0]), np.array([0.1, 0.0, -0.4]), 0.05, 0.01
    mean, square, path = np.zeros(3), np.zeros(3), [alpha]
    for step in range(1, 31):
        p = softmax(alpha)
        g = (np.diag(p) - np.outer(p, p)) @ slope + w * alpha
        mean, square = 0.5 * mean + 0.5 * g, 0.999 * square + 0.001 * g**2
        adam = mean / (1 - 0.5**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        alpha = alpha - rate * (adam if optimizer == "adam" else g)
        path.append(alpha)
    options = {"learning_rate": rate, "optimizer": optimizer, "decay": w}
    found = why.descend(real(*slope), real(*path[0]), steps=30, **options)
    np.testing.assert_allclose(found, path, rtol=1e-9)


@pytest.mark.parametrize("rate", [1e-4, 3e-4])
@pytest.mark.parametrize("betas", [why.ADAM_BETAS, (0.9, 0.99)])
def test_adam_grows_by_what_its_recursion_repeats(rate, betas):
    growth = why.adam_growth(rate, betas)
    assert 0 < growth < -0.5 * math.log(betas[1])
    mean = square = 0.0
    begin = -20000
    for step in range(begin, 1):
        g = math.exp(-growth * step)
        mean = betas[0] * mean + (1 - betas[0]) * g
        square = betas[1] * square + (1 - betas[1]) * g * g
    assert 2 * rate * mean / math.sqrt(square) == pytest.approx(growth, rel=0.02)


def test_adam_itself_grows_by_that_much():
    betas = (0.5, 0.99)  # a tenth of the steps until it does
    options = {"learning_rate": 1e-2, "optimizer": "adam", "betas": betas}
    path = why.descend(real(0, 1), real(0, 0), steps=1500, **options)
    late = (gap(path[-1]) - gap(path[-101])).item() / 100
    assert late == pytest.approx(why.adam_growth(1e-2, betas), rel=0.03)


@pytest.mark.parametrize("slope", [1e-3, 0.1, 1.0, 50.0])
@pytest.mark.parametrize("decay", [1e-3, 1e-1])
def test_balance_is_the_only_root(slope, decay):
    def force(a):
        return slope * math.exp(-abs(a)) / (1 + math.exp(-abs(a))) ** 2 - decay * a / 2

    found = why.decayed_balance(slope, decay)
    assert found == pytest.approx(brentq(force, 0, slope / decay, xtol=1e-14), rel=1e-9)
    signs = np.sign([force(a) for a in np.linspace(-60, 60, 4000)])
    assert np.count_nonzero(np.diff(signs)) == 1


@pytest.mark.parametrize(("slope", "decay"), [(0.0, 0.1), (1.0, 0.1), (50.0, 0.1)])
def test_descent_ends_where_decay_balances_the_slope(slope, decay):
    speed = 1 / (slope / 4 + decay)
    path = why.descend(real(0, slope), real(0, 0), steps=2000, learning_rate=speed, decay=decay)
    assert gap(path[-1]).item() == pytest.approx(why.decayed_balance(slope, decay), rel=1e-6)


def test_alpha_alone_descends_and_leaves_the_weights():
    net, batch = small_supernet("nasbench201").eval(), small_batch()
    alphas = {"normal": torch.zeros(6, 5).double()}
    before = [parameter.clone() for parameter in net.parameters()]
    rows = why.alone(net, batch, alphas, steps=6)
    assert all(torch.equal(*pair) for pair in zip(before, net.parameters(), strict=True))
    assert not alphas["normal"].any()
    assert rows.loss.iloc[-1] < rows.loss.iloc[0] and len(rows) == 7
    g = cells(net, batch, copies(net, alphas))
    assert rows["largest weight"][0] == pytest.approx(0.2)
    wide = (g.sum(0).amax(-1) - g.sum(0).amin(-1)).mean().item()
    assert rows["spread of the sum"][0] == pytest.approx(wide)
    expected = weighted_alignment((g - g.mean(-1, keepdim=True)).flatten(1)).item()
    assert rows["alignment"][0] == pytest.approx(expected)  # at uniform p, J(p) removes the mean


def test_the_nearest_vertex_keeps_the_strongest_operations_and_a_sharper_p_gives_them_a_weight():
    alphas = {"normal": real([0.2, 0.5, 0.3], [1.0, -1.0, 0.0])}
    assert why.nearest_vertex(alphas)["normal"].tolist() == [[0, 1, 0], [1, 0, 0]]
    p = why.sharpened(alphas, 0.9)["normal"].softmax(-1)
    torch.testing.assert_close(p, real([0.05, 0.9, 0.05], [0.9, 0.05, 0.05]))


@pytest.mark.parametrize("space", ["nasbench201", "s3"])
def test_a_line_runs_from_p_to_the_vertex(space):
    net, batch = small_supernet(space).eval(), small_batch()
    alphas = drawn_alphas(net)
    start, vertex = {kind: alpha.softmax(-1) for kind, alpha in alphas.items()}, why.nearest_vertex(alphas)

    @torch.no_grad()
    def between(tau):
        return loss(net, batch, shared(net, {k: p + tau * (vertex[k] - p) for k, p in start.items()}))

    line = why.loss_line(net, batch, alphas, points=9)
    first, second, *_, last = line.positions
    assert (first, last) == (0, 1)
    torch.testing.assert_close(line.losses[[0, -1]], torch.stack([between(0), between(1)]))
    slope = why.slope_by_difference(net, batch, alphas)
    torch.testing.assert_close(line.slopes[0], slope, rtol=1e-6, atol=0)
    nudge = 1e-6
    expected = (between(second + nudge) - between(second - nudge)) / (2 * nudge)
    assert line.slopes[1].item() == pytest.approx(expected.item(), rel=1e-5)


def test_gap_remainder_and_bending_of_a_parabola():
    tau = torch.linspace(0, 1, 11, dtype=torch.float64)
    line = why.LossLine(tau, 2 - 0.5 * tau + 3 * tau**2, -0.5 + 6 * tau)
    assert (line.gap, line.remainder, line.bending) == pytest.approx((2.5, 3.0, 6.0))
    bent = why.LossLine(tau, 2 - 0.5 * tau - 3 * tau**3, -0.5 - 9 * tau**2)
    assert (bent.gap, bent.remainder, bent.bending) == pytest.approx((-3.5, -3.0, 9.0))


def test_training_moves_the_weights_and_not_alpha():
    settings = protocol("nasbench201", "digits", "darts", "smoke", epochs=1)
    still = settings.model_copy(update={"weight_lr": 1e-12, "weight_lr_min": 0.0})
    alphas = {"normal": torch.linspace(-1, 1, 30).view(6, 5)}
    trained, untrained = (why.train_at(each, alphas) for each in (settings, still))
    assert torch.equal(trained.alphas["normal"], alphas["normal"])
    parameters = zip(*(one.supernet.parameters() for one in (trained, untrained)), strict=True)
    assert max((a - b).abs().max() for a, b in parameters) > 0.01
    assert trained.supernet.training
