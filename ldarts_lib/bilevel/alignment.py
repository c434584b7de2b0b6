"""Layer alignment: how far the cells agree on the architecture that they share.

Everything here is a pure function of ``g``, the matrix [cells, edges×operations] (or a stack of such
matrices, [..., cells, edges×operations]) whose row l is ∂L/∂p of cell l, its gradient with respect to its
own copy of the architecture weights p = softmax(α). A cell with zero gradient agrees with nobody: its
cosines are 0. Nothing here synchronizes with the host.
"""

from __future__ import annotations

import torch
from torch import Tensor


def unit_rows(g: Tensor) -> Tensor:
    """Every row divided by its Euclidean norm; zero rows stay zero."""
    norms = cell_norms(g).unsqueeze(-1)
    return torch.where(norms > 0, g / norms.clamp_min(torch.finfo(g.dtype).tiny), 0.0)


def cell_norms(g: Tensor) -> Tensor:
    """‖g_l‖₂ of each cell: [..., cells]."""
    return torch.linalg.vector_norm(g, dim=-1)


def cosine_matrix(g: Tensor) -> Tensor:
    """cos(g_l, g_l') of every pair of cells: [..., cells, cells]."""
    u = unit_rows(g)
    return u @ u.mT


def sign_matrix(g: Tensor) -> Tensor:
    """The magnitude-weighted agreement of signs of every pair of cells, [..., cells, cells].

    For cells l and l' it is ``⟨g_l, g_l'⟩ / ⟨|g_l|, |g_l'|⟩``, between -1 and 1; 0 where that is 0/0.
    """
    agreement, most = g @ g.mT, g.abs() @ g.abs().mT
    return torch.where(most > 0, agreement / most.clamp_min(torch.finfo(g.dtype).tiny), 0.0)


def layer_alignment(g: Tensor) -> Tensor:
    """Λ, the mean cosine over all pairs of different cells, in [-1/(cells-1), 1]: shape [...].

    Source: Figure 1 of the Λ-DARTS paper and ``get_corr`` of its code. NaN for a single cell, which has
    no pairs.
    """
    return _mean_of_pairs(cosine_matrix(g))


def sign_alignment(g: Tensor) -> Tensor:
    """The sign form of the alignment: the mean of :func:`sign_matrix` over all pairs (``signcorr``)."""
    return _mean_of_pairs(sign_matrix(g))


def remove_offset(g: Tensor, operations: int) -> Tensor:
    """g without the part that α cannot feel: the mean over the operations of each edge is removed.

    The softmax Jacobian maps a common offset of all operations of an edge to zero.

    Args:
        g: [..., cells, edges×operations].
        operations: number of candidate operations per edge.
    """
    edges = g.unflatten(-1, (-1, operations))
    return (edges - edges.mean(-1, keepdim=True)).flatten(-2)


def projected_alignment(g: Tensor, operations: int) -> Tensor:
    """Λ of g without the offset that α cannot feel."""
    return layer_alignment(remove_offset(g, operations))


def decision_scores(g: Tensor) -> Tensor:
    """Who decides: cos(g_l, Σg) of each cell with the sum that moves α: [..., cells]."""
    total = g.sum(-2, keepdim=True)
    return (unit_rows(g) * unit_rows(total)).sum(-1)


def _mean_of_pairs(matrix: Tensor) -> Tensor:
    cells = matrix.shape[-1]
    off_diagonal = matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))
    return (
        off_diagonal.sum((-2, -1)) / (cells * (cells - 1)) if cells > 1 else matrix.sum((-2, -1)) * torch.nan
    )
