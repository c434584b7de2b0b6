"""One way to ask every tabular benchmark: open it by name, query it by genotype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from ldarts_lib.errors import require_known
from ldarts_lib.spaces.genotype import Genotype, parse
from ldarts_lib.tables.computation import computation, encode

BENCHMARKS = ("digits-201", "nasbench201")


@dataclass(frozen=True)
class Benchmark:
    """A table of architectures with their accuracies.

    Attributes:
        name: one of :data:`BENCHMARKS`.
        table: one row per architecture.
        target: the column that a search is judged by, a test accuracy.
        key: the row's label, from the six digits of a cell.
    """

    name: str
    table: pd.DataFrame
    target: str
    key: Callable[[str], str]

    def query(self, genotype: Genotype | str) -> dict[str, Any]:
        """The row of an architecture, and its place: 1 for the best of the table.

        Args:
            genotype: a genotype, or its NAS-Bench-201 string.

        Raises:
            GenotypeError: it cannot be read, or is of another space.
        """
        parsed = parse(genotype) if isinstance(genotype, str) else genotype
        row = self.table.loc[self.key(encode(parsed))]
        place = int((self.table[self.target] > row[self.target]).sum()) + 1
        return {**row.to_dict(), "place": place}

    def accuracy(self, genotype: Genotype | str) -> float:
        """The accuracy that a search is judged by, in the table's unit."""
        return float(self.query(genotype)[self.target])

    def regret(self, genotype: Genotype | str) -> float:
        """How much better the best architecture of the table is, in the table's unit."""
        return float(self.table[self.target].max()) - self.accuracy(genotype)


def open_benchmark(name: str) -> Benchmark:
    """Open a benchmark; both ship with the library, and neither takes longer than 0.2 s.

    Args:
        name: ``digits-201`` (accuracies between 0 and 1) or ``nasbench201`` (accuracies in percent).

    Raises:
        UnknownName: no such benchmark.
    """
    require_known("benchmark", name, BENCHMARKS)
    if name == "digits-201":
        return Benchmark(name, digits201(), "accuracy", lambda ops: computation(ops).key)
    return Benchmark(name, nasbench201(), "cifar10_test", lambda ops: ops)


def digits201() -> pd.DataFrame:
    """Digits-201: one row per computation, under its key.

    Columns: ``ops`` (the digits of the cell that was trained), ``cells`` (how many of the 15,625 compute
    this), ``accuracy`` and ``std`` (mean and sample standard deviation of the test accuracy over the seeds,
    between 0 and 1), ``accuracy_0`` ... (of each seed), ``parameters``, ``flops`` (of one image; a multiply
    and an add are two), ``seconds`` (CPU time of one training).
    """
    table = _read("digits201/table.csv", "computation")
    seeds = table.filter(like="accuracy_")
    table.insert(0, "accuracy", seeds.mean(axis=1))
    table.insert(1, "std", seeds.std(axis=1))
    return table


def nasbench201() -> pd.DataFrame:
    """NAS-Bench-201: one row per cell, in the order of the official index, under its six digits.

    Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020;
    where this copy is from stands in ``data/nasbench201/provenance.json``.

    Columns: ``index`` (the official number), ``cifar10_valid``, ``cifar10_test``, ``cifar100_valid``,
    ``cifar100_test``, ``imagenet16_valid`` and ``imagenet16_test``: percent after 200 epochs, the mean over
    one to three trainings. CIFAR-10 validation accuracies are of networks that were trained on half of the
    training images, CIFAR-10 test accuracies on all of them.
    """
    return _read("nasbench201/table.csv.gz", "ops")


def _read(name: str, key: str) -> pd.DataFrame:
    return pd.read_csv(Path(str(files("ldarts_data"))) / name, dtype={"ops": str}, index_col=key)
