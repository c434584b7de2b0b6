"""PC-DARTS: operations see a part of the channels, edges have weights of their own (Xu et al., 2020).

Source: PC-DARTS, equations 2 and 3: an edge is β_e·[Σ_o p_o·o(x₁), x₂], x₁ being the first 1/K of the
channels of x, shuffled; β is the softmax over the edges that end in one node, of parameters that move like α.
As in its code α and β wait for the first 15 of 50 epochs, and the genotype is read from β·p.
"""

from typing import Any, ClassVar

import torch
from pydantic import PrivateAttr
from torch import Tensor

from ldarts_lib.bilevel.remedies.remedy import ByKind, Remedy
from ldarts_lib.networks.edges import EDGES
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.settings import Count, Share
from ldarts_lib.spaces.space import Space


class PcDarts(Remedy):
    """Its strength is ``partial``."""

    strength: ClassVar = "partial"
    with_lambda: ClassVar = True

    partial: Count = 4
    """K; operations see at least one channel."""
    wait: Share = 0.3
    """The part of the search in which α does not move yet."""
    _space: Space = PrivateAttr()

    def check(self, space: Space) -> None:
        self._space = space

    def supernet_options(self) -> dict[str, Any]:
        return {"partial": self.partial}

    def further_alphas(self, generator: torch.Generator) -> dict[str, Tensor]:
        edges = {kind + EDGES: len(cell.edges) for kind, cell in self._space.cells.items()}
        return {kind: 1e-3 * torch.randn(count, generator=generator) for kind, count in edges.items()}

    def waits(self, share: float) -> bool:
        return share < self.wait

    def weights(self, alphas: ByKind, supernet: Supernet, share: float) -> ByKind:
        return {kind: self._softmax(kind, alpha) for kind, alpha in alphas.items()}

    def decided(self, alphas: ByKind) -> ByKind:
        p = {kind: self._softmax(kind, alpha) for kind, alpha in alphas.items()}
        return {kind: p[kind + EDGES].unsqueeze(-1) * p[kind] for kind in self._space.cells}

    def _softmax(self, kind: str, alpha: Tensor) -> Tensor:
        """Of α over the operations of an edge, of β over the edges that end in node i: i, one by one."""
        if not kind.endswith(EDGES):
            return alpha.softmax(-1)
        cell = self._space.cells[kind.removesuffix(EDGES)]
        parts = alpha.split([*range(cell.inputs, cell.inputs + cell.nodes)], -1)
        return torch.cat([part.softmax(-1) for part in parts], -1)
