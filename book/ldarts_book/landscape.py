"""What the loss of a real supernet does as α moves: gradients by independent routes, and the way to a vertex.

The searches do not use this module. It differentiates where they have closed forms or finite differences, and
follows the loss from p = softmax(α) to the architecture that argmax derives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ldarts_lib.bilevel import alignment as alignment
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.half_steps import UNROLLED_PERTURBATION as UNROLLED_PERTURBATION
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.datasets.images import ImageDataset
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.operations import OperationSettings as OperationSettings
from ldarts_lib.networks.supernet import MixedOperation as MixedOperation
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.networks.supernet import architecture_weights as architecture_weights
from ldarts_lib.networks.supernet import initial_alphas as initial_alphas
from ldarts_lib.runs.environment import seed_everything as seed_everything

_DIFFERENCE = 1e-7


def shared_gradients(supernet: Supernet, batch: Batch, alphas: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """∂L/∂α by automatic differentiation through one softmax that all cells of a kind share.

    Args:
        supernet: the network.
        batch: images and labels.
        alphas: per cell kind α, [edges, operations].

    Returns:
        Per cell kind [edges, operations].
    """
    leaves = {kind: alpha.detach().clone().requires_grad_() for kind, alpha in alphas.items()}
    loss = _loss(supernet, batch, _expanded(supernet, {kind: a.softmax(-1) for kind, a in leaves.items()}))
    return dict(zip(leaves, torch.autograd.grad(loss, tuple(leaves.values())), strict=True))


def unrolled_gradients(
    supernet: Supernet,
    training: Batch,
    validation: Batch,
    weights: Mapping[str, Tensor],
    *,
    rate: float,
    decay: float = 0.0,
) -> dict[str, Tensor]:
    """d/dp of L_val(ω − ξ[∇ω L_train(ω, p) + decay·ω], p), the second order of DARTS, exactly.

    By differentiating through the training step, where a search takes a finite difference.

    Args:
        supernet: holds ω, which does not change.
        training, validation: a batch of each half.
        weights: per cell kind [cells, edges, operations], leaves that require gradients.
        rate: ξ, the learning rate of the step; 0 gives the first order.
        decay: weight decay of ω.

    Returns:
        Per cell kind [cells, edges, operations].
    """
    omega = _leaves(supernet)
    loss = _loss(supernet, training, weights, omega)
    slopes = torch.autograd.grad(loss, tuple(omega.values()), create_graph=True, materialize_grads=True)
    outer = _loss(supernet, validation, weights, _after_a_step(omega, slopes, rate, decay))
    return _by_cells(outer, weights)


def unrolled_by_difference(
    supernet: Supernet,
    training: Batch,
    validation: Batch,
    weights: Mapping[str, Tensor],
    *,
    rate: float,
    length: float,
    decay: float = 0.0,
) -> dict[str, Tensor]:
    """The same as :func:`unrolled_gradients` by the formula of DARTS, with a central difference.

    ::

        ∂p L_val(ω′, p) − ξ [∂p L_train(ω + εv, p) − ∂p L_train(ω − εv, p)] / 2ε,   v = ∇ω L_val(ω′, p)

    Args:
        length: of the displacement εv; a search takes 0.01.
    """
    omega = _leaves(supernet)
    loss = _loss(supernet, training, weights, omega)
    slopes = torch.autograd.grad(loss, tuple(omega.values()), materialize_grads=True)
    moved = {
        name: value.detach().requires_grad_()
        for name, value in _after_a_step(omega, slopes, rate, decay).items()
    }
    outer = _loss(supernet, validation, weights, moved)
    direction = torch.autograd.grad(outer, tuple(moved.values()), retain_graph=True, materialize_grads=True)
    epsilon = length / torch.stack([torch.linalg.vector_norm(v) for v in direction]).norm()
    ahead, behind = (
        _by_cells(_loss(supernet, training, weights, _after_a_step(omega, direction, -step)), weights)
        for step in (epsilon, -epsilon)
    )
    return {
        kind: direct - rate * (ahead[kind] - behind[kind]) / (2 * epsilon)
        for kind, direct in _by_cells(outer, weights).items()
    }


def train_at(
    protocol: SearchProtocol,
    dataset: ImageDataset,
    alphas: Mapping[str, Tensor],
    device: torch.device | str = "cpu",
) -> Bilevel:
    """Train ω alone, at architecture parameters that do not move.

    Args:
        protocol: the settings; each epoch passes once over the ω half.
        dataset: the images, on the device.
        alphas: per cell kind α, [edges, operations].
        device: where to train.

    Returns:
        The trained supernet, in training mode, and a copy of the given α.
    """
    state = SearchState.start(protocol, dataset, device)
    bilevel = state.bilevel
    with torch.no_grad():
        for kind, alpha in bilevel.alphas.items():
            alpha.copy_(alphas[kind])
    bilevel.supernet.train()
    for epoch in range(protocol.epochs):
        bilevel.start_epoch(epoch)
        for images, labels in state.training.epoch(protocol.batch_size, state.batches, augment=True):
            bilevel.weight_step(Batch(images, labels))
    return bilevel


def sharpened(alphas: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
    """α that give the strongest operation of each edge ``weight`` and the others equal shares.

    Args:
        alphas: per cell kind [edges, operations].
        weight: between 1/operations and 1.

    Raises:
        ValueError: a weight that does not make it the strongest, or one of which α would be infinite.
    """
    sharp = {}
    for kind, vertex in nearest_vertex(alphas).items():
        others = vertex.shape[-1] - 1
        if not 1 / (others + 1) < weight < 1:
            raise ValueError(f"the weight must lie between 1/{others + 1} and 1, got {weight}")
        sharp[kind] = vertex * math.log(others * weight / (1 - weight))
    return sharp


def nearest_vertex(alphas: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What argmax makes of α or p: per cell kind one 1 on each edge, [edges, operations]."""
    return {
        kind: torch.zeros_like(a).scatter(-1, a.argmax(-1, keepdim=True), 1.0) for kind, a in alphas.items()
    }


@dataclass(frozen=True)
class LossLine:
    """The loss on the segment from p (position 0) to the vertex that argmax selects (position 1).

    Attributes:
        positions: τ, [points], from 0 to 1.
        losses: L at p + τ(e − p), [points].
        slopes: ⟨S, e − p⟩ at the same points, [points].
    """

    positions: Tensor
    losses: Tensor
    slopes: Tensor

    @property
    def gap(self) -> float:
        """L(e) − L(p)."""
        return (self.losses[-1] - self.losses[0]).item()

    @property
    def remainder(self) -> float:
        """What the first order ⟨S, e − p⟩ leaves of the gap."""
        return self.gap - self.slopes[0].item()

    @property
    def bending(self) -> float:
        """K, the largest change of the slope from its value at p, divided by τ; ≥ 2|remainder|."""
        return ((self.slopes - self.slopes[0]).abs()[1:] / self.positions[1:]).max().item()


def loss_line(
    supernet: Supernet, batch: Batch, alphas: Mapping[str, Tensor], *, points: int = 41
) -> LossLine:
    """The loss between p = softmax(α) and its vertex, where all cells move together.

    The points crowd towards the vertex, where a cell whose paths are cut changes fast.

    Args:
        supernet: its ω stay fixed, and BatchNorm uses the batch's statistics if it is in training mode.
        batch: images and labels.
        alphas: per cell kind [edges, operations].
        points: number of points, both ends included.
    """
    positions = 1 - (1 - torch.linspace(0, 1, points, dtype=torch.float64)) ** 3
    start, move = _to_the_vertex(alphas)
    losses, slopes = [], []
    for position in positions.tolist():
        weights = _expanded(supernet, _along(start, move, position))
        leaves = {kind: p.clone().requires_grad_() for kind, p in weights.items()}
        found = gradients(supernet, batch, leaves, of_parameters=False)
        losses.append(found.loss)
        slopes.append(sum((found.cells[kind].sum(0) * d).sum() for kind, d in move.items()))
    return LossLine(positions, torch.stack(losses).cpu(), torch.stack(slopes).cpu())


def slope_by_difference(supernet: Supernet, batch: Batch, alphas: Mapping[str, Tensor]) -> Tensor:
    """The first slope of :func:`loss_line` by a central difference of the loss alone, a scalar."""
    start, move = _to_the_vertex(alphas)
    with torch.no_grad():
        ahead, behind = (
            _loss(supernet, batch, _expanded(supernet, _along(start, move, position)))
            for position in (_DIFFERENCE, -_DIFFERENCE)
        )
    return (ahead - behind) / (2 * _DIFFERENCE)


def _loss(
    supernet: Supernet,
    batch: Batch,
    weights: Mapping[str, Tensor],
    omega: Mapping[str, Tensor] | None = None,
) -> Tensor:
    arguments, options = (batch.inputs, weights), {"update_statistics": False}
    logits = functional_call(supernet, dict(omega or {}), arguments, options)
    return nn.functional.cross_entropy(logits, batch.targets)


def _leaves(supernet: Supernet) -> dict[str, Tensor]:
    return {name: parameter.detach().requires_grad_() for name, parameter in supernet.named_parameters()}


def _after_a_step(
    omega: Mapping[str, Tensor], slopes: tuple[Tensor, ...], rate: Tensor | float, decay: float = 0.0
) -> dict[str, Tensor]:
    return {
        name: value - rate * (slope + decay * value)
        for (name, value), slope in zip(omega.items(), slopes, strict=True)
    }


def _by_cells(loss: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, tuple(weights.values()), materialize_grads=True)
    return dict(zip(weights, found, strict=True))


def _expanded(supernet: Supernet, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {kind: p.expand(supernet.layout.count(kind), *p.shape) for kind, p in shared.items()}


def _to_the_vertex(alphas: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    start = {kind: alpha.detach().softmax(-1) for kind, alpha in alphas.items()}
    return start, {kind: vertex - start[kind] for kind, vertex in nearest_vertex(start).items()}


def _along(start: Mapping[str, Tensor], move: Mapping[str, Tensor], position: float) -> dict[str, Tensor]:
    return {kind: p + position * move[kind] for kind, p in start.items()}
