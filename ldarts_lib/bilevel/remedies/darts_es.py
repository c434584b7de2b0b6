"""DARTS-ES: the search stops when the dominant eigenvalue of the α-Hessian grows (Zela et al., 2020).

Source: RobustDARTS, section 4.3: λ̄(i) is the eigenvalue on a batch of α, smoothed over k = 5 of 50 epochs
around i; as soon as λ̄(i − k)/λ̄(i) < 0.75 the result is α of epoch i − k, as in the code none before epoch 10.
A search alone ends there; in a pack α stays, and ω is trained on.
"""

from typing import Any, ClassVar

import torch

from ldarts_lib.bilevel.curvature import dominant_eigenvalue
from ldarts_lib.bilevel.remedies.remedy import Held, Remedy
from ldarts_lib.networks.batches import Batch
from ldarts_lib.settings import Count, Positive, Share


class DartsEs(Remedy):
    """Its strength is ``growth``."""

    strength: ClassVar = "growth"
    with_lambda: ClassVar = True

    growth: Positive = 1 / 3
    """Stop when λ̄ is more than 1 + growth times what it was (1/0.75 as published)."""
    window: Share = 0.1
    """k, as a share of the epochs."""
    start: Share = 0.2
    """The part of the search before the first epoch whose α may be the result."""
    products: Count = 10
    """Hessian-vector products for an eigenvalue."""

    def after_epoch(self, bilevel: Any, epoch: int, validation: Batch) -> None:
        alphas, epochs, kept = bilevel.alphas, bilevel.protocol.epochs, self.kept
        found = dominant_eigenvalue(bilevel, validation, self.products)
        if not kept:
            kept.update(
                stopped=torch.full_like(found, -1).long(), eigenvalues=found.new_zeros(*found.shape, epochs)
            )
            kept.update({kind: torch.stack([a.detach()] * epochs, -3) for kind, a in alphas.items()})
        kept["eigenvalues"][..., epoch] = found
        for kind, alpha in alphas.items():
            kept[kind][..., epoch, :, :] = alpha.detach()
        k = max(1, round(self.window * epochs))
        earlier = epoch - k // 2 - k
        if earlier >= max(self.start * epochs, k // 2):
            smoothed = kept["eigenvalues"].unfold(-1, k // 2 * 2 + 1, 1).mean(-1)  # at i − ⌊k/2⌋ stands λ̄(i)
            before, now = smoothed[..., earlier - k // 2], smoothed[..., earlier - k // 2 + k]
            stops = (kept["stopped"] < 0) & (now > (1 + self.growth) * before)
            kept["stopped"][stops] = earlier
            for kind, alpha in alphas.items():
                result = kept[kind][..., earlier, :, :]
                alpha.data.copy_(torch.where(stops[..., None, None], result, alpha.detach()))

    def held_alphas(self, bilevel: Any) -> Held:
        stopped = self.kept["stopped"][..., None, None] >= 0 if self.kept else None
        return [(alpha, stopped) for alpha in bilevel.alphas.values() if stopped is not None]

    @property
    def ended(self) -> bool:
        return bool(self.kept) and bool((self.kept["stopped"] >= 0).all())

    def facts(self) -> dict[str, Any]:
        return {"stopped": self.kept["stopped"].item()} if self.ended else {}
