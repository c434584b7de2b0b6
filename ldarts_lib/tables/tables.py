"""One way to ask every tabular benchmark: open it by name, query it by genotype."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ldarts_lib.errors import require_known
from ldarts_lib.spaces.genotype import Genotype
from ldarts_lib.spaces.notations import parse
from ldarts_lib.tables.computation import computation, encode

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
"""What a table says of one architecture: name of the column → number or text."""

TABLES = ("digits-201", "nasbench201")
_KINDS = dict.fromkeys(("index", "cells", "parameters", "flops"), int) | {"ops": str, "computation": str}


@dataclass(frozen=True)
class Table:
    """A table of architectures with their accuracies.

    Attributes:
        name: one of :data:`TABLES`.
        columns: name of the column → its values, one per architecture.
        label: the column that tells architectures apart.
        target: the column that a search is judged by, a test accuracy.
        key: an architecture's label, from the six digits of a cell.
    """

    name: str
    columns: Mapping[str, Sequence[Any]]
    label: str
    target: str
    key: Callable[[str], str]

    def __len__(self) -> int:
        return len(self.columns[self.label])

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The columns as pandas holds them, indexed by the labels."""
        import pandas as pd  # takes longer to import than a query takes

        return pd.DataFrame(self.columns).set_index(self.label)

    def query(self, genotype: Genotype | str) -> Row:
        """The row of an architecture, and its place: 1 for the best of the table.

        Args:
            genotype: a genotype, or its NAS-Bench-201 string.

        Raises:
            GenotypeError: it cannot be read, or is of another space.
        """
        parsed = parse(genotype) if isinstance(genotype, str) else genotype
        number = self.columns[self.label].index(self.key(encode(parsed)))
        row = {name: values[number] for name, values in self.columns.items() if name != self.label}
        # 1 + |{c : A(c) > A(cell)}|
        place = 1 + sum(accuracy > row[self.target] for accuracy in self.columns[self.target])
        return {**row, "place": place}

    def accuracy(self, genotype: Genotype | str) -> float:
        """The accuracy that a search is judged by, in the table's unit."""
        return self.query(genotype)[self.target]

    def regret(self, genotype: Genotype | str) -> float:
        """How much better the best architecture of the table is, in the table's unit."""
        # max_c A(c) − A(cell)
        return max(self.columns[self.target]) - self.accuracy(genotype)


def open_table(name: str) -> Table:
    """Open a table of accuracies; both ship with the library.

    Digits-201 has one row per computation, under its key. Columns: ``accuracy`` and ``std`` (mean and sample
    standard deviation of the test accuracy over the seeds, between 0 and 1), ``ops`` (the digits of the cell
    that was trained), ``cells`` (how many of the 15,625 compute this), ``parameters``, ``flops`` (of one
    image; a multiply and an add are two), ``seconds`` (CPU time of one training), ``accuracy_0`` ... (of each
    seed).

    NAS-Bench-201 (Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture
    Search", ICLR 2020; where this copy is from stands in ``data/nasbench201/provenance.json``) has one row
    per cell, in the order of the official index, under its six digits. Columns: ``index`` (the official
    number), ``cifar10_valid``, ``cifar10_test``, ``cifar100_valid``, ``cifar100_test``, ``imagenet16_valid``
    and ``imagenet16_test``: percent after 200 epochs, the mean over one to three trainings. CIFAR-10
    validation accuracies are of networks that were trained on half of the training images, CIFAR-10 test
    accuracies on all of them.

    Examples:
        >>> table = open_table("nasbench201")
        >>> row = table.query("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|")
        >>> row["cifar10_test"], row["place"]
        (90.95, 7501)

    Args:
        name: ``digits-201`` or ``nasbench201``.

    Raises:
        UnknownName: no such benchmark.
    """
    require_known("benchmark", name, TABLES)
    if name == "digits-201":
        return Table(name, _digits201(), "computation", "accuracy", lambda ops: computation(ops).key)
    return Table(name, _read("nasbench201/table.csv.gz"), "ops", "cifar10_test", lambda ops: ops)


_ACCURACIES = {
    "noisy-digits": ("digits-201", None, "accuracy", 1.0),
    "cifar10": ("nasbench201", "cifar10_valid", "cifar10_test", 100.0),
    "cifar100": ("nasbench201", "cifar100_valid", "cifar100_test", 100.0),
    "imagenet16-120": ("nasbench201", "imagenet16_valid", "imagenet16_test", 100.0),
}
"""Per data set the table, its columns of validation and test accuracies, and what 1 is in them."""
TABULATED: tuple[str, ...] = tuple(_ACCURACIES)
"""Data sets for which a table knows every cell of the space nasbench201."""


def looked_up(genotype: Genotype, dataset: str) -> Row:
    """What a table knows of a cell on a data set: ``benchmark``, and accuracies between 0 and 1.

    These are ``test_accuracy`` and, of NAS-Bench-201, ``valid_accuracy``.

    Raises:
        UnknownName: no table has accuracies on this data set.
        GenotypeError: the cell is of another space.
    """
    require_known("data set of a table", dataset, TABULATED)
    name, valid, test, one = _ACCURACIES[dataset]
    row = open_table(name).query(genotype)
    found = {"benchmark": name, "test_accuracy": row[test] / one}
    return found | ({"valid_accuracy": row[valid] / one} if valid else {})


def _digits201() -> dict[str, list[Any]]:
    columns = _read("digits201/table.csv")
    seeds = np.array([values for name, values in columns.items() if name.startswith("accuracy_")]).T
    return {"accuracy": seeds.mean(1).tolist(), "std": seeds.std(1, ddof=1).tolist(), **columns}


def _read(name: str) -> dict[str, list[Any]]:
    path = Path(str(files("ldarts_data"))) / name
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        header, *rows = csv.reader(file)
    columns = zip(header, zip(*rows, strict=True), strict=True)
    return {column: list(map(_KINDS.get(column, float), values)) for column, values in columns}
