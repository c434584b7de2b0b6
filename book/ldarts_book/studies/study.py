"""The demonstration as an experiment: many seeds of each variant, judged by exact accuracies.

A *variant* is a protocol under a name. What a study keeps of each search is one row per epoch, with the six
digits of the derived cell (:func:`~ldarts_lib.tables.computation.encode`); everything else is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from ldarts_book.studies.variants import GROUPS, Group, variants
from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.bilevel.search import search_all
from ldarts_lib.bilevel.trajectory import ALPHA
from ldarts_lib.spaces.genotype import parse
from ldarts_lib.tables.computation import computation, encode
from ldarts_lib.tables.tables import Benchmark

KEPT = (
    "train_loss",
    "valid_loss",
    "train_alignment",
    "valid_alignment",
    "train_projected_alignment",
    "valid_projected_alignment",
    "entropy",
    "seconds",
)
"""Columns of the history that a study keeps."""
LAST = 10
"""The last epochs of a search, over which its alignment is averaged."""
TOGETHER = 10
"""Seeds of one variant that are searched as one packed supernet.

The groups have whole tens of seeds, so that a search has the same neighbours, and with them the same
roundings, whichever groups are searched."""


def run(
    protocols: Mapping[str, SearchProtocol],
    seeds: Sequence[int],
    out: str | Path,
    *,
    workers: int | None = None,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """Search with every variant and seed, side by side; interrupted studies continue.

    Args:
        protocols: the variants.
        seeds: of the searches.
        out: parent of the run directories.
        workers, device: as for :func:`~ldarts_lib.bilevel.search.search_all`.

    Returns:
        One row per epoch: ``variant``, ``seed``, ``epoch``, ``ops``, the columns :data:`KEPT` of the
        history, and of each normal cell l on the batches of α ``norm_l``, the norm of its gradient, and
        ``decision_l``, its cosine with the sum.
    """
    return _search(protocols, {name: seeds for name in protocols}, out, workers, device)


def run_groups(
    groups: Mapping[Group, Sequence[int]],
    out: str | Path,
    *,
    size: str = "demo",
    workers: int | None = None,
    device: torch.device | str = "cpu",
) -> dict[Group, pd.DataFrame]:
    """Make the searches of several groups, those that they share once.

    Args:
        groups: for each its seeds.
        out: parent of the run directories.
        size: preset of the searches.
        workers, device: as for :func:`run`.

    Returns:
        The rows of each group, as :func:`run` returns them.
    """
    protocols = {name: p for group in groups for name, p in variants(group, size).items()}
    wanted = {
        name: sorted({seed for group in groups if name in GROUPS[group] for seed in groups[group]})
        for name in protocols
    }
    rows = _search(protocols, wanted, out, workers, device)
    return {
        group: pd.concat(
            rows[(rows["variant"] == name) & rows["seed"].isin(seeds)] for name in GROUPS[group]
        ).reset_index(drop=True)
        for group, seeds in groups.items()
    }


def _search(
    protocols: Mapping[str, SearchProtocol],
    seeds: Mapping[str, Sequence[int]],
    out: str | Path,
    workers: int | None,
    device: torch.device | str,
) -> pd.DataFrame:
    names = {(name, seed): f"{slug(name)}-seed{seed}" for name in protocols for seed in seeds[name]}
    searches = {names[name, seed]: protocols[name].model_copy(update={"seed": seed}) for name, seed in names}
    results = search_all(searches, out, workers=workers, device=device, together=TOGETHER)
    rows = [
        {
            "variant": name,
            "seed": seed,
            "epoch": row["epoch"],
            "ops": encode(parse(row["genotype"])),
            **{column: row[column] for column in KEPT},
            **{f"norm_{cell}": row[f"valid_norm_{cell}"] for cell in range(len(decisions[ALPHA]))},
            **{f"decision_{cell}": score for cell, score in enumerate(decisions[ALPHA])},
        }
        for (name, seed), folder in names.items()
        for row, decisions in zip(results[folder].history, results[folder].trajectory.decisions, strict=True)
    ]
    return pd.DataFrame(rows)


def last(epochs: pd.DataFrame, count: int = LAST) -> pd.DataFrame:
    """The rows of the last epochs of each search."""
    return epochs.groupby(["variant", "seed"], sort=False).tail(count).reset_index(drop=True)


def slug(name: str) -> str:
    """A variant's name as part of a folder's name."""
    text = name.lower()
    for letter, word in (("λ", "lambda"), ("ε0", "eps"), ("α", "alpha")):
        text = text.replace(letter, word)
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in text).split())


def judge(epochs: pd.DataFrame, benchmark: Benchmark) -> pd.DataFrame:
    """A study's rows with what the benchmark knows of each derived cell.

    Adds ``accuracy`` and ``regret`` (in the benchmark's unit), ``skips`` (skip connections among the six
    edges) and ``convolutions`` (applications on paths from input to output; without any, the search has
    collapsed).
    """
    known = {
        ops: {
            "accuracy": float(benchmark.table.at[benchmark.key(ops), benchmark.target]),
            "skips": ops.count("1"),
            "convolutions": len(computation(ops).applied),
        }
        for ops in epochs["ops"].unique()
    }
    judged = epochs.join(pd.DataFrame.from_dict(known, orient="index"), on="ops")
    return judged.assign(regret=benchmark.table[benchmark.target].max() - judged["accuracy"])
