"""The film of a search: the cell that each epoch would derive, where it stands on the curves, and a slider.

The slider is one block of HTML with an ``<input type="range">``, the pictures as data and a few lines of
script. Linked ipywidgets would do the same, but a static page then loads require.js and the widget manager
from other hosts, and their pictures have no alternative text. This block loads nothing: it works on the pages
of the book, offline, in Jupyter and on Colab. Where scripts are not run, the first picture remains. Epochs
are counted from 1: epoch E is what row E - 1 of the history records.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from IPython.display import HTML
from jinja2 import Template
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ldarts_book.figures.canvas import dress, grid, new_figure
from ldarts_book.figures.cells import INCHES_PER_NODE, cell_alt_text, draw_cell
from ldarts_book.figures.style import ACCENT, GREY, INK, styled
from ldarts_lib.spaces.genotype import Cell

_CELL, _CURVES = (3.7, 2.45), (3.7, 2.95)
_LOSS = "validation loss of the supernet"
_PIXELS_PER_INCH = 96
_SHARPNESS = 1.25
_SHADES = 8
_SHRINK = 0.85
_TEMPLATE = Path(__file__).with_name("scrubber.html")


@dataclass(frozen=True)
class Film:
    """What is known of every epoch of one search; the sequences are equally long.

    Attributes:
        cells: the derived cells.
        weights: architecture weight of the operation on each edge (target, source) of these cells.
        accuracies: test accuracy of each cell, trained on its own, in 0..1.
        std: standard deviation of each accuracy over its training seeds.
        losses: validation loss of the supernet.
        best: accuracy of the best cell of the space.
        random: mean accuracy of a random cell.
    """

    cells: Sequence[Cell]
    weights: Sequence[Mapping[tuple[int, int], float]]
    accuracies: Sequence[float]
    std: Sequence[float]
    losses: Sequence[float]
    best: float
    random: float

    def __post_init__(self) -> None:
        every = {name: len(values) for name, values in vars(self).items() if name not in ("best", "random")}
        if len(set(every.values())) > 1 or not len(self):
            raise ValueError(f"every epoch needs one value of each kind, got {every}")

    def __len__(self) -> int:
        return len(self.cells)

    def verdict(self, epoch: int) -> str:
        """What the cell of an epoch is worth."""
        worth = f"{self.accuracies[epoch - 1]:.3f} ± {self.std[epoch - 1]:.3f}"
        return f"accuracy of this cell {worth}, best {self.best:.3f}"

    def require(self, epochs: Sequence[int]) -> None:
        """Raise :class:`ValueError` if there is no epoch, or one that the film does not have."""
        if not epochs:
            raise ValueError("nothing to draw: give at least one epoch")
        for epoch in epochs:
            if not 1 <= epoch <= len(self):
                raise ValueError(f"the epochs are counted from 1 to {len(self)}, got {epoch}")


def play(film: Film) -> HTML:
    """Show a search epoch by epoch: the derived cell, and the curves with the epoch marked."""
    epochs = range(1, len(film) + 1)
    frames, texts = (draw_frame(film, epoch) for epoch in epochs), [frame_alt_texts(film, e) for e in epochs]
    return scrubber(frames, texts, [film.verdict(epoch) for epoch in epochs])


@styled
def draw_frame(film: Film, epoch: int) -> tuple[Figure, Figure]:
    """The cell of an epoch, and the curves with the epoch marked: what does not change does not move.

    Raises:
        ValueError: there is no such epoch, or its weights are not those of the cell.
    """
    film.require([epoch])
    left, (ax,) = new_figure(grid(1, 1), _CELL, layout=None)
    draw_cell(film.cells[epoch - 1], ax=ax, weights=film.weights[epoch - 1])
    width = max(_CELL[0], np.ptp(ax.get_xlim()) * INCHES_PER_NODE)
    height = max(_CELL[1], np.ptp(ax.get_ylim()) * INCHES_PER_NODE + 0.85)
    left.set_size_inches(width, height)
    ax.set_position((0, 0.4 / height, 1, 1 - 0.85 / height))
    left.text(0.5, 1 - 0.12 / height, "line width: weight $p$ of the operation", ha="center", va="top")
    left.text(0.5, 0.1 / height, film.verdict(epoch), ha="center", va="bottom")
    right, axes = new_figure(grid(2, 1), _CURVES, layout=None, sharex=True, height_ratios=(1.45, 1))
    right.subplots_adjust(left=0.115, right=0.815, top=0.905, bottom=0.15, hspace=0.5)
    _draw_curves(axes, film, [epoch])
    return left, right


def frame_alt_texts(film: Film, epoch: int) -> tuple[str, str]:
    """Descriptions of the two panels of :func:`draw_frame`."""
    film.require([epoch])
    return (
        f"Epoch {epoch} of {len(film)}. {cell_alt_text(film.cells[epoch - 1])}",
        f"Curves over {len(film)} epochs. At epoch {epoch}: {film.verdict(epoch)}, "
        f"random {film.random:.3f} on average. The {_LOSS} is {film.losses[epoch - 1]:.3f}.",
    )


@styled
def key_frames(film: Film, epochs: Sequence[int]) -> Figure:
    """A still picture of a search: the cells of some epochs, four fit well, and the curves with them marked.

    Raises:
        ValueError: no epoch is given, or there is no such epoch.
    """
    film.require(epochs)
    across = min(2, len(epochs))
    places, below = grid(len(epochs), across), [[row] * across for row in ("accuracy", "loss")]
    heights = [2.1] * len(places) + [1.9, 1.2]
    fig, axes = new_figure(places + below, (3.1 * across, sum(heights) + 0.2), height_ratios=heights)
    for ax, epoch in zip(axes, epochs, strict=False):
        title = f"epoch {epoch}: accuracy {film.accuracies[epoch - 1]:.3f}"
        draw_cell(film.cells[epoch - 1], ax=ax, weights=film.weights[epoch - 1], title=title)
    axes[-2].sharex(axes[-1])
    _draw_curves(axes[-2:], film, epochs)
    return fig


def scrubber(
    frames: Iterable[Sequence[Figure]], alt_texts: Iterable[Sequence[str]], spoken: Sequence[str] = ()
) -> HTML:
    """Show one frame at a time, chosen by a slider that the arrow keys move as well, or all in turn.

    Each figure becomes a picture of few colours, at its size in inches; 80 frames of two panels take less
    than 2 MB.

    Args:
        frames: figures, the same sizes in all frames; they stand side by side where there is room.
        alt_texts: for each frame the descriptions of its figures.
        spoken: for each frame what a screen reader says when the slider comes to it, after its number.

    Raises:
        ValueError: there is no frame, or descriptions are missing, empty or too many.
    """
    pictures, texts = [[_picture(panel) for panel in frame] for frame in frames], [*alt_texts]
    if not pictures:
        raise ValueError("nothing to show: give at least one frame")
    found, needed = ([len(panels) for panels in frames] for frames in (texts, pictures))
    if found != needed or not all(text for panels in texts for text in panels):
        raise ValueError(f"every picture needs a description: {needed} pictures, {found} descriptions")
    shown = [
        [{"src": src, "alt": alt} for (src, _), alt in zip(*frame, strict=True)]
        for frame in zip(pictures, texts, strict=True)
    ]
    images = [
        {"src": src, "alt": alt, "width": width, "basis": round(_SHRINK * width)}
        for (src, width), alt in zip(pictures[0], texts[0], strict=True)
    ]
    said = [f"; {words}" for words in spoken] or [""] * len(shown)
    data, said = (json.dumps(v, ensure_ascii=False).replace("<", "\\u003c") for v in (shown, said))
    key, room = hashlib.sha256(data.encode()).hexdigest()[:12], sum(image["width"] for image in images)
    template = Template(_TEMPLATE.read_text(encoding="utf-8"), keep_trailing_newline=True)
    known = {"key": key, "total": len(shown), "images": images, "frames": data, "spoken": said, "room": room}
    return HTML(template.render(known))


def _picture(figure: Figure) -> tuple[str, int]:
    """A data URL, WebP without loss but for the few shades of each colour, and the width in CSS pixels."""
    before = figure.dpi
    figure.set_dpi(_PIXELS_PER_INCH * _SHARPNESS)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_dpi(before)
    step = 255 / (_SHADES - 1)
    colours = np.round(np.round(np.asarray(canvas.buffer_rgba())[..., :3] / step) * step)
    file = io.BytesIO()
    Image.fromarray(colours.astype(np.uint8)).save(file, "WEBP", lossless=True, quality=100)
    data = base64.b64encode(file.getvalue()).decode()
    return f"data:image/webp;base64,{data}", round(figure.get_figwidth() * _PIXELS_PER_INCH)


def _draw_curves(axes: Sequence[Axes], film: Film, epochs: Sequence[int]) -> None:
    """Accuracies above, losses below."""
    x = np.arange(1, len(film) + 1)
    for ax, values in zip(axes, (film.accuracies, film.losses), strict=True):
        ax.plot(x, values, color=INK, lw=1.6, label="search", solid_joinstyle="round")
        for epoch in epochs:
            ax.axvline(epoch, color=ACCENT, lw=1.0, zorder=1)
            ax.plot(epoch, values[epoch - 1], "o", color=ACCENT, ms=7, mec="white", mew=1, zorder=4)
    upper, lower = axes
    low, high = (np.asarray(film.accuracies) + sign * np.asarray(film.std) for sign in (-1, 1))
    upper.fill_between(x, low, high, color=GREY, alpha=0.35, lw=0)
    for name, y, line, side in (
        ("best", film.best, "dashed", "bottom"),
        ("random", film.random, "dotted", "top"),
    ):
        upper.axhline(y, color=GREY, lw=1.4, ls=line, zorder=1.5)
        upper.text(1.02, y, name, va=side, transform=upper.get_yaxis_transform())
    dress(upper, "accuracy of the derived cell", x="")
    dress(lower, _LOSS)
    upper.tick_params(labelbottom=False)
    upper.set_xlim(0, len(film) + 1)
