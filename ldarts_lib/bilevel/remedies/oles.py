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
        copies, owned = bilevel.supernet.copies, _owned(bilevel)

        def inner(one: Gradients, other: Gradients) -> Tensor:
            """⟨a_o, b_o⟩ of each operation o: [(copies,) operations]."""
            pairs = ((one.weights[place], other.weights[place]) for _, place in owned)
            each = torch.stack([(a * b).reshape(copies, -1).sum(-1) for a, b in pairs])
            owners = torch.tensor([owner for owner, _ in owned], device=each.device)
            return each.new_zeros(owned[-1][0] + 1, copies).index_add(0, owners, each).T.squeeze(0)

        squares = inner(of_weights, of_weights) * inner(of_alpha, of_alpha)
        cosine = inner(of_weights, of_alpha) / squares.sqrt().clamp_min(torch.finfo(squares.dtype).tiny)
        kept = self.kept or {"agreement": 0.0, "counted": 0 * cosine[..., :1], "frozen": cosine > 2}
        agreement, counted = kept["agreement"] + cosine, kept["counted"] + 1
        frozen = (over := counted == self.steps) & (agreement < self.threshold * self.steps) | kept["frozen"]
        self.kept.update(agreement=agreement * ~over, counted=counted * ~over, frozen=frozen)

    def held_parameters(self, bilevel: Any) -> Held:
        held, copies = [], bilevel.supernet.copies
        for owner, place in _owned(bilevel) if self.kept else ():
            ours = bilevel.parameters[place]
            rows = self.kept["frozen"][..., owner].view(copies).repeat_interleave(len(ours) // copies)
            held.append((ours, rows.view(-1, *[1] * (ours.dim() - 1))))
        return held


def _owned(bilevel: Any) -> list[tuple[int, int]]:
    """Of each parameter of an operation the operation's number, and its own place among all."""
    places = {parameter: place for place, parameter in enumerate(bilevel.parameters)}
    modules = [one for cell in bilevel.supernet.macro.cells for edge in cell.edges for one in edge.operations]
    trained = filter(None, ([*module.parameters()] for module in modules))
    return [(owner, places[p]) for owner, parameters in enumerate(trained) for p in parameters]
