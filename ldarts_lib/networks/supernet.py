"""The reference supernet: the textbook mixed operation, for every search space.

The contract that every supernet keeps: ``supernet(images, weights)``, where ``weights`` gives each searchable
cell its own copy of the architecture weights, one tensor [cells, edges, operations] per cell kind. So the
gradient of one cell is a slice of one ``autograd.grad``, a perturbation of one cell is an argument, and
nothing is stored on modules between calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ldarts_lib.networks.edges import EDGES, EdgeRule
from ldarts_lib.networks.macro import MacroSettings, build_macro
from ldarts_lib.networks.operations import (
    NONLINEARITIES,
    OPERATIONS,
    TEXTBOOK,
    Activation,
    Layers,
    OperationSettings,
    Registered,
)
from ldarts_lib.spaces.genotype import OPERATION_NAMES
from ldarts_lib.spaces.space import CellSpace, Space


class MixedOperation(nn.Module):
    """The continuous relaxation of one edge: the weighted sum of all candidate operations."""

    def __init__(self, names: Sequence[str], settings: OperationSettings, pooling_norm: bool) -> None:
        super().__init__()
        self.operations = nn.ModuleList(OPERATIONS[name](settings) for name in names)
        for index, name in enumerate(names):
            if pooling_norm and "pool" in name and name in OPERATION_NAMES:
                norm = settings.layers.norm(settings.channels, affine=False)
                self.operations[index] = nn.Sequential(self.operations[index], norm)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x [batch, C, height, width], weights [operations] → [batch, C, height', width']."""
        # ō_e(x) = Σ_o p[e, o]·o(x), see the chapter "Search as optimization"
        return sum(w * operation(x) for w, operation in zip(weights, self.operations, strict=True))


class SearchCell(nn.Module):
    """A cell whose edges are mixed operations: each node sums the edges from all nodes before it."""

    def __init__(
        self,
        space: CellSpace,
        settings: OperationSettings,
        rule: EdgeRule,
        *,
        halve: bool,
        pooling_norm: bool,
    ) -> None:
        super().__init__()
        self.space, self.rule, self.halve, self.pooling_norm = space, rule, halve, pooling_norm
        self.edges = nn.ModuleList()
        for (_, source), names in zip(space.edges, space.candidates, strict=True):
            stride = 2 if halve and source < space.inputs else 1
            self.edges.append(MixedOperation(names, replace(settings, stride=stride), pooling_norm))

    def forward(self, states: list[Tensor], weights: Tensor) -> Tensor:
        """Input states and weights [edges, operations], see :meth:`EdgeRule.weights` → the cell's output."""
        weights, others = self.rule.weights(weights, states[0])
        states = [*states, *[0] * self.space.nodes]
        rows = zip(self.space.edges, self.edges, weights, others, strict=True)
        for (target, source), mixed, own, other in rows:
            part = mixed(self.rule.read(states[source]), own)
            states[target] = states[target] + self.rule.write(part, states[source], *other)
        return torch.cat([states[node] for node in self.space.output_nodes], dim=1)


class SupernetBase(nn.Module):
    """What all supernets share. Their passes can be repeated with the same random numbers.

    Attributes:
        layout: the names of the cells from input to output.
        generator: where random operations and dropout draw from; it lives on the supernet's device.
        draws: whether a pass draws random numbers.
        copies: networks that stand side by side in one; more than one only in a packed supernet.
        rule: what happens to the edges beside the mixing.
        precision: floating type of the convolutions, if it is not that of the images.
    """

    space: Space
    layout: tuple[str, ...]
    generator: torch.Generator | None
    draws: bool
    copies = 1
    rule = EdgeRule()
    precision: torch.dtype | None = None

    def random_state(self) -> Tensor | None:
        """State of the generator; None without one, or if no pass draws."""
        return self.generator.get_state() if self.generator and self.draws else None

    def set_random_state(self, state: Tensor | None) -> None:
        """Go back to an earlier :meth:`random_state`, so that passes see the same random numbers."""
        if self.generator and state is not None:
            self.generator.set_state(state)

    def drawn(self, sample: Callable[[Tensor, torch.Generator | None], Tensor], weights: Tensor) -> Tensor:
        """``sample(weights, generator)``; in a pack that of each network, from its own generator.

        Args:
            weights: [..., (copies,) edges, operations].
        """
        return sample(weights, self.generator)

    def normal_like(self, weights: Tensor) -> Tensor:
        """Standard normal numbers from the supernet's generator, like the architecture weights of a kind."""
        return self.drawn(normal, weights)

    def noise_like_parameters(self) -> list[Tensor]:
        """Standard normal numbers from the supernet's generator, like the parameters ω."""
        return [self.normal_like(parameter) for parameter in self.parameters()]

    def architecture_only(self) -> AbstractContextManager:
        """Within it, gradients are asked for by the architecture weights only; forward and backward."""
        return nullcontext()

    def _expected(self, kind: str) -> tuple[int, ...]:
        return self.layout.count(kind), *self.space.cells[kind].shape

    def _by_cell(self, weights: Mapping[str, Tensor]) -> list[Tensor]:
        """The architecture weights of each cell from input to output."""
        for kind in self.space.cells:
            expected, got = self._expected(kind), tuple(weights[kind].shape) if kind in weights else "nothing"
            if got != expected:
                raise ValueError(f"architecture weights of the {kind} cells: expected {expected}, got {got}")
        remaining = {kind: iter(self.rule.joined(weights, kind)) for kind in self.space.cells}
        return [next(remaining[kind]) for kind in self.layout]

    @cached_property
    def _norms(self) -> list[nn.Module]:
        return [m for m in self.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]

    @contextmanager
    def _statistics(self, update: bool) -> Iterator[None]:
        """Within it, BatchNorms in training move their running statistics or not."""
        held = [] if update else [norm for norm in self._norms if norm.training]
        for norm in held:
            norm.track_running_stats = False
        try:
            yield
        finally:
            for norm in held:
                norm.track_running_stats = True


class Supernet(SupernetBase):
    """All architectures of a search space in one network with shared weights ω.

    Args:
        generator: where random operations (``noise``) draw from; it must live on the supernet's device.
        layers, cell: build the layers and the searchable cells.
        activation: the nonlinearity of all operations, ``relu`` (as published) or ``gelu``.
        partial: K, of which operations see the first 1/K of the channels, see
            :class:`~ldarts_lib.networks.edges.EdgeRule`.
        sizes: channels, depth, classes, channels_in and reduction of
            :class:`~ldarts_lib.networks.macro.MacroSettings`.

    Raises:
        ProtocolError: a size is out of range.

    Examples:
        >>> import torch
        >>> from ldarts_lib import SPACES, Supernet
        >>> supernet = Supernet(SPACES["nasbench201"], channels=4, depth=1, classes=10)
        >>> p = {"normal": torch.full((3, 6, 5), 1 / 5)}  # of three cells, each with a copy of its own
        >>> supernet(torch.randn(2, 3, 8, 8), p).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        space: Space,
        *,
        generator: torch.Generator | None = None,
        layers: Layers = TEXTBOOK,
        cell: Callable[..., SearchCell] = SearchCell,
        activation: Activation = "relu",
        partial: int = 1,
        **sizes: Any,
    ) -> None:
        super().__init__()
        self.space, self.generator, self.draws = space, generator, space.random
        self.rule = EdgeRule(partial, generators=[generator])
        layers = replace(layers, activation=NONLINEARITIES[activation])
        settings = MacroSettings(
            make_cell=lambda kind, channels: cell(
                space.cells[kind],
                OperationSettings(self.rule.seen(channels), generator=generator, layers=layers),
                self.rule,
                halve=kind == "reduce",
                pooling_norm=space.pooling_norm,
            ),
            outputs=space.outputs,
            affine=False,
            layers=layers,
            **sizes,
        )
        self.layout = space.layout(settings.depth)
        self.macro = build_macro(space.macro, settings)
        self.draws |= any(isinstance(module, Registered) and module.draws for module in self.modules())

    def forward(
        self, images: Tensor, weights: Mapping[str, Tensor], *, update_statistics: bool = True
    ) -> Tensor:
        """Logits [batch, classes] in float32 or float64, as the images are.

        Args:
            images: [batch, channels, height, width], height and width divisible by 4.
            weights: per cell kind the architecture weights [cells, edges, operations] of its cells, and of
                partial channels under ``normal_edges``, ... the weights β [cells, edges] of their edges.
            update_statistics: whether this pass moves the running statistics of BatchNorm (in training).

        Raises:
            ValueError: weights of another shape.
        """
        per_cell = self._by_cell(weights)
        with self._statistics(update_statistics):
            return self.macro(images, per_cell)


def normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers like a tensor."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def initial_alphas(
    space: Space,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Architecture parameters α, 10⁻³·N(0, 1): per cell kind a leaf [edges, operations].

    They are drawn on the CPU and in float32, so that one seed gives the same α on every device and in every
    type.
    """
    return {
        kind: (1e-3 * torch.randn(cell.shape, generator=generator)).to(device, dtype).requires_grad_()
        for kind, cell in space.cells.items()
    }


def architecture_weights(alphas: Mapping[str, Tensor], layout: Sequence[str]) -> dict[str, Tensor]:
    """Each cell's own copy of p = softmax(α): per kind [cells, edges, operations], leaves."""
    return cell_copies({kind: alpha.detach().softmax(-1) for kind, alpha in alphas.items()}, layout)


def cell_copies(p: Mapping[str, Tensor], layout: Sequence[str]) -> dict[str, Tensor]:
    """Each cell's own copy of p: per kind [cells, edges, operations], leaves."""
    return {
        kind: one.detach().expand(layout.count(kind.removesuffix(EDGES)), *one.shape).clone().requires_grad_()
        for kind, one in p.items()
    }
