"""The softmax of α and the gradients through it, against automatic differentiation and SciPy's solvers."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.special import softmax

from helpers import drawn_alphas, small_batch, small_supernet
from ldarts_book.studies import theory
from ldarts_lib.bilevel.alignment import layer_alignment
from ldarts_lib.bilevel.half_steps import softmax_backward


def real(*values):
    return torch.tensor(values, dtype=torch.float64)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), operations=st.integers(2, 7))
def test_jacobian_and_gradient_equal_automatic_differentiation(seed, operations):
    alpha, slope = torch.tensor(np.random.default_rng(seed).standard_normal((2, 3, operations)))
    found = theory.softmax_jacobian(alpha.softmax(-1))
    for edge in range(3):
        expected = torch.autograd.functional.jacobian(lambda a: a.softmax(-1), alpha[edge])
        torch.testing.assert_close(found[edge], expected, rtol=1e-12, atol=1e-14)
    leaf = alpha.clone().requires_grad_()
    (expected,) = torch.autograd.grad((leaf.softmax(-1) * slope).sum(), leaf)
    torch.testing.assert_close(theory.alpha_gradient(alpha, slope), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("space", ["nasbench201", "s3"])
def test_shared_gradients_are_the_jacobian_times_the_sum_of_the_cells(space):
    net, batch = small_supernet(space), small_batch()
    alphas = drawn_alphas(net)
    found = theory.shared_gradients(net, batch, alphas)
    assert set(found) == set(net.space.cells)
    by_cell = theory.cells(net, batch, theory.copies(net, alphas))
    expected = softmax_backward(alphas["normal"], by_cell)
    torch.testing.assert_close(found["normal"], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("slope", "start"),
    [
        ((2.0, 2.0, 2.0), (0.3, -1.0, 2.0)),  # nothing to gain: it stays
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
    found = theory.gradient_flow(real(*slope), real(*start), torch.tensor(times))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_confirmations_return_the_error_or_refute():
    assert theory.confirm_equal(real(1, 1), real(1, 1.01), within=0.1) == pytest.approx(
        0.01 / math.hypot(1, 1.01)
    )
    assert theory.confirm_order(real(1, 5), real(1.5, 9)) == 0.5
    for confirm, found, expected, message in (
        (theory.confirm_equal, -real(1, 1), real(1, 1), r"relative error 2, allowed 1e-09"),
        (theory.confirm_equal, real(1, 1), real(1), "shapes"),
        (theory.confirm_equal, real(math.nan), real(1), "relative error nan"),
        (theory.confirm_order, real(1, 2), real(1.5, 1.5), r"fails by 0\.5"),
        (theory.confirm_order, real(math.nan), real(1), "fails by nan"),
        (theory.confirm_order, real(1e9, 2e-9), real(1e9, 1e-9), "fails by 1e-09"),
        (theory.confirm_equal, real([1e9, 0], [1e-9, 0]), real([1e9, 0], [2e-9, 0]), r"error 0\.5"),
    ):
        with pytest.raises(theory.Refuted, match=message):
            confirm(found, expected)


def test_pairs_weigh_by_their_lengths_and_shares_sum_to_one():
    g = torch.tensor(np.random.default_rng(0).standard_normal((3, 4, 5)))
    cosines = [(a @ b / (a.norm() * b.norm()), a.norm() * b.norm()) for a, b in combinations(g[0], 2)]
    expected = sum(c * w for c, w in cosines) / sum(w for _, w in cosines)
    found = theory.weighted_alignment(g)
    torch.testing.assert_close(found[0], expected)
    balanced = torch.cat([g, -g.sum(1, keepdim=True)], 1)
    assert (theory.weighted_alignment(balanced) <= -1 / 4 + 1e-12).all()
    shares, total = theory.shares(g), g.sum(1)
    torch.testing.assert_close(shares.sum(-1), torch.ones(3).double())
    torch.testing.assert_close(shares[1, 2], g[1, 2] @ total[1] / (total[1] @ total[1]))
    torch.testing.assert_close(theory.shares(real([3, 0], [0, 1])), real(0.9, 0.1))


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), noise=st.floats(0, 0.3))
def test_a_certain_favourite_is_that_of_every_cell(seed, noise):
    numbers = np.random.default_rng(seed)
    g = torch.tensor(numbers.standard_normal((1, 3, 4)) + noise * numbers.standard_normal((5, 3, 4)))
    g = g * torch.tensor(numbers.uniform(0.1, 10, (5, 1, 1)))
    certain = theory.certified_favourites(g)
    assert (g[:, certain].argmin(-1) == g[0, certain].argmin(-1)).all()
    assert noise or certain.all()
    lengths = [one.norm() for one in g]
    apart = max((a / a.norm() - b / b.norm()).norm() for a, b in combinations(g, 2))
    for edge in range(3):
        low, second = (g.sum(0) / sum(lengths))[edge].sort().values[:2]
        assert certain[edge] == (second - low > math.sqrt(2) * apart)


def test_alignment_near_one_is_no_common_favourite():
    g = real([[10, -10], [0.1, -0.1]], [[10, -10], [-0.1, 0.1]])
    assert layer_alignment(g.flatten(1)) > 0.999
    assert theory.certified_favourites(g).tolist() == [True, False]


def test_the_margin_is_the_lead_over_the_next():
    slope = real([1, 3, 2], [5, 5, 4])
    assert theory.margin(slope, slope.argmin(-1)).tolist() == [1, 1]
    assert theory.margin(slope, 0).tolist() == [1, -1]
    assert theory.spread(slope).tolist() == [2, 1]
