"""DrNAS: p is drawn, and its Dirichlet distribution learned (Chen et al., 2021).

Source: the paper's p ~ Dir(elu(α) + 1), drawn for each pass, with its pathwise gradient; its pull towards a
concentration of 1, in its code (xiangning-chen/DrNAS) an L2 penalty of 10⁻³, is the protocol's decay of α.
The paper's progressive widening of the network is left out.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import elu

from ldarts_lib.bilevel.remedies.remedy import ByKind, Remedy
from ldarts_lib.networks.supernet import Supernet


class DrNas(Remedy):
    """Its strength is the protocol's ``alpha_weight_decay``."""

    strength: ClassVar = "alpha_weight_decay"
    draws: ClassVar = True

    def weights(self, alphas: ByKind, supernet: Supernet, share: float) -> ByKind:
        return {kind: _drawn(elu(alpha) + 1, supernet) for kind, alpha in alphas.items()}


def _drawn(concentration: Tensor, supernet: Supernet) -> Tensor:
    """As torch.distributions.Dirichlet.rsample, which takes no generator."""
    c = concentration.detach()
    x = supernet.drawn(torch._sample_dirichlet, c)
    # dx_o = d_o dc_o − x_o Σ_o' d_o' dc_o', d the derivative of a sample by its own concentration c
    d = torch._dirichlet_grad(x, c, c.sum(-1, keepdim=True).expand_as(c))
    moved = d * (concentration - c)
    return x + moved - x * moved.sum(-1, keepdim=True)
