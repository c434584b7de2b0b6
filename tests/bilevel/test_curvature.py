"""Lanczos against dense matrices and dense Hessians."""

import pytest
import torch

from ldarts_lib.bilevel.curvature import dominant_eigenvalue, largest_eigenvalue
from ldarts_lib.fast.packed import PackedSupernet
from ldarts_lib.fast.supernet import FastSupernet
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.spaces.space import SPACES
from tests.helpers import drawn_alphas, small_batch, small_supernet


@pytest.mark.parametrize("rank", [1, 4, 12])
def test_lanczos_finds_the_largest_eigenvalue_of_several_matrices(rank):
    draw = torch.Generator().manual_seed(rank)
    factors = torch.randn(3, 12, rank, generator=draw, dtype=torch.float64)
    signs = torch.randn(3, 1, rank, generator=draw, dtype=torch.float64)
    matrices = (factors * signs) @ factors.mT
    start = torch.randn(3, 12, generator=draw, dtype=torch.float64)
    found = largest_eigenvalue(lambda v: (matrices @ v.unsqueeze(-1)).squeeze(-1), start, 12)
    assert torch.allclose(found, torch.linalg.eigvalsh(matrices)[:, -1], atol=1e-10)


def test_the_eigenvalue_is_that_of_the_dense_hessian():
    net, batch = small_supernet("nasbench201"), small_batch()
    alphas = {kind: alpha.requires_grad_() for kind, alpha in drawn_alphas(net).items()}

    def loss(flat):
        p = flat.view(6, 5).softmax(-1).expand(3, 6, 5)
        return batch.losses(net(batch.inputs, {"normal": p}, update_statistics=False))

    flat = alphas["normal"].detach().flatten()
    expected = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))[-1]
    fast = FastSupernet(net.space, channels=2, depth=1, classes=3, channels_in=1).double()
    fast.load_state_dict(net.state_dict())
    for one, steps, precision in ((net, 30, 1e-6), (fast, 30, 1e-6), (fast, 10, 0.02)):
        p = {kind: alpha.softmax(-1) for kind, alpha in alphas.items()}
        assert torch.allclose(dominant_eigenvalue(one, batch, alphas, p, steps), expected, rtol=precision)


def test_networks_in_a_pack_have_the_eigenvalues_that_each_has_alone():
    batches, alphas, alone = [small_batch(0), small_batch(1)], [], []
    space, sizes = SPACES["nasbench201"], {"channels": 2, "depth": 1, "classes": 3, "channels_in": 1}
    singles = []
    for seed, batch in enumerate(batches):
        torch.manual_seed(seed)
        singles.append(Supernet(space, **sizes).double())
        alphas.append(drawn_alphas(singles[-1], seed)["normal"].requires_grad_())
        p = {"normal": alphas[-1].softmax(-1)}
        alone.append(dominant_eigenvalue(singles[-1], batch, {"normal": alphas[-1]}, p))
    pack = PackedSupernet(space, [torch.Generator(), torch.Generator()], **sizes).double()
    pack.load(singles)
    both = torch.stack([alpha.detach() for alpha in alphas]).requires_grad_()
    inputs, targets = torch.cat([b.inputs for b in batches], 1), torch.stack([b.targets for b in batches])
    found = dominant_eigenvalue(pack, Batch(inputs, targets), {"normal": both}, {"normal": both.softmax(-1)})
    assert torch.allclose(found, torch.stack(alone))
