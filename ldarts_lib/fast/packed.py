"""Several supernets of one search space as one: their channels stand side by side, convolutions are grouped.

Networks as small as those of the demonstration spend more on calls than on arithmetic; ten of them in one
are several times faster than one after the other. No network sees another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ldarts_lib.fast.supernet import FastSupernet
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.spaces.space import Space


class PackedSupernet(FastSupernet):
    """The contract of :class:`~ldarts_lib.networks.supernet.Supernet` for several networks at once.

    ``supernet(images, weights)`` takes images [batch, copies×channels, height, width] and per cell kind the
    weights [cells, copies, edges, operations]; it returns logits [copies, batch, classes].

    Args:
        space: a search space with the macro network ``stages``.
        generators: where the random operations of each network draw from; as many as there are networks.
        sizes: as for the reference.

    Raises:
        ValueError: another macro network, or less than two networks.
    """

    def __init__(self, space: Space, generators: Sequence[torch.Generator], **sizes: Any) -> None:
        if space.macro != "stages" or space.random:
            raise ValueError(f"supernets of space {space.name!r} cannot be packed")
        if len(generators) < 2:
            raise ValueError(f"a pack needs at least two networks, got {len(generators)}")
        super().__init__(space, copies=len(generators), **sizes)
        self.generators = list(generators)
        self.copies = len(self.generators)

    def forward(
        self, images: Tensor, weights: Mapping[str, Tensor], *, update_statistics: bool = True
    ) -> Tensor:
        logits = super().forward(images, weights, update_statistics=update_statistics)
        return logits.unflatten(1, (self.copies, -1)).transpose(0, 1)

    def normal_like(self, weights: Tensor) -> Tensor:
        own = weights[:, 0]
        drawn = [
            torch.randn(own.shape, generator=g, dtype=own.dtype, device=own.device) for g in self.generators
        ]
        return torch.stack(drawn, 1)

    def noise_like_parameters(self) -> list[Tensor]:
        shapes = [(p.shape[0] // self.copies, *p.shape[1:]) for p in self.parameters()]
        example = next(self.parameters())
        drawn = [
            [torch.randn(shape, generator=g, dtype=example.dtype, device=example.device) for shape in shapes]
            for g in self.generators
        ]
        return [torch.cat(parts) for parts in zip(*drawn, strict=True)]

    @torch.no_grad()
    def load(self, networks: Sequence[Supernet]) -> None:
        """Take over the parameters and running statistics of single supernets."""
        for name, packed in self._tensors():
            singles = [_tensor(network, name) for network in networks]
            packed.copy_(torch.cat(singles) if packed.dim() else singles[0])

    @torch.no_grad()
    def unload(self, networks: Sequence[Supernet]) -> None:
        """Hand the parameters and running statistics back to single supernets."""
        for name, packed in self._tensors():
            parts = packed.chunk(len(networks)) if packed.dim() else [packed] * len(networks)
            for network, part in zip(networks, parts, strict=True):
                _tensor(network, name).copy_(part)

    def _expected(self, kind: str) -> tuple[int, ...]:
        cells, *shape = super()._expected(kind)
        return cells, self.copies, *shape

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        names = self.state_dict().keys()
        return ((name, _tensor(self, name)) for name in names)


def _tensor(network: Supernet, name: str) -> Tensor:
    """A parameter or buffer by its name."""
    module, _, attribute = name.rpartition(".")
    return getattr(network.get_submodule(module), attribute)
