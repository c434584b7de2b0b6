"""The mixed operation: a weighted sum of normalized tensors, which differentiates twice in few operations.

The mixing weight p rides in the scale of the normalization x̂ = ρ(z − μ), so that the gradient by p, from
which Λ is made, is a number that the backward pass by z needs anyway. Its own derivative, for the exact
regularizer, is again an affine combination of three tensors, while PyTorch's is a long chain of small
operations. Derived in the chapter "Where the time goes" (book/speed.md); m is the mean over a channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ldarts_lib.fast.convolutions import layout_of
from ldarts_lib.fast.execution import Execution

_native_backward = torch.ops.aten.native_batch_norm_backward


class _Moments(NamedTuple):
    """Mean μ and inverse standard deviation ρ of some tensors, [tensors, C]; of the ``batch`` in training."""

    mean: Tensor
    inverse_std: Tensor
    batch: bool


def mean_and_variance(z: Tensor) -> tuple[Tensor, Tensor]:
    """Of a batch, [C] each."""
    return torch.batch_norm_update_stats(z, None, None, 0.0)


def moments(
    tensors: Sequence[Tensor],
    norms: Sequence[Sequence[nn.BatchNorm2d]],
    run: Execution,
    of_batch: Callable[[Tensor], tuple[Tensor, Tensor]] = mean_and_variance,
) -> _Moments:
    """The moments by which BatchNorms normalize tensors [batch, m·C, height, width], m norms each."""
    flat = [norm for each in norms for norm in each]
    eps = flat[0].eps
    if flat[0].training:
        with torch.no_grad():
            mean, variance = (_stack(parts) for parts in zip(*map(of_batch, tensors), strict=True))
            found = _Moments(mean, (variance + eps).rsqrt(), batch=True)
        run.observe(flat, found.mean, found.inverse_std, tensors[0])
        return found
    mean = torch.cat([norm.running_mean for norm in flat]).view(len(tensors), -1)
    variance = torch.cat([norm.running_var for norm in flat]).view(len(tensors), -1)
    return _Moments(mean, (variance + eps).rsqrt(), batch=False)


def mix(
    scales: Tensor, normalized: Sequence[Tensor], found: _Moments | None, plain: Sequence[Tensor]
) -> Tensor:
    """Σ_k p_k·x̂_k + Σ_j p_j·x_j: the weighted sum of normalized and of plain tensors.

    Args:
        scales: p, [terms, 1] or [terms, C]; first those of the normalized, then those of the plain tensors.
        normalized: tensors z [batch, C, height, width] that are normalized on the way.
        found: their moments.
        plain: tensors of the same shape that are not.
    """
    batch = found is not None and found.batch
    mean, inverse = (found.mean, found.inverse_std) if found else (None, None)
    return _Mix.apply(scales, mean, inverse, batch, len(normalized), *normalized, *plain)


def normalize(z: Tensor, scale: Tensor, norms: Sequence[nn.BatchNorm2d], run: Execution) -> Tensor:
    """p·x̂: the channels of z [batch, m·C, height, width], by m norms, times a scale p [m·C]."""
    if not norms[0].training:
        return mix(scale[None], [z], moments([z], [norms], run), [])
    y, mean, inverse = _Normalize.apply(z, scale, norms[0].eps)
    run.observe(norms, mean, inverse, z)
    return y


class Norm(nn.BatchNorm2d):
    """A BatchNorm layer that differentiates twice."""

    def __init__(self, *arguments: Any, run: Execution, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.run = run

    def forward(self, z: Tensor) -> Tensor:
        scale = z.new_ones(z.shape[1]) if self.weight is None else self.run.of(self.weight)
        y = normalize(z, scale, [self], self.run)
        return y if self.bias is None else y + per_channel(self.run.of(self.bias))


class _Mix(Function):
    @staticmethod
    def forward(
        ctx: Any,
        scales: Tensor,
        mean: Tensor | None,
        inverse: Tensor | None,
        batch: bool,
        count: int,
        *tensors: Tensor,
    ) -> Tensor:
        ctx.batch, ctx.count = batch, count
        ctx.save_for_backward(scales, mean, inverse, *tensors)
        first, *rest = tensors
        # Σ_k p_k x̂_k = Σ_k (p_k ρ_k) z_k − Σ_k p_k ρ_k μ_k: neither x̂_k nor p_k x̂_k is ever stored
        if count == 0:
            factors = scales.expand(-1, first.shape[1]).unbind()
            total = first * per_channel(factors[0])
        else:
            slopes = scales[:count] * inverse
            factors = (*slopes.unbind(), *scales[count:].expand(-1, first.shape[1]).unbind())
            shift = per_channel((slopes * mean).sum(0).neg_())
            total = torch.addcmul(shift, first, per_channel(factors[0]))
        for factor, x in zip(factors[1:], rest, strict=True):
            total.addcmul_(x, per_channel(factor))
        return total

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        scales, mean, inverse, *tensors = ctx.saved_tensors
        g = g.contiguous(memory_format=layout_of(tensors[0]))
        by_scales, *by_tensors = _MixBackward.apply(
            g, scales, mean, inverse, ctx.batch, ctx.count, ctx.needs_input_grad[5:], *tensors
        )
        return by_scales, None, None, None, None, *by_tensors


class _Normalize(Function):
    """:class:`_Mix` of one term in training, by PyTorch's own BatchNorm."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        y, mean, inverse = torch.native_batch_norm(z, scale, None, None, None, True, 0.0, eps)
        ctx.save_for_backward(z, scale, mean, inverse)
        ctx.mark_non_differentiable(mean, inverse)
        ctx.set_materialize_grads(False)
        return y, mean, inverse

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if g is None:
            return None, None, None
        z, scale, mean, inverse = ctx.saved_tensors
        g = g.contiguous(memory_format=layout_of(z))
        if not torch.is_grad_enabled():
            wanted = [ctx.needs_input_grad[0], True, False]
            return *_native_backward(g, z, scale, None, None, mean, inverse, True, 0.0, wanted)[:2], None
        rows = (row.unsqueeze(0) for row in (scale, mean, inverse))
        by_scale, by_z = _MixBackward.apply(g, *rows, True, 1, ctx.needs_input_grad[:1], z)
        return by_z, by_scale.squeeze(0), None


class _MixBackward(Function):
    """The gradients of :class:`_Mix` by p and by its tensors, as a function of g, p and the tensors."""

    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        scales: Tensor,
        mean: Tensor | None,
        inverse: Tensor | None,
        batch: bool,
        count: int,
        wanted: tuple[bool, ...],
        *tensors: Tensor,
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        ctx.batch, ctx.count = batch, count
        factors = scales.expand(-1, g.shape[1]).contiguous()
        correlations, by_tensors = [], []
        for k, (factor, x) in enumerate(zip(factors.unbind(), tensors, strict=True)):
            # by z: pρP(g), P(a) = a − m(a) − x̂ m(a x̂); by p: ⟨g, x̂⟩ = N q with q = m(g x̂), N values a channel
            if k < count and batch:
                by_x, correlation = norm_backward(g, x, factor, mean[k], inverse[k], wanted[k])
            elif k < count:
                by_x = g * per_channel(factor * inverse[k]) if wanted[k] else None
                correlation = inverse[k] * (mean_product(g, x) - mean[k] * g.mean((0, 2, 3)))
            else:
                by_x = g * per_channel(factor) if wanted[k] else None
                correlation = mean_product(g, x) if scales.shape[1] > 1 else _mean_dot(g, x)
            correlations.append(correlation)
            by_tensors.append(by_x)
        correlation = _stack(correlations)
        ctx.save_for_backward(g, scales, mean, inverse, correlation, *tensors)
        by_scales = correlation * (g.numel() / g.shape[1])
        return by_scales.sum_to_size(scales.shape), *by_tensors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor | None, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """The derivatives ∂_g, ∂_p and ∂_z of ⟨u, ∂L/∂p⟩ + ⟨v, ∂L/∂z⟩."""
        g, scales, mean, inverse, correlations, *tensors = ctx.saved_tensors
        values, channels = g.numel() / g.shape[1], g.shape[1]
        u = torch.zeros_like(scales) if u is None else u
        mean_g = g.mean((0, 2, 3))
        by_g, constant = torch.zeros_like(g), g.new_zeros(channels)
        by_scales, by_tensors = [], []
        rows = zip(scales.expand(-1, channels), u.expand(-1, channels), tensors, cotangents, strict=True)
        for k, (s, u_k, x, v) in enumerate(rows):
            mean_v, mean_vg = (0.0, 0.0) if v is None else (v.mean((0, 2, 3)), mean_product(v, g))
            if k >= ctx.count:  # a plain tensor: ∂_p = N m(v g),  ∂_g = p v + u x,  ∂_x = u g
                by_g.addcmul_(x, per_channel(u_k))
                if v is not None:
                    by_g.addcmul_(v, per_channel(s))
                by_tensors.append(g * per_channel(u_k))
                by_scales.append(values * mean_vg + g.new_zeros(channels))
                continue
            rho, mu, q, zero = inverse[k], mean[k], correlations[k], torch.zeros_like(u_k)
            if ctx.batch:
                # ∂_p = Nρ m(v P(g)),  ∂_g = pρ P(v) + u x̂,  with q_v = m(v x̂)
                # ∂_z = −pρ² (q P(v) + q_v P(g)) + uρ P(g) − pρ² m(v P(g)) x̂
                q_v = 0.0 if v is None else rho * (mean_product(v, x) - mu * mean_v)
                inner = mean_vg - mean_g * mean_v - q * q_v  # m(v P(g))
                by_scales.append(values * rho * inner + zero)
                of_v, of_g = -s * rho.square() * q, u_k * rho - s * rho.square() * q_v
                of_x = s * rho.square() * (q * q_v - inner) - of_g * q
                shift, offset = s * rho * mean_v, -of_v * mean_v - of_g * mean_g
                toward = u_k - s * rho * q_v
            else:
                # μ and ρ are constants: ∂_p = Nρ m(v g),  ∂_g = pρ v + u x̂,  ∂_z = uρ g
                by_scales.append(values * rho * mean_vg + zero)
                of_v, of_g, of_x, shift, offset, toward = 0.0, u_k * rho, zero, 0.0, zero, u_k
            if v is not None:  # with x̂ = ρ(z − μ) written out, everything per channel is affine in v, g and z
                by_g.addcmul_(v, per_channel(s * rho))
            by_g.addcmul_(x, per_channel(toward * rho))
            constant -= toward * rho * mu + shift
            second = torch.addcmul(per_channel(offset - of_x * rho * mu), x, per_channel(of_x * rho))
            second.addcmul_(g, per_channel(of_g))
            if v is not None and ctx.batch:
                second.addcmul_(v, per_channel(of_v))
            by_tensors.append(second)
        by_g += per_channel(constant)
        by_scale = torch.stack(by_scales).sum_to_size(scales.shape)
        return by_g, by_scale, None, None, None, None, None, *by_tensors


def norm_backward(
    g: Tensor, z: Tensor, scale: Tensor, mean: Tensor, inverse: Tensor, of_input: bool = True
) -> tuple[Tensor | None, Tensor]:
    """pρP(g) for the scale p, and q = m(g x̂)."""
    wanted = [of_input, True, False]
    by_z, total, _ = _native_backward(g, z, scale, None, None, mean, inverse, True, 0.0, wanted)
    return by_z, total * (g.shape[1] / g.numel())


def mean_product(a: Tensor, b: Tensor) -> Tensor:
    """m(a b), [C]."""
    return (a * b).mean((0, 2, 3))


def _mean_dot(a: Tensor, b: Tensor) -> Tensor:
    """The mean product over all pixels and channels, for each channel; its sum is that of the products."""
    if a.stride() != b.stride():
        return (a * b).mean().expand(a.shape[1])
    flat = (x.as_strided((x.numel(),), (1,)) for x in (a, b))
    return (torch.dot(*flat) / a.numel()).expand(a.shape[1])


def per_channel(values: Tensor) -> Tensor:
    """[C] as it multiplies tensors [batch, C, height, width]."""
    return values.view(1, -1, 1, 1)


def _stack(rows: Sequence[Tensor]) -> Tensor:
    return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)
