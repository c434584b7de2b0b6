"""What is measured of every pass of a search, as one vector that stays on the device until the epoch ends."""

from __future__ import annotations

import torch
from torch import Tensor

from ldarts_lib.bilevel import alignment
from ldarts_lib.bilevel.gradients import Batch, Gradients
from ldarts_lib.bilevel.regularizers import REGULARIZED_KIND

SCALARS = ("loss", "accuracy", "alignment", "projected_alignment")


def measure(found: Gradients, batch: Batch) -> Tensor:
    """The scalars, then each normal cell's norm ‖g_l‖, its decision cos(g_l, Σg), and all cosines.

    Of a packed supernet one such row for each copy.
    """
    by_cell = found.cells[REGULARIZED_KIND]
    g = by_cell.flatten(-2).movedim(0, -2)
    accuracy = (found.logits.argmax(-1) == batch.labels).to(g.dtype).mean(-1)
    raw = alignment.layer_alignment(g)
    projected = alignment.projected_alignment(g, by_cell.shape[-1])
    scalars = torch.stack([found.loss, accuracy, raw, projected], -1)
    agreement = (alignment.decision_scores(g), alignment.cosine_matrix(g).flatten(-2))
    return torch.cat([scalars, alignment.cell_norms(g), *agreement], -1)


def unpack(measured: Tensor, cells: int) -> tuple[dict[str, float], Tensor, Tensor]:
    """The parts of a vector of :func:`measure`, or of the mean of several.

    Args:
        measured: the vector.
        cells: number of normal cells.

    Returns:
        The scalars and norms by name, the cosines [cells, cells], the decisions [cells].
    """
    scalars, norms, decisions, cosines = measured.split([len(SCALARS), cells, cells, cells * cells])
    named = dict(zip(SCALARS, scalars.tolist(), strict=True))
    named |= {f"norm_{cell}": norm for cell, norm in enumerate(norms.tolist())}
    return named, cosines.view(cells, cells), decisions
