"""What is known of one cell, as lines to print: looked up if it is of NAS-Bench-201, else estimated."""

from __future__ import annotations

from ldarts_lib.spaces.genotype import Genotype
from ldarts_lib.tables.computation import encode
from ldarts_lib.tables.surrogate import estimate, quality
from ldarts_lib.tables.tables import open_table

Line = tuple[str, ...]
"""A name, and one text or one of each table."""


def answer(genotype: Genotype) -> list[Line]:
    """How good a cell of NAS-Bench-201 or of the DARTS space is; nothing is trained.

    Raises:
        GenotypeError: the cell is of neither space.
    """
    cell = ("cell", str(genotype))
    if genotype.kind != "nasbench201":
        return [cell, *_estimated(genotype)]
    small, real = _digits201(genotype), _nasbench201(genotype)
    rows = [(name, small.get(name, ""), real.get(name, "")) for name in small | real]
    return [cell, ("digits", encode(genotype)), ("", "Digits-201", "NAS-Bench-201"), *rows]


def _digits201(genotype: Genotype) -> dict[str, str]:
    table = open_table("digits-201")
    row = table.query(genotype)
    seeds = sum(name.startswith("accuracy_") for name in row)
    return {
        "test accuracy": f"{row['accuracy']:.4f} ± {row['std']:.4f} ({seeds} seeds)",
        "place": f"{row['place']:,} of {len(table):,} computations",
        "regret": f"{table.regret(genotype):.4f} below the best",
        "parameters": f"{row['parameters']:,}",
        "FLOPs": f"{row['flops']:,} for one image",
    }


def _nasbench201(genotype: Genotype) -> dict[str, str]:
    table = open_table("nasbench201")
    row = table.query(genotype)

    def accuracy(column: str) -> str:
        return f"{row[f'{column}_test']:.2f} % ({row[f'{column}_valid']:.2f} % validation)"

    return {
        "test accuracy": f"{accuracy('cifar10')}, CIFAR-10",
        "place": f"{row['place']:,} of {len(table):,} cells",
        "regret": f"{table.regret(genotype):.2f} points below the best",
        "CIFAR-100": accuracy("cifar100"),
        "ImageNet16-120": accuracy("imagenet16"),
        "index": str(row["index"]),
    }


def _estimated(genotype: Genotype) -> list[Line]:
    found, fitted = estimate(genotype), quality()
    beyond = "" if found.familiar else "; an extrapolation, no labelled cell is like this one"
    tau = fitted["cross_validation"]["kendall"]
    return [
        ("accuracy", f"{found.accuracy:.2f} % (90 %: {found.low:.2f} to {found.high:.2f}) on CIFAR-10"),
        ("", f"estimated, for the networks of NAS-Bench-301: 8 cells, 100 epochs{beyond}"),
        ("place", f"above {found.above} of {fitted['cells']} random cells"),
        ("good for", f"finding a collapsed cell (Kendall's τ {tau:.2f} on cells that were not fitted)"),
        ("not for", "ranking the newest methods: they lie within 0.6 points, an interval's width"),
    ]
