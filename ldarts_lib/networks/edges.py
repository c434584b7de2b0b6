"""What may happen to the edges of a supernet beside the mixing: partial channels and dropped paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

EDGES = "_edges"
"""Under a kind's name with this stand the weights β [cells, edges] of its cells' edges."""


@dataclass
class EdgeRule:
    """How an edge reads a state and what it makes of its mixed operation; one for all cells of a supernet.

    Attributes:
        partial: K; operations see the first 1/K of the channels, but at least one, and the others pass by
            (Xu et al., 2020, equation 2).
        keep: probability with which an edge is kept, for each image by itself (Larsson et al., 2017).
        generators: where drop-path draws from, one for each network that stands side by side.
    """

    partial: int = 1
    keep: float = 1.0
    generators: Sequence[torch.Generator | None] = (None,)

    def seen(self, channels: int) -> int:
        """The channels that the operations see of so many, a whole part of them."""
        return next(c for c in range(max(1, channels // self.partial), 0, -1) if channels % c == 0)

    def joined(self, weights: Mapping[str, Tensor], kind: str) -> Tensor:
        """The weights of a kind's cells, of partial channels with β (1 if it is not given) as last column."""
        p = weights[kind]
        if self.partial == 1:
            return p
        beta = weights.get(kind + EDGES, torch.ones_like(p[..., 0]))
        return torch.cat([p, beta.unsqueeze(-1)], -1)

    def weights(self, joined: Tensor, x: Tensor) -> tuple[Tensor, list[tuple[Any, Any]]]:
        """Of a cell that reads x the weights of the mixing, βp, and of each edge what else writes it."""
        edges, kept = joined.shape[-2], [None] * joined.shape[-2]
        if self.keep < 1:  # 1/keep or 0 for each edge, image and network
            like = {"device": x.device, "dtype": x.dtype}
            drawn = [torch.rand(edges, len(x), generator=one, **like) for one in self.generators]
            kept = (torch.stack(drawn, -1) < self.keep).to(x.dtype) / self.keep
        if self.partial == 1:
            return joined, [(None, keep) for keep in kept]
        p, beta = joined[..., :-1], joined[..., -1:]
        return p * beta, list(zip(beta.squeeze(-1).unbind(-1), kept, strict=True))

    def read(self, x: Tensor) -> Tensor:
        """The first C/K channels of each network, [batch, networks×C/K, height, width]."""
        if self.partial == 1:
            return x
        apart, channels = self._apart(x, x)
        return _joined(apart.narrow(channels, 0, self.seen(apart.shape[channels])), channels)

    def write(self, mixed: Tensor, x: Tensor, beta: Any, kept: Tensor | None) -> Tensor:
        """What an edge that leaves x adds to its node, ``mixed`` being β times its mixed operation."""
        if self.partial > 1:
            x = F.max_pool2d(x, 2) if mixed.shape[-1] < x.shape[-1] else x
            (seen, channels), (rest, _) = self._apart(mixed, x), self._apart(x, x)
            few, all_ = seen.shape[channels], rest.shape[channels]
            rest = rest.narrow(channels, few, all_ - few)
            rest = rest * beta.view(-1, *[1] * (rest.dim() - channels))
            # K groups of C/K channels, shuffled, so that the next edge sees some of each
            groups = torch.cat([seen, rest], channels).unflatten(channels, (-1, few))
            shuffled = groups.transpose(channels, channels + 1).flatten(channels, channels + 1)
            mixed = _joined(shuffled, channels)
        if kept is not None:
            mixed = mixed * kept.repeat_interleave(mixed.shape[1] // kept.shape[1], 1)[..., None, None]
        return mixed

    def _apart(self, x: Tensor, like: Tensor) -> tuple[Tensor, int]:
        """A state with its networks apart, in the memory layout of another; where its channels are."""
        place = 3 if like.is_contiguous(memory_format=torch.channels_last) else 1
        return x.movedim(1, place).unflatten(place, (len(self.generators), -1)), place + 1


def _joined(x: Tensor, channels: int) -> Tensor:
    return x.flatten(channels - 1, channels).contiguous().movedim(channels - 1, 1)
