"""What a remedy may change of a search; by default nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import PrivateAttr
from torch import Tensor

from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.settings import Settings
from ldarts_lib.spaces.space import Space

if TYPE_CHECKING:
    from ldarts_lib.bilevel.gradients import Gradients
    from ldarts_lib.bilevel.half_steps import Bilevel

ByKind = dict[str, Tensor]
"""α, or p, of each cell kind."""
Held = list[tuple[Tensor, Tensor]]
"""Some α or ω, and where they stay as they are: masks that can be expanded to their shape."""


class Remedy(Settings):
    """The settings of a remedy, with their published defaults, and what it does to the two half-steps.

    α and p of a cell kind are [edges, operations], or [copies, edges, operations] of a pack; random numbers
    are drawn by ``supernet.drawn``, so that a pack draws as its networks do alone. ``share`` is the part of
    the search that is over, t/(T−1) in epoch t of T.

    Attributes:
        strength: its main setting, of its own or of the protocol.
        draws: whether it draws random numbers.
        packs: whether searches with it can be packed.
        with_lambda: whether ``lambda+NAME`` makes sense.
        validates_parameters: whether the half-step of α finds the gradient by ω, too.
        kept: tensors beside α and ω that a checkpoint keeps; those of a pack have the copies in front.
    """

    strength: ClassVar[str]
    draws: ClassVar[bool] = False
    packs: ClassVar[bool] = True
    with_lambda: ClassVar[bool] = False
    validates_parameters: ClassVar[bool] = False
    _kept: dict[str, Tensor] = PrivateAttr(default_factory=dict)

    @property
    def kept(self) -> dict[str, Tensor]:
        return self._kept

    def check(self, space: Space) -> None:
        """Refuse a space by a ValueError."""

    def supernet_options(self) -> dict[str, Any]:
        """Further arguments of the supernets."""
        return {}

    def weights(self, alphas: ByKind, supernet: Supernet, share: float) -> ByKind:
        """The p of a pass of either half-step, differentiable functions of α."""
        return {kind: alpha.softmax(-1) for kind, alpha in alphas.items()}

    def perturb(self, weights: ByKind, supernet: Supernet, batch: Batch, share: float) -> ByKind:
        """Other weights for the pass of ω: leaves [cells, (copies,) edges, operations] per kind."""
        return weights

    def alpha_loss(self, alphas: ByKind, share: float) -> Tensor | float:
        """What α adds to the validation loss, summed over the copies of a pack."""
        return 0.0

    def further_alphas(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Initial parameters that move like α, by name, on the CPU and in float32."""
        return {}

    def start_epoch(self, bilevel: Bilevel) -> None:
        """Called before an epoch; its share is that of ``bilevel``."""

    def waits(self, share: float) -> bool:
        """Whether α does not move yet."""
        return False

    def held_alphas(self, bilevel: Bilevel) -> Held:
        """Which α do not move any more."""
        return []

    def held_parameters(self, bilevel: Bilevel) -> Held:
        """Which ω do not move any more."""
        return []

    def after_step(self, bilevel: Bilevel, of_weights: Gradients, of_alpha: Gradients) -> None:
        """Called after both half-steps, with what they followed."""

    def after_epoch(self, bilevel: Bilevel, epoch: int, validation: Batch) -> None:
        """Called after an epoch, counted from 0, with its last batch of α."""

    @property
    def ended(self) -> bool:
        """Whether nothing that the result depends on would change in further epochs."""
        return False

    def facts(self) -> dict[str, Any]:
        """What the metrics of a search tell of it."""
        return {}

    def decided(self, alphas: ByKind) -> ByKind:
        """The p that the genotype is read from, and that the history tells of."""
        return {kind: alpha.softmax(-1) for kind, alpha in alphas.items()}


@contextmanager
def held(tensors: Held) -> Iterator[None]:
    """Within it some entries have no gradient, and after it the values of before."""
    before = [tensor.detach().clone() for tensor, _ in tensors]
    for tensor, mask in tensors:
        tensor.grad = tensor.grad.masked_fill(mask, 0.0)
    yield
    with torch.no_grad():
        for (tensor, mask), old in zip(tensors, before, strict=True):
            tensor.copy_(torch.where(mask, old, tensor))
