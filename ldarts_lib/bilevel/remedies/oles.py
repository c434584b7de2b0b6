"""OLES: an operation whose gradients no longer agree is not trained any further (Jiang et al., 2023).

Source: OLES, algorithm 1, and its code (PasaLab/oles): where cos(a_o, b_o) of operation o's gradients by ω on
the batches of ω and of α is below 0.4 (``patience``) on the mean of 20 steps, the ω of o stay as they are,
while α moves on. The half-step of α costs a whole backward pass.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ldarts_lib.bilevel.gradients import Gradients
from ldarts_lib.bilevel.remedies.remedy import Held, Remedy
from ldarts_lib.settings import Count, Positive


class Oles(Remedy):
    """Its strength is ``threshold``."""

    strength: ClassVar = "threshold"
    validates_parameters: ClassVar = True

    threshold: Positive = 0.4
    """Mean cosine below which an operation is trained no further."""
    steps: Count = 20
    """Steps of the mean."""

    def after_step(self, bilevel: Any, of_weights: Gradients, of_alpha: Gradients) -> None:
        copies, operations = bilevel.supernet.copies, _operations(bilevel)

        def inner(one: Gradients, other: Gradients) -> Tensor:
            """⟨a_o, b_o⟩ of each operation o: [(copies,) operations]."""
            products = torch._foreach_mul(one.weights, other.weights)
            each = [product.reshape(copies, -1).sum(-1) for product in products]
            return torch.stack([sum(each[place] for place in o) for o in operations], -1).squeeze(0)

        squares = inner(of_weights, of_weights) * inner(of_alpha, of_alpha)
        cosine = inner(of_weights, of_alpha) / squares.sqrt().clamp_min(torch.finfo(squares.dtype).tiny)
        kept = self.kept or {"agreement": 0.0, "counted": 0 * cosine[..., :1], "frozen": cosine > 2}
        agreement, counted = kept["agreement"] + cosine, kept["counted"] + 1
        frozen = (over := counted == self.steps) & (agreement < self.threshold * self.steps) | kept["frozen"]
        self.kept.update(agreement=agreement * ~over, counted=counted * ~over, frozen=frozen)

    def held_parameters(self, bilevel: Any) -> Held:
        held, copies = [], bilevel.supernet.copies
        for number, places in enumerate(_operations(bilevel) if self.kept else ()):
            frozen = self.kept["frozen"][..., number].view(copies)
            for ours in (bilevel.parameters[place] for place in places):
                rows = frozen.repeat_interleave(len(ours) // copies)
                held.append((ours, rows.view(-1, *[1] * (ours.dim() - 1))))
        return held


def _operations(bilevel: Any) -> list[list[int]]:
    """Of each operation with parameters their places among all."""
    places = {parameter: place for place, parameter in enumerate(bilevel.parameters)}
    modules = (one for cell in bilevel.supernet.macro.cells for edge in cell.edges for one in edge.operations)
    return [found for one in modules if (found := [places[p] for p in one.parameters()])]
