"""Many discrete networks as one, so that a CPU trains them in large steps instead of many small ones.

The networks stand side by side in the channels, each convolution is grouped, and each cell computes only
what its own genotype asks for. No network sees another one: outputs and gradients are those of the single
networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.fast.packing import packed_layers
from ldarts_lib.networks.discrete import DiscreteNetwork
from ldarts_lib.networks.macro import MacroSettings, build_macro
from ldarts_lib.networks.operations import OPERATIONS, OperationSettings
from ldarts_lib.spaces.genotype import Cell, Genotype


class PackedNetwork(nn.Module):
    """``copies`` networks of each genotype, each with weights of its own.

    Networks are ordered by genotype, the copies of one genotype are neighbours.

    Args:
        protocol: space (one with the macro network ``stages``), channels, depth and reduction blocks.
        genotypes: the architectures.
        copies: networks of each.
        classes, channels_in: of the images.

    Raises:
        ValueError: the space has another macro network, or there is nothing to pack.
        GenotypeError: a genotype is not of the space.
    """

    def __init__(
        self,
        protocol: SearchProtocol,
        genotypes: Sequence[Genotype],
        copies: int,
        *,
        classes: int,
        channels_in: int,
    ) -> None:
        super().__init__()
        space = protocol.search_space
        if space.macro != "stages":
            raise ValueError(f"only spaces with the macro network 'stages' can be packed, not {space.name!r}")
        if not genotypes or copies < 1:
            raise ValueError(f"nothing to pack: {len(genotypes)} genotypes, {copies} copies of each")
        for genotype in genotypes:
            space.validate(genotype)
        self.copies = copies
        self.networks = len(genotypes) * copies
        self.classes = classes
        self.layout = space.layout(protocol.depth)
        cells = [genotype.normal for genotype in genotypes]
        settings = MacroSettings(
            make_cell=lambda _, width: PackedCell(cells, width, copies),
            channels=protocol.channels,
            depth=protocol.depth,
            classes=classes,
            channels_in=channels_in,
            reduction=protocol.reduction,
            outputs=space.outputs,
            affine=True,
            layers=packed_layers(self.networks),
        )
        self.macro = build_macro(space.macro, settings).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Images of all networks → their logits.

        Args:
            images: [batch, k×channels, height, width], those of the first k networks, side by side; repeated
                for the others (k divides the number of networks).

        Returns:
            [networks, batch, classes].
        """
        channels = self.macro.stem[0].in_channels
        images = images.repeat(1, channels // images.shape[1], 1, 1)
        logits = self.macro(images.contiguous(memory_format=torch.channels_last), [None] * len(self.layout))
        return logits.unflatten(1, (self.networks, self.classes)).transpose(0, 1)

    @torch.no_grad()
    def load(self, networks: Sequence[DiscreteNetwork]) -> None:
        """Take over the parameters of single networks, given in the order of this one's."""
        for name in ("stem", "reductions", "head"):
            _concatenate(getattr(self.macro, name), [getattr(n.macro, name) for n in networks])
        for position, cell in enumerate(self.macro.cells):
            cell.load([n.macro.cells[position] for n in networks])


class PackedCell(nn.Module):
    """The cells of many networks: on each edge the networks that chose the same operation share its call."""

    def __init__(self, cells: Sequence[Cell], channels: int, copies: int) -> None:
        super().__init__()
        self.cells = len(cells)
        self.nodes = range(1, 1 + cells[0].nodes)
        self.copies = copies
        self.operations = nn.ModuleList()
        self.routes: list[tuple[int, int, int]] = []
        for number, edge in enumerate(cells[0].edges):
            chosen = [cell.edges[number].operation for cell in cells]
            for name in sorted(set(chosen) - {"none"}):
                members = [place for place, other in enumerate(chosen) if other == name]
                layers = packed_layers(copies * len(members))
                self.operations.append(
                    OPERATIONS[name](OperationSettings(channels, affine=True, layers=layers))
                )
                self.routes.append((number, edge.target, edge.source))
                self.register_buffer(f"members{len(self.routes) - 1}", torch.tensor(members))

    def _members(self, route: int) -> Tensor:
        return getattr(self, f"members{route}")

    def forward(self, states: list[Tensor], _: None) -> Tensor:
        pixels = [self._by_cell(states[0], self.cells)]
        for node in self.nodes:
            total = torch.zeros_like(pixels[0])
            for route, operation in enumerate(self.operations):
                _, target, source = self.routes[route]
                if target != node:
                    continue
                members = self._members(route)
                everyone = len(members) == self.cells
                chosen = pixels[source] if everyone else pixels[source].index_select(3, members)
                value = self._by_cell(operation(chosen.flatten(3).permute(0, 3, 1, 2)), len(members))
                total.add_(value) if everyone else total.index_add_(3, members, value)
            pixels.append(total)
        return pixels[-1].flatten(3).permute(0, 3, 1, 2)

    @staticmethod
    def _by_cell(state: Tensor, cells: int) -> Tensor:
        """[batch, cells×channels, height, width] as [batch, height, width, cells, channels]."""
        return state.permute(0, 2, 3, 1).unflatten(-1, (cells, -1))

    def load(self, cells: Sequence[nn.Module]) -> None:
        for route, operation in enumerate(self.operations):
            number = self.routes[route][0]
            places = [m * self.copies + copy for m in self._members(route) for copy in range(self.copies)]
            _concatenate(operation, [cells[place].operations[number] for place in places])


def _concatenate(packed: nn.Module, single: Sequence[nn.Module]) -> None:
    for name, parameter in packed.named_parameters():
        parameter.copy_(torch.cat([module.get_parameter(name) for module in single]))
