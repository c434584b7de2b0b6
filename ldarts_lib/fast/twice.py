"""Convolutions that differentiate twice in few operations.

The exact gradient of the regularizers differentiates the network's backward pass. PyTorch's own second
derivatives of grouped convolutions are long chains of small operations. But φ(x, w, g) = ⟨g, x ∗ w⟩ is
linear in each argument, so that its three derivatives are each other's, and close under differentiation; see
the chapter "Where the time goes" (book/speed.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ldarts_lib.fast.convolutions import Geometry, by_both, by_input, by_kernel, convolution
from ldarts_lib.fast.execution import Execution
from ldarts_lib.networks.operations import subsampled


def convolve(x: Tensor, kernel: Tensor, geometry: Geometry, run: Execution) -> Tensor:
    """Convolution without offset: [batch, C, height, width] → [batch, C', height', width']."""
    x, (stride, _) = subsampled(x, kernel, (geometry.stride, geometry.stride))
    return _Convolve.apply(x, kernel, geometry._replace(stride=stride), run)


class Convolution(nn.Conv2d):
    """A convolution layer that differentiates twice."""

    def __init__(self, *arguments: Any, run: Execution, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.run = run
        self.geometry = Geometry(self.stride[0], self.padding[0], self.dilation[0], self.groups)

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.run.of(self.weight), self.geometry, self.run)


def join(kernels: Sequence[Tensor], run: Execution) -> Tensor:
    """The kernels of several operations, one below the other, as the execution wants them."""
    if len(kernels) > 1 and not run.parameters:
        with torch.no_grad():
            return torch.cat(kernels)
    return run.of(concatenate(kernels, dim=0))


def concatenate(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """As :func:`torch.cat`, whose backward pass makes one call for each tensor."""
    return tensors[0] if len(tensors) == 1 else _Concatenate.apply(dim, *tensors)


class _Convolve(Function):
    """∂φ/∂g = x ∗ w, whose backward pass gives ∂φ/∂x and ∂φ/∂w."""

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
    """∂φ/∂x; the gradient of ⟨v, ∂φ/∂x⟩ = φ(v, w, g) by g is v ∗ w."""

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
    """∂φ/∂w; the gradient of ⟨v, ∂φ/∂w⟩ = φ(x, v, g) by g is x ∗ v."""

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


class _Concatenate(Function):
    @staticmethod
    def forward(ctx: Any, dim: int, *tensors: Tensor) -> Tensor:
        ctx.dim, ctx.sizes = dim, [tensor.shape[dim] for tensor in tensors]
        return torch.cat(tensors, dim)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return None, *g.split(ctx.sizes, ctx.dim)
