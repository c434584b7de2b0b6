"""Parameters and multiply-adds of a discrete network, as papers count them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ldarts_lib.networks.discrete import DiscreteNetwork
from ldarts_lib.spaces.genotype import Genotype


@dataclass(frozen=True)
class Sizes:
    """How large a network is.

    Attributes:
        parameters: learned numbers, without those of an auxiliary head.
        multiply_adds: of convolutions and products for one image, a multiplication and an addition being one.
    """

    parameters: int
    multiply_adds: int


def sizes(
    genotype: Genotype,
    *,
    channels: int,
    depth: int,
    classes: int,
    resolution: int = 32,
    channels_in: int = 3,
    **options: Any,
) -> Sizes:
    """The sizes of the network of a genotype; nothing is computed, only shapes are followed.

    Args:
        genotype: the architecture.
        channels: C, channels of the first cells.
        depth: cells of the network, or per stage for a genotype without a reduction cell.
        classes: number of logits.
        resolution: height and width of the images in pixels.
        channels_in: channels of the images.
        options: others of :class:`~ldarts_lib.networks.discrete.DiscreteNetwork`, such as
        ``stem="imagenet"``.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = DiscreteNetwork(
            None,
            genotype,
            channels=channels,
            depth=depth,
            classes=classes,
            channels_in=channels_in,
            **options,
        ).eval()
        network(torch.empty(1, channels_in, resolution, resolution))
    network.auxiliary = None
    return Sizes(sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2)
