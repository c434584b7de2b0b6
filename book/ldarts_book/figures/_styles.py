"""The visual language of the book: how operations, methods and columns of the history look.

Labels and dashes repeat what colours say; the colours of operations suit text on white.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle


@dataclass(frozen=True)
class OperationStyle:
    """How an operation is drawn (``label``, ``colour``, ``line``) and spoken of (``words``)."""

    label: str
    words: str
    colour: str = "#4a4a4a"
    line: str | tuple[float, tuple[float, ...]] = "solid"


@dataclass(frozen=True)
class MethodStyle:
    """How a search method is named and drawn."""

    label: str
    colour: str
    line: str = "solid"
    marker: str = "o"


OPERATION_STYLES: Mapping[str, OperationStyle] = {
    "none": OperationStyle("none", "no connection", "#6f7680", (0, (1, 2.2))),
    "skip_connect": OperationStyle("skip", "a skip connection", "#1c1c1c", (0, (3.5, 1.8))),
    "nor_conv_1x1": OperationStyle("1×1", "a 1×1 convolution", "#2478b5"),
    "nor_conv_3x3": OperationStyle("3×3", "a 3×3 convolution", "#0b4a86"),
    "avg_pool_3x3": OperationStyle("avg", "a 3×3 average pooling", "#b0408f"),
    "max_pool_3x3": OperationStyle("max", "a 3×3 maximum pooling", "#742a86"),
    "sep_conv_3x3": OperationStyle("sep3", "a 3×3 separable convolution", "#007a6c"),
    "sep_conv_5x5": OperationStyle("sep5", "a 5×5 separable convolution", "#004c43"),
    "dil_conv_3x3": OperationStyle("dil3", "a 3×3 dilated convolution", "#5c7600"),
    "dil_conv_5x5": OperationStyle("dil5", "a 5×5 dilated convolution", "#3a4b00"),
    "noise": OperationStyle("noise", "noise", "#8a4b2a"),
    "sep_conv_7x7": OperationStyle("sep7", "a 7×7 separable convolution", "#00312b"),
    "conv_7x1_1x7": OperationStyle("7×1", "a 1×7 and a 7×1 convolution", "#062c50"),
    "identity": OperationStyle("id", "the identity", "#2b2b2b", (0, (3.5, 1.8))),
    "tanh": OperationStyle("tanh", "tanh", "#1f6ea6"),
    "sigmoid": OperationStyle("σ", "the sigmoid", "#a33a84"),
    "relu": OperationStyle("relu", "ReLU", "#00695d"),
}
"""The look of the operations; others are drawn in grey under their own name."""

METHOD_STYLES: Mapping[str, MethodStyle] = {
    "darts": MethodStyle("DARTS", "#d55e00"),
    "lambda": MethodStyle("Λ-DARTS", "#0072b2", marker="s"),
    "darts-2nd": MethodStyle("DARTS, second order", "#7a3b00", "dashed", "v"),
    "lambda-sign": MethodStyle("Λ-DARTS, sign form", "#3a9bdc", "dashed", "D"),
    "lambda-projected": MethodStyle("Λ-DARTS, projected", "#117a65", "dashdot", "P"),
    "lambda-random": MethodStyle("random direction", "#8a8a8a", "dashdot", "^"),
    "lambda-noise": MethodStyle("noise of equal length", "#5c5c5c", "dotted", "p"),
}
"""The look of the methods; others take the remaining looks in their order."""

_OTHER_METHODS = (("#009e73", "P"), ("#cc79a7", "X"), ("#5c5c5c", "p"), ("#7a4fbf", "*"))
_COLUMN_LABELS = {
    "loss": r"{half} loss $\mathcal{{L}}_\mathrm{{{symbol}}}$",
    "accuracy": "{half} accuracy of the supernet",
    "alignment": "layer alignment Λ ({batches})",
    "projected_alignment": "projected Λ ({batches})",
    "lambda": r"strength $\lambda_t$",
    "learning_rate": "learning rate of ω",
    "entropy": "entropy of p (nats)",
    "skips": "skip connections in the genotype",
    "seconds": "seconds per epoch",
}
_HALVES = {
    "train": {"half": "training", "symbol": "train", "batches": "ω batches"},
    "valid": {"half": "validation", "symbol": "val", "batches": "α batches"},
}


def operation_style(operation: str) -> OperationStyle:
    """The look of an operation."""
    return OPERATION_STYLES.get(operation, OperationStyle(operation, operation))


def method_styles(names: Sequence[str]) -> list[MethodStyle]:
    """The looks of methods that share a figure; a method is called by its key or by its label."""
    known = {name: s for key, s in METHOD_STYLES.items() for name in (key, s.label)}
    others = [name for name in names if name not in known]
    looks = cycle(_OTHER_METHODS)
    known |= {
        name: MethodStyle(name, colour, marker=marker)
        for name, (colour, marker) in zip(others, looks, strict=False)
    }
    return [known[name] for name in names]


def column_label(column: str) -> str:
    """What a column of the history holds, in words and symbols; its name if it is unknown."""
    half, _, quantity = column.partition("_")
    if half not in _HALVES:
        return _COLUMN_LABELS.get(column, column)
    if match := re.fullmatch(r"norm_(\d+)", quantity):
        return rf"gradient norm $\|g_{{{match[1]}}}\|$ ({_HALVES[half]['batches']})"
    return _COLUMN_LABELS.get(quantity, column).format(**_HALVES[half])
