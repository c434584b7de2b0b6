"""The style sheet: ink, sizes, and the looks of operations, of methods and of everything else.

A method has one colour and one marker in the whole book, and nothing else has them. Labels, dashes and
markers repeat what colours say; the colours of operations suit text on white.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, style
from matplotlib.colors import to_hex

from ldarts_book.studies.study import METHODS as _NAMES

INK, GREY, PALE = "#222222", "#8b9199", "#d9dde2"
ACCENT = "#a3195b"
"""What one figure points at; no method, no operation."""
TEXT, SMALL = 12, 11

styled = style.context(Path(__file__).with_name("book.mplstyle"))
"""Decorates what draws, so that the settings of other figures stay as they are."""

Line = str | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class Operation:
    """How an operation is drawn, and in which ``words`` it is spoken of."""

    label: str
    words: str
    colour: str = "#4a4a4a"
    line: Line = "solid"


@dataclass(frozen=True)
class Look:
    """How a line or a mark is named and drawn."""

    label: str
    colour: str
    marker: str
    line: Line = "solid"

    @property
    def mark(self) -> dict[str, Any]:
        """Arguments of a line that is only this mark: pointed ones need more points to look as large."""
        size = {"*": 11, "X": 8.5, "d": 9, "<": 8.5, ">": 8.5, "^": 7.5, "v": 7.5}.get(self.marker, 7)
        edge = (
            {"mec": self.colour, "mew": 0.6} if self.marker[:1] in ("$", "1", "2") else {}
        )  # letters and strokes
        return {"color": self.colour, "marker": self.marker, "ms": size, "ls": "none"} | edge


OPERATIONS: Mapping[str, Operation] = {
    "none": Operation("none", "no connection", "#6f7680", (0, (1, 2.2))),
    "skip_connect": Operation("skip", "a skip connection", "#1c1c1c", (0, (3.5, 1.8))),
    "nor_conv_1x1": Operation("1×1", "a 1×1 convolution", "#2478b5"),
    "nor_conv_3x3": Operation("3×3", "a 3×3 convolution", "#0b4a86"),
    "avg_pool_3x3": Operation("avg", "a 3×3 average pooling", "#b0408f"),
    "max_pool_3x3": Operation("max", "a 3×3 maximum pooling", "#742a86"),
    "sep_conv_3x3": Operation("sep3", "a 3×3 separable convolution", "#007a6c"),
    "sep_conv_5x5": Operation("sep5", "a 5×5 separable convolution", "#004c43"),
    "dil_conv_3x3": Operation("dil3", "a 3×3 dilated convolution", "#5c7600"),
    "dil_conv_5x5": Operation("dil5", "a 5×5 dilated convolution", "#3a4b00"),
    "noise": Operation("noise", "noise", "#8a4b2a"),
    "sep_conv_7x7": Operation("sep7", "a 7×7 separable convolution", "#00312b"),
    "conv_7x1_1x7": Operation("7×1", "a 1×7 and a 7×1 convolution", "#062c50"),
    "identity": Operation("id", "the identity", "#2b2b2b", (0, (3.5, 1.8))),
    "tanh": Operation("tanh", "tanh", "#1f6ea6"),
    "sigmoid": Operation("σ", "the sigmoid", "#a33a84"),
    "relu": Operation("relu", "ReLU", "#00695d"),
}
"""The look of the operations; others are drawn in grey under their own name."""

METHODS: Mapping[str, Look] = {
    method: Look(_NAMES[method], *look)
    for method, look in {
        "darts": ("#d55e00", "o"),
        "lambda": ("#0072b2", "s"),
        "darts-2nd": ("#7a3b00", "v", "dashed"),
        "lambda-sign": ("#3a9bdc", "D", "dashed"),
        "lambda-projected": ("#117a65", "P", "dashdot"),
        "lambda-edge": ("#000073", r"$\mathbf{e}$", "dashed"),
        "lambda-random": ("#9b7fb8", "^", "dashdot"),
        "lambda-noise": ("#5c5c5c", "p", "dotted"),
        "lambda-blurred": ("#12355b", "2", "dashdot"),
        "lambda-flipped": ("#c71585", "1", "dotted"),
        "darts-es": ("#0000d9", r"$\mathbf{E}$"),
        "r-darts": ("#d900d9", r"$\mathbf{R}$"),
        "sdarts-rs": ("#d9002b", r"$\mathbf{S}$"),
        "sdarts-adv": ("#929954", r"$\mathbf{A}$"),
        "darts-minus": ("#a5b800", r"$\mathbf{M}$"),
        "beta-darts": ("#00b881", r"$\beta$"),
        "pc-darts": ("#00a5b8", r"$\mathbf{P}$"),
        "drnas": ("#006cd9", r"$\mathbf{D}$"),
        "gdas": ("#73111b", r"$\mathbf{G}$"),
        "fair-darts": ("#733f5e", r"$\mathbf{F}$"),
        "oles": ("#d9684c", r"$\mathbf{O}$"),
    }.items()
}
OTHERS: tuple[Look, ...] = (
    Look("", "#6f3fc0", "X"),
    Look("", "#b8860b", "d", "dashed"),
    Look("", "#d77fae", "h", "dashdot"),
    Look("", "#4f9d2f", "<", "dotted"),
    Look("", "#45607a", ">", (0, (5, 1, 1, 1, 1, 1))),
    Look("", "#9c6f5a", "*", (0, (1, 1))),
    Look("", "#2e2a72", "8", (0, (6, 2))),
)
"""The looks of what is no method, in their order."""
PLAIN = Look("", INK, "H")
"""A row that has its name beside it needs no look of its own."""
SOURCES: Mapping[str, Look] = {
    "published": Look("published", INK, "H"),
    "run here": Look("run here", ACCENT, "d"),
}
REFERENCES: Mapping[str, str] = {"random cell": "dotted", "random search": "dashdot", "best cell": "dashed"}
"""The lines of what accuracies are held against, from the floor to the ceiling; others are dashed."""

_SELECTED = {"DARTS-PT": Look("DARTS-PT", "#45607a", r"$\mathbf{T}$")}
_KNOWN = {name: look for key, look in METHODS.items() for name in (key, look.label)} | SOURCES | _SELECTED
_COLUMNS = {
    "accuracy": "accuracy of the derived cell",
    "regret": "regret: what the best cell has more",
    "convolutions": "convolutions on live paths",
    "skips": "skip connections in the genotype",
    "entropy": "entropy of p (nats)",
    "lambda": r"strength $\lambda_t$",
    "learning_rate": "learning rate of ω",
    "seconds": "seconds per epoch",
    "loss": r"loss $\mathcal{L}$",
    "alignment": "layer alignment Λ",
}
_COLUMNS_OF_HALVES = {
    "loss": r"{half} loss $\mathcal{{L}}_\mathrm{{{symbol}}}$",
    "accuracy": "{half} accuracy of the supernet",
    "alignment": "layer alignment Λ ({batches})",
    "projected_alignment": "projected Λ ({batches})",
}
HALVES = {
    "train": {"half": "training", "symbol": "train", "batches": "ω batches"},
    "valid": {"half": "validation", "symbol": "val", "batches": "α batches"},
}


def operation_look(operation: str) -> Operation:
    """The look of an operation."""
    label = operation if len(operation) <= 10 else f"{operation[:9]}…"
    return OPERATIONS.get(operation, Operation(label, operation))


def known_look(name: str) -> Look | None:
    """The look of a method, called by its key or by its label, or of a source."""
    return _KNOWN.get(name)


def looks(names: Iterable[str]) -> dict[str, Look]:
    """The looks of what shares a figure: of methods and sources their own, of all else the other ones."""
    others = cycle(OTHERS)
    return {name: known_look(name) or replace(next(others), label=name) for name in names}


def ordered_looks(names: Iterable[str]) -> dict[str, Look]:
    """Looks of what has an order, from light to dark."""
    names = list(names)
    colours = colormaps["viridis_r"](np.linspace(0.28, 1.0, len(names)))
    lines = cycle(("solid", "dashed", "dashdot", "dotted"))
    return {
        name: Look(name, to_hex(colour), "", next(lines)) for name, colour in zip(names, colours, strict=True)
    }


def column_label(column: str) -> str:
    """What a column of a history holds, in words and symbols; its name if it is unknown."""
    half, _, quantity = column.partition("_")
    if half not in HALVES:
        return _COLUMNS.get(column, column.replace("_", " "))
    if match := re.fullmatch(r"norm_(\d+)", quantity):
        return rf"gradient norm $\|g_{{{match[1]}}}\|$ ({HALVES[half]['batches']})"
    return _COLUMNS_OF_HALVES.get(quantity, column.replace("_", " ")).format(**HALVES[half])
