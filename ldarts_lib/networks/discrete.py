"""Discrete networks: one genotype, built with the macro network of its search space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldarts_lib.networks.macro import Chain, MacroSettings, Stem, build_macro
from ldarts_lib.networks.operations import OPERATIONS, OperationSettings
from ldarts_lib.spaces.genotype import Cell, Genotype
from ldarts_lib.spaces.space import Space, layout


class DiscreteCell(nn.Module):
    """The chosen operations of one cell; each node sums the edges that it kept."""

    def __init__(self, cell: Cell, channels: int, *, halve: bool) -> None:
        super().__init__()
        self.cell = cell
        strides = [2 if halve and edge.source < cell.inputs else 1 for edge in cell.edges]
        self.operations = nn.ModuleList(
            OPERATIONS[edge.operation](OperationSettings(channels, stride, affine=True))
            for edge, stride in zip(cell.edges, strides, strict=True)
        )

    def forward(self, states: list[Tensor], paths: Tensor | None) -> Tensor:
        """Input states [batch, C, height, width] and factors of the edges [edges, batch] → the cell's output.

        An identity has no factor (DARTS).
        """
        states = [*states, *[0] * self.cell.nodes]
        for index, (edge, operation) in enumerate(zip(self.cell.edges, self.operations, strict=True)):
            y = operation(states[edge.source])
            if paths is not None and not isinstance(operation, nn.Identity):
                y = y * paths[index, :, None, None, None]
            states[edge.target] = states[edge.target] + y
        return torch.cat([states[node] for node in self.cell.output], dim=1)


class AuxiliaryHead(nn.Sequential):
    """DARTS's second classifier, which reads the output of the last reduction cell while training.

    It reads at least 8×8 pixels, or 7×7 with the stem ``imagenet``: there, the pooling has another stride,
    and the second BatchNorm is missing, as in the DARTS code.
    """

    def __init__(self, channels: int, classes: int, stem: Stem) -> None:
        imagenet = stem == "imagenet"
        super().__init__(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=2 if imagenet else 3, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.Identity() if imagenet else nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),  # one pixel already at the published sizes
            nn.Linear(768, classes),
        )


class DiscreteNetwork(nn.Module):
    """A network of one genotype, to be trained from scratch.

    Args:
        space: the search space that the genotype belongs to, against which it is validated; None for an
            architecture of no search space.
        auxiliary: whether a ``chain`` has an auxiliary head.
        sizes: channels, depth, classes, channels_in, reduction and stem of
            :class:`~ldarts_lib.networks.macro.MacroSettings`.

    Raises:
        ProtocolError: a size is out of range.
        GenotypeError: the genotype is not of the space, is no cell of images, or has an unknown operation.
        ValueError: an auxiliary head for ``stages``, where nothing is published.

    Examples:
        >>> import torch
        >>> from ldarts_lib import DiscreteNetwork, published
        >>> network = DiscreteNetwork(None, published("DARTS_V2"), channels=4, depth=3, classes=10)
        >>> network(torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, space: Space | None, genotype: Genotype, *, auxiliary: bool = False, **sizes: Any
    ) -> None:
        super().__init__()
        genotype.require("darts", "nasbench201")
        if space is not None:
            space.validate(genotype)
        settings = MacroSettings(
            make_cell=lambda name, width: DiscreteCell(genotype.cells[name], width, halve=name == "reduce"),
            outputs={name: len(cell.output) for name, cell in genotype.cells.items()},
            affine=True,
            **sizes,
        )
        macro = "chain" if genotype.kind == "darts" else "stages"
        self.layout = layout(macro, settings.depth)
        self.edges = [len(genotype.cells[name].edges) for name in self.layout]
        self.macro = build_macro(macro, settings)
        if auxiliary and not isinstance(self.macro, Chain):
            raise ValueError("only a chain of cells has an auxiliary head")
        self.tap = 2 * settings.depth // 3
        self.auxiliary = None
        if auxiliary:
            self.auxiliary = AuxiliaryHead(self.macro.widths[self.tap], settings.classes, settings.stem)

    def forward(self, images: Tensor, paths: Tensor | None = None) -> Tensor:
        """Images [batch, channels, height, width] → logits [batch, classes].

        ``paths`` are, for drop path, factors of the edges of all cells, [edges, batch].
        """
        return self.macro(images, self._of_cells(paths))

    def with_auxiliary(self, images: Tensor, paths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The logits, and those of the auxiliary head."""
        for index, last in enumerate(self.macro.outputs(images, self._of_cells(paths))):
            if index == self.tap:
                second = self.auxiliary(last)
        return self.macro.head(last), second

    def _of_cells(self, paths: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * len(self.layout) if paths is None else paths.split(self.edges)
