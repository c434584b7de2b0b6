"""SDARTS-RS: ω learns at perturbed p (Chen & Hsieh, 2020).

Source: the paper's min_ω E L_train(p + δ), δ uniform in [−ε, ε]; α sees p itself. As in its code
(xiangning-chen/SmoothDARTS) one δ serves all cells, p + δ is cut to [0, 1] and scaled to a sum of 1, and ε
grows linearly from 0.03.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ldarts_lib.bilevel.remedies.remedy import ByKind, Remedy
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.settings import Positive

_FIRST = 0.03


class SdartsRs(Remedy):
    """Its strength is ``radius``."""

    strength: ClassVar = "radius"
    draws: ClassVar = True

    radius: Positive = 0.3
    """ε, the largest perturbation of an entry of p, at the end of the search."""

    def reach(self, share: float) -> float:
        """ε of an epoch."""
        return _FIRST + (self.radius - _FIRST) * share

    def perturb(self, weights: ByKind, supernet: Supernet, batch: Batch, share: float) -> ByKind:
        def uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
            return torch.empty_like(like).uniform_(-1, 1, generator=generator)

        reach, moved = self.reach(share), {}
        for kind, w in weights.items():
            delta = reach * supernet.drawn(uniform, w[:1].detach())  # one for all cells
            moved[kind] = on_simplex(w.detach() + delta).requires_grad_()
        return moved


def on_simplex(p: Tensor) -> Tensor:
    """Cut p to [0, 1] and scale each edge to a sum of 1; where nothing is left, its largest entry is."""
    cut = p.clamp(0, 1)
    total = cut.sum(-1, keepdim=True)
    largest = one_hot(p.argmax(-1), p.shape[-1]).to(p)
    return torch.where(total > 0, cut / total.clamp_min(torch.finfo(p.dtype).tiny), largest)
