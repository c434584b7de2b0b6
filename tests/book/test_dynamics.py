"""The dynamics of α, against automatic differentiation, SciPy's solvers and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import softmax

from ldarts_book.dynamics import (
    ADAM_BETAS,
    Refuted,
    adam_growth,
    alpha_gradient,
    confirm_equal,
    confirm_order,
    decayed_balance,
    descend,
    gradient_floor,
    gradient_flow,
    mean_decision,
    softmax_jacobian,
    spread,
    two_operation_time,
)
from ldarts_lib.bilevel.alignment import decision_scores, layer_alignment, unit_rows

SEEDS = st.integers(0, 2**32)


def real(*values):
    return torch.tensor(values, dtype=torch.float64)


def draw(seed, *shape):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape))


def gap(path):
    return path[..., 0] - path[..., 1]


@settings(deadline=None)
@given(seed=SEEDS, operations=st.integers(2, 7))
def test_jacobian_and_gradient_equal_automatic_differentiation(seed, operations):
    alpha, slope = draw(seed, 2, 3, operations)
    found = softmax_jacobian(alpha.softmax(-1))
    for edge in range(3):
        expected = torch.autograd.functional.jacobian(lambda a: a.softmax(-1), alpha[edge])
        torch.testing.assert_close(found[edge], expected, rtol=1e-12, atol=1e-14)
    leaf = alpha.clone().requires_grad_()
    (expected,) = torch.autograd.grad((leaf.softmax(-1) * slope).sum(), leaf)
    torch.testing.assert_close(alpha_gradient(alpha, slope), expected, rtol=1e-12, atol=1e-14)


@given(seed=SEEDS, operations=st.integers(2, 7))
def test_the_floor_lies_below_the_gradient_and_is_reached_by_two_operations(seed, operations):
    alpha, slope = 3 * draw(seed, 50, operations), draw(seed + 1, 50, operations)
    found = gradient_floor(alpha.softmax(-1), slope)
    length = alpha_gradient(alpha, slope).norm(dim=-1)
    assert (found <= length * (1 + 1e-9)).all()
    assert (found > 0).all()
    if operations == 2:
        torch.testing.assert_close(found, length)


def test_spread_is_of_each_edge():
    assert spread(real([1, -2, 0.5], [4, 4, 4])).tolist() == [3, 0]


@pytest.mark.parametrize(
    ("slope", "start"),
    [
        ((0.0, 0.3), (0.0, 0.0)),
        ((0.5, -1.0, 2.0), (0.3, -0.2, 0.0)),
        ((0.0, 0.1, 10.0), (-4.5, 0.0, -2.3)),
        ((0.0, 0.5, 1.0, 1.5, 30.0), (-3.0, 4.0, 0.0, 1.0, 0.0)),
    ],
)
def test_flow_equals_an_implicit_solver(slope, start):
    def velocity(_, alpha):
        p = softmax(alpha)
        return -p * (np.array(slope) - p @ np.array(slope))

    times = np.array([0, 1e-3, 0.7, 20, 1e3, 1e5])
    expected = solve_ivp(velocity, (0, 1e5), start, "Radau", times, rtol=1e-10, atol=1e-12).y.T
    found = gradient_flow(real(*slope), real(*start), torch.tensor(times))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_flow_with_nothing_to_gain_stays():
    start = real(0.3, -1.0, 2.0)
    assert torch.equal(gradient_flow(real(2, 2, 2), start, real(1e6))[0], start)


@pytest.mark.parametrize("times", [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_times_must_increase(times):
    with pytest.raises(ValueError, match="times must increase"):
        gradient_flow(real(0, 1), real(0, 0), real(*times))


def test_time_of_two_operations_inverts_the_flow():
    gaps = real(0.1, 1.0, 4.0, 9.0)
    times = two_operation_time(gaps, 0.7)
    torch.testing.assert_close(gap(gradient_flow(real(0, 0.7), real(0, 0), times)), gaps, rtol=1e-7, atol=0)


def test_plain_descent_equals_a_loop():
    slope, alpha, w, rate = np.array([0.3, -0.2, 1.0]), np.array([0.1, 0.0, -0.4]), 0.05, 0.3
    path = [alpha]
    for _ in range(30):
        p = softmax(alpha)
        alpha = alpha - rate * ((np.diag(p) - np.outer(p, p)) @ slope + w * alpha)
        path.append(alpha)
    found = descend(real(*slope), real(*path[0]), steps=30, learning_rate=rate, decay=w)
    np.testing.assert_allclose(found, path, rtol=1e-12)


def test_adam_equals_its_textbook_form_with_the_decay_in_the_gradient():
    slope, alpha, w, rate = np.array([0.3, -0.2, 1.0]), np.array([0.1, 0.0, -0.4]), 0.05, 0.01
    mean, square, path = np.zeros(3), np.zeros(3), [alpha]
    for step in range(1, 31):
        p = softmax(alpha)
        g = (np.diag(p) - np.outer(p, p)) @ slope + w * alpha
        mean, square = 0.5 * mean + 0.5 * g, 0.999 * square + 0.001 * g**2
        alpha = alpha - rate * mean / (1 - 0.5**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        path.append(alpha)
    found = descend(real(*slope), real(*path[0]), steps=30, learning_rate=rate, optimizer="adam", decay=w)
    np.testing.assert_allclose(found, path, rtol=1e-9)


def test_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="unknown optimizer 'sgd'; choose one of gradient, adam"):
        descend(real(0, 1), real(0, 0), steps=1, learning_rate=1.0, optimizer="sgd")


@pytest.mark.parametrize("rate", [1e-4, 3e-4])
@pytest.mark.parametrize("betas", [ADAM_BETAS, (0.9, 0.99)])
def test_adam_grows_by_what_its_recursion_repeats(rate, betas):
    growth = adam_growth(rate, betas)
    assert 0 < growth < -0.5 * math.log(betas[1])
    mean = square = 0.0
    begin = -20000
    for step in range(begin, 1):
        g = math.exp(-growth * step)
        mean = betas[0] * mean + (1 - betas[0]) * g
        square = betas[1] * square + (1 - betas[1]) * g * g
    assert 2 * rate * mean / math.sqrt(square) == pytest.approx(growth, rel=0.02)


def test_adam_itself_grows_by_that_much():
    path = descend(real(0, 1), real(0, 0), steps=12000, learning_rate=1e-2, optimizer="adam")
    late = (gap(path[-1]) - gap(path[-1001])).item() / 1000
    assert late == pytest.approx(adam_growth(1e-2), rel=0.03)


@pytest.mark.parametrize("slope", [1e-3, 0.1, 1.0, 50.0])
@pytest.mark.parametrize("decay", [1e-3, 1e-1])
def test_balance_is_the_only_root_and_where_descent_ends(slope, decay):
    def force(a):
        return slope * math.exp(-abs(a)) / (1 + math.exp(-abs(a))) ** 2 - decay * a / 2

    found = decayed_balance(slope, decay)
    assert found == pytest.approx(brentq(force, 0, slope / decay, xtol=1e-14), rel=1e-9)
    signs = np.sign([force(a) for a in np.linspace(-60, 60, 4000)])
    assert np.count_nonzero(np.diff(signs)) == 1
    speed = 1 / (slope / 4 + decay)
    path = descend(real(0, slope), real(0, 0), steps=20000, learning_rate=speed, decay=decay)
    assert gap(path[-1]).item() == pytest.approx(found, rel=1e-6)


def test_without_a_slope_decay_wins():
    assert decayed_balance(0.0, 0.1) == 0.0


@pytest.mark.parametrize(("slope", "decay"), [(-1.0, 0.1), (1.0, 0.0), (math.nan, 0.1), (1.0, math.inf)])
def test_balance_refuses_what_has_none(slope, decay):
    with pytest.raises(ValueError, match="positive decay, got"):
        decayed_balance(slope, decay)


@given(seed=SEEDS, cells=st.integers(2, 20), pull=st.floats(-0.5, 3))
def test_mean_decision_is_that_of_gradients_of_equal_norm(seed, cells, pull):
    g = 7 * unit_rows(draw(seed, cells, 30) + pull * draw(seed + 1, 30))
    expected = decision_scores(g).mean()
    torch.testing.assert_close(mean_decision(cells, layer_alignment(g)), expected, rtol=1e-9, atol=1e-12)


def test_confirmations_return_the_error_or_refute():
    assert confirm_equal(real(1, 1), real(1, 1.01), within=0.1) == pytest.approx(0.01 / math.hypot(1, 1.01))
    assert confirm_order(real(1, 5), real(1.5, 9)) == 0.5
    with pytest.raises(Refuted, match=r"relative error 2, allowed 1e-09"):
        confirm_equal(-real(1, 1), real(1, 1))
    with pytest.raises(Refuted, match="shapes"):
        confirm_equal(real(1, 1), real(1))
    with pytest.raises(Refuted, match="relative error nan"):
        confirm_equal(real(math.nan), real(1))
    with pytest.raises(Refuted, match=r"fails by 0\.5"):
        confirm_order(real(1, 2), real(1.5, 1.5))
    with pytest.raises(Refuted, match="fails by nan"):
        confirm_order(real(math.nan), real(1))
