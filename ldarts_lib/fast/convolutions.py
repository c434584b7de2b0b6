"""The three faces of a convolution, φ = ⟨g, x ∗ w⟩ by g, by x and by w, as fast as the device allows.

On a CPU and in the layout channels_last, oneDNN has quick kernels for the weight gradient of depthwise
convolutions of width 3 without dilation only; others run ten to a hundred times slower. They are rewritten in
terms of the quick ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_backward = torch.ops.aten.convolution_backward


class Geometry(NamedTuple):
    """Stride, padding, dilation (equal in height and width) and groups of a convolution."""

    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    def repeated(self, count: int) -> Geometry:
        """Of as many convolutions side by side."""
        return self._replace(groups=self.groups * count)


def convolution(
    x: Tensor, kernel: Tensor, geometry: Geometry, precision: torch.dtype | None = None
) -> Tensor:
    """∂φ/∂g = x ∗ w, computed in ``precision`` if given; the result has the type of x."""
    dtype = x.dtype
    x, kernel = _in(precision, x, kernel)
    return _in(dtype, F.conv2d(x, kernel, None, *geometry))[0]


def by_input(
    g: Tensor, kernel: Tensor, shape: torch.Size, geometry: Geometry, precision: torch.dtype | None = None
) -> Tensor:
    """∂φ/∂x for an x of that shape."""
    dtype = g.dtype
    g, kernel = _in(precision, g, kernel)
    if _quick_on_cpu(g, kernel, geometry):
        # (∂φ/∂x)[i] = Σ_k w[k] g[i − k]: a convolution with the mirrored kernel
        reach = geometry.dilation * (kernel.shape[-1] - 1)
        mirrored = geometry._replace(padding=reach - geometry.padding)
        return F.conv2d(g, kernel.flip(2, 3), None, *mirrored).to(dtype)
    x = torch.empty(shape, dtype=g.dtype, device=g.device, memory_format=layout_of(g))
    return _call(g, x, kernel, geometry, (True, False))[0].to(dtype)


def by_kernel(
    x: Tensor, g: Tensor, kernel: Tensor, geometry: Geometry, precision: torch.dtype | None = None
) -> Tensor:
    """∂φ/∂w; of the kernel w itself, only the shape is used."""
    dtype = x.dtype
    x, g, kernel = _in(precision, x, g, kernel)
    if _quick_on_cpu(x, kernel, geometry):
        return _depthwise_by_kernel(x, g, kernel, geometry).to(dtype)
    return _call(g, x, kernel, geometry, (False, True))[1].to(dtype)


def by_both(
    g: Tensor, x: Tensor, kernel: Tensor, geometry: Geometry, precision: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """The gradients by x and by w."""
    if _quick_on_cpu(x, kernel, geometry):
        by_x = by_input(g, kernel, x.shape, geometry, precision)
        return by_x, by_kernel(x, g, kernel, geometry, precision)
    dtype = x.dtype
    g, x, kernel = _in(precision, g, x, kernel)
    by_x, by_w, _ = _call(g, x, kernel, geometry, (True, True))
    return by_x.to(dtype), by_w.to(dtype)


def _depthwise_by_kernel(x: Tensor, g: Tensor, kernel: Tensor, geometry: Geometry) -> Tensor:
    size, same = kernel.shape[-1], geometry.padding == geometry.dilation * (kernel.shape[-1] // 2)
    if geometry.dilation == 2 and same and not any(length % 2 for length in x.shape[2:]):
        # (∂φ/∂w)[k] = Σ_i g[i] x[i + 2k]: i and i + 2k lie in the same subgrid of every second pixel
        phases = geometry._replace(padding=geometry.padding // 2, dilation=1)
        return _depthwise_by_kernel(_phases(x), _phases(g), kernel, phases)
    if geometry.dilation == 1 and size == 5 and same:
        return _by_kernel_of_width_five(x, g, kernel, geometry)
    return _call(g, x, kernel, geometry, (False, True))[1]


def _phases(x: Tensor) -> Tensor:
    """The four subgrids of every second row and column, as four times as many images."""
    batch, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels)
    x = x.permute(0, 2, 4, 1, 3, 5).reshape(4 * batch, height // 2, width // 2, channels)
    return x.permute(0, 3, 1, 2)


def _by_kernel_of_width_five(x: Tensor, g: Tensor, kernel: Tensor, geometry: Geometry) -> Tensor:
    """Columns −2..0 and 0..2 of the kernel from two gradients of width three."""
    narrow, padding = kernel[..., :3], (geometry.padding, 0)
    left, right = (
        _call(g, F.pad(x, sides), narrow, geometry, (False, True), padding)[1] for sides in ((2, 0), (0, 2))
    )
    return torch.cat([left, right[..., 1:]], dim=-1)


def _call(
    g: Tensor,
    x: Tensor,
    kernel: Tensor,
    geometry: Geometry,
    wanted: tuple[bool, bool],
    padding: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor, None]:
    stride, dilation = (geometry.stride,) * 2, (geometry.dilation,) * 2
    padding, groups = padding or (geometry.padding,) * 2, geometry.groups
    return _backward(g, x, kernel, None, stride, padding, dilation, False, (0, 0), groups, [*wanted, False])


def _quick_on_cpu(x: Tensor, kernel: Tensor, geometry: Geometry) -> bool:
    depthwise = geometry.groups > 1 and geometry.groups == kernel.shape[0] and kernel.shape[1] == 1
    laid_out = x.device.type == "cpu" and layout_of(x) == torch.channels_last
    return depthwise and laid_out and geometry.stride == 1


def layout_of(x: Tensor) -> torch.memory_format:
    """channels_last if x is laid out so, else contiguous."""
    last = torch.channels_last
    return last if x.is_contiguous(memory_format=last) else torch.contiguous_format


def _in(precision: torch.dtype | None, *tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(t.to(precision) for t in tensors) if precision else tensors
