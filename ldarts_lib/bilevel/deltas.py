"""δ = ∂R/∂g, the derivative of the alignment by the cells' gradients, in closed form.

The closed forms are checked against autograd in the tests. g is [..., cells, edges×operations], as in
:mod:`ldarts_lib.bilevel.alignment`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ldarts_lib.bilevel.alignment import cell_norms, layer_alignment, remove_offset, sign_alignment, unit_rows

Form = Literal["cosine", "sign", "projected", "random", "noise"]


def cosine_delta(g: Tensor) -> Tensor:
    """∂Λ/∂g of the cosine form: [..., cells, edges×operations]; zero rows give zero.

    ::

        δ_l = 2/(L(L-1)) (I - u_l u_lᵀ) Σ_l' u_l' / ‖g_l‖,   u_l = g_l / ‖g_l‖
    """
    u, norms = unit_rows(g), cell_norms(g).unsqueeze(-1)
    total = u.sum(-2, keepdim=True)
    tangential = total - u * (u * total).sum(-1, keepdim=True)
    return _pair_weight(g) * torch.where(norms > 0, tangential / norms.clamp_min(_tiny(g)), 0.0)


def sign_delta(g: Tensor) -> Tensor:
    """∂R/∂g of the sign form: [..., cells, edges×operations]; pairs that share no support give zero.

    ::

        δ_l = 2/(L(L-1)) Σ_{l'≠l} [g_l' - ρ_ll' sign(g_l)⊙|g_l'|] / ⟨|g_l|, |g_l'|⟩
        ρ_ll' = ⟨g_l, g_l'⟩ / ⟨|g_l|, |g_l'|⟩
    """
    magnitude = g.abs()
    most = magnitude @ magnitude.mT
    scale = torch.where(most > 0, 1 / most.clamp_min(_tiny(g)), 0.0)
    scale = scale - torch.diag_embed(scale.diagonal(dim1=-2, dim2=-1))
    ratio = (g @ g.mT) * scale
    return _pair_weight(g) * (scale @ g - g.sign() * ((ratio * scale) @ magnitude))


def projected_delta(g: Tensor, operations: int) -> Tensor:
    """∂R/∂g of the projected Λ: [..., cells, edges×operations]; it has no offset itself.

    With the projection P that removes the offset of each edge, R = Λ(Pg) and ∂R/∂g = P·∂Λ/∂g(Pg). The cosine
    form's derivative is a sum of rows of its argument, so P leaves it as it is.
    """
    return cosine_delta(remove_offset(g, operations))


def random_delta(g: Tensor, noise: Tensor) -> Tensor:
    """A control: for each cell a random direction, as long as that of :func:`cosine_delta`.

    Args:
        g: [..., cells, edges×operations].
        noise: standard normal numbers of the same shape.
    """
    return unit_rows(noise) * cell_norms(cosine_delta(g)).unsqueeze(-1)


ALIGNMENTS: dict[Form, Callable[[Tensor], Tensor]] = {
    "cosine": layer_alignment,
    "sign": sign_alignment,
}
DELTAS: dict[Form, Callable[[Tensor], Tensor]] = {"cosine": cosine_delta, "sign": sign_delta}
RANDOM_FORMS = ("random", "noise")
"""The forms that draw random numbers: controls."""


def _pair_weight(g: Tensor) -> float:
    cells = g.shape[-2]
    if cells < 2:
        raise ValueError(f"layer alignment compares at least two cells, got {cells}")
    return 2 / (cells * (cells - 1))


def _tiny(g: Tensor) -> float:
    return torch.finfo(g.dtype).tiny
