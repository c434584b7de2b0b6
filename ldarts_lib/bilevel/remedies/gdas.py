"""GDAS: one operation per edge, drawn by Gumbel noise (Dong & Yang, 2019).

Source: the paper's h = one-hot argmax (log p + Gumbel noise), which is softmax((log p + noise)/τ) in the
backward pass, where only the drawn operation passes a gradient; τ falls linearly from 10 to 0.1 (code:
D-X-Y/AutoDL-Projects). Here the operations that are not drawn are computed, too: nothing is saved, and their
BatchNorm statistics move.
"""

from typing import ClassVar, Self

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn.functional import one_hot

from ldarts_lib.bilevel.remedies.remedy import ByKind, Remedy
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.settings import Positive


class Gdas(Remedy):
    """Its strength is ``tau_max``."""

    strength: ClassVar = "tau_max"
    draws: ClassVar = True

    tau_max: Positive = 10.0
    """τ, the temperature of the softmax that gradients pass through, in the first epoch."""
    tau_min: Positive = 0.1
    """τ in the last epoch."""

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.tau_min > self.tau_max:
            raise ValueError(f"tau_min = {self.tau_min} is above tau_max = {self.tau_max}")
        return self

    def weights(self, alphas: ByKind, supernet: Supernet, share: float) -> ByKind:
        tau = self.tau_max + (self.tau_min - self.tau_max) * share

        def waiting(like: Tensor, generator: torch.Generator | None) -> Tensor:
            return torch.empty_like(like).exponential_(generator=generator)

        def drawn(alpha: Tensor) -> Tensor:
            gumbel = -supernet.drawn(waiting, alpha.detach()).log()
            soft = ((alpha.log_softmax(-1) + gumbel) / tau).softmax(-1)
            hard = one_hot(soft.argmax(-1), soft.shape[-1])
            return hard * (1 + (soft - soft.detach()))  # 1 or 0, with the gradient of what is drawn

        return {kind: drawn(alpha) for kind, alpha in alphas.items()}
