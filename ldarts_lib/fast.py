"""The fast supernet: the mathematics, parameters and buffers of the reference, in a fraction of the work.

* What depends on a source state alone (ReLU, pooling, subsampling) is computed once for all its edges.
* The mixing weight rides in the normalization's scale: a node is one weighted sum of its normalized inputs,
  and the gradients of the cells by their architecture weights cost nothing extra.
* Two strategies: ``separate`` calls one convolution per operation, which suits a CPU; ``batched`` handles
  all edges that leave a state together (:mod:`ldarts_lib.batched`), which suits a GPU, where launches count.

Because names and shapes are those of the reference, ``load_state_dict`` carries weights both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ldarts_lib.convolutions import Geometry, convolution, layout_of
from ldarts_lib.operations import FactorizedReduce, Layers, Settings
from ldarts_lib.spaces import CellSpace, Space
from ldarts_lib.supernet import SearchCell, Supernet
from ldarts_lib.twice import (
    POINTWISE,
    Bundling,
    Convolution,
    Execution,
    Norm,
    concatenate,
    convolve,
    join,
    mix,
    moments,
    normalize,
    separable,
)

Strategy = Literal["auto", "separate", "batched"]
BUNDLINGS: tuple[Bundling, ...] = get_args(Bundling)


class FastSupernet(Supernet):
    """Same function, parameters, buffers and random numbers as :class:`~ldarts_lib.supernet.Supernet`.

    In float64 the two agree to rounding. In float32 a CPU's BatchNorm is less exact in the layout that is
    fast: gradients differ from float64 by about 1e-3 instead of 1e-4, relative.

    Args:
        space, sizes: as for the reference.
        strategy: ``separate``, ``batched`` or ``auto`` (batched on a GPU, in training).
        checkpoint: whether each cell keeps only its inputs and is computed again in the backward pass:
            less memory, one more forward pass.
        precision: floating type of the convolutions (``torch.bfloat16``, say); None for the images' own.

    Raises:
        ValueError: an unknown strategy.
    """

    def __init__(
        self,
        space: Space,
        *,
        strategy: Strategy = "auto",
        checkpoint: bool = False,
        precision: torch.dtype | None = None,
        **sizes: Any,
    ) -> None:
        if strategy not in get_args(Strategy):
            raise ValueError(f"unknown strategy {strategy!r}; choose one of {', '.join(get_args(Strategy))}")
        run = Execution(strategy, checkpoint, precision)
        layers = Layers(partial(Convolution, run=run), partial(Norm, run=run))
        super().__init__(space, layers=layers, cell=partial(FastCell, run=run), **sizes)
        self.run = run

    def forward(
        self, images: Tensor, weights: Mapping[str, Tensor], *, update_statistics: bool = True
    ) -> Tensor:
        if not self.run.batched(images):
            images = images.contiguous(memory_format=torch.channels_last)
        return super().forward(images, weights, update_statistics=update_statistics)

    def architecture_only(self) -> AbstractContextManager:
        return self.run.asking(parameters=False)

    @contextmanager
    def _statistics(self, update: bool) -> Iterator[None]:
        self.run.statistics = [] if update and self.training else None
        try:
            yield
            self._move_statistics()
        finally:
            self.run.statistics = None

    @torch.no_grad()
    def _move_statistics(self) -> None:
        """The running statistics of all BatchNorms of a pass, in a handful of calls."""
        if not self.run.statistics:
            return
        norms, means, inverses, corrections = zip(*self.run.statistics, strict=True)
        variances = torch._foreach_pow(inverses, -2)
        torch._foreach_sub_(variances, norms[0].eps)
        torch._foreach_mul_(variances, corrections)
        momentum = norms[0].momentum
        torch._foreach_lerp_([norm.running_mean for norm in norms], means, momentum)
        torch._foreach_lerp_([norm.running_var for norm in norms], variances, momentum)
        torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)


class FastCell(SearchCell):
    """A cell that shares what its edges have in common.

    It works source by source: as soon as a state is complete, its bundles of edges are computed, and each
    edge's part is added to the node that it ends in.
    """

    def __init__(
        self, space: CellSpace, settings: Settings, *, halve: bool, pooling_norm: bool, run: Execution
    ) -> None:
        super().__init__(space, settings, halve=halve, pooling_norm=pooling_norm)
        self.run = run
        self.halve = halve
        self.pooling_norm = pooling_norm
        self.generator = settings.generator
        self.noisy = [e for e, names in enumerate(space.candidates) if "noise" in names]
        self.bundles = [
            {bundling: list(self._bundles_of(source, bundling)) for bundling in BUNDLINGS}
            for source in range(space.inputs + space.nodes)
        ]
        for bundle in (b for bundles in self.bundles for each in bundles.values() for b in each):
            self.register_buffer(bundle.name, torch.tensor(bundle.rows), persistent=False)
        self.kernel_lists = [
            convolutions
            for bundles in self.bundles
            for bundle in bundles["source"]
            for group in bundle.normalized
            for convolutions in kernel_lists([self._operations(bundle, k) for k in group])
        ]

    def forward(self, states: list[Tensor], weights: Tensor) -> Tensor:
        """Input states and weights [edges, operations] → the cell's output."""
        noise = self._noise(states[0])
        if not self.run.checkpoint or not torch.is_grad_enabled():
            return self._compute(weights, noise, *states)
        asked = self.run.parameters

        def again(*arguments: Tensor | None) -> Tensor:
            with self.run.asking(asked):
                return self._compute(*arguments)

        return checkpoint(again, weights, noise, *states, use_reentrant=False, preserve_rng_state=False)

    def _bundles_of(self, source: int, bundling: Bundling) -> Iterator[Bundle]:
        """The edges that leave a node, in bundles."""
        space = self.space
        stride = 2 if self.halve and source < space.inputs else 1
        together: dict[Any, list[int]] = {}
        for edge, (_, start) in enumerate(space.edges):
            if start == source:
                together.setdefault(edge if bundling == "edge" else space.candidates[edge], []).append(edge)
        for edges in together.values():
            names = space.candidates[edges[0]]
            normalized = [k for k, name in enumerate(names) if self._is_normalized(name, stride)]
            plain = [k for k, name in enumerate(names) if k not in normalized and name != "none"]
            groups = [[k] for k in normalized]
            if bundling == "source":
                families = [
                    [k for k in normalized if names[k].startswith(f)] for f in ("sep_conv", "dil_conv")
                ]
                alone = [[k] for k in normalized if not any(k in family for family in families)]
                groups = [*(family for family in families if family), *alone]
            ordered = [k for group in groups for k in group]
            rows = [edge * space.operations + k for k in ordered + plain for edge in edges]
            name = f"rows_{source}_{edges[0]}_{bundling}"
            yield Bundle(name, edges, names, groups, plain, rows, stride, bundling == "source")

    def _is_normalized(self, name: str, stride: int) -> bool:
        pooled = "pool" in name and self.pooling_norm
        return "conv" in name or pooled or (name == "skip_connect" and stride == 2)

    def _noise(self, state: Tensor) -> Tensor | None:
        """Fresh noise for each edge that has the operation, in the order in which the reference draws."""
        if not self.noisy:
            return None
        step = 2 if self.halve else 1
        shape = (len(self.noisy), *state[:, :, ::step, ::step].shape)
        return torch.randn(shape, generator=self.generator, device=state.device, dtype=state.dtype)

    def _compute(self, weights: Tensor, noise: Tensor | None, *inputs: Tensor) -> Tensor:
        space, bundling = self.space, self.run.bundling(inputs[0])
        kernels = Kernels(self.run, self.kernel_lists if bundling == "source" else [])
        states: list[Any] = [*inputs, *([] for _ in range(space.nodes))]
        for node, bundles in enumerate(self.bundles):
            if node >= space.inputs:
                states[node] = sum_of(states[node])
            source = Source(states[node], kernels, self.run)
            for bundle in bundles[bundling]:
                for edge, part in zip(bundle.edges, self._mixed(source, bundle, weights, noise), strict=True):
                    states[space.edges[edge][0]].append(part)
        return concatenate([states[node] for node in space.output_nodes], dim=1)

    def _mixed(
        self, source: Source, bundle: Bundle, weights: Tensor, noise: Tensor | None
    ) -> Sequence[Tensor]:
        """The mixed operations of a bundle's edges."""
        count, channels = len(bundle.edges), source.state.shape[1]
        scales = weights.flatten().index_select(0, getattr(self, bundle.name)).view(-1, count, 1)
        per_channel = count > 1 or bundle.joint
        scales = scales.expand(-1, -1, channels if per_channel else 1).flatten(1)
        normalized = [
            source.apply(
                [bundle.names[k] for k in group], [self._operations(bundle, k) for k in group], bundle.stride
            )
            for group in bundle.normalized
        ]
        norms = [
            [last_norm(o) for o in self._operations(bundle, k)] for group in bundle.normalized for k in group
        ]
        plain = [
            torch.cat([noise[self.noisy.index(edge)] for edge in bundle.edges], dim=1)
            if bundle.names[k] == "noise"
            else source.apply([bundle.names[k]], [self._operations(bundle, k)], bundle.stride)
            for k in bundle.plain
        ]
        if bundle.joint and len(norms) > 1:
            mixed = self._mix_jointly(scales, normalized, norms, plain)
        else:
            found = moments(normalized, norms, self.run) if norms else None
            mixed = mix(scales, normalized, found, plain)
        return mixed.split(channels, dim=1) if count > 1 else [mixed]

    def _mix_jointly(
        self,
        scales: Tensor,
        normalized: Sequence[Tensor],
        norms: Sequence[Sequence[nn.BatchNorm2d]],
        plain: Sequence[Tensor],
    ) -> Tensor:
        """The mixture with a single normalization call for all terms."""
        terms = len(norms)
        joined = concatenate(normalized, dim=1)
        of_norms, of_plain = scales.split([terms, len(plain)])
        all_norms = [norm for each in norms for norm in each]
        mixed = normalize(joined, of_norms.flatten(), all_norms, self.run).unflatten(1, (terms, -1)).sum(1)
        return mixed + mix(of_plain, [], None, plain) if plain else mixed

    def _operations(self, bundle: Bundle, k: int) -> list[nn.Module]:
        return [self.edges[edge].operations[k] for edge in bundle.edges]


class Bundle(NamedTuple):
    """Edges that leave one state and are computed together.

    Attributes:
        name: of the buffer that holds ``rows``.
        edges: their numbers.
        names: their candidate operations, the same on all of them.
        normalized: those that end in a BatchNorm, in groups that are computed together.
        plain: those that do not (``none`` is in neither list).
        rows: the entries of the cell's flattened weights, in the order of the terms of the mixture.
        stride: 2 if the edges halve height and width.
        joint: whether all terms are normalized in one call.
    """

    name: str
    edges: list[int]
    names: tuple[str, ...]
    normalized: list[list[int]]
    plain: list[int]
    rows: list[int]
    stride: int
    joint: bool


def sum_of(parts: list[Tensor]) -> Tensor:
    """The sum of the parts of a state."""
    total, *rest = parts
    for part in rest:
        total = total + part
    return total


def last_norm(operation: nn.Module) -> nn.BatchNorm2d:
    """The BatchNorm at the end of an operation."""
    return operation.norm if isinstance(operation, FactorizedReduce) else operation[-1]


class Source:
    """A state, and what several of its edges need from it.

    The value for a bundle of m edges has m·C channels, edge after edge.
    """

    def __init__(self, state: Tensor, kernels: Kernels, run: Execution) -> None:
        self.state = state
        self.kernels = kernels
        self.run = run
        self._shared: dict[Any, Tensor] = {}

    def apply(self, names: Sequence[str], kinds: Sequence[Sequence[nn.Module]], stride: int) -> Tensor:
        """Operations of several edges, up to but not including their last BatchNorm.

        Args:
            names: the operation, or several of the same family of separable convolutions.
            kinds: for each name the modules of all edges.
            stride: of the edges.
        """
        name, operations, count = names[0], kinds[0], len(kinds[0])
        if "pool" in name:
            return self._repeated(name, count, lambda: self._pooled(name, stride))
        if name == "skip_connect" and stride == 1:
            return self._repeated(name, count, lambda: self.state)
        kernels = [self.kernels.of(convolutions) for convolutions in kernel_lists(kinds)]
        if name == "skip_connect":
            return self._reduced(kernels, count)
        if name.startswith("nor_conv"):
            return convolve(self.active, *kernels, operations[0][1].geometry, self.run)
        return self._separable(kinds, kernels)

    @property
    def active(self) -> Tensor:
        """ReLU of the state."""
        return self._once("active", self.state.relu)

    def _once(self, key: Any, compute: Callable[[], Tensor]) -> Tensor:
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]

    def _repeated(self, name: str, count: int, compute: Callable[[], Tensor]) -> Tensor:
        x = self._once(name, compute)
        return x if count == 1 else self._once((name, count), lambda: repeat_channels(x, count))

    def _pooled(self, name: str, stride: int) -> Tensor:
        if name == "max_pool_3x3":
            return F.max_pool2d(self.state, 3, stride, 1)
        return average_pool(self.state, stride, self.run)

    def _every_second(self, first: int) -> Tensor:
        """Every second row and column of the active state, without gaps."""
        active = self.active
        return self._once(("phase", first), lambda: dense(active[:, :, first::2, first::2], active))

    def _reduced(self, kernels: Sequence[Tensor], count: int) -> Tensor:
        """The factorized reductions of skip connections of stride 2."""
        phases = (self._every_second(first) for first in (0, 1))
        halves = [convolve(x, kernel, POINTWISE, self.run) for x, kernel in zip(phases, kernels, strict=True)]
        if count == 1:
            return torch.cat(halves, dim=1)
        return torch.cat([half.unflatten(1, (count, -1)) for half in halves], dim=2).flatten(1, 2)

    def _separable(self, kinds: Sequence[Sequence[nn.Module]], kernels: Sequence[Tensor]) -> Tensor:
        """Separable or dilated convolutions of several kinds, which all have as many stages."""
        count, run, example = len(kinds[0]), self.run, [kind[0] for kind in kinds]
        geometries = [operation[1].geometry for operation in example]
        if all(geometry.stride == geometry.dilation == 2 for geometry in geometries):
            geometries = [g._replace(stride=1, dilation=1, padding=g.padding // 2) for g in geometries]
            x = self._repeated("second", count, lambda: self._every_second(0))  # they see no other pixels
        else:
            x = self._repeated("active", count, lambda: self.active)
        *depthwise, pointwise = kernels[: len(kinds) + 1]
        z = separable(x, depthwise, pointwise, [grouped(g, count) for g in geometries], run)
        if len(example[0]) == 4:
            return z
        norms = [operation[3] for kind in kinds for operation in kind]
        geometries = [grouped(operation[5].geometry, count) for operation in example]
        *depthwise, pointwise = kernels[len(kinds) + 1 :]
        return separable(z, depthwise, pointwise, geometries, run, norms)


def kernel_lists(kinds: Sequence[Sequence[nn.Module]]) -> list[list[nn.Conv2d]]:
    """The convolutions whose kernels are used as one, for operations of one family and several edges.

    For separable convolutions: of each stage the depthwise ones, kind by kind, and all pointwise ones.
    """
    first = kinds[0][0]
    if isinstance(first, FactorizedReduce):
        return [[o.even for o in kinds[0]], [o.odd for o in kinds[0]]]
    if not isinstance(first, nn.Sequential) or not isinstance(first[0], nn.ReLU):
        return []
    if len(first) == 3:
        return [[o[1] for o in kinds[0]]]
    lists = []
    for stage in range(1, len(first), 4):
        lists += [[o[stage] for o in kind] for kind in kinds]
        lists.append([o[stage + 1] for kind in kinds for o in kind])
    return lists


class Kernels:
    """The kernels of a cell in one pass.

    Args:
        run: the supernet's.
        lists: convolutions whose kernels are joined ahead, all of one shape in a single call.
    """

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


def grouped(geometry: Geometry, count: int) -> Geometry:
    """The geometry of a depthwise convolution of several edges."""
    return geometry._replace(groups=geometry.groups * count)


def repeat_channels(x: Tensor, count: int) -> Tensor:
    """[batch, C, height, width] → [batch, count·C, height, width], in the layout of x."""
    if layout_of(x) == torch.channels_last:
        pixels = x.permute(0, 2, 3, 1).unsqueeze(3).expand(-1, -1, -1, count, -1)
        return pixels.flatten(3, 4).permute(0, 3, 1, 2)
    return x.repeat(1, count, 1, 1)


def dense(x: Tensor, like: Tensor) -> Tensor:
    """x without gaps, in the memory layout of another tensor."""
    return x.contiguous(memory_format=layout_of(like))


def average_pool(x: Tensor, stride: int, run: Execution) -> Tensor:
    """Mean over the pixels of 3×3 windows that lie inside the image.

    On a CPU by a depthwise convolution, which in channels_last is several times faster than PyTorch's pooling.
    """
    if x.device.type != "cpu" or layout_of(x) != torch.channels_last:
        return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
    channels = x.shape[1]
    ones = x.new_ones(channels, 1, 3, 3)
    geometry = Geometry(stride, 1, 1, channels)
    inside = convolution(torch.ones_like(x[:1]), ones, geometry)
    return convolve(x, ones, geometry, run) * inside.reciprocal()
