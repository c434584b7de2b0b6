"""SDARTS-ADV: ω learns at the worst p nearby (Chen & Hsieh, 2020).

Source: the paper's min_ω max L_train(p + δ), −ε ≤ δ ≤ ε; as in its code (xiangning-chen/SmoothDARTS) seven
ascents by the sign of the gradient, of 2ε/7 each, from a random start, with the running statistics of
BatchNorm; if they end at a lower loss than p has, p stays.
"""

import torch

from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.remedies.remedy import ByKind
from ldarts_lib.bilevel.remedies.sdarts_rs import SdartsRs, on_simplex
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.settings import Count


class SdartsAdv(SdartsRs):
    """Its strength is ``radius``."""

    ascents: Count = 7
    """Steps of the ascent."""

    def perturb(self, weights: ByKind, supernet: Supernet, batch: Batch, share: float) -> ByKind:
        reach, training = self.reach(share), supernet.training
        moved = super().perturb(weights, supernet, batch, share)
        supernet.eval()
        for _ in range(self.ascents):
            cells = gradients(supernet, batch, moved, of_parameters=False).cells
            for kind, g in cells.items():
                # δ ← clip(δ + 2ε/n sign Σ_l g_l)
                there = moved[kind].detach() + 2 * reach / self.ascents * g.sum(0, keepdim=True).sign()
                p = weights[kind].detach()
                moved[kind] = on_simplex(p + (there - p).clamp(-reach, reach)).requires_grad_()
        with torch.no_grad():
            before, after = (
                batch.losses(supernet(batch.inputs, w, update_statistics=False)) for w in (weights, moved)
            )
        supernet.train(training)
        fell = (after < before)[..., None, None]  # of a pack for each network by itself
        chosen = {kind: torch.where(fell, w, moved[kind]).detach() for kind, w in weights.items()}
        return {kind: w.requires_grad_() for kind, w in chosen.items()}
