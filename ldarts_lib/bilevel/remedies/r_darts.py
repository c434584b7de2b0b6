"""R-DARTS: ω decays more strongly, or paths are dropped, so that minima are flat (Zela et al., 2020).

Source: RobustDARTS, section 5.2: R-DARTS(L2) is the best of four searches with 1, 3, 9 and 27 times the usual
decay 3e-4; R-DARTS(DP) that of drop-path (and CutOut, which is not done here) with a probability that grows
linearly to 0, 0.2, 0.4 or 0.6. One search is made here, by default with 9 times the decay.
"""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from ldarts_lib.bilevel.remedies.remedy import Remedy
from ldarts_lib.settings import Positive


class RDarts(Remedy):
    """Its strength is ``decay``."""

    strength: ClassVar = "decay"
    draws: ClassVar = True

    decay: Positive = 9.0
    """Factor of the weight decay of ω."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability with which an edge is dropped, at the end of the search."""

    def start_epoch(self, bilevel: Any) -> None:
        bilevel.supernet.rule.keep = 1 - self.drop_path * bilevel.share
        for group in bilevel.weight_optimizer.param_groups:
            group["weight_decay"] = self.decay * bilevel.protocol.weight_decay
