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
    small, large = open_table("digits-201"), open_table("nasbench201")
    one, other = small.query(genotype), large.query(genotype)
    seeds = sum(name.startswith("accuracy_") for name in one)
    cifar10, cifar100, imagenet16 = (
        f"{other[f'{name}_test']:.2f} % ({other[f'{name}_valid']:.2f} % validation)"
        for name in ("cifar10", "cifar100", "imagenet16")
    )
    accuracy = f"{one['accuracy']:.4f} ± {one['std']:.4f} ({seeds} seeds)"
    places = f"{one['place']:,} of {len(small):,} computations", f"{other['place']:,} of {len(large):,} cells"
    below = f"{small.regret(genotype):.4f} below the best"
    return [
        cell,
        ("digits", encode(genotype)),
        ("", "Digits-201", "NAS-Bench-201"),
        ("test accuracy", accuracy, f"{cifar10}, CIFAR-10"),
        ("place", *places),
        ("regret", below, f"{large.regret(genotype):.2f} points below the best"),
        ("parameters", f"{one['parameters']:,}"),
        ("FLOPs", f"{one['flops']:,} for one image"),
        ("CIFAR-100", "", cifar100),
        ("ImageNet16-120", "", imagenet16),
        ("index", "", str(other["index"])),
    ]


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
