"""β-DARTS: log-sum-exp of α decays, so that no α runs away (Ye et al., 2022).

Source: the paper's L_val + w·mean_e log Σ_o exp α[e, o], w growing linearly from 0; the means of several cell
kinds add up, as in its code (Sunshine-Ye/Beta-DARTS), where w ends at 50 in NAS-Bench-201 and at 25 in the
space of DARTS.
"""

from typing import ClassVar

from torch import Tensor

from ldarts_lib.bilevel.remedies.remedy import ByKind, Remedy
from ldarts_lib.settings import NonNegative


class BetaDarts(Remedy):
    """Its strength is ``beta_decay``."""

    strength: ClassVar = "beta_decay"
    with_lambda: ClassVar = True

    beta_decay: NonNegative = 50.0
    """w, the weight of the decay, at the end of the search."""

    def alpha_loss(self, alphas: ByKind, share: float) -> Tensor:
        means = [alpha.logsumexp(-1).mean(-1).sum() for alpha in alphas.values()]
        return self.beta_decay * share * sum(means)
