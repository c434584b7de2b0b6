"""Layers of several networks side by side: network after network in the channels, convolutions grouped."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ldarts_lib.networks.operations import TEXTBOOK, Layers


class _PackedLinear(nn.Module):
    """One linear layer per network: [batch, networks×features] → [batch, networks×outputs]."""

    def __init__(self, features: int, outputs: int, *, networks: int) -> None:
        super().__init__()
        self.networks = networks
        self.weight = nn.Parameter(torch.empty(networks * outputs, features))
        self.bias = nn.Parameter(torch.empty(networks * outputs))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight[..., None, None]
        return nn.functional.conv2d(x[..., None, None], weight, self.bias, groups=self.networks).flatten(1)


def packed_layers(networks: int, layers: Layers = TEXTBOOK) -> Layers:
    """The layers of as many networks side by side, made of the given ones (but for the linear layer)."""

    def convolution(
        channels_in: int, channels: int, kernel: int, *, groups: int = 1, **options: Any
    ) -> nn.Conv2d:
        wide_in, wide = networks * channels_in, networks * channels
        return layers.convolution(wide_in, wide, kernel, groups=networks * groups, **options)

    def norm(channels: int, *, affine: bool = True) -> nn.BatchNorm2d:
        return layers.norm(networks * channels, affine=affine)

    return Layers(convolution, norm, partial(_PackedLinear, networks=networks), layers.activation)
