"""Fit the surrogate of the DARTS space and write what ships: ``surrogate.npz`` and ``provenance.json``.

Usage: python scripts/fit_surrogate.py CSV [FOLDER]

CSV has the columns ``cells`` (normal and reduction cell, each eight pairs of source and operation, two per
node; operations numbered as in the space darts) and ``accuracy`` (percent). FOLDER is by default
``data/nasbench301``.
"""

from __future__ import annotations

import ast
import csv
import shlex
import sys
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from ldarts_lib.files import write_atomically, write_json
from ldarts_lib.spaces.genotype import Cell, Edge, Genotype
from ldarts_lib.tables.surrogate import CEILING, OPERATIONS, SPACE, bounds, features

PENALTIES = np.logspace(-1, 3, 21)
COVER, FOLDS, REPEATS = 0.9, 10, 5
SHIPS = Path(__file__).parents[1] / "data" / "nasbench301"


def read(path: str | Path) -> tuple[npt.NDArray, npt.NDArray]:
    """The features of the labelled cells, [cells, features], and their accuracies."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    genotypes = [Genotype(*map(_cell, ast.literal_eval(row["cells"]))) for row in rows]
    return np.array([features(one) for one in genotypes]), np.array([float(row["accuracy"]) for row in rows])


def _cell(pairs: list[tuple[int, int]]) -> Cell:
    edges = (Edge(2 + i // 2, source, OPERATIONS[number]) for i, (source, number) in enumerate(pairs))
    return Cell(2, tuple(edges), SPACE.cells["normal"].output_nodes)


def fit(x: npt.NDArray, accuracy: npt.NDArray) -> dict[str, npt.NDArray]:
    """A ridge regression of log(C − A); its penalty λ has the smallest squared leave-one-out residuals."""
    mean, scale = x.mean(0), x.std(0)
    scale[scale == 0] = 1  # a feature that never varies gets no weight
    target = np.log(CEILING - accuracy)
    left, singular, right = np.linalg.svd((x - mean) / scale, full_matrices=False)
    projected = left.T @ (target - target.mean())

    def left_out(penalty: float) -> tuple[npt.NDArray, npt.NDArray]:
        """r_i / (1 − h_i) and h_i = 1/n + zᵢᵀ(ZᵀZ + λI)⁻¹zᵢ, the leverage of a labelled cell."""
        kept = singular**2 / (singular**2 + penalty)
        leverage = 1 / len(x) + left**2 @ kept
        return (target - target.mean() - left @ (kept * projected)) / (1 - leverage), leverage

    penalty = min(PENALTIES, key=lambda value: np.square(left_out(value)[0]).sum())
    residual, leverage = left_out(penalty)
    # h of cell i seen from the others is h_i / (1 − h_i), so that 1 + h = 1 / (1 − h_i)
    scores = np.abs(residual) * np.sqrt(1 - leverage)
    inverse = (right.T / (singular**2 + penalty)) @ right
    return {
        "mean": mean,
        "scale": scale,
        "intercept": target.mean(),
        "weights": right.T @ (singular / (singular**2 + penalty) * projected),
        "spread": np.linalg.cholesky(inverse).astype(np.float32),
        "quantile": np.quantile(scores, COVER),
        "leverage": (leverage / (1 - leverage)).max(),
        "labels": np.sort(accuracy),
        "penalty": penalty,
    }


def cross_validate(x: npt.NDArray, accuracy: npt.NDArray, repeats: int = REPEATS) -> dict[str, object]:
    """How well the fit does on tenths that it has not seen; penalty and interval are chosen without them."""
    found = []
    for seed in range(repeats):
        order = np.random.default_rng(seed).permutation(len(x))
        low, middle, high = np.empty((3, len(x)))
        for start in range(FOLDS):
            test = order[start::FOLDS]
            train = np.setdiff1d(order, test)
            low[test], middle[test], high[test], _ = bounds(fit(x[train], accuracy[train]), x[test])
        inside = (low <= accuracy) & (accuracy <= high)
        found.append(
            {
                "kendall": stats.kendalltau(middle, accuracy).statistic,
                "spearman": stats.spearmanr(middle, accuracy).statistic,
                "error": np.abs(middle - accuracy).mean(),
                "cover": inside.mean(),
                "cover_by_thirds_of_the_estimate": _by_thirds(inside, middle),
                "cover_by_thirds_of_the_label": _by_thirds(inside, accuracy),
                "width_by_thirds_of_the_estimate": _by_thirds(high - low, middle),
            }
        )
    return {key: np.round(np.mean([one[key] for one in found], 0), 4).tolist() for key in found[0]}


def _by_thirds(values: npt.NDArray, by: npt.NDArray) -> list[float]:
    return [values[third].mean() for third in np.array_split(np.argsort(by), 3)]


def main(source: str, folder: str | Path = SHIPS) -> None:
    """Fit, cross-validate, and write both files."""
    x, accuracy = read(source)
    arrays = fit(x, accuracy)
    write_atomically(Path(folder) / "surrogate.npz", lambda file: np.savez_compressed(file, **arrays))
    facts = {
        "what": f"ridge regression of log({CEILING} - accuracy) on features of DARTS cells",
        "cells": len(x),
        "labels": "random cells with their accuracies on CIFAR-10 in percent, NAS-Bench-301's own "
        "estimates (Siems et al., 2020); two releases of them differ by up to 0.17 points on seven cells",
        "source": "github.com/automl/NASLib, commit 6639fd15, file naslib/data/zc_nasbench301.json",
        "rights": "Apache-2.0",
        "date": date.today().isoformat(),
        "command": shlex.join(["python", "scripts/fit_surrogate.py", Path(source).name]),
        "cross_validation": {"folds": FOLDS, "repeats": REPEATS, **cross_validate(x, accuracy)},
    }
    write_json(Path(folder) / "provenance.json", facts)


if __name__ == "__main__":
    main(*sys.argv[1:])
