"""The fast supernet: the mathematics, parameters and buffers of the reference, in a fraction of the work.

* What depends on a source state alone (ReLU, pooling, subsampling) is computed once for all its edges.
* The mixing weight rides in the normalization's scale: the mixed operations of an edge are one weighted sum
  of normalized tensors, and the gradients of the cells by their architecture weights cost nothing extra.
* Two strategies: ``separate`` calls one convolution per operation (for small states, per kind of operation),
  which suits a CPU; ``batched`` handles all operations of all edges that leave a state together, which suits
  a GPU, where launches count.
* Convolutions and normalizations differentiate twice in few operations, for the exact regularizer.

Because names and shapes are those of the reference, ``load_state_dict`` carries weights both ways. Symbols in
this room are those of the chapter "Where the time goes" (book/speed.md), which derives the formulas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ldarts_lib.errors import require_known
from ldarts_lib.fast.cell import FastCell
from ldarts_lib.fast.execution import Execution, Strategy
from ldarts_lib.fast.mixing import Norm
from ldarts_lib.fast.twice import Convolution
from ldarts_lib.networks.operations import NONLINEARITIES, Activation, Layers
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.spaces.space import Space


class FastSupernet(Supernet):
    """Same function, parameters, buffers and random numbers as the reference,
    :class:`~ldarts_lib.networks.supernet.Supernet`.

    In float64 the two agree to rounding (but for random numbers that registered operations draw, which come
    in another order). In float32 a CPU's BatchNorm is less exact in the layout that is
    fast: gradients of official sizes differ from float64 by up to 1e-2, relative, instead of 2e-3.

    Args:
        strategy: ``separate`` (a convolution call per operation), ``batched`` (one per source state and kind
            of operation) or ``auto`` (batched on a GPU).
        checkpoint: whether each cell keeps only its inputs and is computed again in the backward pass:
            less memory, one more forward pass.
        precision: floating type of the convolutions (``torch.bfloat16``, say); None for the images' own.
        copies: networks side by side; see :mod:`ldarts_lib.fast.packed`.
        activation, sizes: as for the reference.

    Raises:
        ValueError: an unknown strategy, another activation than ReLU in a space of separable convolutions, or
            checkpoints with registered operations.

    Examples:
        >>> import torch
        >>> from ldarts_lib import SPACES, FastSupernet, Supernet
        >>> sizes = {"channels": 4, "depth": 1, "classes": 10}
        >>> reference = Supernet(SPACES["nasbench201"], **sizes).double()
        >>> fast = FastSupernet(SPACES["nasbench201"], **sizes).double()
        >>> fast.load_state_dict(reference.state_dict())
        <All keys matched successfully>
        >>> images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        >>> p = {"normal": torch.rand(3, 6, 5, dtype=torch.float64)}
        >>> torch.allclose(fast(images, p), reference(images, p))
        True
    """

    def __init__(
        self,
        space: Space,
        *,
        strategy: Strategy = "auto",
        checkpoint: bool = False,
        precision: torch.dtype | None = None,
        copies: int = 1,
        activation: Activation = "relu",
        **sizes: Any,
    ) -> None:
        require_known("strategy", strategy, get_args(Strategy))
        if activation != "relu" and space.separable:
            raise ValueError(
                f"the separable convolutions of space {space.name!r} are fused with ReLU, "
                f"not with activation {activation!r}; the reference supernet has both"
            )
        if checkpoint and space.registered:
            own = ", ".join(space.registered)
            raise ValueError(f"checkpoint: {own} may not compute the same again, as built-in operations do")
        run = Execution(strategy, checkpoint, precision, NONLINEARITIES[activation](), copies)
        cell = partial(FastCell, run=run)
        super().__init__(space, layers=self._layers(run), cell=cell, activation=activation, **sizes)
        self.run = run

    def forward(
        self, images: Tensor, weights: Mapping[str, Tensor], *, update_statistics: bool = True
    ) -> Tensor:
        if not self.run.batched(images):
            images = images.contiguous(memory_format=torch.channels_last)
        return super().forward(images, weights, update_statistics=update_statistics)

    @property
    def precision(self) -> torch.dtype | None:
        return self.run.precision

    def architecture_only(self) -> AbstractContextManager:
        return self.run.asking(parameters=False)

    @cached_property
    def _norms(self) -> list[nn.Module]:
        """Those within registered operations; all others are ours."""
        return [norm for norm in super()._norms if not isinstance(norm, Norm)]

    def _layers(self, run: Execution) -> Layers:
        return Layers(partial(Convolution, run=run), partial(Norm, run=run))

    @contextmanager
    def _statistics(self, update: bool) -> Iterator[None]:
        """Moves the running statistics of all BatchNorms of a pass in a handful of calls."""
        self.run.statistics = seen = [] if update and self.training else None
        try:
            with super()._statistics(update):
                yield
        finally:
            self.run.statistics = None
        if not seen:
            return
        norms, means, inverses, corrections = zip(*seen, strict=True)
        with torch.no_grad():
            variances = torch._foreach_pow(inverses, -2)
            torch._foreach_sub_(variances, norms[0].eps)
            torch._foreach_mul_(variances, corrections)
            momentum = norms[0].momentum
            torch._foreach_lerp_([norm.running_mean for norm in norms], means, momentum)
            torch._foreach_lerp_([norm.running_var for norm in norms], variances, momentum)
            torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)
