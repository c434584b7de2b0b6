"""Layer alignment: how far the cells agree on the architecture that they share, and its derivative.

Everything here is a pure function of ``g``, the matrix [cells, edges×operations] (or a stack of such
matrices, [..., cells, edges×operations]) whose row l is g_l = ∂L/∂p of cell l, its gradient with respect to
its own copy of the architecture weights p = softmax(α). A cell with zero gradient agrees with nobody: its
cosines are 0. Nothing here synchronizes with the host. The derivations are in the chapter *regularizers*.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Form = Literal["cosine", "sign", "projected", "edge", "random", "noise", "blurred", "flipped"]
REPLACED_FORMS = ("noise", "blurred", "flipped")
RANDOM_FORMS = ("random", *REPLACED_FORMS)
"""The forms that draw random numbers, controls; those before replace the weight gradient that was found."""


def unit_rows(g: Tensor) -> Tensor:
    """u_l = g_l / ‖g_l‖; zero rows stay zero."""
    norms = cell_norms(g).unsqueeze(-1)
    return torch.where(norms > 0, g / norms.clamp_min(_tiny(g)), 0.0)


def cell_norms(g: Tensor) -> Tensor:
    """‖g_l‖₂ of each cell: [..., cells]."""
    return torch.linalg.vector_norm(g, dim=-1)


def cosine_matrix(g: Tensor) -> Tensor:
    """cos(g_l, g_l') of every pair of cells: [..., cells, cells]."""
    u = unit_rows(g)
    return u @ u.mT


def sign_matrix(g: Tensor) -> Tensor:
    """``ρ_ll' = ⟨g_l, g_l'⟩ / ⟨|g_l|, |g_l'|⟩`` of every pair, 0 where it is 0/0: [..., cells, cells]."""
    agreement, most = g @ g.mT, g.abs() @ g.abs().mT
    return torch.where(most > 0, agreement / most.clamp_min(_tiny(g)), 0.0)


def layer_alignment(g: Tensor) -> Tensor:
    """Λ, the mean cosine over all pairs of different cells, in [-1/(cells-1), 1]; NaN for a single cell.

    Source: Figure 1 of the Λ-DARTS paper and ``get_corr`` of its code.

    Examples:
        >>> g = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])  # two cells agree, the third is orthogonal
        >>> round(layer_alignment(g).item(), 4)
        0.3333
    """
    return _mean_of_pairs(cosine_matrix(g))


def sign_alignment(g: Tensor) -> Tensor:
    """The sign form of the alignment: the mean of :func:`sign_matrix` over all pairs (``signcorr``)."""
    return _mean_of_pairs(sign_matrix(g))


def remove_offset(g: Tensor, operations: int) -> Tensor:
    """Pg, without what α cannot feel: the mean over the operations of each edge, for J(p_e)·1 = 0."""
    edges = g.unflatten(-1, (-1, operations))
    return (edges - edges.mean(-1, keepdim=True)).flatten(-2)


def projected_alignment(g: Tensor, operations: int) -> Tensor:
    """Λ(Pg), of g without the offset that α cannot feel."""
    return layer_alignment(remove_offset(g, operations))


def felt(g: Tensor, p: Tensor) -> Tensor:
    """J(p_e) g_{l,e}, what α feels of each cell: both and the result [..., cells, edges, operations]."""
    return p * (g - (p * g).sum(-1, keepdim=True))  # J(p) = diag(p) − p pᵀ


def edge_alignments(g: Tensor, p: Tensor) -> Tensor:
    """Λ of what α feels on each edge: [..., edges]. An edge with a single live operation has 0."""
    return layer_alignment(_by_edge(felt(g.view_as(p), p)))


def edge_alignment(g: Tensor, p: Tensor) -> Tensor:
    """R_edge, the mean of :func:`edge_alignments`; p of each cell is [..., cells, edges, operations]."""
    return edge_alignments(g, p).mean(-1)


def decision_scores(g: Tensor) -> Tensor:
    """Who decides: cos(g_l, Σg) of each cell with the sum that moves α: [..., cells]."""
    total = g.sum(-2, keepdim=True)
    return (unit_rows(g) * unit_rows(total)).sum(-1)


def cosine_delta(g: Tensor) -> Tensor:
    """δ = ∂Λ/∂g of the cosine form: [..., cells, edges×operations]; zero rows give zero."""
    # δ_l = 2/(L(L-1)) (I - u_l u_lᵀ) U / ‖g_l‖,   U = Σ_l' u_l'
    u, norms = unit_rows(g), cell_norms(g).unsqueeze(-1)
    total = u.sum(-2, keepdim=True)
    tangential = total - u * (u * total).sum(-1, keepdim=True)
    return _pair_weight(g) * torch.where(norms > 0, tangential / norms.clamp_min(_tiny(g)), 0.0)


def sign_delta(g: Tensor) -> Tensor:
    """δ = ∂R±/∂g of the sign form: [..., cells, edges×operations]; pairs that share no support give zero."""
    # δ_l = 2/(L(L-1)) Σ_{l'≠l} [g_l' - ρ_ll' sign(g_l)⊙|g_l'|] / ⟨|g_l|, |g_l'|⟩
    magnitude = g.abs()
    most = magnitude @ magnitude.mT
    scale = torch.where(most > 0, 1 / most.clamp_min(_tiny(g)), 0.0)
    scale = scale - torch.diag_embed(scale.diagonal(dim1=-2, dim2=-1))  # l' ≠ l
    ratio = (g @ g.mT) * scale  # ρ_ll'
    return _pair_weight(g) * (scale @ g - g.sign() * ((ratio * scale) @ magnitude))


def projected_delta(g: Tensor, operations: int) -> Tensor:
    """∂R/∂g of R = Λ(Pg): [..., cells, edges×operations]; it has no offset itself."""
    # ∂R/∂g = P δ(Pg), and δ(Pg) is a sum of multiples of rows of Pg, which P leaves as they are
    return cosine_delta(remove_offset(g, operations))


def edge_delta(g: Tensor, p: Tensor) -> Tensor:
    """∂R_edge/∂g of :func:`edge_alignment` at fixed p: [..., cells, edges×operations]."""
    # δ_{l,e} = J(p_e) δ_l(J(p_e) g_e) / E with δ_l of the cosine form and E the number of edges
    delta = cosine_delta(_by_edge(felt(g.view_as(p), p))) / p.shape[-2]
    return felt(_by_edge(delta), p).flatten(-2)


def random_delta(g: Tensor, noise: Tensor) -> Tensor:
    """A control: rows of the direction of ``noise`` (standard normal), as long as the cosine form's δ."""
    return unit_rows(noise) * cell_norms(cosine_delta(g)).unsqueeze(-1)


def _by_edge(g: Tensor) -> Tensor:
    """[..., cells, edges, operations] ↔ [..., edges, cells, operations]."""
    return g.transpose(-2, -3)


def _mean_of_pairs(matrix: Tensor) -> Tensor:
    cells = matrix.shape[-1]
    off_diagonal = matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))
    pairs = cells * (cells - 1)
    return off_diagonal.sum((-2, -1)) / pairs if pairs else matrix.sum((-2, -1)) * torch.nan


def _pair_weight(g: Tensor) -> float:
    cells = g.shape[-2]
    if cells < 2:
        raise ValueError(f"layer alignment compares at least two cells, got {cells}")
    return 2 / (cells * (cells - 1))


def _tiny(g: Tensor) -> float:
    return torch.finfo(g.dtype).tiny
