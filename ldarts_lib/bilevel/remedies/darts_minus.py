"""DARTS-: an auxiliary skip that fades (Chu et al., 2021).

Source: the paper's ō(x) = βx + Σ_o p_o o(x), β falling linearly from 1 to 0 (code: Meituan-AutoML/DARTS-). As
the identity is among the operations, β is added to its p; where an edge halves the picture, the skip is a
convolution that both share here, while the paper's auxiliary one has weights of its own.
"""

from typing import ClassVar

import torch
from pydantic import PrivateAttr
from torch import Tensor

from ldarts_lib.bilevel.remedies.remedy import ByKind, Remedy
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.settings import NonNegative
from ldarts_lib.spaces.space import Space

_SKIP = "skip_connect"


class DartsMinus(Remedy):
    """Its strength is ``skip``."""

    strength: ClassVar = "skip"

    skip: NonNegative = 1.0
    """β, the weight of the auxiliary skip, in the first epoch."""
    _skips: dict[str, Tensor] = PrivateAttr(default_factory=dict)

    def check(self, space: Space) -> None:
        for kind, cell in space.cells.items():
            if any(_SKIP not in names for names in cell.candidates):
                raise ValueError(f"darts-minus needs {_SKIP} on every edge, which space {space.name!r} lacks")
            # 1 at the skips, else 0: [edges, operations]
            self._skips[kind] = torch.tensor(
                [[float(o == _SKIP) for o in names] for names in cell.candidates]
            )

    def weights(self, alphas: ByKind, supernet: Supernet, share: float) -> ByKind:
        for kind, alpha in alphas.items():
            self._skips[kind] = self._skips[kind].to(alpha)  # moves to the device once
        beta, p = self.skip * (1 - share), super().weights(alphas, supernet, share)
        return {kind: one + beta * self._skips[kind] for kind, one in p.items()}
