"""Convolution and normalization that differentiate twice in few operations.

The exact gradient of the regularizers differentiates the network's backward pass. PyTorch's own second
derivatives of grouped convolutions and of BatchNorm are long chains of small operations; here, each is a
handful. Convolution, its gradient by the input and its gradient by the kernel are each other's derivatives,
so three functions close under differentiation. For BatchNorm with

::

    x̂ = ρ(z − μ),   y = s·x̂,   P(a) = a − mean(a) − x̂·mean(a·x̂)

the backward pass is ``∂L/∂z = sρP(g)`` and ``∂L/∂s = ⟨g, x̂⟩``; its own derivative along the cotangents
v and u of these two is again an affine combination, per channel, of v, g and z (:class:`_MixBackward`).

Layers that belong together are one function, which saves what cannot be recomputed cheaply. Third
derivatives, and derivatives of the gradient by a kernel of :func:`separable`, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ldarts_lib.convolutions import Geometry, by_both, by_input, by_kernel, convolution, layout_of

_native_backward = torch.ops.aten.native_batch_norm_backward

POINTWISE = Geometry()

Bundling = Literal["edge", "kind", "source"]
"""``edge``: each edge by itself; ``kind``: operations of one kind of all edges that leave a state; ``source``:
all of them."""

SMALL = 2**17
"""Up to so many values in a state, a CPU spends more on calls than on arithmetic."""


@dataclass
class Execution:
    """How the passes of one supernet are carried out; all its layers share this one object.

    Attributes:
        strategy: ``separate`` (one convolution call per operation), ``batched`` (one per source state
            and kind of operation) or ``auto`` (batched on a GPU).
        checkpoint: whether a cell keeps only its inputs and is computed again in the backward pass.
        precision: floating type of the convolutions and products; None for that of the images.
        parameters: whether backward passes go on to the parameters ω. PyTorch does not tell a custom
            function which of its gradients are asked for.
        statistics: in a pass that moves the running statistics, what it has seen so far.
    """

    strategy: str = "auto"
    checkpoint: bool = False
    precision: torch.dtype | None = None
    parameters: bool = True
    statistics: list[tuple[nn.BatchNorm2d, Tensor, Tensor, float]] | None = None

    def batched(self, x: Tensor) -> bool:
        """Whether the strategy for tensors like x is ``batched``."""
        return self.strategy == "batched" or (self.strategy == "auto" and x.device.type == "cuda")

    def bundling(self, state: Tensor) -> Bundling:
        """Which edges that leave a state are computed together."""
        if self.batched(state):
            return "source"
        return "kind" if state.numel() <= SMALL else "edge"

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
        width = norms[0].num_features
        rows = zip(
            norms, mean.reshape(-1, width).unbind(), inverse_std.reshape(-1, width).unbind(), strict=True
        )
        self.statistics += [(norm, *row, correction) for norm, *row in rows]


class Moments(NamedTuple):
    """Batch or running moments of some tensors: mean μ and inverse standard deviation ρ, [tensors, C].

    ``batch`` says whether the moments depend on the tensors, as they do in training.
    """

    mean: Tensor
    inverse_std: Tensor
    batch: bool


def moments(tensors: Sequence[Tensor], norms: Sequence[Sequence[nn.BatchNorm2d]], run: Execution) -> Moments:
    """The moments by which BatchNorms normalize tensors [batch, m·C, height, width], m norms each."""
    flat = [norm for each in norms for norm in each]
    eps = flat[0].eps
    if flat[0].training:
        with torch.no_grad():
            pairs = [torch.batch_norm_update_stats(z, None, None, 0.0) for z in tensors]
            mean, variance = (_stack(parts) for parts in zip(*pairs, strict=True))
            found = Moments(mean, (variance + eps).rsqrt(), batch=True)
        run.observe(flat, found.mean, found.inverse_std, tensors[0])
        return found
    mean = torch.cat([norm.running_mean for norm in flat]).view(len(tensors), -1)
    variance = torch.cat([norm.running_var for norm in flat]).view(len(tensors), -1)
    return Moments(mean, (variance + eps).rsqrt(), batch=False)


def _stack(rows: Sequence[Tensor]) -> Tensor:
    return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)


def convolve(x: Tensor, kernel: Tensor, geometry: Geometry, run: Execution) -> Tensor:
    """Convolution without offset: [batch, C, height, width] → [batch, C', height', width']."""
    return _Convolve.apply(x, kernel, geometry, run)


def separable(
    x: Tensor,
    depthwise: Sequence[Tensor],
    pointwise: Tensor,
    geometries: Sequence[Geometry],
    run: Execution,
    norms: Sequence[nn.BatchNorm2d] = (),
) -> Tensor:
    """Depthwise convolutions side by side, and a pointwise one of their joined channels.

    Args:
        x: [batch, C, height, width], read by each of the depthwise kernels; with ``norms``, its channels
            are divided among them.
        depthwise: kernels [C, 1, k, k].
        pointwise: kernel [C', C'/groups, 1, 1] of as many groups as fit.
        geometries: of the depthwise convolutions.
        run: the supernet's.
        norms: BatchNorms of the channels of x; it is normalized by them and goes through a ReLU first.
    """
    plan = _Plan(tuple(geometries), tuple(kernel.shape[0] for kernel in depthwise), bool(norms), run)
    if not norms:
        return _Separable.apply(x, pointwise, plan, *depthwise)
    running = None if norms[0].training else moments([x], [norms], run)
    mean, inverse = (running.mean[0], running.inverse_std[0]) if running else (None, None)
    y, mean, inverse = _NormalizedSeparable.apply(x, mean, inverse, norms[0].eps, pointwise, plan, *depthwise)
    if not running:
        run.observe(norms, mean, inverse, x)
    return y


def join(kernels: Sequence[Tensor], run: Execution) -> Tensor:
    """The kernels of several operations, one below the other; cut off the graph where no gradient is asked."""
    if len(kernels) == 1:
        return run.of(kernels[0])
    if run.parameters:
        return concatenate(kernels, dim=0)
    with torch.no_grad():
        return torch.cat(kernels)


def concatenate(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """As :func:`torch.cat`, whose backward pass makes one call for each tensor."""
    return tensors[0] if len(tensors) == 1 else _Concatenate.apply(dim, *tensors)


def normalize(z: Tensor, scale: Tensor, norms: Sequence[nn.BatchNorm2d], run: Execution) -> Tensor:
    """s·x̂: the channels of z [batch, m·C, height, width], by m norms, times a scale [m·C]."""
    if not norms[0].training:
        return mix(scale[None], [z], moments([z], [norms], run), [])
    y, mean, inverse = _Normalize.apply(z, scale, norms[0].eps)
    run.observe(norms, mean, inverse, z)
    return y


def mix(
    scales: Tensor, normalized: Sequence[Tensor], found: Moments | None, plain: Sequence[Tensor]
) -> Tensor:
    """Σ_k s_k·x̂_k + Σ_j s_j·x_j: the weighted sum of normalized and of plain tensors.

    Args:
        scales: [terms, 1] or [terms, C]; first those of the normalized, then those of the plain tensors.
        normalized: tensors z [batch, C, height, width] that are normalized on the way.
        found: their moments.
        plain: tensors of the same shape that are not.
    """
    batch = found is not None and found.batch
    mean, inverse = (found.mean, found.inverse_std) if found else (None, None)
    return _Mix.apply(scales, mean, inverse, batch, len(normalized), *normalized, *plain)


class Convolution(nn.Conv2d):
    """A convolution layer that differentiates twice."""

    def __init__(self, *arguments: Any, run: Execution, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.run = run
        self.geometry = Geometry(self.stride[0], self.padding[0], self.dilation[0], self.groups)

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.run.of(self.weight), self.geometry, self.run)


class Norm(nn.BatchNorm2d):
    """A BatchNorm layer that differentiates twice."""

    def __init__(self, *arguments: Any, run: Execution, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.run = run

    def forward(self, z: Tensor) -> Tensor:
        scale = z.new_ones(z.shape[1]) if self.weight is None else self.run.of(self.weight)
        y = normalize(z, scale, [self], self.run)
        return y if self.bias is None else y + _per_channel(self.run.of(self.bias))


class _Concatenate(Function):
    @staticmethod
    def forward(ctx: Any, dim: int, *tensors: Tensor) -> Tensor:
        ctx.dim, ctx.sizes = dim, [tensor.shape[dim] for tensor in tensors]
        return torch.cat(tensors, dim)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return None, *g.split(ctx.sizes, ctx.dim)


class _Convolve(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, geometry: Geometry, run: Execution) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.geometry, ctx.run = geometry, run
        return convolution(x, kernel, geometry, run.precision)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (x, kernel), wanted = ctx.saved_tensors, ctx.needs_input_grad
        of_kernel = wanted[1] and ctx.run.parameters
        if wanted[0] and of_kernel and not torch.is_grad_enabled():
            return *by_both(g, x, kernel, ctx.geometry, ctx.run.precision), None, None
        by_x = _ByInput.apply(g, kernel, x.shape, ctx.geometry, ctx.run) if wanted[0] else None
        by_w = _ByKernel.apply(x, g, kernel, ctx.geometry, ctx.run) if of_kernel else None
        return by_x, by_w, None, None


class _ByInput(Function):
    @staticmethod
    def forward(
        ctx: Any, g: Tensor, kernel: Tensor, shape: torch.Size, geometry: Geometry, run: Execution
    ) -> Tensor:
        ctx.save_for_backward(g, kernel)
        ctx.geometry, ctx.run = geometry, run
        return by_input(g, kernel, shape, geometry, run.precision)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        (g, kernel), wanted = ctx.saved_tensors, ctx.needs_input_grad
        by_g = _Convolve.apply(v, kernel, ctx.geometry, ctx.run) if wanted[0] else None
        wanted = wanted[1] and ctx.run.parameters
        by_w = _ByKernel.apply(v, g, kernel, ctx.geometry, ctx.run) if wanted else None
        return by_g, by_w, None, None, None


class _ByKernel(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, kernel: Tensor, geometry: Geometry, run: Execution) -> Tensor:
        ctx.save_for_backward(x, g)
        ctx.geometry, ctx.run = geometry, run
        return by_kernel(x, g, kernel, geometry, run.precision)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        (x, g), wanted = ctx.saved_tensors, ctx.needs_input_grad
        by_x = _ByInput.apply(g, v, x.shape, ctx.geometry, ctx.run) if wanted[0] else None
        by_g = _Convolve.apply(x, v, ctx.geometry, ctx.run) if wanted[1] else None
        return by_x, by_g, None, None, None


def _refuse_higher_derivatives() -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the fast supernet cannot differentiate its gradients by ω again; use the reference supernet"
        )


class _Plan(NamedTuple):
    """Depthwise convolutions side by side and a pointwise one: everything but the numbers."""

    geometries: tuple[Geometry, ...]
    widths: tuple[int, ...]
    divided: bool
    run: Execution

    def depthwise(self, x: Tensor, kernels: Sequence[Tensor]) -> Tensor:
        rows = zip(self._inputs(x), kernels, self.geometries, strict=True)
        return _joined([convolution(*row, self.run.precision) for row in rows])

    def by_input(self, g: Tensor, kernels: Sequence[Tensor], shape: torch.Size) -> Tensor:
        shape = torch.Size((shape[0], self.widths[0], *shape[2:]))
        rows = zip(_parts(g, self.widths), kernels, self.geometries, strict=True)
        return self._gathered(
            [by_input(g, w, shape, geometry, self.run.precision) for g, w, geometry in rows]
        )

    def by_kernels(self, x: Tensor, g: Tensor, kernels: Sequence[Tensor]) -> list[Tensor]:
        rows = zip(self._inputs(x), _parts(g, self.widths), kernels, self.geometries, strict=True)
        return [by_kernel(*row, self.run.precision) for row in rows]

    def by_both(self, g: Tensor, x: Tensor, kernels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        rows = zip(_parts(g, self.widths), self._inputs(x), kernels, self.geometries, strict=True)
        by_x, by_w = zip(*(by_both(*row, self.run.precision) for row in rows), strict=True)
        return self._gathered(by_x), list(by_w)

    def pointwise(self, x: Tensor, kernel: Tensor) -> Tensor:
        return convolution(x, kernel, _pointwise(kernel), self.run.precision)

    def by_pointwise_input(self, g: Tensor, kernel: Tensor) -> Tensor:
        return by_input(g, kernel, g.shape, _pointwise(kernel), self.run.precision)

    def by_pointwise(self, x: Tensor, g: Tensor, kernel: Tensor) -> Tensor:
        return by_kernel(x, g, kernel, _pointwise(kernel), self.run.precision)

    def backward(
        self,
        g: Tensor,
        x: Tensor,
        between: Tensor,
        pointwise: Tensor,
        kernels: Sequence[Tensor],
        of_input: bool,
    ) -> tuple[Tensor | None, Tensor, list[Tensor]]:
        inner, by_p = by_both(g, between, pointwise, _pointwise(pointwise), self.run.precision)
        if of_input:
            by_x, by_d = self.by_both(inner, x, kernels)
            return by_x, by_p, by_d
        return None, by_p, self.by_kernels(x, inner, kernels)

    def _gathered(self, parts: Sequence[Tensor]) -> Tensor:
        """The gradient by the input from those of its readers."""
        if self.divided:
            return _joined(parts)
        for part in parts[1:]:
            parts[0].add_(part)
        return parts[0]

    def _inputs(self, x: Tensor) -> Sequence[Tensor]:
        return _parts(x, self.widths) if self.divided else [x] * len(self.widths)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _parts(x: Tensor, widths: Sequence[int]) -> Sequence[Tensor]:
    return [x] if len(widths) == 1 else x.split(widths, dim=1)


def _pointwise(kernel: Tensor) -> Geometry:
    """Groups of C channels each, for a kernel [m·C, C, 1, 1]."""
    return Geometry(groups=kernel.shape[0] // kernel.shape[1])


class _Separable(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pointwise: Tensor, plan: _Plan, *depthwise: Tensor) -> Tensor:
        between = plan.depthwise(x, depthwise)
        ctx.plan, ctx.shape, ctx.kernels = plan, x.shape, len(depthwise)
        ctx.save_for_backward(pointwise, *depthwise, *((x, between) if plan.run.parameters else ()))
        return plan.pointwise(between, pointwise)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        pointwise, *saved = ctx.saved_tensors
        depthwise, inputs = saved[: ctx.kernels], saved[ctx.kernels :]
        if not ctx.plan.run.parameters or not ctx.needs_input_grad[1]:
            by_x = _SeparableByInput.apply(g, pointwise, ctx.plan, ctx.shape, *depthwise)
            return by_x, *[None] * (2 + ctx.kernels)
        _refuse_higher_derivatives()
        by_x, by_p, by_d = ctx.plan.backward(g, *inputs, pointwise, depthwise, ctx.needs_input_grad[0])
        return by_x, by_p, None, *by_d


class _SeparableByInput(Function):
    """The gradient of :class:`_Separable` by its input; what lies between is computed again."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, pointwise: Tensor, plan: _Plan, shape: torch.Size, *depthwise: Tensor
    ) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(g, pointwise, *depthwise)
        return plan.by_input(plan.by_pointwise_input(g, pointwise), depthwise, shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        (g, pointwise, *depthwise), plan = ctx.saved_tensors, ctx.plan
        between = plan.depthwise(v, depthwise)
        by_g = plan.pointwise(between, pointwise) if ctx.needs_input_grad[0] else None
        if not plan.run.parameters or not ctx.needs_input_grad[1]:
            return by_g, *[None] * (3 + len(depthwise))
        inner = plan.by_pointwise_input(g, pointwise)
        by_d = plan.by_kernels(v, inner, depthwise)
        return by_g, plan.by_pointwise(between, g, pointwise), None, None, *by_d


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


class _NormalizedSeparable(Function):
    """Also returns the moments; those of the batch are found here, those of the past are given."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        mean: Tensor | None,
        inverse: Tensor | None,
        eps: float,
        pointwise: Tensor,
        plan: _Plan,
        *depthwise: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.batch, ctx.plan, ctx.kernels = mean is None, plan, len(depthwise)
        if mean is None:
            x, mean, inverse = torch.native_batch_norm(z, None, None, None, None, True, 0.0, eps)
            x = x.relu_()
        else:
            x = _normalized_relu(z, mean, inverse)
        between = plan.depthwise(x, depthwise)
        kept = (between,) if plan.run.parameters else ()
        ctx.save_for_backward(z, mean, inverse, pointwise, *depthwise, *kept)
        ctx.mark_non_differentiable(mean, inverse)
        return plan.pointwise(between, pointwise), mean, inverse

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        z, mean, inverse, pointwise, *saved = ctx.saved_tensors
        depthwise, between = saved[: ctx.kernels], saved[ctx.kernels :]
        by_p, by_d = None, [None] * ctx.kernels
        if ctx.plan.run.parameters and ctx.needs_input_grad[4]:
            _refuse_higher_derivatives()
            x = _normalized_relu(z, mean, inverse)
            by_x, by_p, by_d = ctx.plan.backward(g, x, *between, pointwise, depthwise, True)
        else:
            by_x = _SeparableByInput.apply(g, pointwise, ctx.plan, z.shape, *depthwise)
        by_z = _NormalizedReluByInput.apply(by_x, z, mean, inverse, ctx.batch)
        return by_z, None, None, None, by_p, None, *by_d


def _normalized_relu(z: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    return torch.addcmul(_per_channel(-mean * inverse), z, _per_channel(inverse)).relu_()


class _NormalizedReluByInput(Function):
    """The gradient of ReLU(x̂(z)) by z, from the one by its output: ρP(g) with g = 0 where z ≤ μ."""

    @staticmethod
    def forward(ctx: Any, by_x: Tensor, z: Tensor, mean: Tensor, inverse: Tensor, batch: bool) -> Tensor:
        g = torch.ops.aten.threshold_backward(by_x, z - _per_channel(mean), 0)
        ctx.batch = batch
        if not batch:
            ctx.save_for_backward(z, mean, inverse)
            return g * _per_channel(inverse)
        by_z, correlation = _norm_backward(g, z, torch.ones_like(mean), mean, inverse)
        ctx.save_for_backward(z, mean, inverse, by_z, correlation)
        return by_z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        z, mean, inverse, *rest = ctx.saved_tensors
        centered = z - _per_channel(mean)
        if not ctx.batch:
            by_g = torch.ops.aten.threshold_backward(v * _per_channel(inverse), centered, 0)
            return by_g, None, None, None, None
        by_z, correlation = rest
        projected, along = _norm_backward(v, z, torch.ones_like(mean), mean, inverse)
        by_g = torch.ops.aten.threshold_backward(projected, centered, 0)
        curvature = inverse.square() * _mean_product(v, by_z)
        second = centered.mul_(_per_channel(-curvature))
        second.addcmul_(projected, _per_channel(-inverse * correlation))
        second.addcmul_(by_z, _per_channel(-inverse * along))
        return by_g, second, None, None, None


def _norm_backward(
    g: Tensor, z: Tensor, scale: Tensor, mean: Tensor, inverse: Tensor, of_input: bool = True
) -> tuple[Tensor | None, Tensor]:
    """sρP(g), and mean(g·x̂) per channel."""
    wanted = [of_input, True, False]
    by_z, total, _ = _native_backward(g, z, scale, None, None, mean, inverse, True, 0.0, wanted)
    return by_z, total * (g.shape[1] / g.numel())


def _mean_product(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).mean((0, 2, 3))


def _mean_dot(a: Tensor, b: Tensor) -> Tensor:
    """The mean product over all pixels and channels, for each channel; its sum is that of the products."""
    if a.stride() != b.stride():
        return (a * b).mean().expand(a.shape[1])
    flat = (x.as_strided((x.numel(),), (1,)) for x in (a, b))
    return (torch.dot(*flat) / a.numel()).expand(a.shape[1])


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
        if count == 0:
            factors = scales.expand(-1, first.shape[1]).unbind()
            total = first * _per_channel(factors[0])
        else:
            slopes = scales[:count] * inverse
            factors = (*slopes.unbind(), *scales[count:].expand(-1, first.shape[1]).unbind())
            shift = _per_channel((slopes * mean).sum(0).neg_())
            total = torch.addcmul(shift, first, _per_channel(factors[0]))
        for factor, x in zip(factors[1:], rest, strict=True):
            total.addcmul_(x, _per_channel(factor))
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
    def backward(ctx: Any, g: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        z, scale, mean, inverse = ctx.saved_tensors
        g = g.contiguous(memory_format=layout_of(z))
        if not torch.is_grad_enabled():
            wanted = [ctx.needs_input_grad[0], True, False]
            return *_native_backward(g, z, scale, None, None, mean, inverse, True, 0.0, wanted)[:2], None
        rows = (row.unsqueeze(0) for row in (scale, mean, inverse))
        by_scale, by_z = _MixBackward.apply(g, *rows, True, 1, ctx.needs_input_grad[:1], z)
        return by_z, by_scale.squeeze(0), None


class _MixBackward(Function):
    """The gradients of :class:`_Mix`, as a function of g and of the tensors."""

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
            if k < count and batch:
                by_x, correlation = _norm_backward(g, x, factor, mean[k], inverse[k], wanted[k])
            elif k < count:
                by_x = g * _per_channel(factor * inverse[k]) if wanted[k] else None
                correlation = inverse[k] * (_mean_product(g, x) - mean[k] * g.mean((0, 2, 3)))
            else:
                by_x = g * _per_channel(factor) if wanted[k] else None
                correlation = _mean_product(g, x) if scales.shape[1] > 1 else _mean_dot(g, x)
            correlations.append(correlation)
            by_tensors.append(by_x)
        correlation = _stack(correlations)
        ctx.save_for_backward(g, scales, mean, inverse, correlation, *tensors)
        by_scales = correlation * (g.numel() / g.shape[1])
        return by_scales.sum_to_size(scales.shape), *by_tensors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor | None, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        g, scales, mean, inverse, correlations, *tensors = ctx.saved_tensors
        values, channels = g.numel() / g.shape[1], g.shape[1]
        u = torch.zeros_like(scales) if u is None else u
        mean_g = g.mean((0, 2, 3))
        by_g, constant = torch.zeros_like(g), g.new_zeros(channels)
        by_scales, by_tensors = [], []
        rows = zip(scales.expand(-1, channels), u.expand(-1, channels), tensors, cotangents, strict=True)
        for k, (s, u_k, x, v) in enumerate(rows):
            mean_v, mean_vg = (0.0, 0.0) if v is None else (v.mean((0, 2, 3)), _mean_product(v, g))
            if k >= ctx.count:  # s·g and ⟨g, x⟩
                by_g.addcmul_(x, _per_channel(u_k))
                if v is not None:
                    by_g.addcmul_(v, _per_channel(s))
                by_tensors.append(g * _per_channel(u_k))
                by_scales.append(values * mean_vg + g.new_zeros(channels))
                continue
            rho, mu, q = inverse[k], mean[k], correlations[k]
            if not ctx.batch:  # sρ·g and ⟨g, x̂⟩
                along, of_v, of_g, of_x = 0.0, 0.0, u_k * rho, torch.zeros_like(u_k)
                shift, offset = 0.0, torch.zeros_like(u_k)
                by_scales.append(values * rho * mean_vg + torch.zeros_like(u_k))
                toward = u_k
            else:  # sρ·P(g) and ⟨g, x̂⟩
                along = 0.0 if v is None else rho * (_mean_product(v, x) - mu * mean_v)
                inner = mean_vg - mean_g * mean_v - q * along
                by_scales.append(values * rho * inner + torch.zeros_like(u_k))
                of_v, of_g = -s * rho.square() * q, u_k * rho - s * rho.square() * along
                of_x = s * rho.square() * (q * along - inner) - of_g * q
                shift, offset = s * rho * mean_v, -of_v * mean_v - of_g * mean_g
                toward = u_k - s * rho * along
            if v is not None:
                by_g.addcmul_(v, _per_channel(s * rho))
            by_g.addcmul_(x, _per_channel(toward * rho))
            constant -= toward * rho * mu + shift
            second = torch.addcmul(_per_channel(offset - of_x * rho * mu), x, _per_channel(of_x * rho))
            second.addcmul_(g, _per_channel(of_g))
            if v is not None and ctx.batch:
                second.addcmul_(v, _per_channel(of_v))
            by_tensors.append(second)
        by_g += _per_channel(constant)
        by_scale = torch.stack(by_scales).sum_to_size(scales.shape)
        return by_g, by_scale, None, None, None, None, None, *by_tensors
