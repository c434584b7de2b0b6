"""The two half-steps of the bilevel search.

The weights ω follow the training loss (minus λ times the regularizer), the architecture parameters α the
validation loss, at the current ω (first order) or at ω after one more step (second order, Liu et al., 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ldarts_lib.bilevel.gradients import Gradients, gradients, joint_norm, scale_copies
from ldarts_lib.bilevel.protocols import RecurrentProtocol, SearchProtocol
from ldarts_lib.bilevel.regularizers import penalized_gradients
from ldarts_lib.bilevel.remedies.remedy import held
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet, cell_copies
from ldarts_lib.runs.environment import arithmetic

UNROLLED_PERTURBATION = 0.01
"""Length of the perturbation of ω in the second-order term, as in the DARTS code."""


class Bilevel:
    """Supernet, architecture parameters and their optimizers; one method per half-step.

    Args:
        supernet: holds ω.
        alphas: per cell kind the architecture parameters α, leaves [edges, operations].

    Examples:
        >>> from ldarts_lib.bilevel.protocols import protocol
        >>> from ldarts_lib.networks.supernet import initial_alphas
        >>> settings = protocol(size="smoke", channels=2)
        >>> space = settings.search_space
        >>> supernet = Supernet(space, channels=2, depth=1, classes=10, channels_in=1)
        >>> bilevel = Bilevel(supernet, initial_alphas(space), settings)
        >>> bilevel.start_epoch(0)
        >>> batch = Batch(torch.rand(4, 1, 8, 8), torch.arange(4))
        >>> of_weights, of_alpha = bilevel.step(batch, batch)
    """

    def __init__(
        self, supernet: Supernet, alphas: dict[str, Tensor], protocol: SearchProtocol | RecurrentProtocol
    ) -> None:
        self.supernet, self.alphas, self.protocol = supernet, alphas, protocol
        self.remedy, self.share = protocol.new_remedy(), 0.0
        self.parameters = list(supernet.parameters())
        self.weight_optimizer = torch.optim.SGD(
            self.parameters,
            lr=protocol.weight_lr,
            momentum=protocol.momentum,
            weight_decay=protocol.weight_decay,
            foreach=True,
        )
        self.alpha_optimizer = torch.optim.Adam(
            list(alphas.values()),
            lr=protocol.alpha_lr,
            betas=(protocol.alpha_beta, 0.999),
            weight_decay=protocol.alpha_weight_decay,
            fused=True,
            capturable=next(iter(alphas.values())).is_cuda,
        )

    def start_epoch(self, epoch: int) -> None:
        """Set the learning rate, λ and what is known of the clipping of an epoch, counted from 0."""
        self.strength = self.protocol.strength(epoch)
        self.share = epoch / max(self.protocol.epochs - 1, 1)
        factors = self.protocol.clip_factors
        self.clip_factor = factors[epoch] if factors else None
        for group in self.weight_optimizer.param_groups:
            group["lr"] = self.protocol.learning_rate(epoch)
        self.remedy.start_epoch(self)

    def step(self, training: Batch, validation: Batch) -> tuple[Gradients, Gradients]:
        """One step of each kind in the protocol's order; returns the gradients of (ω, α) half-step."""
        if self.protocol.step_order == "weights-first":
            of_weights = self.weight_step(training, validation)
            of_alpha = self.alpha_step(training, validation)
        else:
            of_alpha = self.alpha_step(training, validation)
            of_weights = self.weight_step(training, validation)
        self.remedy.after_step(self, of_weights, of_alpha)
        return of_weights, of_alpha

    def weight_step(self, training: Batch, validation: Batch | None = None) -> Gradients:
        """Move ω along the gradient of L − λR, clipped; returns the gradients that it followed.

        ``validation`` is read only where R is that of the validation batch, or of both.
        """
        weights, regularizer = cell_copies(self.mixtures(), self.supernet.layout), self.protocol.regularizer
        with arithmetic(self.protocol.precision):
            weights = self.remedy.perturb(weights, self.supernet, training, self.share)
            if regularizer is None or self.strength == 0:
                found = gradients(self.supernet, training, weights, update_statistics=True)
            else:
                which = self.protocol.regularizer_batch
                other = None if which == "training" else validation
                found = penalized_gradients(
                    self.supernet, training, weights, regularizer, self.strength, other, both=which == "both"
                )
        for parameter, gradient in zip(self.parameters, found.weights, strict=True):
            parameter.grad = gradient
        with held(self.remedy.held_parameters(self)):
            norm, factor = self.clip(self._accumulated(found.cells) if self.protocol.clip_alpha else [])
            self.weight_optimizer.step()
        alone = torch.stack([norm, torch.zeros_like(norm)], -1)
        parts = alone if found.norms is None else found.norms
        return replace(found, norms=torch.cat([parts, torch.stack([norm, factor], -1)], -1))

    def clip(self, more: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor]:
        """Shorten the gradient of ω to the protocol's length, or by its factor; returns its length before,
        with that of ``more``, and the factor."""
        gradients = [parameter.grad for parameter in self.parameters]
        norm = joint_norm([*gradients, *more], self.supernet.copies)
        factor = (self.protocol.clip / (norm + 1e-6)).clamp_max(1.0)
        if self.clip_factor is not None:
            factor = torch.full_like(norm, self.clip_factor)
        scale_copies(gradients, factor)
        return norm, factor

    def _accumulated(self, cells: Mapping[str, Tensor]) -> list[Tensor]:
        """∇α of a pass over ω, on top of that of the last step of α, which only the next one clears."""
        found = [softmax_backward(alpha, cells[kind]) for kind, alpha in self.alphas.items()]
        earlier = [alpha.grad for alpha in self.alphas.values()]
        return [g if e is None else g + e for g, e in zip(found, earlier, strict=True)]

    def alpha_step(self, training: Batch, validation: Batch) -> Gradients:
        """Move α along the gradient of the validation loss; returns that batch's gradients.

        ``training`` is read by the second-order method only.
        """
        p = self.mixtures()
        weights = cell_copies(p, self.supernet.layout)
        with arithmetic(self.protocol.precision):
            if self.protocol.method == "darts-2nd":
                found = self._unrolled(training, validation, weights)
            else:
                found = self.architecture_gradients(validation, weights)
        if self.protocol.remedy is None:
            grads = [softmax_backward(alpha, found.cells[kind]) for kind, alpha in self.alphas.items()]
        else:  # (∂p/∂α)ᵀ Σ_l g_l, and the gradient of what the remedy adds
            loss = sum((p[kind] * g.sum(0)).sum() for kind, g in found.cells.items())
            loss = loss + self.remedy.alpha_loss(self.alphas, self.share)
            grads = torch.autograd.grad(loss, list(self.alphas.values()))
        for alpha, grad in zip(self.alphas.values(), grads, strict=True):
            alpha.grad = grad
        if not self.remedy.waits(self.share):
            with held(self.remedy.held_alphas(self)):
                self.alpha_optimizer.step()
        return found

    def mixtures(self) -> dict[str, Tensor]:
        """The p of a pass, differentiable functions of α; softmax(α) if there is no remedy."""
        return self.remedy.weights(self.alphas, self.supernet, self.share)

    def architecture_gradients(self, validation: Batch, weights: Mapping[str, Tensor]) -> Gradients:
        """First-order gradients of the validation loss, by the architecture weights alone."""
        of_parameters = self.remedy.validates_parameters
        return gradients(self.supernet, validation, weights, of_parameters=of_parameters)

    def _unrolled(self, training: Batch, validation: Batch, weights: Mapping[str, Tensor]) -> Gradients:
        """Gradients of L_val(ω − ξ∇ω L_train(ω, p)) by p, ξ the learning rate.

        The mixed second derivative is a central difference along q = ∇ω' L_val(ω'), as in the DARTS code.
        """
        learning_rate = self.weight_optimizer.param_groups[0]["lr"]
        start = [parameter.detach().clone() for parameter in self.parameters]
        state = self.supernet.random_state()
        of_loss = gradients(self.supernet, training, weights).weights
        # ω' = ω − ξ (∇ω L_train + w ω + μ m), a step of SGD with weight decay w, momentum μ and buffer m
        step = torch._foreach_add(of_loss, torch._foreach_mul(start, self.protocol.weight_decay))
        buffers = [self.weight_optimizer.state[p].get("momentum_buffer") for p in self.parameters]
        if buffers[0] is not None:
            torch._foreach_add_(step, torch._foreach_mul(buffers, self.protocol.momentum))
        self._set_parameters(start, step, -learning_rate)
        found = gradients(self.supernet, validation, weights)  # at ω'; its ∇ω' L_val is q below
        norm = joint_norm(found.weights, 1)
        radius = UNROLLED_PERTURBATION / norm.clamp_min(torch.finfo(norm.dtype).tiny)

        def cells_at(distance: Tensor) -> dict[str, Tensor]:
            self.supernet.set_random_state(state)
            self._set_parameters(start, found.weights, distance)
            return gradients(self.supernet, training, weights, of_parameters=False).cells

        ahead, behind = cells_at(radius), cells_at(-radius)
        self._set_parameters(start, start, 0.0)
        # ∇p L_val(ω') − ξ [∇p L_train(ω + rq, p) − ∇p L_train(ω − rq, p)] / 2r,   r = 0.01 / ‖q‖
        cells = {
            kind: g - learning_rate * (ahead[kind] - behind[kind]) / (2 * radius)
            for kind, g in found.cells.items()
        }
        return Gradients(found.loss, found.output, cells)

    @torch.no_grad()
    def _set_parameters(
        self, start: Sequence[Tensor], direction: Sequence[Tensor], distance: Tensor | float
    ) -> None:
        moved = torch._foreach_mul(direction, distance)
        torch._foreach_add_(moved, start)
        torch._foreach_copy_(self.parameters, moved)


def softmax_backward(alpha: Tensor, cells: Tensor) -> Tensor:
    """∂L/∂α = J(p)·Σ_l g_l for the shared α, with J(p) = diag(p) − p pᵀ (chapter *optimization*).

    Args:
        alpha: [edges, operations].
        cells: g_l of each cell, [cells, edges, operations].
    """
    p, total = alpha.detach().softmax(-1), cells.sum(0)  # J(p)S = p ⊙ (S − ⟨p, S⟩)
    return p * (total - (p * total).sum(-1, keepdim=True))
