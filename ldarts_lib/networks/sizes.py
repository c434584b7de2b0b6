"""Parameters and multiply-adds of a discrete network, as papers count them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ldarts_lib.networks.discrete import DiscreteNetwork
from ldarts_lib.networks.operations import Registered, Zero
from ldarts_lib.spaces.genotype import Genotype


@dataclass(frozen=True)
class Sizes:
    """Parameters without those of an auxiliary head, and multiply-adds of convolutions and products for one
    image, a multiplication and an addition being one.
    """

    parameters: int
    multiply_adds: int


def sizes(genotype: Genotype, *, resolution: int = 32, channels_in: int = 3, **options: Any) -> Sizes:
    """The sizes of the network of a genotype; nothing is computed, only shapes are followed.

    Args:
        resolution: height and width of the images in pixels.
        options: of :class:`~ldarts_lib.networks.discrete.DiscreteNetwork`: channels, depth, classes, ...
    """
    with torch.device("meta"), torch.no_grad():
        network = DiscreteNetwork(None, genotype, channels_in=channels_in, **options).eval()
        network.auxiliary = None
        parameters, told = sum(p.numel() for p in network.parameters()), []
        for operation in network.modules():
            if isinstance(operation, Registered) and operation.cost:  # is not computed but asked
                operation.operation = Zero(operation.stride)
                operation.register_forward_hook(lambda own, _, y: told.append(own.cost(*y.shape[1:])))
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, channels_in, resolution, resolution))
    return Sizes(parameters, counter.get_total_flops() // 2 + sum(told))
