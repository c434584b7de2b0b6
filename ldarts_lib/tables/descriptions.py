"""A benchmark's row in words, for the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ldarts_lib.spaces.genotype import Genotype
from ldarts_lib.tables.computation import encode
from ldarts_lib.tables.tables import Benchmark


def describe(benchmark: Benchmark, genotype: Genotype) -> dict[str, str]:
    """What the benchmark knows of an architecture, as lines of a name and a text.

    Raises:
        GenotypeError: it is of another space.
    """
    row = benchmark.query(genotype)
    lines = {"cell": str(genotype), "digits": encode(genotype)}
    return lines | _DESCRIBED[benchmark.name](benchmark, row, benchmark.regret(genotype))


def _digits201_row(benchmark: Benchmark, row: dict[str, Any], regret: float) -> dict[str, str]:
    seeds = sum(name.startswith("accuracy_") for name in row)
    return {
        "test accuracy": f"{row['accuracy']:.4f} ± {row['std']:.4f} (mean and deviation of {seeds} seeds)",
        "place": f"{row['place']:,} of {len(benchmark.table):,} different computations",
        "regret": f"{regret:.4f} below the best",
        "parameters": f"{row['parameters']:,.0f}",
        "FLOPs": f"{row['flops']:,.0f} for one image",
    }


def _nasbench201_row(benchmark: Benchmark, row: dict[str, Any], regret: float) -> dict[str, str]:
    names = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "ImageNet16-120": "imagenet16"}
    accuracies = {
        name: f"{row[f'{column}_valid']:.2f} % validation, {row[f'{column}_test']:.2f} % test"
        for name, column in names.items()
    }
    return {
        "index": f"{row['index']:.0f}",
        **accuracies,
        "place": f"{row['place']:,} of {len(benchmark.table):,} by CIFAR-10 test accuracy",
        "regret": f"{regret:.2f} percent points of it below the best",
    }


_DESCRIBED: Mapping[str, Callable[[Benchmark, dict[str, Any], float], dict[str, str]]] = {
    "digits-201": _digits201_row,
    "nasbench201": _nasbench201_row,
}
