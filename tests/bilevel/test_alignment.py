import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ldarts_lib.bilevel.alignment import (
    cell_norms,
    cosine_delta,
    cosine_matrix,
    decision_scores,
    layer_alignment,
    projected_alignment,
    remove_offset,
    sign_alignment,
    sign_matrix,
    unit_rows,
)

SEEDS = st.integers(0, 2**32)
CELLS = st.integers(2, 9)
OPERATIONS = 4


def draw_rows(seed, cells, zero=0):
    g = torch.tensor(np.random.default_rng(seed).standard_normal((cells, 5 * OPERATIONS)))
    g *= torch.logspace(-6, 6, cells, dtype=torch.float64)[:, None]
    g[:zero] = 0
    return g


def naive_cosine(a, b):
    norms = np.sqrt((a**2).sum()) * np.sqrt((b**2).sum())
    return (a * b).sum() / norms if norms else 0.0


def naive_sign(a, b):
    most = (np.abs(a) * np.abs(b)).sum()
    return (a * b).sum() / most if most else 0.0


def naive_mean(g, similarity):
    g, total, pairs = np.asarray(g), 0.0, 0
    for i in range(len(g)):
        for j in range(i + 1, len(g)):
            total, pairs = total + similarity(g[i], g[j]), pairs + 1
    return total / pairs


FORMS = [
    (layer_alignment, cosine_matrix, naive_cosine),
    (sign_alignment, sign_matrix, naive_sign),
]
EACH_FORM = pytest.mark.parametrize(("alignment", "matrix", "naive"), FORMS, ids=["cosine", "sign"])


@EACH_FORM
@given(seed=SEEDS, cells=CELLS, zero=st.integers(0, 2))
def test_alignment_equals_a_double_loop(alignment, matrix, naive, seed, cells, zero):
    g = draw_rows(seed, cells, zero)
    assert alignment(g).item() == pytest.approx(naive_mean(g, naive), rel=1e-12, abs=1e-14)
    expected = [[naive(a, b) for b in g.numpy()] for a in g.numpy()]
    np.testing.assert_allclose(matrix(g), expected, rtol=1e-11, atol=1e-13)


@EACH_FORM
@given(seed=SEEDS, cells=CELLS)
def test_bounds_and_extremes(alignment, matrix, naive, seed, cells):
    g = draw_rows(seed, cells)
    assert alignment(g) <= 1 + 1e-12
    assert matrix(g).abs().max() <= 1 + 1e-12
    same = g[:1] * torch.logspace(-3, 3, cells, dtype=torch.float64)[:, None]
    assert alignment(same).item() == pytest.approx(1)
    assert layer_alignment(g) >= -1 / (cells - 1) - 1e-12
    opposite = torch.stack([g[0], -2 * g[0]])
    assert alignment(opposite).item() == pytest.approx(-1)
    disjoint = torch.eye(cells, dtype=torch.float64)
    assert alignment(disjoint) == 0


@EACH_FORM
@given(seed=SEEDS, cells=CELLS, scale=st.floats(1e-3, 1e3))
def test_order_and_lengths_of_the_cells_do_not_matter(alignment, matrix, naive, seed, cells, scale):
    g = draw_rows(seed, cells)
    value = alignment(g).item()
    order = torch.tensor(np.random.default_rng(seed).permutation(cells))
    columns = torch.tensor(np.random.default_rng(seed).permutation(g.shape[1]))
    assert alignment(g[order]).item() == pytest.approx(value, abs=1e-12)
    assert alignment(g[:, columns]).item() == pytest.approx(value, abs=1e-12)
    assert alignment(scale * g).item() == pytest.approx(value, abs=1e-12)
    lengths = torch.logspace(-2, 2, cells, dtype=torch.float64)[:, None]
    assert alignment(lengths * g).item() == pytest.approx(value, abs=1e-12)
    flipped = torch.tensor([-1.0] + [1.0] * (cells - 1), dtype=torch.float64)[:, None] * g
    assert alignment(-g).item() == pytest.approx(value, abs=1e-12)
    if cells == 2:
        assert alignment(flipped).item() == pytest.approx(-value, abs=1e-12)


@EACH_FORM
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_rows_agree_with_nobody(alignment, matrix, naive, dtype):
    g = torch.ones(3, 4, dtype=dtype)
    g[1] = 0
    assert alignment(g).item() == pytest.approx(1 / 3)
    assert not matrix(g)[1].any()
    assert alignment(torch.zeros(3, 4, dtype=dtype)) == 0
    assert not unit_rows(torch.zeros(3, 4, dtype=dtype)).any()
    assert not decision_scores(torch.zeros(3, 4, dtype=dtype)).any()
    assert alignment(g).dtype == dtype


@pytest.mark.parametrize("size", [0.0, 1e-25])
def test_a_cell_too_small_to_have_a_length_agrees_with_nobody_and_harms_no_derivative(size):
    """The square of 1e-25 is zero in float32, and so is the norm of such a row."""
    g = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    g[1] *= size
    assert not unit_rows(g)[1].any() and not cosine_delta(g)[1].any()
    assert layer_alignment(g).item() == pytest.approx(layer_alignment(g[[0, 2]]).item() / 3)
    (slope,) = torch.autograd.grad(layer_alignment(g.requires_grad_()), g)
    assert slope.isfinite().all() and cosine_delta(g).isfinite().all()


@EACH_FORM
@pytest.mark.parametrize("cells", [1, 5])
def test_stacks_are_handled_matrix_by_matrix(alignment, matrix, naive, cells):
    g = torch.randn(2, 3, cells, 8, dtype=torch.float64)
    stacked = alignment(g)
    assert stacked.shape == (2, 3)
    single = torch.stack([torch.stack([alignment(m) for m in row]) for row in g])
    torch.testing.assert_close(stacked, single, equal_nan=True)
    assert matrix(g).shape == (2, 3, cells, cells)
    assert cell_norms(g).shape == decision_scores(g).shape == (2, 3, cells)
    torch.testing.assert_close(decision_scores(g)[1, 2], decision_scores(g[1, 2]))
    assert projected_alignment(g, 4).shape == (2, 3)


@EACH_FORM
def test_one_cell_has_no_alignment(alignment, matrix, naive):
    assert alignment(torch.ones(1, 4)).isnan()
    assert projected_alignment(torch.ones(1, 4), 2).isnan()


@given(seed=SEEDS, cells=CELLS)
def test_decision_scores_and_norms_equal_a_loop(seed, cells):
    g = draw_rows(seed, cells)
    total = g.numpy().sum(0)
    expected = [naive_cosine(row, total) for row in g.numpy()]
    np.testing.assert_allclose(decision_scores(g), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(cell_norms(g), [np.sqrt((r**2).sum()) for r in g.numpy()])
    np.testing.assert_allclose(unit_rows(g), [r / np.sqrt((r**2).sum()) for r in g.numpy()])


@given(seed=SEEDS, cells=CELLS)
def test_the_projection_removes_what_alpha_cannot_feel(seed, cells):
    """It is orthogonal, and what it removes is the kernel of the softmax Jacobian."""
    g = draw_rows(seed, cells)
    kept = remove_offset(g, OPERATIONS)
    edges = g.numpy().reshape(cells, 5, OPERATIONS)
    expected = edges - edges.mean(2, keepdims=True)
    np.testing.assert_allclose(kept, expected.reshape(cells, -1), rtol=1e-12, atol=1e-12)
    p = torch.tensor(np.random.default_rng(seed + 1).dirichlet([1.0] * OPERATIONS, 5))
    jacobian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    removed = (g - kept).unflatten(1, (5, OPERATIONS))
    felt = torch.einsum("eab,ceb->cea", jacobian, removed)
    assert felt.abs().max() <= 1e-12 * g.abs().max()
    torch.testing.assert_close(remove_offset(kept, OPERATIONS), kept)


@given(seed=SEEDS, cells=CELLS)
def test_projected_alignment_ignores_common_offsets(seed, cells):
    g = draw_rows(seed, cells)
    g = g / cell_norms(g)[:, None]
    offsets = torch.tensor(np.random.default_rng(seed + 1).standard_normal((cells, 5)))
    shifted = g + offsets.repeat_interleave(OPERATIONS, 1)
    value = projected_alignment(g, OPERATIONS).item()
    assert projected_alignment(shifted, OPERATIONS).item() == pytest.approx(value, abs=1e-10)
    expected = naive_mean(remove_offset(g, OPERATIONS), naive_cosine)
    assert value == pytest.approx(expected, abs=1e-12)
    common = g + 50
    assert layer_alignment(common) > 0.9
