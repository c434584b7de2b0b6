"""Several networks as one: they stand side by side in the channels, and convolutions are grouped.

Networks as small as those of the demonstration spend more on calls than on arithmetic; ten of them in one
are several times faster than one after the other. No network sees another one: outputs and gradients are
those of the single networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ldarts_lib.fast.execution import Execution
from ldarts_lib.fast.supernet import FastSupernet
from ldarts_lib.networks.discrete import DiscreteNetwork
from ldarts_lib.networks.macro import MacroSettings, build_macro
from ldarts_lib.networks.operations import OPERATIONS, TEXTBOOK, Layers, OperationSettings
from ldarts_lib.networks.supernet import Supernet, normal
from ldarts_lib.spaces.genotype import Cell, Edge, Genotype
from ldarts_lib.spaces.space import Space


class PackedSupernet(FastSupernet):
    """The contract of :class:`~ldarts_lib.networks.supernet.Supernet` for several networks at once.

    ``supernet(images, weights)`` takes images [batch, copies×channels, height, width] and per cell kind the
    weights [cells, copies, edges, operations]; it returns logits [copies, batch, classes].

    Args:
        space: a search space with the macro network ``stages``.
        generators: of the random numbers of each network.
        sizes: as for the reference.

    Raises:
        ValueError: another macro network, or less than two networks.
    """

    def __init__(self, space: Space, generators: Sequence[torch.Generator], **sizes: Any) -> None:
        if space.macro != "stages" or space.random or space.registered:
            raise ValueError(f"supernets of space {space.name!r} cannot be packed")
        if len(generators) < 2:
            raise ValueError(f"a pack needs at least two networks, got {len(generators)}")
        super().__init__(space, copies=len(generators), **sizes)
        self.generators = self.rule.generators = list(generators)
        self.copies = len(self.generators)

    def forward(
        self, images: Tensor, weights: Mapping[str, Tensor], *, update_statistics: bool = True
    ) -> Tensor:
        logits = super().forward(images, weights, update_statistics=update_statistics)
        return logits.unflatten(1, (self.copies, -1)).transpose(0, 1)

    def drawn(self, sample: Callable[[Tensor, torch.Generator], Tensor], weights: Tensor) -> Tensor:
        parts = zip(weights.unbind(-3), self.generators, strict=True)
        return torch.stack([sample(part, generator) for part, generator in parts], -3)

    def noise_like_parameters(self) -> list[Tensor]:
        firsts = [parameter.chunk(self.copies)[0] for parameter in self.parameters()]
        drawn = [[normal(first, g) for first in firsts] for g in self.generators]
        return [torch.cat(parts) for parts in zip(*drawn, strict=True)]

    def load(self, networks: Sequence[Supernet]) -> None:
        """Take over the parameters and running statistics of single supernets."""
        _load(self, networks)

    @torch.no_grad()
    def unload(self, networks: Sequence[Supernet]) -> None:
        """Hand the parameters and running statistics back to single supernets."""
        states = [network.state_dict() for network in networks]
        for name, packed in self.state_dict().items():
            parts = packed.chunk(len(states)) if packed.dim() else [packed] * len(states)
            for state, part in zip(states, parts, strict=True):
                state[name].copy_(part)

    def _layers(self, run: Execution) -> Layers:
        return packed_layers(run.copies, super()._layers(run))

    def _expected(self, kind: str) -> tuple[int, ...]:
        cells, *shape = super()._expected(kind)
        return cells, self.copies, *shape


class PackedNetwork(nn.Module):
    """``copies`` networks of each genotype, each with weights of its own; copies are neighbours.

    Args:
        space: one with the macro network ``stages``.
        sizes: channels, depth, classes, channels_in and reduction of
            :class:`~ldarts_lib.networks.macro.MacroSettings`.

    Raises:
        ValueError: the space has another macro network, or there is nothing to pack.
        GenotypeError: a genotype is not of the space.
    """

    def __init__(self, space: Space, genotypes: Sequence[Genotype], copies: int, **sizes: Any) -> None:
        super().__init__()
        if space.macro != "stages" or space.registered:
            known = "spaces with the macro network 'stages' and built-in operations"
            raise ValueError(f"only {known} can be packed, not {space.name!r}")
        if not genotypes or copies < 1:
            raise ValueError(f"nothing to pack: {len(genotypes)} genotypes, {copies} copies of each")
        for genotype in genotypes:
            space.validate(genotype)
        self.networks = len(genotypes) * copies
        cells = [genotype.normal for genotype in genotypes]
        settings = MacroSettings(
            make_cell=lambda _, width: _PackedCell(cells, width, copies),
            outputs=space.outputs,
            affine=True,
            layers=packed_layers(self.networks),
            **sizes,
        )
        self.layout = space.layout(settings.depth)
        self.macro = build_macro(space.macro, settings).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Images [batch, k×channels, height, width] → logits [networks, batch, classes].

        Those of the first k networks, side by side, are repeated for the others.
        """
        channels = self.macro.stem[0].in_channels
        images = images.repeat(1, channels // images.shape[1], 1, 1)
        logits = self.macro(images.contiguous(memory_format=torch.channels_last), [None] * len(self.layout))
        return logits.unflatten(1, (self.networks, -1)).transpose(0, 1)

    def load(self, networks: Sequence[DiscreteNetwork]) -> None:
        """Take over the parameters of single networks, given in the order of this one's."""
        for name in ("stem", "reductions", "head"):
            _load(getattr(self.macro, name), [getattr(n.macro, name) for n in networks])
        for position, cell in enumerate(self.macro.cells):
            cell.load([n.macro.cells[position] for n in networks])


class _PackedCell(nn.Module):
    """The cells of many networks: on each edge the networks that chose the same operation share its call."""

    def __init__(self, cells: Sequence[Cell], channels: int, copies: int) -> None:
        super().__init__()
        self.cells, self.nodes, self.copies = len(cells), cells[0].nodes, copies
        self.operations = nn.ModuleList()
        self.edges: list[tuple[int, Edge]] = []  # that each operation is on, and its number
        for number, edge in enumerate(cells[0].edges):
            chosen = [cell.edges[number].operation for cell in cells]
            for name in sorted(set(chosen) - {"none"}):
                members = [place for place, other in enumerate(chosen) if other == name]
                layers = packed_layers(copies * len(members))
                operation = OPERATIONS[name](OperationSettings(channels, affine=True, layers=layers))
                operation.register_buffer("members", torch.tensor(members), persistent=False)
                self.operations.append(operation)
                self.edges.append((number, edge))

    def forward(self, states: list[Tensor], _: None) -> Tensor:
        first = self._by_cell(states[0], self.cells)
        pixels = [first, *(torch.zeros_like(first) for _ in range(self.nodes))]
        for (_, edge), operation in zip(self.edges, self.operations, strict=True):
            members, chosen, total = operation.members, pixels[edge.source], pixels[edge.target]
            everyone = len(members) == self.cells
            chosen = chosen if everyone else chosen.index_select(3, members)
            value = self._by_cell(operation(chosen.flatten(3).permute(0, 3, 1, 2)), len(members))
            total.add_(value) if everyone else total.index_add_(3, members, value)
        return pixels[-1].flatten(3).permute(0, 3, 1, 2)

    def load(self, cells: Sequence[nn.Module]) -> None:
        """Take over the parameters of single cells."""
        for (number, _), operation in zip(self.edges, self.operations, strict=True):
            places = [m * self.copies + copy for m in operation.members for copy in range(self.copies)]
            _load(operation, [cells[place].operations[number] for place in places])

    @staticmethod
    def _by_cell(state: Tensor, cells: int) -> Tensor:
        """[batch, cells×channels, height, width] as [batch, height, width, cells, channels]."""
        return state.permute(0, 2, 3, 1).unflatten(-1, (cells, -1))


class _PackedLinear(nn.Module):
    """One linear layer per network: [batch, networks×features] → [batch, networks×outputs]."""

    def __init__(self, features: int, outputs: int, *, networks: int) -> None:
        super().__init__()
        self.networks = networks
        self.weight = nn.Parameter(torch.empty(networks * outputs, features))
        self.bias = nn.Parameter(torch.empty(networks * outputs))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight[..., None, None]
        return F.conv2d(x[..., None, None], weight, self.bias, groups=self.networks).flatten(1)


def packed_layers(networks: int, layers: Layers = TEXTBOOK) -> Layers:
    """The layers of as many networks side by side, made of the given ones (but for the linear layer)."""

    def convolution(channels_in: int, channels: int, kernel: int, *, groups: int = 1, **options: Any) -> Any:
        wide_in, wide = networks * channels_in, networks * channels
        return layers.convolution(wide_in, wide, kernel, groups=networks * groups, **options)

    def norm(channels: int, *, affine: bool = True) -> nn.BatchNorm2d:
        return layers.norm(networks * channels, affine=affine)

    return Layers(convolution, norm, partial(_PackedLinear, networks=networks), layers.activation)


@torch.no_grad()
def _load(packed: nn.Module, networks: Sequence[nn.Module]) -> None:
    """Put the parameters and running statistics of networks one below the other."""
    states = [network.state_dict() for network in networks]
    for name, tensor in packed.state_dict().items():
        singles = [state[name] for state in states]
        tensor.copy_(torch.cat(singles) if tensor.dim() else singles[0])
