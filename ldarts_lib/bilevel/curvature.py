"""The dominant eigenvalue of the Hessian of the validation loss by α, without the Hessian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ldarts_lib.networks.batches import Batch


def largest_eigenvalue(product: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """Of symmetric matrices, by the method of Lanczos with full orthogonalization: [...].

    Args:
        product: v ↦ Hv, of several matrices at once if they are several.
        start: the first v, [..., n].
        steps: products at most; with n of them the eigenvalue is exact.
    """
    eps = torch.finfo(start.dtype).eps
    basis, diagonal, beside = [start / start.norm(dim=-1, keepdim=True)], [], []
    for _ in range(min(steps, start.shape[-1])):
        # H q_k = b_{k−1} q_{k−1} + a_k q_k + b_k q_{k+1}: in the basis q the matrix is tridiagonal
        v = product(basis[-1])
        diagonal.append((v * basis[-1]).sum(-1))
        size, q = v.norm(dim=-1, keepdim=True), torch.stack(basis, -2)
        for _ in range(2):
            v = v - ((q @ v.unsqueeze(-1)).mT @ q).squeeze(-2)
        length = v.norm(dim=-1, keepdim=True)
        length = length.where(length > 100 * eps * size, 0)  # 0: the basis spans an invariant subspace
        basis.append((v / length).where(length > 0, 0))
        beside.append(length.squeeze(-1))
    matrix = torch.diag_embed(torch.stack(diagonal, -1))
    off = torch.diag_embed(torch.stack(beside, -1)[..., :-1], 1)
    return torch.linalg.eigvalsh(matrix + off + off.mT)[..., -1]


def dominant_eigenvalue(bilevel: Any, batch: Batch, products: int = 10) -> Tensor:
    """The largest eigenvalue of ∂²L/∂α² on one batch, all cell kinds together: a scalar, or [copies].

    Hv is found by differentiating ⟨∂L/∂α, v⟩ (Pearlmutter, 1994). Running statistics stay as they are.

    Args:
        bilevel: :class:`~ldarts_lib.bilevel.half_steps.Bilevel`, whose supernet and α it is.
        products: Hv at most.
    """
    supernet, leaves = bilevel.supernet, list(bilevel.alphas.values())
    weights = {
        kind: p.expand(supernet.layout.count(kind), *p.shape) for kind, p in bilevel.mixtures().items()
    }
    with supernet.architecture_only():
        loss = batch.losses(supernet(batch.inputs, weights, update_statistics=False)).sum()
        gradient = _rows(torch.autograd.grad(loss, leaves, create_graph=True))
        start = torch.randn(gradient.shape[-1], generator=torch.Generator().manual_seed(0))
        return largest_eigenvalue(
            lambda v: _rows(torch.autograd.grad((gradient * v).sum(), leaves, retain_graph=True)),
            start.to(gradient).expand_as(gradient),
            products,
        )


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    """[(copies,) edges, operations] of each kind as [(copies,) n]."""
    return torch.cat([tensor.flatten(-2) for tensor in tensors], -1)
