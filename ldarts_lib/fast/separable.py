"""Depthwise and pointwise convolutions as one function that differentiates twice.

It keeps what its kernels' gradients need and computes the rest again. Derivatives of these gradients are
refused: the regularizers differentiate the gradient by the architecture weights only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ldarts_lib.fast.convolutions import Geometry, by_both, by_input, by_kernel, convolution
from ldarts_lib.fast.execution import Execution
from ldarts_lib.fast.mixing import mean_product, moments, norm_backward, per_channel


def separable(
    x: Tensor,
    depthwise: Sequence[Tensor],
    pointwise: Tensor,
    geometries: Sequence[Geometry],
    run: Execution,
    norms: Sequence[nn.BatchNorm2d] = (),
) -> Tensor:
    """y = (x ∗ d) ∗ w with a pointwise kernel w, for several depthwise kernels d side by side.

    Args:
        x: [batch, C, height, width], read by each depthwise kernel; with ``norms``, its channels are divided.
        depthwise: kernels d [C, 1, k, k].
        pointwise: kernel w [C', C'/groups, 1, 1] of as many groups as fit.
        geometries: of the depthwise convolutions.
        norms: BatchNorms of the channels of x, by which it is normalized and sent through a ReLU first.
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


class _Plan(NamedTuple):
    """Depthwise convolutions d side by side and a pointwise one w: everything but the numbers."""

    geometries: tuple[Geometry, ...]
    widths: tuple[int, ...]
    divided: bool
    run: Execution

    def depthwise(self, x: Tensor, kernels: Sequence[Tensor]) -> Tensor:
        return _joined(self._each(convolution, self._inputs(x), kernels))

    def by_input(self, g: Tensor, kernels: Sequence[Tensor], shape: torch.Size) -> Tensor:
        shapes = [torch.Size((shape[0], self.widths[0], *shape[2:]))] * len(kernels)
        return self._gathered(self._each(by_input, _parts(g, self.widths), kernels, shapes))

    def by_kernels(self, x: Tensor, g: Tensor, kernels: Sequence[Tensor]) -> list[Tensor]:
        return self._each(by_kernel, self._inputs(x), _parts(g, self.widths), kernels)

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
        """The gradients by x, by the pointwise kernel and by the depthwise ones."""
        inner, by_p = by_both(g, between, pointwise, _pointwise(pointwise), self.run.precision)
        if not of_input:
            return None, by_p, self.by_kernels(x, inner, kernels)
        both = self._each(by_both, _parts(inner, self.widths), self._inputs(x), kernels)
        by_x, by_d = zip(*both, strict=True)
        return self._gathered(by_x), by_p, list(by_d)

    def _each(self, function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
        rows = zip(*columns, self.geometries, strict=True)
        return [function(*row, self.run.precision) for row in rows]

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
    """The gradient of :class:`_Separable` by its input, h with ⟨v, h⟩ = ⟨g, (v ∗ d) ∗ w⟩."""

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
        between = plan.depthwise(v, depthwise)  # x does not occur: what lies between is computed again for v
        by_g = plan.pointwise(between, pointwise) if ctx.needs_input_grad[0] else None
        if not plan.run.parameters or not ctx.needs_input_grad[1]:
            return by_g, *[None] * (3 + len(depthwise))
        inner = plan.by_pointwise_input(g, pointwise)
        by_d = plan.by_kernels(v, inner, depthwise)
        return by_g, plan.by_pointwise(between, g, pointwise), None, None, *by_d


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
        ctx.set_materialize_grads(False)
        return plan.pointwise(between, pointwise), mean, inverse

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if g is None:
            return (None,) * (6 + ctx.kernels)
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


class _NormalizedReluByInput(Function):
    """The gradient of ReLU(x̂(z)) by z, from the one by its output: ρP(g) with g = 0 where z ≤ μ.

    P, q = m(g x̂) and q_v = m(v x̂) as in :mod:`ldarts_lib.fast.mixing`; ∂_g and ∂_z, too, with p = 1, u = 0.
    """

    @staticmethod
    def forward(ctx: Any, by_x: Tensor, z: Tensor, mean: Tensor, inverse: Tensor, batch: bool) -> Tensor:
        g = torch.ops.aten.threshold_backward(by_x, z - per_channel(mean), 0)
        ctx.batch = batch
        if not batch:
            ctx.save_for_backward(z, mean, inverse)
            return g * per_channel(inverse)
        by_z, q = norm_backward(g, z, torch.ones_like(mean), mean, inverse)
        ctx.save_for_backward(z, mean, inverse, by_z, q)
        return by_z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        z, mean, inverse, *rest = ctx.saved_tensors
        centered = z - per_channel(mean)
        if not ctx.batch:
            by_g = torch.ops.aten.threshold_backward(v * per_channel(inverse), centered, 0)
            return by_g, None, None, None, None
        by_z, q = rest  # ρP(g) and m(g x̂)
        projected, q_v = norm_backward(v, z, torch.ones_like(mean), mean, inverse)
        # ∂_g = ρP(v) where z > μ
        by_g = torch.ops.aten.threshold_backward(projected, centered, 0)
        # ∂_z = −ρ m(v ρP(g)) x̂ − ρq ρP(v) − ρq_v ρP(g), where x̂ = ρ(z − μ)
        curvature = inverse.square() * mean_product(v, by_z)
        second = centered.mul_(per_channel(-curvature))
        second.addcmul_(projected, per_channel(-inverse * q))
        second.addcmul_(by_z, per_channel(-inverse * q_v))
        return by_g, second, None, None, None


def _normalized_relu(z: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    return torch.addcmul(per_channel(-mean * inverse), z, per_channel(inverse)).relu_()


def _refuse_higher_derivatives() -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the fast supernet cannot differentiate its gradients by ω again; use the reference supernet"
        )
