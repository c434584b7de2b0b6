"""DARTS-ES: the search stops when the dominant eigenvalue of the α-Hessian grows (Zela et al., 2020).

Source: RobustDARTS, section 4.3: λ̄(i) is the eigenvalue on a batch of α, smoothed over k = 5 of 50 epochs
around i; when λ̄(i − k)/λ̄(i) < 0.75, α of epoch i − k is the result (in the code none before epoch 10). A
search alone ends there; in a pack α stays, and ω is trained on.
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
    """The part of the search whose α is no result."""
    products: Count = 10
    """Hessian-vector products for an eigenvalue."""

    def after_epoch(self, bilevel: Any, epoch: int, validation: Batch) -> None:
        alphas, epochs, kept = bilevel.alphas, bilevel.protocol.epochs, self.kept
        found = dominant_eigenvalue(bilevel, validation, self.products)
        if not kept:  # of every epoch
            kept.update({kind: torch.stack([a.detach()] * epochs, -3) for kind, a in alphas.items()})
            kept.update(stopped=(0 * found).long() - 1, eigenvalues=torch.stack([found] * epochs, -1))
        kept["eigenvalues"][..., epoch] = found
        for kind, alpha in alphas.items():
            kept[kind][..., epoch, :, :] = alpha.detach()
        k = max(1, round(self.window * epochs))
        earlier = epoch - (half := k // 2) - k
        if earlier >= max(self.start * epochs, half):
            smoothed = kept["eigenvalues"].unfold(-1, 2 * half + 1, 1).mean(-1)  # at i − ⌊k/2⌋ stands λ̄(i)
            before, now = smoothed[..., earlier - half], smoothed[..., earlier - half + k]
            kept["stopped"][stops := (kept["stopped"] < 0) & (now > (1 + self.growth) * before)] = earlier
            for kind, alpha in alphas.items():
                alpha.data[stops] = kept[kind][..., earlier, :, :][stops]

    def held_alphas(self, bilevel: Any) -> Held:
        alphas = bilevel.alphas.values() if self.kept else ()
        return [(alpha, self.kept["stopped"][..., None, None] >= 0) for alpha in alphas]

    @property
    def ended(self) -> bool:
        return bool(self.kept) and bool((self.kept["stopped"] >= 0).all())

    def facts(self) -> dict[str, Any]:
        return {"stopped": self.kept["stopped"].item()} if self.ended else {}
