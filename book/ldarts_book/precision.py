"""What a lower precision of the convolutions does to the gradients and to Λ.

A supernet is trained for some steps; then one batch goes through it in several precisions, and the results
are compared with those in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldarts_lib.bilevel.alignment import layer_alignment
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.regularizers import REGULARIZED_KIND, Regularizer, regularized_gradients
from ldarts_lib.bilevel.state import SearchState, make_supernet
from ldarts_lib.datasets.images import load_images
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import architecture_weights
from ldarts_lib.runs.environment import arithmetic


@dataclass(frozen=True)
class Effect:
    """The error of one precision against float64.

    Attributes:
        space, precision: what was measured.
        alignment: Λ of the batch in this precision.
        alignment_float64: the same in float64.
        cells: relative error of the cells' gradients by their architecture weights.
        loss: relative error of the loss gradient by ω.
        regularizer: relative error of the exact regularizer gradient by ω.
    """

    space: str
    precision: str
    alignment: float
    alignment_float64: float
    cells: float
    loss: float
    regularizer: float


def precision_effects(
    spaces: Sequence[str], *, epochs: int = 10, seed: int = 0, device: torch.device | str = "cpu"
) -> list[Effect]:
    """The effects of float32, bfloat16 and, on a CUDA device, TF32.

    Args:
        spaces: search spaces; their demonstration protocols on ``noisy-digits`` are used.
        epochs: of training before the comparison.
        seed: of the search.
        device: where to compute.
    """
    kinds = (
        ("float32", "tf32", "bfloat16") if torch.device(device).type == "cuda" else ("float32", "bfloat16")
    )
    return [effect for space in spaces for effect in _effects(space, kinds, epochs, seed, device)]


def _effects(
    space: str, precisions: Sequence[str], epochs: int, seed: int, device: torch.device | str
) -> list[Effect]:
    images = load_images("noisy-digits", device=device)
    state = SearchState.start(protocol(space, method="darts", epochs=epochs, seed=seed), images, device)
    for epoch in range(epochs):
        state.run_epoch(epoch)
    images, labels = next(iter(state.validation.epoch(64, state.batches, augment=False)))
    trained = state.bilevel.supernet.state_dict()

    def at(precision: str) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        dtype = torch.float64 if precision == "float64" else torch.float32
        named = "float32" if precision == "float64" else precision
        chosen = protocol(space, method="lambda", estimator="exact", precision=named)
        generator = torch.Generator(device).manual_seed(seed)
        net = make_supernet(chosen, classes=10, channels_in=images.shape[1], generator=generator)
        net = net.to(device, dtype).train()
        net.load_state_dict(trained)
        alphas = {kind: alpha.detach().to(dtype) for kind, alpha in state.bilevel.alphas.items()}
        weights = architecture_weights(alphas, net.layout)
        with arithmetic(named):
            found, penalty = regularized_gradients(
                net, Batch(images.to(dtype), labels), weights, Regularizer("cosine", "exact")
            )
        return found.cells[REGULARIZED_KIND].flatten(1), found.weights, penalty

    cells, loss, penalty = at("float64")
    effects = []
    for precision in precisions:
        found = at(precision)
        effects.append(
            Effect(
                space,
                precision,
                layer_alignment(found[0]).item(),
                layer_alignment(cells).item(),
                _relative_error([found[0]], [cells]),
                _relative_error(found[1], loss),
                _relative_error(found[2], penalty),
            )
        )
    return effects


def _relative_error(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    difference = sum((a.double() - b).square().sum() for a, b in zip(found, exact, strict=True))
    return (difference / sum(b.square().sum() for b in exact)).sqrt().item()
