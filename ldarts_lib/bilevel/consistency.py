"""Which settings of a search on images do not go together."""

from __future__ import annotations

from typing import Any

from ldarts_lib.bilevel.alignment import RANDOM_FORMS
from ldarts_lib.datasets.downloads import LISTS


def require_consistent(p: Any) -> None:
    """Check a :class:`~ldarts_lib.bilevel.protocols.SearchProtocol` whose settings are each in range.

    Raises:
        ValueError, ProtocolError: two do not go together; the message says why.
    """
    p.new_remedy()
    if p.weight_lr_min > p.weight_lr:
        raise ValueError(f"weight_lr_min = {p.weight_lr_min} is above weight_lr = {p.weight_lr}")
    if p.precision in ("tf32", "bfloat16") and p.form and p.estimator != "exact":
        raise ValueError(
            f"precision {p.precision!r} does not go with the estimator {p.estimator!r}: its finite "
            f"difference over a length of {p.epsilon} is lost in the rounding; use float32 or exact"
        )
    if p.activation != "relu" and p.supernet == "fast" and p.search_space.separable:
        raise ValueError(
            f"activation {p.activation!r} in space {p.space!r} needs supernet 'reference': the "
            "fast one joins separable convolutions with their ReLU"
        )
    if p.supernet == "reference" and (p.precision == "bfloat16" or p.checkpoint_cells):
        raise ValueError("precision 'bfloat16' and checkpoint_cells need the fast supernet")
    if p.cuda_graph and (p.search_space.random or p.remedy or p.form in RANDOM_FORMS):
        where = f"space {p.space!r} with method {p.method!r}"
        raise ValueError(f"cuda_graph cannot replay the random numbers of {where}, or its remedy")
    if p.cuda_graph and (p.clip_alpha or p.last_batch == "short"):
        raise ValueError("cuda_graph replays one step: neither with clip_alpha nor with short batches")
    if p.halves == "listed" and (p.dataset not in LISTS or p.split != 0.5):
        raise ValueError(f"halves 'listed' needs split = 0.5 and one of {', '.join(LISTS)}")
    if p.clip_alpha and p.remedy is not None:
        raise ValueError(f"clip_alpha is for α that nothing else moves, not for method {p.method!r}")
    if (p.cuda_graph or p.checkpoint_cells) and (own := p.search_space.registered):
        what = "cuda_graph" if p.cuda_graph else "checkpoint_cells"
        raise ValueError(f"{what} does not go with operations of one's own, here {', '.join(own)}")
    layout = p.search_space.layout(p.depth)
    for kind in p.regularizer.aligned(p.search_space.cells) if p.regularizer else []:
        if (cells := layout.count(kind)) < 2:
            raise ValueError(f"method {p.method!r} aligns {kind} cells, but depth {p.depth} has only {cells}")
        if p.form == "edge" and (each := p.search_space.cells[kind].shape[1]) < 3:
            where = f"space {p.space!r} has {each} operations on an edge"
            raise ValueError(f"method {p.method!r} needs three, {where}: all cosines would be ±1")
