"""The recurrent supernet: stacked cells whose every edge is a mixture of all activations.

It keeps the contract of :mod:`ldarts_lib.networks.supernet`, so that the same functions give its gradients,
its
alignment and its regularizer: ``weights`` holds one tensor per cell and window, [cells, edges, operations],
used at every time step. A cell's gradient is thus the sum over all time steps.

Differences from the official Λ-DARTS code, which keeps the weights of the last time step only, so that its
g_l leaves the earlier steps out, and whose second cell starts each window from the state of the first: here
every step counts, and each cell has its own hidden state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from ldarts_lib.networks.batches import Inputs, Prediction
from ldarts_lib.networks.recurrent import ACTIVATIONS, Dropouts, LanguageModel, RecurrentCell, dropped
from ldarts_lib.networks.supernet import RandomNumbers
from ldarts_lib.spaces.space import PTB, Space


class SearchCell(RecurrentCell):
    """A cell whose nodes read all nodes before them through all activations.

    With the gate c_j and the proposal h_j of edge i ← j, both from s_j·W_i, node i is ::

        s_i = BN(Σ_j Σ_f p_jf [s_j + sigmoid(c_j)·(f(h_j) − s_j)])

    and ``none`` adds zero. As in the DARTS code one BatchNorm without affine parameters serves node 0 and all
    nodes after it.
    """

    def __init__(self, units: int, space: Space) -> None:
        cell = space.cells["normal"]
        super().__init__(units, cell.nodes)
        self.norm = nn.BatchNorm1d(units, affine=False)
        self.activations = [ACTIVATIONS[name] for name in cell.candidates[0][1:]]  # without none

    def nodes(self, start: Tensor, mask: Tensor | None, weights: Tensor) -> Tensor:
        """From node 0 [columns, units] and weights [edges, operations] to the mean of the other nodes."""
        states = self.norm(start).unsqueeze(0)
        first = 0
        for matrix in self.rest:
            incoming = weights[first : first + len(states), 1:]  # without none
            first += len(states)
            gate, raw = (dropped(states, mask) @ matrix).chunk(2, -1)
            proposals = torch.stack([activation(raw) for activation in self.activations], 1)
            mixed = torch.lerp(states.unsqueeze(1), proposals, gate.sigmoid().unsqueeze(1))
            node = torch.tensordot(incoming, mixed, dims=2)
            states = torch.cat([states, self.norm(node).unsqueeze(0)])
        return states[1:].mean(0)


class RecurrentSupernet(RandomNumbers, LanguageModel):
    """All recurrent cells of the space in one language model with shared weights ω.

    Args:
        words: size of the vocabulary.
        units: size of the words, the hidden states and the nodes.
        cells: how many are stacked; they share α, and each has its own ω.
        space: the search space.
        dropouts: in training.
        generator: where masks are drawn from, on the supernet's device.
    """

    copies = 1
    precision = None
    draws = True  # the dropout masks

    def __init__(
        self,
        *,
        words: int,
        units: int,
        cells: int = 2,
        space: Space = PTB,
        dropouts: Dropouts | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            [SearchCell(units, space) for _ in range(cells)],
            words=words,
            units=units,
            dropouts=dropouts or Dropouts(),
            generator=generator,
        )
        self.space = space
        self.layout = space.layout(cells)

    def forward(
        self, inputs: Inputs, weights: Mapping[str, Tensor], *, update_statistics: bool = True
    ) -> Prediction:
        """Read a window.

        Args:
            inputs: the words and the hidden states before them.
            weights: ``normal``: the architecture weights of each cell, [cells, edges, operations].
            update_statistics: whether this pass moves the running statistics of BatchNorm (in training).

        Raises:
            ValueError: weights of another shape.
        """
        expected = (len(self.cells), *self.space.cells["normal"].shape)
        by_cell = weights["normal"]
        if tuple(by_cell.shape) != expected:
            raise ValueError(f"architecture weights: expected {expected}, got {tuple(by_cell.shape)}")
        with self._statistics(update_statistics):
            return self.predict(inputs, [(w,) for w in by_cell])

    def architecture_only(self) -> AbstractContextManager:
        """Within it, gradients are asked for by the architecture weights only."""
        return nullcontext()

    @contextmanager
    def _statistics(self, update: bool) -> Iterator[None]:
        for cell in self.cells:
            cell.norm.track_running_stats = update or not self.training
        try:
            yield
        finally:
            for cell in self.cells:
                cell.norm.track_running_stats = True
