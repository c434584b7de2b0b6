"""What the cells of a search want: who pulls hard, and who has its way; and what they want on average."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ldarts_book import studies
from ldarts_book.studies.theory import cells, copies, drawn, searched
from ldarts_lib.bilevel.alignment import layer_alignment
from ldarts_lib.bilevel.half_steps import softmax_backward
from ldarts_lib.bilevel.protocols import SearchProtocol, protocol
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.datasets.batches import Batches
from ldarts_lib.networks.batches import Batch

RECORD = Path(str(files("ldarts_data"))) / "recorded" / "agreement"


def first_gradients(settings: SearchProtocol) -> Tensor:
    """g of a search before its first step, on a batch of α: [cells, edges×operations]."""
    state = searched(settings)
    supernet = state.bilevel.supernet
    return cells(supernet, drawn(state.validation), copies(supernet, state.bilevel.alphas)).flatten(1)


def averaged_alignment(settings: SearchProtocol, every: int = 10, moves: int = 200) -> pd.DataFrame:
    """Λ of single batches and of gradients averaged over all images of a half, in a search and at rest.

    At rest ω is fixed after the last epoch, and α has moved on along the averaged gradient of its half.

    Columns: ``state``, ``epoch``, Λ of ``train_batches``, ``train_images``, ``valid_batches`` and
    ``valid_images``, and ``slope``, the norm of the averaged gradient of α.
    """
    state, rows = searched(settings), []
    alpha = state.bilevel.alphas["normal"]
    for epoch in range(settings.epochs):
        state.run_epoch(epoch)
        if (epoch + 1) % every == 0:
            rows.append({"state": "search", "epoch": epoch, **_agreement(state)})
    for _ in range(moves):
        alpha.grad = softmax_backward(alpha, _gradients(state, state.validation).mean(0))
        state.bilevel.alpha_optimizer.step()
    return pd.DataFrame([*rows, {"state": "at rest", "epoch": epoch, **_agreement(state)}])


def _gradients(state: SearchState, half: Batches) -> Tensor:
    """g on every batch of a half: [batches, cells, edges, operations]."""
    supernet = state.bilevel.supernet
    batches = half.epoch(state.protocol.batch_size, torch.Generator().manual_seed(0), augment=False)
    weights = copies(supernet, state.bilevel.alphas)
    return torch.stack([cells(supernet, Batch(*batch), weights) for batch in batches])


def _agreement(state: SearchState) -> dict[str, float]:
    found = {}
    for name, half in (("train", state.training), ("valid", state.validation)):
        g = _gradients(state, half)
        found[f"{name}_batches"] = layer_alignment(g.flatten(-2)).mean().item()
        found[f"{name}_images"] = layer_alignment(g.mean(0).flatten(-2)).item()
    return found | {"slope": softmax_backward(state.bilevel.alphas["normal"], g.mean(0)).norm().item()}


def record_averages(variants: Sequence[str], seeds: Sequence[int], out: str | Path) -> None:
    """Writes a file of :func:`averaged_alignment` for each search that has none."""
    for variant, seed in product(variants, seeds):
        path = Path(out) / f"{studies.folder({'variant': variant, 'seed': seed})}.csv"
        if not path.exists():
            found = averaged_alignment(protocol(seed=seed, **studies.VARIANTS[variant]))
            studies.write_table(found.round(4).assign(variant=variant, seed=seed), path)
    studies.write_provenance(Path(out), f"record_averages({variants!r}, {seeds!r}, ...)", torch.device("cpu"))


def recorded_averages(folder: str | Path = RECORD) -> pd.DataFrame:
    """All that :func:`record` wrote; no rows if it was not run here."""
    return pd.concat([pd.DataFrame(), *map(pd.read_csv, sorted(Path(folder).glob("*.csv")))])
