"""What the chapter on speed tells beside `ldarts bench`: its figure, and what a lower precision does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ldarts_book import figures
from ldarts_book.studies.theory import copies, searched
from ldarts_lib.bilevel.alignment import layer_alignment
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.regularizers import REGULARIZED_KIND, Regularizer, regularized_gradients
from ldarts_lib.bilevel.state import SearchState, make_supernet
from ldarts_lib.networks.batches import Batch
from ldarts_lib.runs.environment import arithmetic

_Gradients = tuple[tuple[Tensor, ...], ...]


def costs(rows: pd.DataFrame) -> Figure:
    """Seconds, ratio to the reference with its interval, and memory of the rows of `ldarts bench --json`."""
    rows = rows[~rows["checkpoint"]]
    spaces = {"darts": "DARTS space", "s2": "S2", "nasbench201": "NAS-Bench-201"}
    half = rows["uncertainty"].fillna(0)
    table = rows.assign(
        problem=rows["space"].map(spaces) + ", " + rows["regularizer"],
        low=rows["ratio"] * (1 - half),
        high=rows["ratio"] * (1 + half),
        GiB=rows["peak_memory_mb"] / 1024,
    ).set_index(["problem", "implementation"])
    panels = {
        "seconds a step": "seconds",
        "reference's seconds by these": ("ratio", "low", "high"),
        "GiB": "GiB",
    }
    return figures.intervals(table, panels, references={"ratio": {"": 1}}, left=0)


def precision_effects(
    spaces: Sequence[str], *, epochs: int = 10, seed: int = 0, device: torch.device | str = "cpu"
) -> pd.DataFrame:
    """What float32, bfloat16 and, on a CUDA device, TF32 do to the gradients of one batch and to its Λ.

    The supernet has been trained for some epochs on ``noisy-digits``. Columns: Λ (``alignment``, and
    ``alignment_float64``), and errors relative to float64: of the cells' gradients (``cells``), of the loss
    gradient by ω (``loss``) and of the exact regularizer gradient by ω (``regularizer``).
    """
    rows = []
    precisions = ["float32", *["tf32"] * (torch.device(device).type == "cuda"), "bfloat16"]
    for space in spaces:
        state = searched(protocol(space, method="darts", epochs=epochs, seed=seed), epochs, device)
        batch = Batch(*next(state.validation.epoch(64, state.batches, augment=False)))
        exact = _gradients(state, batch, "float32", torch.float64)
        for precision in precisions:
            found = _gradients(state, batch, precision, torch.float32)
            alignments = [layer_alignment(cells).item() for (cells,), *_ in (found, exact)]
            rows.append((space, precision, *alignments, *map(_relative_error, found, exact)))
    columns = ["space", "precision", "alignment", "alignment_float64", "cells", "loss", "regularizer"]
    return pd.DataFrame(rows, columns=columns)


def _gradients(state: SearchState, batch: Batch, precision: str, dtype: torch.dtype) -> _Gradients:
    """The rows g, and the gradients of loss and regularizer by ω, of the trained supernet."""
    chosen = protocol(state.protocol.space, method="lambda", estimator="exact", precision=precision)
    device = batch.inputs.device
    generator = torch.Generator(device).manual_seed(state.protocol.seed)
    net = make_supernet(chosen, classes=10, channels_in=batch.inputs.shape[1], generator=generator)
    net = net.to(device, dtype).train()
    net.load_state_dict(state.bilevel.supernet.state_dict())
    weights = copies(net, {kind: alpha.to(dtype) for kind, alpha in state.bilevel.alphas.items()})
    with arithmetic(precision):
        found, penalty = regularized_gradients(
            net, Batch(batch.inputs.to(dtype), batch.targets), weights, Regularizer("cosine", "exact")
        )
    return (found.cells[REGULARIZED_KIND].flatten(1),), found.weights, penalty


def _relative_error(found: Iterable[Tensor], exact: Sequence[Tensor]) -> float:
    difference = sum((a.double() - b).square().sum() for a, b in zip(found, exact, strict=True))
    return (difference / sum(b.square().sum() for b in exact)).sqrt().item()
