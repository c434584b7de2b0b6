"""Figures: one style sheet, rows with intervals, curves, heat maps, cells, theory, the film of a search.

They take values and tables and are returned closed: a notebook shows them once, as the value of a cell. Their
ground is white, so that they read the same on a light and on a dark page.
"""

from ldarts_book.figures.cells import (
    cell_alt_text,
    draw_cell,
    draw_cells,
    draw_genotype,
    draw_stacks,
    draw_supernet,
)
from ldarts_book.figures.curves import cell_curves, curves, halves, weight_curves
from ldarts_book.figures.distributions import distribution, scatter
from ldarts_book.figures.dominance import dominance
from ldarts_book.figures.film import Film, key_frames, play
from ldarts_book.figures.heat_maps import heat_maps, show_images
from ldarts_book.figures.idea import draw_idea
from ldarts_book.figures.intervals import intervals
from ldarts_book.figures.theory import lines, loss_lines, simplex_flow

__all__ = [
    "Film",
    "cell_alt_text",
    "cell_curves",
    "curves",
    "distribution",
    "dominance",
    "draw_cell",
    "draw_cells",
    "draw_genotype",
    "draw_idea",
    "draw_stacks",
    "draw_supernet",
    "halves",
    "heat_maps",
    "intervals",
    "key_frames",
    "lines",
    "loss_lines",
    "play",
    "scatter",
    "show_images",
    "simplex_flow",
    "weight_curves",
]
