"""A CUDA graph of the whole search step: the launches of thousands of kernels become one.

Learning rate and λ are constant within an epoch and baked into the graph, so every epoch captures its own.
The first steps of an epoch run eagerly, as steps that count: they warm up the kernels' plans.
"""

from __future__ import annotations

import torch

from ldarts_lib.bilevel.gradients import Gradients
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.networks.batches import Batch

WARM_UP_STEPS = 3


class GraphedBilevel:
    """The steps of a bilevel search on a CUDA device, all on one stream: each has workspaces of its own."""

    def __init__(self, bilevel: Bilevel) -> None:
        self.bilevel = bilevel
        self._device = bilevel.parameters[0].device
        self._stream = torch.cuda.Stream(self._device)

    def start_epoch(self, epoch: int) -> None:
        """As :meth:`~ldarts_lib.bilevel.half_steps.Bilevel.start_epoch`."""
        self.bilevel.start_epoch(epoch)
        self._warm, self._found = 0, None
        self._graph: torch.cuda.CUDAGraph | None = None

    def step(self, training: Batch, validation: Batch) -> tuple[Gradients, Gradients]:
        """As :meth:`~ldarts_lib.bilevel.half_steps.Bilevel.step`; what it returns is overwritten by the next
        step."""
        with torch.cuda.device(self._device):
            if self._warm < WARM_UP_STEPS:
                self._warm += 1
                self._stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(self._stream):
                    found = self.bilevel.step(training, validation)
                torch.cuda.current_stream().wait_stream(self._stream)
                return found
            batches = (training, validation)
            if self._graph is None:
                self._static = [Batch(batch.inputs.clone(), batch.targets.clone()) for batch in batches]
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph, stream=self._stream):
                    self._found = self.bilevel.step(*self._static)
            for static, batch in zip(self._static, batches, strict=True):
                static.inputs.copy_(batch.inputs, non_blocking=True)
                static.targets.copy_(batch.targets, non_blocking=True)
            self._graph.replay()
            return self._found
