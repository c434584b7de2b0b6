"""What the edges that leave one state share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ldarts_lib.fast.convolutions import Geometry, convolution, layout_of
from ldarts_lib.fast.execution import Execution
from ldarts_lib.fast.mixing import mean_and_variance
from ldarts_lib.fast.separable import separable
from ldarts_lib.fast.twice import concatenate, convolve, join
from ldarts_lib.networks.operations import FactorizedReduce
from ldarts_lib.spaces.genotype import OPERATION_NAMES


class Source:
    """A state, and what several of its edges need from it.

    The value for a bundle of m edges has m·C channels, edge after edge.
    """

    def __init__(self, state: Tensor, kernels: Kernels, run: Execution) -> None:
        self.state = state
        self.kernels = kernels
        self.run = run
        self._shared: dict[Any, Any] = {}

    def apply(self, names: Sequence[str], kinds: Sequence[Sequence[nn.Module]], stride: int) -> Tensor:
        """Operations of several edges, up to but not including their last BatchNorm.

        Args:
            names: the operation, or several of the same family of separable convolutions.
            kinds: for each name the modules of all edges.
        """
        name, operations, count = names[0], kinds[0], len(kinds[0])
        if name not in OPERATION_NAMES:  # registered: what it shares with others is not known
            return concatenate([operation(self.state) for operation in operations], dim=1)
        if "pool" in name:
            return self._repeated(name, count, lambda: self._pooled(name, stride))
        if name == "skip_connect" and stride == 1:
            return self._repeated(name, count, lambda: self.state)
        kernels = [self.kernels.of(convolutions) for convolutions in kernel_lists(kinds)]
        if name == "skip_connect":
            return self._reduced(kernels, count)
        if name.startswith("nor_conv"):
            together = count if self.run.copies > 1 else 1  # one network's edges read the same channels
            x = self._repeated("active", together, lambda: self.active)
            return convolve(x, *kernels, operations[0][1].geometry.repeated(together), self.run)
        return self._separable(kinds, kernels)

    @property
    def active(self) -> Tensor:
        """The state after the activation."""
        return self._once("active", lambda: self.run.activation(self.state))

    def moments(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of a value; a pooled state has the same for all edges."""
        return self._once(z, lambda: mean_and_variance(z))

    def _once(self, key: Any, compute: Callable[[], Any]) -> Any:
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]

    def _repeated(self, name: str, count: int, compute: Callable[[], Tensor]) -> Tensor:
        x = self._once(name, compute)
        return x if count == 1 else self._once((name, count), lambda: _repeat_channels(x, count))

    def _pooled(self, name: str, stride: int) -> Tensor:
        if name == "max_pool_3x3":
            return F.max_pool2d(self.state, 3, stride, 1)
        return _average_pool(self.state, stride, self.run)

    def _every_second(self, first: int) -> Tensor:
        """Every second row and column of the active state, without gaps."""
        active = self.active
        layout, rows = layout_of(active), slice(first, None, 2)
        return self._once(rows.start, lambda: active[:, :, rows, rows].contiguous(memory_format=layout))

    def _reduced(self, kernels: Sequence[Tensor], count: int) -> Tensor:
        """The factorized reductions of skip connections of stride 2."""
        phases = (self._every_second(first) for first in (0, 1))
        # a 1×1 kernel of stride 2 sees every second pixel: (x ∗ w)[i] = w x[2i + first]
        halves = [convolve(x, w, Geometry(), self.run) for x, w in zip(phases, kernels, strict=True)]
        if count == 1:
            return torch.cat(halves, dim=1)
        return torch.cat([half.unflatten(1, (count, -1)) for half in halves], dim=2).flatten(1, 2)

    def _separable(self, kinds: Sequence[Sequence[nn.Module]], kernels: Sequence[Tensor]) -> Tensor:
        """Separable or dilated convolutions of several kinds, which all have as many stages."""
        count, run, example = len(kinds[0]), self.run, [kind[0] for kind in kinds]
        geometries = [operation[1].geometry.repeated(count) for operation in example]
        if all(geometry.stride == geometry.dilation == 2 for geometry in geometries):
            # (x ∗ d)[i] = Σ_k d[k] x[2i + 2k − padding]: no other pixels than those of x[2i] are seen
            geometries = [g._replace(stride=1, dilation=1, padding=g.padding // 2) for g in geometries]
            x = self._repeated("second", count, lambda: self._every_second(0))
        else:
            x = self._repeated("active", count, lambda: self.active)
        *depthwise, pointwise = kernels[: len(kinds) + 1]
        z = separable(x, depthwise, pointwise, geometries, run)
        if len(example[0]) == 4:
            return z
        norms = [operation[3] for kind in kinds for operation in kind]
        geometries = [operation[5].geometry.repeated(count) for operation in example]
        *depthwise, pointwise = kernels[len(kinds) + 1 :]
        return separable(z, depthwise, pointwise, geometries, run, norms)


def kernel_lists(kinds: Sequence[Sequence[nn.Module]]) -> list[list[nn.Conv2d]]:
    """The convolutions whose kernels are used as one, for operations of one family and several edges.

    For separable convolutions: of each stage the depthwise ones, kind by kind, and all pointwise ones.
    """
    first = kinds[0][0]
    if isinstance(first, FactorizedReduce):
        return [[o.even for o in kinds[0]], [o.odd for o in kinds[0]]]
    if not isinstance(first, nn.Sequential) or not isinstance(first[1], nn.Conv2d):
        return []
    if len(first) == 3:
        return [[o[1] for o in kinds[0]]]
    lists = []
    for stage in range(1, len(first), 4):
        lists += [[o[stage] for o in kind] for kind in kinds]
        lists.append([o[stage + 1] for kind in kinds for o in kind])
    return lists


class Kernels:
    """The kernels of a cell in one pass; those of ``lists`` are joined ahead, one call per shape."""

    def __init__(self, run: Execution, lists: Sequence[list[nn.Conv2d]]) -> None:
        self.run = run
        self._ahead: dict[int, Tensor] = {}
        by_shape: dict[Any, list[list[nn.Conv2d]]] = {}
        for convolutions in lists:
            by_shape.setdefault(convolutions[0].weight.shape, []).append(convolutions)
        for same in by_shape.values():
            joined = join([convolution.weight for each in same for convolution in each], run)
            sizes = [len(each) * each[0].weight.shape[0] for each in same]
            for each, part in zip(same, joined.split(sizes), strict=True):
                self._ahead[id(each[0])] = part

    def of(self, convolutions: Sequence[nn.Conv2d]) -> Tensor:
        """The kernels of several convolutions, one below the other."""
        ahead = self._ahead.get(id(convolutions[0]))
        return join([c.weight for c in convolutions], self.run) if ahead is None else ahead


def _repeat_channels(x: Tensor, count: int) -> Tensor:
    """[batch, C, height, width] → [batch, count·C, height, width], in the layout of x."""
    if layout_of(x) == torch.channels_last:
        pixels = x.permute(0, 2, 3, 1).unsqueeze(3).expand(-1, -1, -1, count, -1)
        return pixels.flatten(3, 4).permute(0, 3, 1, 2)
    return x.repeat(1, count, 1, 1)


def _average_pool(x: Tensor, stride: int, run: Execution) -> Tensor:
    """Mean over the pixels of 3×3 windows that lie inside the image.

    On a CPU in channels_last by a depthwise convolution with ones, (x ∗ 1)/(1 ∗ 1), several times faster than
    PyTorch's pooling.
    """
    if x.device.type != "cpu" or layout_of(x) != torch.channels_last:
        return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
    channels = x.shape[1]
    ones = x.new_ones(channels, 1, 3, 3)
    geometry = Geometry(stride, 1, 1, channels)
    inside = convolution(torch.ones_like(x[:1]), ones, geometry)
    return convolve(x, ones, geometry, run) * inside.reciprocal()
