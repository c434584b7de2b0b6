"""How good a cell of the DARTS space is, estimated: no table of it can ship, the space has 10^18 cells.

A ridge regression on what the paths of both cells do, fitted by ``scripts/fit_surrogate.py`` to the
accuracies that NAS-Bench-301 (Siems et al., 2020) gives to 725 random cells. It ships in
``data/nasbench301``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from ldarts_lib.spaces.genotype import Cell, Genotype, GenotypeError
from ldarts_lib.spaces.space import SPACES

SPACE = SPACES["darts"]
OPERATIONS = SPACE.cells["normal"].candidates[0]
CEILING = 96.5
"""C, an accuracy in percent that no cell reaches."""

_SKIP = OPERATIONS.index("skip_connect")
_CONVOLUTIONS = tuple(name.startswith(("sep_conv", "dil_conv")) for name in OPERATIONS)
_RELEASES = 0.12
"""Points that the labels themselves are unsure of: two releases differ by up to 0.17 on seven cells."""


@dataclass(frozen=True)
class Estimate:
    """The accuracy of a cell on CIFAR-10 in percent, as NAS-Bench-301 trains: 8 cells, 100 epochs.

    Attributes:
        accuracy: the estimate.
        low, high: nine of ten random cells have their accuracy between theirs.
        above: how many of the 725 random cells the estimate is above.
        familiar: whether the 725 random cells are like this one; else the estimate extrapolates.
    """

    accuracy: float
    low: float
    high: float
    above: int
    familiar: bool


def estimate(genotype: Genotype) -> Estimate:
    """How good a cell of the DARTS space is: a collapsed one is found, good ones are hardly told apart.

    The order of edges and the numbers of nodes make no difference.

    Raises:
        GenotypeError: the cell is not of the space darts; an operation that the surrogate lacks is named.

    Examples:
        >>> from ldarts_lib import estimate, published
        >>> found = estimate(published("DARTS_V2"))
        >>> found.low < found.accuracy < found.high, found.above > 700
        (True, True)
    """
    fit = _fit()
    (low, accuracy, high, leverage) = (float(value) for value in bounds(fit, features(genotype)))
    above = int((fit["labels"] < accuracy).sum())
    return Estimate(accuracy, low, high, above, familiar=leverage <= fit["leverage"])


def bounds(fit: Mapping[str, npt.NDArray], x: npt.NDArray) -> tuple[npt.NDArray, ...]:
    """Low end, estimate and high end in percent, and how far the cells are from those that were fitted.

    Args:
        fit: what ``surrogate.npz`` holds.
        x: :func:`features` of one cell or of several, [..., 182].
    """
    z = (x - fit["mean"]) / fit["scale"]
    # log(C − A) = b + wᵀz ± q √(1 + h), with h = 1/n + zᵀ(ZᵀZ + λI)⁻¹z and (ZᵀZ + λI)⁻¹ = LLᵀ
    leverage = 1 / len(fit["labels"]) + np.square(z @ fit["spread"]).sum(-1)
    logarithm, reach = fit["intercept"] + z @ fit["weights"], fit["quantile"] * np.sqrt(1 + leverage)
    worst, accuracy, best = (CEILING - np.exp(logarithm + side * reach) for side in (1, 0, -1))
    low = np.maximum(accuracy - np.hypot(accuracy - worst, _RELEASES), 0)
    return low, accuracy, accuracy + np.hypot(best - accuracy, _RELEASES), leverage


def features(genotype: Genotype) -> npt.NDArray[np.float64]:
    """What the surrogate sees of a cell, [182]: 91 numbers of the normal cell, then of the reduction cell.

    They are sums over edges and paths, so that they do not depend on the order in which nodes are written.

    Raises:
        GenotypeError: the cell is not of the space darts; an operation that the surrogate lacks is named.
    """
    used = {name for cell in genotype.cells.values() for name in cell.operations}
    if unknown := sorted(used - set(OPERATIONS)):
        raise GenotypeError(
            f"the surrogate of the DARTS space lacks {', '.join(unknown)}; it knows {', '.join(OPERATIONS)}"
        )
    SPACE.validate(genotype)
    return np.concatenate([_features(cell) for cell in genotype.cells.values()])


def quality() -> dict[str, Any]:
    """Where the labels of the surrogate are from, and how well it does in cross-validation."""
    return json.loads((files("ldarts_data") / "nasbench301/provenance.json").read_text(encoding="utf-8"))


def _features(cell: Cell) -> npt.NDArray[np.float64]:
    placed = np.zeros((3, len(OPERATIONS)))  # edges by source (either input, or a node) and operation
    chained = np.zeros((len(OPERATIONS),) * 2)  # pairs of edges, one read by the other
    # paths from each input to each node, by their number of convolutions and by their length
    paths = np.zeros((2, cell.inputs + cell.nodes, cell.inputs, cell.nodes + 1))
    for node in range(cell.inputs):
        paths[:, node, node, 0] = 1
    for edge in cell.edges:
        operation = OPERATIONS.index(edge.operation)
        placed[min(edge.source, 2), operation] += 1
        for before in cell.incoming(edge.source):
            chained[OPERATIONS.index(before.operation), operation] += 1
        for counts, longer in zip(paths, (_CONVOLUTIONS[operation], 1), strict=True):
            counts[edge.target] += np.roll(counts[edge.source], longer, axis=-1)
    convolutions = placed[:, _CONVOLUTIONS].sum()
    placed[:, _SKIP] *= convolutions / len(cell.edges)  # a skip connection is worth what it eases
    starved = 1 / (0.5 + convolutions)  # the first convolution is worth most
    reached = np.log1p(paths[:, cell.inputs :].sum(1))
    return np.concatenate([placed.ravel(), chained.ravel(), reached.ravel(), [starved]])


@cache
def _fit() -> dict[str, npt.NDArray]:
    with np.load(str(files("ldarts_data") / "nasbench301/surrogate.npz")) as arrays:
        return dict(arrays)
