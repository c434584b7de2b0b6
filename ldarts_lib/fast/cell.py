"""A searchable cell that works source by source: a state's edges share what they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ldarts_lib.fast.execution import Bundling, Execution
from ldarts_lib.fast.mixing import mix, moments, normalize
from ldarts_lib.fast.sources import Kernels, Source, kernel_lists
from ldarts_lib.fast.twice import concatenate
from ldarts_lib.networks.edges import EdgeRule
from ldarts_lib.networks.operations import FactorizedReduce, OperationSettings
from ldarts_lib.networks.supernet import SearchCell
from ldarts_lib.spaces.genotype import OPERATION_NAMES
from ldarts_lib.spaces.space import CellSpace


class FastCell(SearchCell):
    """As soon as a state is complete, its bundles of edges are computed, and each edge's part is added to the
    node that it ends in.
    """

    def __init__(
        self, space: CellSpace, settings: OperationSettings, *rule: EdgeRule, run: Execution, **options: bool
    ) -> None:
        super().__init__(space, settings, *rule, **options)
        self.run, self.generator = run, settings.generator
        self.noisy = [e for e, names in enumerate(space.candidates) if "noise" in names]
        self.bundles = [
            {bundling: list(self._bundles_of(source, bundling)) for bundling in get_args(Bundling)}
            for source in range(space.inputs + space.nodes)
        ]
        for bundle in (b for bundles in self.bundles for each in bundles.values() for b in each):
            self.register_buffer(bundle.name, torch.tensor(bundle.rows), persistent=False)
        self.kernel_lists = [
            convolutions
            for bundles in self.bundles
            for bundle in bundles["source"]
            for group in bundle.normalized
            for convolutions in kernel_lists(group.kinds)
        ]

    def forward(self, states: list[Tensor], weights: Tensor) -> Tensor:
        """Input states and weights [(copies,) edges, operations] → the cell's output."""
        weights, others = self.rule.weights(weights, states[0])
        noise = self._noise(self.rule.read(states[0]))
        if not self.run.checkpoint or not torch.is_grad_enabled():
            return self._compute(weights, others, noise, *states)
        asked = self.run.parameters

        def again(*arguments: Any) -> Tensor:
            with self.run.asking(asked):
                return self._compute(*arguments)

        options = {"use_reentrant": False, "preserve_rng_state": False}
        return checkpoint(again, weights, others, noise, *states, **options)

    def _bundles_of(self, source: int, bundling: Bundling) -> Iterator[_Bundle]:
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
            families = ("sep_conv", "dil_conv") if bundling == "source" else ()
            groups = [[k for k in normalized if names[k].startswith(family)] for family in families]
            groups = [group for group in groups if group]
            groups += [[k] for k in normalized if not any(k in group for group in groups)]
            groups += [[k] for k in plain]
            rows = [edge * len(names) + k for group in groups for k in group for edge in edges]
            modules = [[self.edges[edge].operations[k] for edge in edges] for k in range(len(names))]
            terms = [_Group([names[k] for k in group], [modules[k] for k in group]) for group in groups]
            name, first = f"rows_{source}_{edges[0]}_{bundling}", len(groups) - len(plain)
            yield _Bundle(name, edges, terms[:first], terms[first:], rows, stride, bundling == "source")

    def _is_normalized(self, name: str, stride: int) -> bool:
        pooled = "pool" in name and self.pooling_norm
        normalized = "conv" in name or pooled or (name == "skip_connect" and stride == 2)
        return normalized and name in OPERATION_NAMES

    def _noise(self, state: Tensor) -> Tensor | None:
        """Fresh noise for each edge that has the operation, in the order in which the reference draws."""
        if not self.noisy:
            return None
        step = 2 if self.halve else 1
        shape = (len(self.noisy), *state[:, :, ::step, ::step].shape)
        return torch.randn(shape, generator=self.generator, device=state.device, dtype=state.dtype)

    def _compute(
        self, weights: Tensor, others: Sequence[Any], noise: Tensor | None, *inputs: Tensor
    ) -> Tensor:
        space, bundling = self.space, self.run.bundling(inputs[0])
        kernels = Kernels(self.run, self.kernel_lists if bundling == "source" else [])
        states: list[Any] = [*inputs, *([] for _ in range(space.nodes))]
        for node, bundles in enumerate(self.bundles):
            if node >= space.inputs:
                states[node] = reduce(add, states[node])
            state = states[node]
            source = Source(self.rule.read(state), kernels, self.run)
            for bundle in bundles[bundling]:
                for edge, part in zip(bundle.edges, self._mixed(source, bundle, weights, noise), strict=True):
                    part = self.rule.write(part, state, *others[edge])
                    states[space.edges[edge][0]].append(part)
        return concatenate([states[node] for node in space.output_nodes], dim=1)

    def _mixed(
        self, source: Source, bundle: _Bundle, weights: Tensor, noise: Tensor | None
    ) -> Sequence[Tensor]:
        """The mixed operations of a bundle's edges."""
        count, channels, copies = len(bundle.edges), source.state.shape[1], self.run.copies
        rows = weights.flatten(-2).index_select(-1, getattr(self, bundle.name))
        scales = rows.view(-1, count, 1) if copies == 1 else rows.T.reshape(-1, count, copies, 1)
        per_channel = count > 1 or bundle.joint or copies > 1
        width = channels // copies if per_channel else 1
        scales = scales.expand(*scales.shape[:-1], width).flatten(1)
        normalized = [source.apply(*group, bundle.stride) for group in bundle.normalized]
        norms = [[_last_norm(o) for o in kind] for group in bundle.normalized for kind in group.kinds]
        plain = [
            torch.cat([noise[self.noisy.index(edge)] for edge in bundle.edges], dim=1)
            if group.names == ["noise"]
            else source.apply(*group, bundle.stride)
            for group in bundle.plain
        ]
        if bundle.joint and len(norms) > 1:  # one normalization for all terms
            of_norms, of_plain = scales.split([len(norms), len(plain)])
            joined, flat = concatenate(normalized, dim=1), [norm for each in norms for norm in each]
            terms = normalize(joined, of_norms.flatten(), flat, self.run).unflatten(1, (len(norms), -1))
            mixed = terms.sum(1)
            mixed = mixed + mix(of_plain, [], None, plain) if plain else mixed
        else:
            found = moments(normalized, norms, self.run, source.moments) if norms else None
            mixed = mix(scales, normalized, found, plain)
        return mixed.split(channels, dim=1) if count > 1 else [mixed]


class _Group(NamedTuple):
    """Candidate operations that are computed together."""

    names: list[str]
    kinds: list[list[nn.Module]]  # per name the modules of all edges


class _Bundle(NamedTuple):
    """Edges that leave one state and are computed together."""

    name: str  # of the buffer that holds the rows
    edges: list[int]
    normalized: list[_Group]  # the operations that end in a BatchNorm
    plain: list[_Group]  # those that do not; none is in neither list
    rows: list[int]  # entries of the cell's flattened weights, in the order of the terms of the mixture
    stride: int  # 2 if the edges halve height and width
    joint: bool  # whether all terms are normalized in one call


def _last_norm(operation: nn.Module) -> nn.BatchNorm2d:
    return operation.norm if isinstance(operation, FactorizedReduce) else operation[-1]
