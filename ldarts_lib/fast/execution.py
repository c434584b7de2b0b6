"""How the passes of a fast supernet are carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Strategy = Literal["auto", "separate", "batched"]

Bundling = Literal["edge", "kind", "source"]
"""``edge``: each edge by itself; ``kind``: operations of one kind of all edges that leave a state;
``source``: all operations of all edges that leave a state."""

SMALL = 2**17
"""Up to so many values in a state, a CPU spends more on calls than on arithmetic."""
FEW = 4
"""So many networks side by side do not change that."""


@dataclass
class Execution:
    """How the passes of one supernet are carried out; all its layers share this one object.

    Attributes:
        strategy, checkpoint, precision, copies: see :class:`~ldarts_lib.fast.supernet.FastSupernet`.
        activation: the nonlinearity of all operations.
        parameters: whether backward passes go on to the parameters ω. PyTorch does not tell a custom
            function which of its gradients are asked for.
        statistics: in a pass that moves the running statistics, what it has seen so far.
    """

    strategy: str = "auto"
    checkpoint: bool = False
    precision: torch.dtype | None = None
    activation: Callable[[Tensor], Tensor] = torch.relu
    copies: int = 1
    parameters: bool = True
    statistics: list[tuple[nn.BatchNorm2d, Tensor, Tensor, float]] | None = None

    def batched(self, x: Tensor) -> bool:
        """Whether the strategy for tensors like x is ``batched``."""
        return self.strategy == "batched" or (self.strategy == "auto" and x.device.type == "cuda")

    def bundling(self, state: Tensor) -> Bundling:
        """Which edges that leave a state are computed together."""
        if self.batched(state):
            return "source"
        return "kind" if state.numel() <= SMALL and self.copies <= FEW else "edge"

    def of(self, parameter: Tensor) -> Tensor:
        """A parameter, cut off the graph where its gradient is not asked for."""
        return parameter if self.parameters else parameter.detach()

    @contextmanager
    def asking(self, parameters: bool) -> Iterator[None]:
        """Set :attr:`parameters` for a while."""
        before, self.parameters = self.parameters, parameters
        try:
            yield
        finally:
            self.parameters = before

    def observe(self, norms: Sequence[nn.BatchNorm2d], mean: Tensor, inverse_std: Tensor, z: Tensor) -> None:
        """Remember what BatchNorms saw: the moments of their channels, one norm after the other."""
        if self.statistics is None:
            return
        count = z.numel() / z.shape[1]
        correction = count / max(count - 1, 1)
        moments = (x.reshape(len(norms), -1).unbind() for x in (mean, inverse_std))
        self.statistics += zip(norms, *moments, [correction] * len(norms), strict=True)
