"""Figures of searches: what becomes of the cell, and what the cells of the network want.

Epochs are counted from 1: epoch E is what row E - 1 of the history records. Methods keep their colour, line
and marker in all figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ldarts_book.figures._canvas import (
    GREY,
    INK,
    REFERENCES,
    SMALL,
    TEXT,
    check_references,
    dress,
    label_at_right,
    new_figure,
)
from ldarts_book.figures._styles import MethodStyle, column_label, method_styles
from ldarts_book.figures.plots import History, history_frame
from ldarts_lib.bilevel.trajectory import Trajectory

Searches = Mapping[str, Sequence[History]] | pd.DataFrame
"""For each method one history per seed; or a table of all rows with the columns variant, seed and epoch."""

_TITLES = {
    "accuracy": "accuracy of the derived cell",
    "regret": "regret: what the best cell has more",
    "convolutions": "convolutions on live paths",
    "entropy": "entropy of p (nats)",
}
_COUNTS = ("skips", "convolutions")
_HALVES = (("train", "ω batches"), ("valid", "α batches"))
_LINES = ("solid", "dashed", "dashdot", "dotted")
_NUMBERED_PAIRS = 10
_NAMED_CELLS = 6


def watch_searches(
    searches: Searches,
    *,
    columns: Sequence[str] = ("accuracy", "skips", "convolutions", "valid_loss"),
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Compare methods over the epochs: every search as a thin line, the mean of a method as a thick one.

    Args:
        searches: the histories, with the columns that are drawn; those that a judge adds are ``accuracy``,
            ``regret`` and ``convolutions``.
        columns: one panel each.
        references: lines in the panel of ``accuracy``, as for
            :func:`~ldarts_book.figures.tables.compare_accuracies`.

    Raises:
        ValueError: there is no search or no column, or a column is missing in one of them.
    """
    frames = _frames(searches, columns)
    across = min(2, len(columns))
    down = -(-len(columns) // across)
    fig, axes = new_figure(down, across, (3.5 * across, 2.4 * down + 0.75))
    for ax, column in zip(axes, columns, strict=False):
        _draw_methods(ax, frames, column)
    for ax in axes[len(columns) :]:
        ax.remove()
    if references and "accuracy" in columns:
        _draw_references(axes[list(columns).index("accuracy")], references)
    _add_legend(fig, axes[0], frames)
    return fig


def alignment_and_saturation(searches: Searches, *, operations: int | None = None) -> Figure:
    """Λ on the batches of both halves, raw and without the offset, and the entropy of the weights.

    Args:
        searches: the histories.
        operations: number of candidates on an edge; the entropy of equal weights, its logarithm, is
            marked.

    Raises:
        ValueError: there is no search, or a column is missing in one of them.
    """
    panels = [f"{half}_{kind}" for kind in ("alignment", "projected_alignment") for half, _ in _HALVES]
    frames = _frames(searches, [*panels, "entropy"])
    fig = plt.figure(figsize=(7.0, 7.3), dpi=144, facecolor="white", layout="constrained")
    plt.close(fig)
    axes = fig.subplot_mosaic([panels[:2], panels[2:], ["entropy"] * 2])
    for column, ax in axes.items():
        _draw_methods(ax, frames, column)
        if column != "entropy":
            ax.axhline(0, color=GREY, lw=1, zorder=1)
    limits = np.array([axes[column].get_ylim() for column in panels])
    for column in panels:
        axes[column].set_ylim(limits[:, 0].min(), limits[:, 1].max())
    if operations is not None:
        equal = float(np.log(operations))
        axes["entropy"].axhline(equal, color=INK, lw=1.2, ls="dashed", zorder=2)
        text = {"fontsize": SMALL, "color": INK, "ha": "right", "va": "bottom"}
        axes["entropy"].text(axes["entropy"].get_xlim()[1], equal, "equal weights", **text)
    _add_legend(fig, axes[panels[0]], frames)
    return fig


def cosine_heat_maps(trajectories: Mapping[str, Trajectory], *, half: int = 1) -> Figure:
    """The cosine of every pair of cells over the epochs, one map per method.

    Where there are few pairs, the numbers in the map are the means over quarters of the search.

    Args:
        trajectories: of one search per method.
        half: 0 for the batches of ω, 1 for those of α.

    Raises:
        ValueError: there is no trajectory or no epoch, fewer than two cells, or another half.
    """
    _validate_trajectories(trajectories, half)
    cells = next(iter(trajectories.values())).cosines.shape[-1]
    pairs = np.transpose(np.triu_indices(cells, 1))
    height = float(np.clip(0.36 * len(pairs), 1.1, 4.5)) + 0.95
    fig, axes = new_figure(1, len(trajectories), (3.1 * len(trajectories) + 0.9, height), sharey=True)
    for ax, style, one in zip(axes, method_styles(list(trajectories)), trajectories.values(), strict=True):
        values = one.cosines[:, half][:, pairs[:, 0], pairs[:, 1]].T
        place = (0.5, len(one) + 0.5, len(pairs) - 0.5, -0.5)
        image = ax.imshow(
            values, cmap="RdBu_r", vmin=-1, vmax=1, extent=place, aspect="auto", interpolation="nearest"
        )
        dress(ax, style.label)
        ax.grid(False)
        if len(pairs) <= _NUMBERED_PAIRS:
            _write_quarters(ax, values)
    ticks = range(len(pairs)) if len(pairs) <= 15 else np.flatnonzero(pairs[:, 1] == pairs[:, 0] + 1)
    axes[0].set_yticks(ticks, [f"{first + 1}, {second + 1}" for first, second in pairs[list(ticks)]])
    axes[0].set_ylabel("cells", fontsize=SMALL, color=INK)
    bar = fig.colorbar(image, ax=axes, ticks=(-1, -0.5, 0, 0.5, 1), aspect=14, pad=0.02)
    bar.set_label(f"cosine ({_HALVES[half][1]})", fontsize=SMALL, color=INK)
    bar.ax.tick_params(labelsize=SMALL, colors=INK)
    bar.outline.set_visible(False)
    return fig


def who_decides(
    histories: Mapping[str, History], trajectories: Mapping[str, Trajectory], *, half: int = 1
) -> Figure:
    """The norm of each cell's gradient and its cosine with their sum, one column per method.

    Args:
        histories: of one search per method.
        trajectories: of the same searches.
        half: 0 for the batches of ω, 1 for those of α.

    Raises:
        ValueError: histories and trajectories are not of the same methods and epochs, or there are none, or
            another half.
    """
    _validate_trajectories(trajectories, half)
    name, batches = _HALVES[half]
    frames = {method: history_frame(history) for method, history in histories.items()}
    lengths = [{method: len(one) for method, one in several.items()} for several in (frames, trajectories)]
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"histories and trajectories need the same methods and epochs, got {lengths[0]} and {lengths[1]}"
        )
    size = (3.4 * len(frames) + 0.2, 5.3)
    fig, axes = new_figure(2, len(frames), size, sharey="row", sharex="col")
    styles = method_styles(list(frames))
    for column, (method, style) in enumerate(zip(frames, styles, strict=True)):
        decisions = trajectories[method].decisions[:, half]
        norms = frames[method][[f"{name}_norm_{cell}" for cell in range(decisions.shape[1])]].to_numpy()
        for ax, values in ((axes[column], norms), (axes[len(frames) + column], decisions)):
            _draw_cells(ax, values)
        dress(axes[column], f"{style.label}: norm $\\|g_l\\|$ ({batches})")
        dress(axes[len(frames) + column], "$\\cos(g_l, \\Sigma g)$, who decides")
        axes[column].set_xlabel("")
    handles, names = axes[0].get_legend_handles_labels()
    named = range(len(names)) if len(names) <= _NAMED_CELLS else (0, len(names) - 1)
    fig.legend(
        [handles[cell] for cell in named], [names[cell] for cell in named], loc="outside upper left",
        ncols=3, frameon=False, handlelength=3, fontsize=TEXT, labelcolor=INK,
    )  # fmt: skip
    return fig


def _frames(searches: Searches, columns: Sequence[str]) -> dict[str, list[pd.DataFrame]]:
    if isinstance(searches, pd.DataFrame):
        searches = {
            str(name): [search for _, search in several.groupby("seed")]
            for name, several in searches.groupby("variant", sort=False)
        }
    frames = {name: [history_frame(one) for one in several] for name, several in searches.items()}
    if not frames or not columns or not all(frames.values()):
        raise ValueError("nothing to draw: give at least one column, one method, one search of each")
    for name, several in frames.items():
        for frame in several:
            for column in columns:
                if column not in frame:
                    raise ValueError(
                        f"a history of {name} has no column {column!r}, only {list(frame.columns)}"
                    )
    return frames


def _draw_methods(ax: Axes, frames: Mapping[str, Sequence[pd.DataFrame]], column: str) -> None:
    for style, several in zip(method_styles(list(frames)), frames.values(), strict=True):
        _draw_seeds(ax, pd.concat([frame[column] for frame in several], axis=1, join="inner"), style)
    dress(ax, _TITLES.get(column, column_label(column)), integer=column in _COUNTS)


def _draw_seeds(ax: Axes, seeds: pd.DataFrame, style: MethodStyle) -> None:
    """One method in one panel; ``seeds`` is [epochs, seeds]."""
    x = seeds.index.to_numpy() + 1
    if seeds.shape[1] > 1:
        ax.plot(x, seeds, color=style.colour, lw=0.8, alpha=0.4)
    line = {"color": style.colour, "ls": style.line, "lw": 2.4, "label": style.label}
    marks = {"marker": style.marker, "ms": 6.5, "mec": "white", "mew": 0.7, "markevery": max(1, len(x) // 6)}
    ax.plot(x, seeds.mean(axis=1), zorder=3, **line, **marks)


def _draw_references(ax: Axes, heights: Mapping[str, float]) -> None:
    check_references(heights)
    for name, y in heights.items():
        ax.axhline(y, color=INK, lw=1.2, ls=REFERENCES[name], zorder=2)
    label_at_right(ax, heights, gap=0.11, colours=[INK] * len(heights))


def _add_legend(fig: Figure, ax: Axes, frames: Mapping[str, Sequence[pd.DataFrame]]) -> None:
    handles, names = ax.get_legend_handles_labels()
    counts = [len(several) for several in frames.values()]
    labels = [f"{name} ({count} seed{'s' * (count > 1)})" for name, count in zip(names, counts, strict=True)]
    note = "thick: mean over the seeds; thin: single searches" if max(counts) > 1 else None
    fig.legend(
        handles, labels, loc="outside upper left", ncols=2, frameon=False, alignment="left", handlelength=3,
        fontsize=TEXT, labelcolor=INK, title=note, title_fontproperties={"size": SMALL},
    )  # fmt: skip


def _validate_trajectories(trajectories: Mapping[str, Trajectory], half: int) -> None:
    if half not in (0, 1):
        raise ValueError(f"half must be 0 (batches of ω) or 1 (batches of α), got {half}")
    if not trajectories or not all(len(one) for one in trajectories.values()):
        raise ValueError("nothing to draw: give at least one trajectory, of at least one epoch")
    cells = {name: one.cosines.shape[-1] for name, one in trajectories.items()}
    if len(set(cells.values())) > 1 or min(cells.values()) < 2:
        raise ValueError(f"the searches need equally many cells, at least two, got {cells}")


def _write_quarters(ax: Axes, values: np.ndarray) -> None:
    """The mean of each quarter of the epochs in each row of a map; ``values`` is [pairs, epochs]."""
    halo = [withStroke(linewidth=3, foreground="white", alpha=0.75)]
    for block in np.array_split(np.arange(values.shape[1]), min(4, values.shape[1])):
        for row, mean in enumerate(values[:, block].mean(axis=1)):
            text = f"{mean:+.2f}".replace("-", "−")
            ax.text(
                block.mean() + 1, row, text, ha="center", va="center", fontsize=SMALL, color=INK,
                path_effects=halo,
            )  # fmt: skip


def _draw_cells(ax: Axes, values: np.ndarray) -> None:
    """One line per cell, from light (next to the input) to dark; ``values`` is [epochs, cells]."""
    x = np.arange(1, len(values) + 1)
    colours = colormaps["viridis_r"](np.linspace(0.28, 1.0, values.shape[1]))
    for cell, colour in enumerate(colours):
        ax.plot(
            x, values[:, cell], color=colour, lw=1.8, ls=_LINES[cell % len(_LINES)], label=f"cell {cell + 1}"
        )
