"""FairDARTS: sigmoids that are driven to 0 or 1 (Chu et al., 2020).

Source: the paper's p = σ(α) and L_val − w·mean (σ(α) − ½)² over all edges and operations, w = 10 (code:
xiaomi-automl/FairDARTS). The paper keeps every operation above a threshold; here the cell has, as always, the
largest p of each edge. The history's entropy is Σ −p log p of numbers that do not sum to 1.
"""

from typing import ClassVar

import torch
from torch import Tensor

from ldarts_lib.bilevel.remedies.remedy import ByKind, Remedy
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.settings import NonNegative


class FairDarts(Remedy):
    """Its strength is ``zero_one``."""

    strength: ClassVar = "zero_one"

    zero_one: NonNegative = 10.0
    """w, the weight of the zero-one loss."""

    def weights(self, alphas: ByKind, supernet: Supernet, share: float) -> ByKind:
        return self.decided(alphas)

    def decided(self, alphas: ByKind) -> ByKind:
        return {kind: alpha.sigmoid() for kind, alpha in alphas.items()}

    def alpha_loss(self, alphas: ByKind, share: float) -> Tensor:
        entries = torch.cat([p.flatten(-2) for p in self.decided(alphas).values()], -1)
        return -self.zero_one * (entries - 0.5).square().mean(-1).sum()
