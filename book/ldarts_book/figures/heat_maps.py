"""Pictures of numbers: who agrees with whom over the epochs, and the images of a data set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ldarts_book.figures.canvas import dress, grid, new_figure
from ldarts_book.figures.style import INK, SMALL, looks, styled

_NUMBERED_PAIRS = 10
_NAMED_PAIRS = 15


@styled
def heat_maps(cosines: Mapping[str, npt.ArrayLike], *, label: str) -> Figure:
    """The cosine of every pair of cells over the epochs, one map per method.

    Where there are few pairs, the numbers in the map are the means over quarters of the search.

    Args:
        cosines: of each method, [epochs, cells, cells].
        label: what the colours show.

    Raises:
        ValueError: there is no method or no epoch, or the methods have not the same cells, at least two.
    """
    arrays = {name: np.asarray(values) for name, values in cosines.items()}
    if not arrays or not all(len(values) for values in arrays.values()):
        raise ValueError("nothing to draw: give at least one method, with at least one epoch")
    cells = {name: values.shape[-1] for name, values in arrays.items()}
    if len(set(cells.values())) > 1 or min(cells.values()) < 2:
        raise ValueError(f"the searches need equally many cells, at least two, got {cells}")
    pairs = np.transpose(np.triu_indices(next(iter(cells.values())), 1))
    height = float(np.clip(0.36 * len(pairs), 1.1, 4.5)) + 0.95
    fig, axes = new_figure(grid(len(arrays), len(arrays)), (2.65 * len(arrays) + 0.9, height), sharey=True)
    for ax, look, values in zip(axes, looks(arrays).values(), arrays.values(), strict=True):
        rows = values[:, pairs[:, 0], pairs[:, 1]].T
        place = (0.5, rows.shape[1] + 0.5, len(pairs) - 0.5, -0.5)
        image = ax.imshow(
            rows, cmap="RdBu_r", vmin=-1, vmax=1, extent=place, aspect="auto", interpolation="nearest"
        )
        dress(ax, look.label)
        ax.grid(False)
        if len(pairs) <= _NUMBERED_PAIRS:
            _write_quarters(ax, rows)
    ticks = (
        range(len(pairs)) if len(pairs) <= _NAMED_PAIRS else np.flatnonzero(pairs[:, 1] == pairs[:, 0] + 1)
    )
    axes[0].set_yticks(ticks, [f"{first + 1}, {second + 1}" for first, second in pairs[list(ticks)]])
    axes[0].set_ylabel("cells")
    bar = fig.colorbar(image, ax=axes, ticks=(-1, -0.5, 0, 0.5, 1), aspect=14, pad=0.02)
    bar.set_label(label)
    bar.ax.tick_params(labelsize=SMALL, colors=INK)
    bar.outline.set_visible(False)
    return fig


@styled
def show_images(images: np.ndarray, labels: np.ndarray, *, count: int = 16) -> Figure:
    """The first images of a data set with their labels.

    Args:
        images: [n, channels, height, width], uint8 or in the scale 0..1, with 1 or 3 channels.
        labels: [n].
        count: how many.
    """
    across = min(count, 8)
    fig, axes = new_figure(grid(count, across), (0.8 * across, 1.0 * -(-count // across)))
    for ax, image, label in zip(axes, np.asarray(images), np.asarray(labels), strict=False):
        ax.imshow(image.transpose(1, 2, 0), cmap="gray_r")
        ax.set_title(str(label), loc="center", pad=2)
        ax.set_axis_off()
    return fig


def _write_quarters(ax: Axes, rows: np.ndarray) -> None:
    """The mean of each quarter of the epochs in each row of a map; ``rows`` is [pairs, epochs]."""
    halo = [withStroke(linewidth=3, foreground="white", alpha=0.75)]
    for block in np.array_split(np.arange(rows.shape[1]), min(4, rows.shape[1])):
        for row, mean in enumerate(rows[:, block].mean(axis=1)):
            text = f"{mean:+.2f}".replace("-", "−")
            ax.text(block.mean() + 1, row, text, ha="center", va="center", path_effects=halo)
