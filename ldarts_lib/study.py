"""The demonstration as an experiment: many seeds of each variant, judged by exact accuracies.

A *variant* is a protocol under a name. What a study keeps of each search is one row per epoch, with the six
digits of the derived cell (:func:`~ldarts_lib.benchmarks.computation.encode`); everything else is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from ldarts_lib.benchmarks.computation import computation, encode
from ldarts_lib.benchmarks.tables import Benchmark
from ldarts_lib.genotype import parse
from ldarts_lib.parallel import search_all
from ldarts_lib.protocols import Protocol, protocol
from ldarts_lib.trajectory import ALPHA

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "DARTS": {"method": "darts"},
    "Λ-DARTS": {"method": "lambda"},
    "Λ-DARTS, sign form": {"method": "lambda-sign"},
    "Λ-DARTS, ε0 = 0.1": {"method": "lambda", "estimator": "central", "epsilon": 0.1},
    "Λ-DARTS, ε0 = 0.01": {"method": "lambda", "estimator": "central", "epsilon": 1e-2},
    "Λ-DARTS, ε0 = 0.001": {"method": "lambda", "estimator": "central", "epsilon": 1e-3},
    "Λ-DARTS, ε0 = 0.0001": {"method": "lambda", "estimator": "central", "epsilon": 1e-4},
    "random direction": {"method": "lambda-random"},
}
"""The demonstration's variants; without an ε0 the regularizer's gradient is exact."""

_CENTRAL = {"method": "lambda", "estimator": "central"}
DIFFERENCES: Mapping[str, Mapping[str, Any]] = {
    "DARTS": {"method": "darts"},
    "exact": {"method": "lambda"},
    "exact, float64": {"method": "lambda", "precision": "float64"},
    "ε0 = 1": _CENTRAL | {"epsilon": 1.0},
    "ε0 = 1e-3": _CENTRAL | {"epsilon": 1e-3},
    "ε0 = 1e-5": _CENTRAL | {"epsilon": 1e-5},
    "ε0 = 1e-6, float64": _CENTRAL | {"epsilon": 1e-6, "precision": "float64"},
    "noise as long as exact": {"method": "lambda-noise"},
    "noise as long as ε0 = 1e-3": _CENTRAL | {"method": "lambda-noise", "epsilon": 1e-3},
    "DARTS, GELU": {"method": "darts", "activation": "gelu"},
    "exact, GELU": {"method": "lambda", "activation": "gelu"},
    "ε0 = 1e-3, GELU": _CENTRAL | {"epsilon": 1e-3, "activation": "gelu"},
}
"""What the finite difference does in searches: its length, its precision, noise of its length, no kinks."""

_STRENGTHS = {"1/16": 1 / 16, "1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "2": 2.0}
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "DARTS": {"method": "darts"},
    "Λ-DARTS": {"method": "lambda"},
    **{f"λ = {name}": {"method": "lambda", "lambda_max": value} for name, value in _STRENGTHS.items()},
    "constant λ": {"method": "lambda", "ramp": "constant"},
    "sign": {"method": "lambda-sign"},
    "projected": {"method": "lambda-projected"},
    "Λ of the α batch": {"method": "lambda", "regularizer_batch": "validation"},
    "α first": {"method": "lambda", "step_order": "alpha-first"},
    "DARTS, α first": {"method": "darts", "step_order": "alpha-first"},
}
"""One setting of Λ-DARTS changed at a time."""

Group = Literal["demonstration", "differences", "ablations"]
GROUPS: Mapping[Group, Mapping[str, Mapping[str, Any]]] = {
    "demonstration": VARIANTS,
    "differences": DIFFERENCES,
    "ablations": ABLATIONS,
}
"""The variants of each study."""

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
TOGETHER = 10
"""Seeds of one variant that are searched as one packed supernet."""


def variants(size: str = "demo", group: Group = "demonstration", **overrides: Any) -> dict[str, Protocol]:
    """The protocols of a group at a size, with single settings overridden in all of them."""
    return {name: protocol(size=size, **(settings | overrides)) for name, settings in GROUPS[group].items()}


def run(
    protocols: Mapping[str, Protocol],
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
        workers, device: as for :func:`~ldarts_lib.parallel.search_all`.

    Returns:
        One row per epoch: ``variant``, ``seed``, ``epoch``, ``ops``, the columns :data:`KEPT` of the
        history, and of each normal cell l on the batches of α ``norm_l``, the norm of its gradient, and
        ``decision_l``, its cosine with the sum.
    """
    names = {(name, seed): f"{slug(name)}-seed{seed}" for name in protocols for seed in seeds}
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


def slug(name: str) -> str:
    """A variant's name as part of a folder's name."""
    text = name.replace("Λ", "lambda").replace("ε0", "eps").lower()
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
