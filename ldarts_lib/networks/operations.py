"""Candidate operations as plain modules: every one maps [batch, C, height, width] to the same C.

Names and definitions are those of DARTS (Liu et al., 2019; ``sep_conv_7x7`` and ``conv_7x1_1x7`` are only in
cells of NASNet and AmoebaNet), NAS-Bench-201 (Dong & Yang, 2020) and, for ``noise``, RobustDARTS (Zela et
al., 2020). With ``stride=2`` height and width are halved. :func:`register_operation` adds one's own.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ldarts_lib.errors import SpaceError
from ldarts_lib.spaces.genotype import register_name

Activation = Literal["relu", "gelu"]
NONLINEARITIES: dict[Activation, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}
"""The smooth one is there to tell what the kinks of the other do."""


@dataclass(frozen=True)
class Layers:
    """What a network is built of: constructors with the arguments of PyTorch's layers.

    ``activation`` is the nonlinearity in front of a convolution.
    """

    convolution: Callable[..., nn.Conv2d]
    norm: Callable[..., nn.BatchNorm2d]
    linear: Callable[..., nn.Module] = field(default_factory=lambda: nn.Linear)
    activation: Callable[[], nn.Module] = field(default_factory=lambda: nn.ReLU)


def subsampled(x: Tensor, kernel: Tensor, strides: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """What a convolution without padding reads, and with which strides: of 1×1 kernels on a CPU, with none.

    Such a kernel sees no other pixels, (x ∗ w)[2i, 2j] = w·x[2i, 2j], so that they may be left out before.
    """
    # The backward pass of oneDNN's strided 1×1 convolutions in channels_last corrupts the heap, or gives
    # wrong gradients without an error, for fewer channels than a vector register has places (torch 2.14,
    # uxlfoundation/oneDNN issue 6035). Pooling of 1×1 windows keeps the layout; the backward pass of a slice
    # does not, and is slower.
    if x.device.type != "cpu" or kernel.shape[2:] != (1, 1) or max(strides) == 1:
        return x, strides
    return F.avg_pool2d(x, 1, strides), (1, 1)


class _Convolution(nn.Conv2d):
    """PyTorch's, but for strided 1×1 kernels on a CPU, see :func:`subsampled`."""

    def forward(self, x: Tensor) -> Tensor:
        x, strides = subsampled(x, self.weight, self.stride)
        return F.conv2d(x, self.weight, self.bias, strides, self.padding, self.dilation, self.groups)


TEXTBOOK = Layers(_Convolution, nn.BatchNorm2d)


@dataclass(frozen=True)
class OperationSettings:
    """What an operation needs to know to be built.

    Attributes:
        channels: C, of input and output.
        stride: 1, or 2 on the edges of a reduction cell that read its inputs.
        affine: whether BatchNorm has learned scales: no in a supernet, yes in a discrete network.
        generator: where random operations draw from; the default generator if None.
    """

    channels: int
    stride: int = 1
    affine: bool = False
    generator: torch.Generator | None = None
    layers: Layers = TEXTBOOK


class Zero(nn.Module):
    """``none``: no information passes, so that the edge counts as absent."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Noise(nn.Module):
    """``noise``: standard normal noise in place of the input (the harmful operation of space S4)."""

    def __init__(self, stride: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.stride = stride
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        shape = x[:, :, :: self.stride, :: self.stride].shape
        return torch.randn(shape, generator=self.generator, device=x.device, dtype=x.dtype)


class FactorizedReduce(nn.Module):
    """Halve height and width by two 1×1 convolutions of stride 2, the second one shifted by a pixel."""

    def __init__(self, channels_in: int, channels: int, affine: bool, layers: Layers = TEXTBOOK) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"a factorized reduction needs an even number of channels, got {channels}")
        self.even = layers.convolution(channels_in, channels // 2, 1, stride=2, bias=False)
        self.odd = layers.convolution(channels_in, channels // 2, 1, stride=2, bias=False)
        self.norm = layers.norm(channels, affine=affine)
        self.activation = layers.activation()

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


def relu_conv_norm(
    channels_in: int, channels: int, kernel: int, *, affine: bool, stride: int = 1, layers: Layers = TEXTBOOK
) -> nn.Sequential:
    """ReLU (or another activation), a convolution that keeps the size (but for the stride), BatchNorm."""
    build, padding = layers.convolution, kernel // 2
    convolution = build(channels_in, channels, kernel, stride=stride, padding=padding, bias=False)
    return nn.Sequential(layers.activation(), convolution, layers.norm(channels, affine=affine))


def _convolution(s: OperationSettings, kernel: int) -> nn.Module:
    return relu_conv_norm(s.channels, s.channels, kernel, stride=s.stride, affine=s.affine, layers=s.layers)


def _separable(s: OperationSettings, kernel: int, *more: int, dilation: int = 1) -> nn.Module:
    """ReLU (or another activation), a depthwise and a pointwise convolution, BatchNorm; again for each stride
    in ``more``.
    """
    build, c, stages = s.layers.convolution, s.channels, []
    settings = {"padding": dilation * (kernel // 2), "dilation": dilation, "groups": c, "bias": False}
    for stride in (s.stride, *more):
        depthwise, pointwise = build(c, c, kernel, stride=stride, **settings), build(c, c, 1, bias=False)
        stages += [s.layers.activation(), depthwise, pointwise, s.layers.norm(c, affine=s.affine)]
    return nn.Sequential(*stages)


def _two_lines(s: OperationSettings) -> nn.Module:
    """ReLU, a row of 7 pixels, a column of 7 pixels, BatchNorm (NASNet)."""
    build, c = s.layers.convolution, s.channels
    row = build(c, c, (1, 7), stride=(1, s.stride), padding=(0, 3), bias=False)
    column = build(c, c, (7, 1), stride=(s.stride, 1), padding=(3, 0), bias=False)
    return nn.Sequential(s.layers.activation(), row, column, s.layers.norm(c, affine=s.affine))


def _skip(s: OperationSettings) -> nn.Module:
    return nn.Identity() if s.stride == 1 else FactorizedReduce(s.channels, s.channels, s.affine, s.layers)


OPERATIONS: dict[str, Callable[[OperationSettings], nn.Module]] = {
    "none": lambda s: Zero(s.stride),
    "noise": lambda s: Noise(s.stride, s.generator),
    "skip_connect": _skip,
    "avg_pool_3x3": lambda s: nn.AvgPool2d(3, s.stride, padding=1, count_include_pad=False),
    "max_pool_3x3": lambda s: nn.MaxPool2d(3, s.stride, padding=1),
    "nor_conv_1x1": lambda s: _convolution(s, 1),
    "nor_conv_3x3": lambda s: _convolution(s, 3),
    "sep_conv_3x3": lambda s: _separable(s, 3, 1),
    "sep_conv_5x5": lambda s: _separable(s, 5, 1),
    "sep_conv_7x7": lambda s: _separable(s, 7, 1),
    "conv_7x1_1x7": _two_lines,
    "dil_conv_3x3": lambda s: _separable(s, 3, dilation=2),
    "dil_conv_5x5": lambda s: _separable(s, 5, dilation=2),
}
"""How to build each operation of images; the names are values of :mod:`ldarts_lib.spaces.genotype`."""

Factory = Callable[[int, int, bool], nn.Module]
Cost = Callable[[int, int, int], int]


def _tried(what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        problem = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise SpaceError(f"{what} {problem}") from error


class Registered(nn.Module):
    """An operation of a user's own, tried once on a small tensor when it is built.

    Attributes:
        cost: as for :func:`register_operation`.
        draws: whether it draws random numbers; in a supernet they follow from the supernet's generator.
    """

    def __init__(self, name: str, factory: Factory, cost: Cost | None, settings: OperationSettings) -> None:
        super().__init__()
        self.cost, self.stride, self.generator = cost, settings.stride, settings.generator
        c, stride, affine = arguments = settings.channels, settings.stride, settings.affine
        made = f"operation {name!r}, built with channels={c}, stride={stride}, affine={affine},"
        self.operation = _tried(f"{made} raises", lambda: factory(*arguments))
        if not isinstance(self.operation, nn.Module):
            raise SpaceError(f"{made} is {self.operation!r}, no torch.nn.Module")
        for layer in self.operation.modules():
            if type(layer) is nn.Conv2d and (layer.kernel_size, layer.padding) == ((1, 1), (0, 0)):
                layer.__class__ = _Convolution  # see `subsampled`
        self.draws = self._checked(made, c)

    def _checked(self, made: str, channels: int) -> bool:
        x, state = torch.linspace(-1, 1, 2 * channels * 64).view(2, channels, 8, 8), torch.get_rng_state()
        read, pixels = x.contiguous(memory_format=torch.channels_last), 8 // self.stride
        with torch.no_grad():
            what = f"{made} cannot read {[*x.shape]} in channels_last:"
            y = _tried(what, lambda: copy.deepcopy(self.operation)(read))
        draws = not torch.equal(state, torch.get_rng_state())
        torch.set_rng_state(state)
        shape = [*y.shape] if isinstance(y, Tensor) else type(y).__name__
        if shape != [2, channels, pixels, pixels]:
            raise SpaceError(f"{made} maps {[*x.shape]} to {shape}, not to {[2, channels, pixels, pixels]}")
        if not x.is_meta and not torch.equal(x, read):
            raise SpaceError(f"{made} changes its input in place, which other edges read, too")
        return draws

    def forward(self, x: Tensor) -> Tensor:
        if not (self.draws and self.generator):
            return self.operation(x)
        # states are kept on the host: a seed drawn on a GPU would have to be waited for
        place = self.generator.device
        usual = (
            torch.cuda.default_generators[place.index] if place.type == "cuda" else torch.default_generator
        )
        kept = usual.get_state()
        usual.set_state(self.generator.get_state())
        try:
            return self.operation(x)
        finally:
            self.generator.set_state(usual.get_state())
            usual.set_state(kept)


def register_operation(name: str, factory: Factory, cost: Cost | None = None) -> None:
    """Make an operation of one's own known, so that spaces can have it among their candidates.

    It is known where the module that calls this was imported; a space file names the module under
    ``import``. The fast supernet computes it as the reference does.

    Args:
        name: letters, digits and underscores.
        factory: (channels, stride, affine) → a module that maps [batch, channels, height, width] to the same,
            with stride 2 to half the height and width. BatchNorms have learned scales if ``affine``.
        cost: (channels, height, width) → multiply-adds for one image, height and width being those of its
            output; without it the convolutions and products are counted.

    Raises:
        SpaceError: the name is none or taken. What the factory makes is checked when a network is built.

    Examples:
        >>> import torch
        >>> from ldarts_lib import FastSupernet, Space, register_operation
        >>> from ldarts_lib.spaces.space import CellSpace
        >>> def shuffled(channels, stride, affine):
        ...     return torch.nn.Sequential(torch.nn.ChannelShuffle(2), torch.nn.AvgPool2d(stride))
        >>> register_operation("shuffled", shuffled, cost=lambda channels, height, width: 0)
        >>> cell = CellSpace.uniform(1, 2, ("none", "nor_conv_1x1", "shuffled"), "last")
        >>> space = Space("mine", {"normal": cell}, macro="stages")
        >>> supernet = FastSupernet(space, channels=2, depth=1, classes=10)
        >>> supernet(torch.randn(4, 3, 8, 8), {"normal": torch.full((3, 3, 3), 1 / 3)}).shape
        torch.Size([4, 10])
    """
    register_name(name, sys._getframe(1).f_globals.get("__name__", "__main__"))
    OPERATIONS[name] = partial(Registered, name, factory, cost)
