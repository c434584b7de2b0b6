"""Macro networks: how cells are stacked, whatever is inside them.

A cell is any module that maps its input states (a list of [batch, C, height, width]) and one argument (a
supernet's architecture weights, nothing in a discrete network) to its output state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from ldarts_lib.networks.operations import TEXTBOOK, FactorizedReduce, Layers, relu_conv_norm
from ldarts_lib.spaces.space import Macro, layout

Reduction = Literal["residual", "light"]
Stem = Literal["small", "imagenet"]
MakeCell = Callable[[str, int], nn.Module]
"""(cell kind, channels) → cell."""


class ResidualReduction(nn.Module):
    """NAS-Bench-201's block between stages: two 3×3 convolutions beside a pooled shortcut."""

    def __init__(self, channels_in: int, channels: int, layers: Layers = TEXTBOOK) -> None:
        super().__init__()
        self.body = nn.Sequential(
            relu_conv_norm(channels_in, channels, 3, stride=2, affine=True, layers=layers),
            relu_conv_norm(channels, channels, 3, affine=True, layers=layers),
        )
        pointwise = layers.convolution(channels_in, channels, 1, bias=False)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), pointwise)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.body(x)


def light_reduction(channels_in: int, channels: int, layers: Layers = TEXTBOOK) -> nn.Sequential:
    """Pooling, a 1×1 convolution and BatchNorm: all 3×3 convolutions are left to the cells."""
    pointwise = layers.convolution(channels_in, channels, 1, bias=False)
    return nn.Sequential(nn.AvgPool2d(2), pointwise, layers.norm(channels))


def _stem(channels_in: int, channels: int, layers: Layers, stride: int = 1) -> nn.Sequential:
    convolution = layers.convolution(channels_in, channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, layers.norm(channels))


def _imagenet_stems(channels_in: int, channels: int, layers: Layers) -> tuple[nn.Module, nn.Module]:
    """Images to the input states of the first cell, a quarter and an eighth as high and wide (DARTS)."""
    first = nn.Sequential(
        _stem(channels_in, channels // 2, layers, stride=2),
        layers.activation(),
        _stem(channels // 2, channels, layers, stride=2),
    )
    return first, nn.Sequential(layers.activation(), _stem(channels, channels, layers, stride=2))


class Stages(nn.Module):
    """NAS-Bench-201: three stages of ``depth`` cells of C, 2C, 4C channels, reduction blocks between."""

    def __init__(
        self,
        make_cell: MakeCell,
        *,
        depth: int,
        channels: int,
        classes: int,
        channels_in: int,
        reduction: Reduction,
        layers: Layers,
    ) -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            raise ValueError(f"unknown reduction {reduction!r}; choose one of {get_args(Reduction)}")
        reduce = {"residual": ResidualReduction, "light": light_reduction}[reduction]
        self.depth = depth
        self.stem = _stem(channels_in, channels, layers)
        self.cells = nn.ModuleList(
            make_cell("normal", channels * 2**stage) for stage in range(3) for _ in range(depth)
        )
        self.reductions = nn.ModuleList(reduce(c, 2 * c, layers) for c in (channels, 2 * channels))
        self.head = nn.Sequential(
            layers.norm(4 * channels),
            layers.activation(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            layers.linear(4 * channels, classes),
        )

    def forward(self, images: Tensor, arguments: Sequence[Tensor | None]) -> Tensor:
        state = self.stem(images)
        for index, (cell, argument) in enumerate(zip(self.cells, arguments, strict=True)):
            if index and index % self.depth == 0:
                state = self.reductions[index // self.depth - 1](state)
            state = cell([state], argument)
        return self.head(state)


class Chain(nn.Module):
    """DARTS: each cell reads the outputs of the two cells before it, through 1×1 convolutions.

    Attributes:
        widths: channels of the output of each cell.
    """

    def __init__(
        self,
        make_cell: MakeCell,
        layout: Sequence[str],
        *,
        channels: int,
        classes: int,
        channels_in: int,
        outputs: Mapping[str, int],
        affine: bool,
        stem: Stem,
        layers: Layers,
    ) -> None:
        super().__init__()
        if stem == "imagenet":
            self.stem, self.second_stem = _imagenet_stems(channels_in, channels, layers)
        else:
            self.stem, self.second_stem = _stem(channels_in, 3 * channels, layers), nn.Identity()
        self.cells, self.first_inputs, self.second_inputs = (nn.ModuleList() for _ in range(3))
        before_last = last = channels if stem == "imagenet" else 3 * channels
        current, after_reduction = channels, stem == "imagenet"
        self.widths: list[int] = []
        for kind in layout:
            current *= 2 if kind == "reduce" else 1
            self.first_inputs.append(
                FactorizedReduce(before_last, current, affine, layers)
                if after_reduction
                else relu_conv_norm(before_last, current, 1, affine=affine, layers=layers)
            )
            self.second_inputs.append(relu_conv_norm(last, current, 1, affine=affine, layers=layers))
            self.cells.append(make_cell(kind, current))
            after_reduction = kind == "reduce"
            before_last, last = last, outputs[kind] * current
            self.widths.append(last)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), layers.linear(last, classes))

    def outputs(self, images: Tensor, arguments: Sequence[Tensor | None]) -> Iterator[Tensor]:
        """The output of each cell, [batch, width, height, width]."""
        before_last = self.stem(images)
        last = self.second_stem(before_last)
        blocks = zip(self.first_inputs, self.second_inputs, self.cells, arguments, strict=True)
        for first, second, cell, argument in blocks:
            before_last, last = last, cell([first(before_last), second(last)], argument)
            yield last

    def forward(self, images: Tensor, arguments: Sequence[Tensor | None]) -> Tensor:
        return self.head(deque(self.outputs(images, arguments), maxlen=1).pop())


def build_macro(
    macro: Macro,
    make_cell: MakeCell,
    *,
    channels: int,
    depth: int,
    classes: int,
    channels_in: int,
    reduction: Reduction,
    outputs: Mapping[str, int],
    affine: bool,
    stem: Stem = "small",
    layers: Layers = TEXTBOOK,
) -> Stages | Chain:
    """A macro network.

    Args:
        macro: how cells are stacked.
        make_cell: builds one cell from its kind and channels.
        channels: C, channels of the first cells.
        depth: cells per stage (``stages``) or in the whole network (``chain``).
        classes: number of logits.
        channels_in: channels of the images.
        reduction: the fixed reduction block of a ``stages`` network.
        outputs: per cell kind the number of nodes that a cell of a ``chain`` concatenates.
        affine: whether BatchNorms in front of the cells of a ``chain`` have learned scales.
        stem: of a ``chain``: one convolution, or the three of stride 2 for images of 224 pixels.
        layers: the convolution and normalization layers.
    """
    sizes = {"channels": channels, "classes": classes, "channels_in": channels_in, "layers": layers}
    if macro == "stages":
        return Stages(make_cell, depth=depth, reduction=reduction, **sizes)
    return Chain(make_cell, layout(macro, depth), outputs=outputs, affine=affine, stem=stem, **sizes)
