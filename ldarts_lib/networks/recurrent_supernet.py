"""The recurrent supernet: stacked cells whose every edge is a mixture of all activations.

It keeps the contract of :mod:`ldarts_lib.networks.supernet`, so that the same functions give its gradients,
its alignment and its regularizer. The weights of a cell are used at every time step of a window, so that a
cell's gradient is the sum over all time steps.

Differences from the official Λ-DARTS code, which keeps the weights of the last time step only, so that its
g_l leaves the earlier steps out, and whose second cell starts each window from the state of the first: here
every step counts, and each cell has its own hidden state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ldarts_lib.networks.batches import Inputs, Prediction
from ldarts_lib.networks.recurrent import ACTIVATIONS, LanguageModel, RecurrentCell, dropped
from ldarts_lib.networks.supernet import SupernetBase
from ldarts_lib.spaces.space import PTB, Space


class RecurrentSearchCell(RecurrentCell):
    """A cell whose nodes read all nodes before them through all activations.

    As in the DARTS code one BatchNorm without affine parameters serves node 0 and all nodes after it.
    """

    def __init__(self, units: int, space: Space) -> None:
        cell = space.cells["normal"]
        super().__init__(units, cell.nodes)
        self.norm = nn.BatchNorm1d(units, affine=False)
        self.activations = [ACTIVATIONS[name] for name in cell.candidates[0][1:]]  # without none

    def nodes(self, start: Tensor, mask: Tensor | None, weights: Tensor) -> Tensor:
        states = self.norm(start).unsqueeze(0)
        first = 0
        for matrix in self.rest:
            incoming = weights[first : first + len(states), 1:]  # none adds zero
            first += len(states)
            # [c_j, h_j] = s_j·W_i on edge i ← j, s_i = BN(Σ_j Σ_f p_jf [s_j + sigmoid(c_j)·(f(h_j) − s_j)])
            gate, raw = (dropped(states, mask) @ matrix).chunk(2, -1)
            proposals = torch.stack([activation(raw) for activation in self.activations], 1)
            mixed = torch.lerp(states.unsqueeze(1), proposals, gate.sigmoid().unsqueeze(1))
            node = torch.tensordot(incoming, mixed, dims=2)
            states = torch.cat([states, self.norm(node).unsqueeze(0)])
        return states[1:].mean(0)


class RecurrentSupernet(SupernetBase, LanguageModel):
    """All recurrent cells of the space in one language model with shared weights ω.

    The stacked cells share α, and each has its own ω; all edges of the space have the same candidates,
    ``none`` first. ``options`` are those of :class:`~ldarts_lib.networks.recurrent.LanguageModel`.
    """

    draws = True  # the dropout masks

    def __init__(self, *, units: int, cells: int = 2, space: Space = PTB, **options: Any) -> None:
        super().__init__([RecurrentSearchCell(units, space) for _ in range(cells)], units=units, **options)
        self.space = space
        self.layout = space.layout(cells)

    def forward(
        self, inputs: Inputs, weights: Mapping[str, Tensor], *, update_statistics: bool = True
    ) -> Prediction:
        """Read a window; otherwise as :meth:`ldarts_lib.networks.supernet.Supernet.forward`."""
        per_cell = self._by_cell(weights)
        with self._statistics(update_statistics):
            return self.predict(inputs, [(own,) for own in per_cell])
