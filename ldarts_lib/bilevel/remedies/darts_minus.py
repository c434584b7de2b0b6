"""DARTS-: an auxiliary skip that fades (Chu et al., 2021).

Source: the paper's ō(x) = βx + Σ_o p_o o(x), β falling linearly from 1 to 0 (code: Meituan-AutoML/DARTS-). As
the identity is among the operations, β is added to its p; where an edge halves the picture, the skip is a
convolution that both share here, while the paper's auxiliary one has weights of its own.
"""

from typing import ClassVar

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

    def check(self, space: Space) -> None:
        if any(_SKIP not in names for cell in space.cells.values() for names in cell.candidates):
            raise ValueError(f"darts-minus needs {_SKIP} on every edge, which space {space.name!r} lacks")

    def weights(self, alphas: ByKind, supernet: Supernet, share: float) -> ByKind:
        beta, p = self.skip * (1 - share), super().weights(alphas, supernet, share)
        return {kind: one + beta * _where(kind, supernet.space, one) for kind, one in p.items()}


def _where(kind: str, space: Space, like: Tensor) -> Tensor:
    """1 at the skips, else 0: [edges, operations]."""
    return like.new_tensor([[float(o == _SKIP) for o in names] for names in space.cells[kind].candidates])
