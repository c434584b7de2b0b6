"""Discrete networks: one genotype, built with the macro network of its search space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ldarts_lib.genotype import Cell, Genotype
from ldarts_lib.macro import Reduction, build_macro
from ldarts_lib.operations import OPERATIONS, Settings
from ldarts_lib.spaces import Space


class DiscreteCell(nn.Module):
    """The chosen operations of one cell; each node sums the edges that it kept."""

    def __init__(self, cell: Cell, channels: int, *, halve: bool) -> None:
        super().__init__()
        self.cell = cell
        self.operations = nn.ModuleList(
            OPERATIONS[edge.operation](
                Settings(channels, 2 if halve and edge.source < cell.inputs else 1, affine=True)
            )
            for edge in cell.edges
        )

    def forward(self, states: list[Tensor], _: None) -> Tensor:
        states = list(states)
        chosen = list(zip(self.cell.edges, self.operations, strict=True))
        for node in range(self.cell.inputs, self.cell.inputs + self.cell.nodes):
            states.append(sum(op(states[edge.source]) for edge, op in chosen if edge.target == node))
        return torch.cat([states[node] for node in self.cell.output], dim=1)


class DiscreteNetwork(nn.Module):
    """A network of one genotype, to be trained from scratch.

    Args:
        space: the search space that the genotype belongs to.
        genotype: the architecture; validated against the space.
        channels, depth, classes, channels_in, reduction: as for a supernet.
    """

    def __init__(
        self,
        space: Space,
        genotype: Genotype,
        *,
        channels: int,
        depth: int,
        classes: int,
        channels_in: int = 3,
        reduction: Reduction = "residual",
    ) -> None:
        super().__init__()
        space.validate(genotype)
        self.layout = space.layout(depth)
        self.macro = build_macro(
            space,
            lambda kind, width: DiscreteCell(genotype.cells[kind], width, halve=kind == "reduce"),
            channels=channels,
            depth=depth,
            classes=classes,
            channels_in=channels_in,
            reduction=reduction,
            affine=True,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images [batch, channels, height, width] → logits [batch, classes]."""
        return self.macro(images, [None] * len(self.layout))
