"""Lanczos against dense matrices and a dense Hessian."""

import pytest
import torch

from helpers import drawn_alphas, small_batch, small_supernet
from ldarts_lib.bilevel.curvature import dominant_eigenvalue, largest_eigenvalue
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.fast.supernet import FastSupernet


@pytest.mark.parametrize("rank", [1, 4, 12])
def test_lanczos_finds_the_largest_eigenvalue_of_several_matrices(rank):
    draw = torch.Generator().manual_seed(rank)
    factors = torch.randn(3, 12, rank, generator=draw, dtype=torch.float64)
    signs = torch.randn(3, 1, rank, generator=draw, dtype=torch.float64)
    matrices = (factors * signs) @ factors.mT
    start = torch.randn(3, 12, generator=draw, dtype=torch.float64)
    found = largest_eigenvalue(lambda v: (matrices @ v.unsqueeze(-1)).squeeze(-1), start, 12)
    assert torch.allclose(found, torch.linalg.eigvalsh(matrices)[:, -1], atol=1e-10)


def test_a_start_that_is_almost_an_eigenvector_finds_the_others():
    matrix, start = torch.tensor([1.0, 2.0]).double(), torch.tensor([1.0, 1e-9]).double()
    assert largest_eigenvalue(lambda v: matrix * v, start, 2).item() == pytest.approx(2)


def test_the_eigenvalue_is_that_of_the_dense_hessian():
    net, batch = small_supernet("nasbench201"), small_batch()
    fast = FastSupernet(net.space, channels=2, depth=1, classes=3, channels_in=1).double()
    fast.load_state_dict(net.state_dict())
    alphas = {kind: alpha.requires_grad_() for kind, alpha in drawn_alphas(net).items()}

    def loss(flat):
        p = flat.view(6, 5).softmax(-1).expand(3, 6, 5)
        return batch.losses(net(batch.inputs, {"normal": p}, update_statistics=False))

    flat = alphas["normal"].detach().flatten()
    expected = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))[-1]
    for one, products, precision in ((net, 30, 1e-9), (fast, 30, 1e-9), (fast, 8, 0.02)):
        bilevel = Bilevel(one, alphas, protocol(method="darts"))
        assert torch.allclose(dominant_eigenvalue(bilevel, batch, products), expected, rtol=precision)
