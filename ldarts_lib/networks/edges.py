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
        """The channels that the operations see of so many.

        Raises:
            ValueError: they are no whole part of them.
        """
        seen = max(1, channels // self.partial)
        if channels % seen:
            raise ValueError(f"operations cannot see 1/{self.partial} of {channels} channels")
        return seen

    def joined(self, weights: Mapping[str, Tensor], kind: str) -> Tensor:
        """The weights of a kind's cells, of partial channels with β (1 if it is not given) as last column."""
        p = weights[kind]
        if self.partial == 1:
            return p
        beta = weights[kind + EDGES] if kind + EDGES in weights else torch.ones_like(p[..., 0])
        return torch.cat([p, beta.unsqueeze(-1)], -1)

    def weights(self, joined: Tensor, x: Tensor) -> tuple[Tensor, list[tuple[Any, Any]]]:
        """Of a cell that reads x the weights of the mixing, βp, and of each edge what else writes it."""
        edges = joined.shape[-2]
        kept = [None] * edges if self.keep == 1 else self._kept(x, edges)
        if self.partial == 1:
            return joined, [(None, keep) for keep in kept]
        p, beta = joined[..., :-1], joined[..., -1:]
        return p * beta, list(zip(beta.squeeze(-1).unbind(-1), kept, strict=True))

    def read(self, x: Tensor) -> Tensor:
        """The first C/K channels of each network, [batch, networks×C/K, height, width]."""
        if self.partial == 1:
            return x
        apart, channels = self._apart(x, like=x), _channels(x) + 1
        return _joined(apart.narrow(channels, 0, self.seen(apart.shape[channels])), channels)

    def _kept(self, x: Tensor, edges: int) -> Tensor:
        """For each edge and image 1/keep or 0, [edges, batch, networks]."""
        shape, like = (edges, len(x)), {"device": x.device, "dtype": x.dtype}
        drawn = [torch.rand(shape, generator=generator, **like) for generator in self.generators]
        return (torch.stack(drawn, -1) < self.keep) / torch.tensor(self.keep, **like)

    def write(self, mixed: Tensor, x: Tensor, beta: Any, kept: Tensor | None) -> Tensor:
        """What an edge adds to its node.

        Args:
            mixed: its mixed operation of what it reads, times β.
            x: the state that it leaves.
            beta: the weight β of the channels that pass by, a number or [networks].
            kept: [batch, networks], what drop-path keeps.
        """
        if self.partial > 1:
            x = F.max_pool2d(x, 2) if mixed.shape[-1] < x.shape[-1] else x
            channels, seen, rest = _channels(x) + 1, self._apart(mixed, like=x), self._apart(x, like=x)
            rest = rest.narrow(channels, seen.shape[channels], rest.shape[channels] - seen.shape[channels])
            rest = rest * beta.view(-1, *[1] * (rest.dim() - channels))
            # K groups of C/K channels, shuffled, so that the next edge sees some of each
            both = torch.cat([seen, rest], channels)
            groups = both.unflatten(channels, (-1, seen.shape[channels]))
            shuffled = groups.transpose(channels, channels + 1).flatten(channels, channels + 1)
            mixed = _joined(shuffled, channels)
        if kept is not None:
            mixed = mixed * kept.repeat_interleave(mixed.shape[1] // kept.shape[1], 1)[..., None, None]
        return mixed

    def _apart(self, x: Tensor, like: Tensor) -> Tensor:
        """The channels of each network by themselves, in the layout of another tensor."""
        place = _channels(like)
        return x.movedim(1, place).unflatten(place, (len(self.generators), -1))


def _channels(x: Tensor) -> int:
    """Where the channels of a state lie in memory."""
    return 3 if x.is_contiguous(memory_format=torch.channels_last) else 1


def _joined(x: Tensor, channels: int) -> Tensor:
    return x.flatten(channels - 1, channels).contiguous().movedim(channels - 1, 1)
