"""The frames of a search: the cell that each epoch would derive, and where it stands on the curves.

Epochs are counted from 1: epoch E is what row E - 1 of the history records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldarts_book.figures._canvas import ACCENT, GREY, INK, SMALL, dress, label_at_right, new_figure
from ldarts_book.figures.plots import cell_alt_text, draw_cell
from ldarts_lib.spaces.genotype import Cell
from ldarts_lib.spaces.space import CellSpace

EdgeWeights = Mapping[tuple[int, int], float]

_INCHES_PER_NODE = 0.86
_CELL, _CURVES = (3.7, 2.45), (3.7, 2.95)
_LOSS = "validation loss of the supernet"


@dataclass(frozen=True)
class Curves:
    """What is known of every epoch of one search; the sequences are equally long.

    Attributes:
        accuracies: test accuracy of the derived cell, trained on its own, in 0..1.
        losses: validation loss of the supernet.
        best: accuracy of the best cell of the space.
        random: mean accuracy of a random cell.
        std: standard deviation of each accuracy over its training seeds.
    """

    accuracies: Sequence[float]
    losses: Sequence[float]
    best: float
    random: float
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        lengths = [len(values) for values in (self.accuracies, self.losses, self.std) if values is not None]
        if len(set(lengths)) > 1 or not lengths[0]:
            raise ValueError(f"accuracies, losses and std need one value per epoch each, got {lengths}")

    def __len__(self) -> int:
        return len(self.accuracies)


def edge_weights(cell: Cell, space: CellSpace, weights: npt.ArrayLike) -> dict[tuple[int, int], float]:
    """The architecture weight of the chosen operation on each edge of a derived cell.

    Args:
        cell: the cell.
        space: the cell's space.
        weights: p = softmax(α), [edges, operations], such as one epoch of ``Trajectory.weights``.

    Raises:
        ValueError: the weights have another shape.
    """
    p = np.asarray(weights)
    if p.shape != space.shape:
        raise ValueError(f"expected weights of shape {space.shape}, got {p.shape}")
    rows = {edge: row for row, edge in enumerate(space.edges)}
    chosen = ((edge, rows[edge.target, edge.source]) for edge in cell.edges)
    return {
        (edge.target, edge.source): float(p[row, space.candidates[row].index(edge.operation)])
        for edge, row in chosen
    }


def draw_frame(cell: Cell, weights: EdgeWeights, curves: Curves, epoch: int) -> tuple[Figure, Figure]:
    """One frame of :func:`~ldarts_book.figures.scrubber.scrubber`: what does not change does not move.

    Args:
        cell: the cell derived at the end of the epoch.
        weights: architecture weight of the operation on each of its edges (target, source), drawn as the
            width of the line; :func:`edge_weights` computes them.
        curves: of the whole search.
        epoch: from 1.

    Returns:
        The cell, and the curves with the epoch marked.

    Raises:
        ValueError: there is no such epoch, or the weights are not those of the cell.
    """
    _validate_epochs([epoch], curves)
    left, (ax,) = new_figure(1, 1, _CELL, layout=None)
    draw_cell(cell, ax=ax, weights=weights)
    width = max(_CELL[0], np.ptp(ax.get_xlim()) * _INCHES_PER_NODE)
    height = max(_CELL[1], np.ptp(ax.get_ylim()) * _INCHES_PER_NODE + 0.85)
    left.set_size_inches(width, height)
    ax.set_position((0, 0.4 / height, 1, 1 - 0.85 / height))
    line = {"x": 0.5, "ha": "center", "fontsize": SMALL, "color": INK}
    left.text(y=1 - 0.12 / height, s="line width: weight $p$ of the operation", va="top", **line)
    left.text(y=0.1 / height, s=_verdict(curves, epoch), va="bottom", **line)
    right, axes = new_figure(2, 1, _CURVES, layout=None, sharex=True, height_ratios=(1.45, 1))
    right.subplots_adjust(left=0.115, right=0.815, top=0.905, bottom=0.15, hspace=0.5)
    _draw_curves(axes, curves, [epoch], gap=0.17)
    return left, right


def frame_alt_texts(cell: Cell, curves: Curves, epoch: int) -> tuple[str, str]:
    """Descriptions of the two panels of :func:`draw_frame`."""
    _validate_epochs([epoch], curves)
    return (
        f"Epoch {epoch} of {len(curves)}. {cell_alt_text(cell)}",
        f"Curves over {len(curves)} epochs. At epoch {epoch}: {_verdict(curves, epoch)}, "
        f"random {curves.random:.3f} on average. The {_LOSS} is {curves.losses[epoch - 1]:.3f}.",
    )


def key_frames(
    cells: Sequence[Cell], weights: Sequence[EdgeWeights], curves: Curves, epochs: Sequence[int]
) -> Figure:
    """A still picture of a search: some of its cells, and the curves with their epochs marked.

    Args:
        cells: the derived cell of every epoch.
        weights: as for :func:`draw_frame`, of every epoch.
        curves: of the search.
        epochs: those to draw, from 1; four fit well.

    Raises:
        ValueError: no epoch is given, there is no such epoch, or not every epoch has a cell and weights.
    """
    if len(cells) != len(curves) or len(weights) != len(curves):
        raise ValueError(
            f"every epoch needs a cell and weights: {len(curves)} epochs, {len(cells)} cells, "
            f"{len(weights)} weights"
        )
    _validate_epochs(epochs, curves)
    across = min(2, len(epochs))
    rows = -(-len(epochs) // across)
    fig, panels = new_figure(
        rows + 2, across, (3.5 * across, 2.1 * rows + 3.3), height_ratios=[2.1] * rows + [1.9, 1.2]
    )
    for ax in panels[len(epochs) :]:
        ax.remove()
    for ax, epoch in zip(panels, epochs, strict=False):
        title = f"epoch {epoch}: accuracy {curves.accuracies[epoch - 1]:.3f}"
        draw_cell(cells[epoch - 1], ax=ax, weights=weights[epoch - 1], title=title)
    grid = panels[0].get_gridspec()
    upper = fig.add_subplot(grid[rows, :])
    _draw_curves([upper, fig.add_subplot(grid[rows + 1, :], sharex=upper)], curves, epochs, gap=0.14)
    return fig


def _validate_epochs(epochs: Sequence[int], curves: Curves) -> None:
    if not epochs:
        raise ValueError("nothing to draw: give at least one epoch")
    for epoch in epochs:
        if not 1 <= epoch <= len(curves):
            raise ValueError(f"the epochs are counted from 1 to {len(curves)}, got {epoch}")


def _verdict(curves: Curves, epoch: int) -> str:
    spread = f" ± {curves.std[epoch - 1]:.3f}" if curves.std is not None else ""
    return f"accuracy of this cell {curves.accuracies[epoch - 1]:.3f}{spread}, best {curves.best:.3f}"


def _draw_curves(axes: Sequence[Axes], curves: Curves, epochs: Sequence[int], gap: float) -> None:
    """Accuracies above, losses below; ``gap`` as for the labels at the right."""
    x = np.arange(1, len(curves) + 1)
    for ax, values in zip(axes, (curves.accuracies, curves.losses), strict=True):
        ax.plot(x, values, color=INK, lw=1.6, label="search", solid_joinstyle="round")
        for epoch in epochs:
            ax.axvline(epoch, color=ACCENT, lw=1.0, zorder=1)
            ax.plot(epoch, values[epoch - 1], "o", color=ACCENT, ms=7, mec="white", mew=1, zorder=4)
    upper, lower = axes
    if curves.std is not None:
        low, high = (np.asarray(curves.accuracies) + sign * np.asarray(curves.std) for sign in (-1, 1))
        upper.fill_between(x, low, high, color=GREY, alpha=0.35, lw=0)
    references = {"best": curves.best, "random": curves.random}
    for y, line in zip(references.values(), ("dashed", "dotted"), strict=True):
        upper.axhline(y, color=GREY, lw=1.4, ls=line, zorder=1.5)
    dress(upper, "accuracy of the derived cell")
    dress(lower, _LOSS)
    upper.set_xlabel("")
    upper.tick_params(labelbottom=False)
    upper.set_xlim(0, len(curves) + 1)
    label_at_right(upper, references, gap=gap, colours=[INK] * 2)
