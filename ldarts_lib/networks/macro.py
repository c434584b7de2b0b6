"""Macro networks: how cells are stacked, whatever is inside them.

A cell is any module that maps its input states (a list of [batch, C, height, width]) and one argument (a
supernet's architecture weights, nothing in a discrete network) to its output state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from ldarts_lib.errors import ProtocolError, require_known
from ldarts_lib.networks.operations import TEXTBOOK, FactorizedReduce, Layers, relu_conv_norm
from ldarts_lib.spaces.space import Macro, layout

Reduction = Literal["residual", "light"]
Stem = Literal["small", "imagenet"]


@dataclass(frozen=True, kw_only=True)
class MacroSettings:
    """What a macro network needs to know to be built.

    Attributes:
        make_cell: (name of the cell, channels) → cell.
        channels: C, of the first cells.
        depth: cells per stage (``stages``) or in the whole network (``chain``).
        outputs: per cell of a ``chain`` the number of nodes that it concatenates.
        affine: whether BatchNorms in front of the cells of a ``chain`` have learned scales.
        reduction: the fixed block between ``stages``.
        stem: of a ``chain``: one convolution, or the three of stride 2 for images of 224 pixels.
    """

    make_cell: Callable[[str, int], nn.Module]
    channels: int
    depth: int
    classes: int
    outputs: Mapping[str, int]
    affine: bool
    channels_in: int = 3
    reduction: Reduction = "residual"
    stem: Stem = "small"
    layers: Layers = TEXTBOOK

    def __post_init__(self) -> None:
        for name, most in (("channels", 2**14), ("depth", 1000), ("classes", 10**6)):
            if not 1 <= (value := getattr(self, name)) <= most:
                raise ProtocolError(f"{name} = {value}: expected 1 to {most:,}")


class ResidualReduction(nn.Module):
    """NAS-Bench-201's block between stages: two 3×3 convolutions beside a pooled shortcut."""

    def __init__(self, channels_in: int, channels: int, layers: Layers) -> None:
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

    def __init__(self, settings: MacroSettings) -> None:
        super().__init__()
        require_known("reduction", settings.reduction, get_args(Reduction))
        reduce = {"residual": ResidualReduction, "light": light_reduction}[settings.reduction]
        channels, layers, self.depth = settings.channels, settings.layers, settings.depth
        self.stem = _stem(settings.channels_in, channels, layers)
        self.cells = nn.ModuleList(
            settings.make_cell("normal", channels * 2**stage) for stage in range(3) for _ in range(self.depth)
        )
        self.reductions = nn.ModuleList(reduce(c, 2 * c, layers) for c in (channels, 2 * channels))
        self.head = nn.Sequential(
            layers.norm(4 * channels),
            layers.activation(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            layers.linear(4 * channels, settings.classes),
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

    def __init__(self, settings: MacroSettings) -> None:
        super().__init__()
        channels, affine, layers = settings.channels, settings.affine, settings.layers
        imagenet = settings.stem == "imagenet"
        if imagenet:
            self.stem, self.second_stem = _imagenet_stems(settings.channels_in, channels, layers)
        else:
            self.stem, self.second_stem = _stem(settings.channels_in, 3 * channels, layers), nn.Identity()
        self.cells, self.first_inputs, self.second_inputs = (nn.ModuleList() for _ in range(3))
        before_last = last = channels if imagenet else 3 * channels
        current, after_reduction = channels, imagenet
        self.widths: list[int] = []
        for kind in layout("chain", settings.depth):
            current *= 2 if kind == "reduce" else 1
            self.first_inputs.append(
                FactorizedReduce(before_last, current, affine, layers)
                if after_reduction
                else relu_conv_norm(before_last, current, 1, affine=affine, layers=layers)
            )
            self.second_inputs.append(relu_conv_norm(last, current, 1, affine=affine, layers=layers))
            self.cells.append(settings.make_cell(kind, current))
            after_reduction = kind == "reduce"
            before_last, last = last, settings.outputs[kind] * current
            self.widths.append(last)
        linear = layers.linear(last, settings.classes)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)

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


def build_macro(macro: Macro, settings: MacroSettings) -> Stages | Chain:
    """A macro network of images."""
    return {"stages": Stages, "chain": Chain}[macro](settings)
