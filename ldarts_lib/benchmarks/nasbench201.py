"""NAS-Bench-201: 15,625 cells, trained for 200 epochs on CIFAR-10, CIFAR-100 and ImageNet16-120.

Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020.
The published files hold gigabytes; :func:`convert` reduces one of them to a table of less than a megabyte.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from ldarts_lib.benchmarks._releases import ACCURACIES, ARCHITECTURES, read_release, read_table
from ldarts_lib.benchmarks.computation import all_ops
from ldarts_lib.benchmarks.errors import BenchmarkCorrupt, BenchmarkMissing
from ldarts_lib.datasets.downloads import data_root
from ldarts_lib.runs import RunError, write_atomically

INSTRUCTIONS = (
    "download NATS-tss-v1_0-3ffb9-simple.tar (1.1 GB) from "
    "https://drive.google.com/file/d/17_saCsj_krKjlCBLOJEpNtzPXArMCqxU/view, or (memory of about five times "
    "the file is needed) NAS-Bench-201-v1_0-e61699.pth (2.2 GB) from "
    "https://drive.google.com/open?id=1SKW0Cu0u8-gb18zDpaAGi0f74UdXeGKs or NAS-Bench-201-v1_1-096897.pth "
    "(4.7 GB) from https://drive.google.com/open?id=16Y0UwGisiouVRxW-W5hEtbxmcHw_0hF_, "
    "then run: ldarts data nasbench201 --from FILE"
)
TOLERANCE = 0.05
"""How far, in percent points, a known fact may be off before another release is suspected."""


@dataclass(frozen=True)
class Fact:
    """A published accuracy, and what a table says.

    Attributes:
        what: which architecture.
        column: which accuracy.
        expected: as published, in percent.
        found: as in the table, in percent.
    """

    what: str
    column: str
    expected: float
    found: float

    @property
    def agrees(self) -> bool:
        """Whether both numbers are equal up to :data:`TOLERANCE`."""
        return round(abs(self.found - self.expected), 2) <= TOLERANCE

    def __str__(self) -> str:
        text = f"{self.what}, {self.column}: {self.found:.2f}"
        return text if self.agrees else f"warning: {text}, expected {self.expected:.2f} (another release?)"


_KNOWN = (
    ("111111", "cifar10_valid", 39.77),  # skip connections only
    ("111111", "cifar10_test", 54.30),
    ("333133", "cifar10_test", 94.36),  # nor_conv_3x3, but skip_connect on the edge 3<-0
    ("333133", "cifar100_test", 73.51),
    ("333133", "imagenet16_test", 46.34),
)
_BEST_CIFAR10_TEST = 94.37


def location(root: str | os.PathLike | None = None) -> Path:
    """Where the table lies: below ``root``, the variable LDARTS_DATA, or ~/.cache/ldarts."""
    return data_root(root) / "nasbench201.csv.gz"


def convert(source: str | os.PathLike, root: str | os.PathLike | None = None) -> pd.DataFrame:
    """Make the table from a published file; a table that is there is replaced.

    Each accuracy is the mean over the seeds after 200 epochs, rounded to two decimals: the rule of the
    official reader.

    Args:
        source: ``NAS-Bench-201-v1_0-e61699.pth`` or ``NAS-Bench-201-v1_1-096897.pth``; the archive
            ``NATS-tss-v1_0-3ffb9-simple.tar``, its unpacked folder or ``NATS-tss-v1_0-3ffb9.pickle.pbz2``;
            or a table ``.csv`` or ``.csv.gz``.
        root: folder of the downloads.

    Returns:
        The table, as :func:`read` returns it.

    Raises:
        BenchmarkMissing: the source is not there.
        BenchmarkCorrupt: it is damaged, of another kind, not complete, or refers to code, which is not run.
        RunError: the table cannot be written.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise BenchmarkMissing(f"there is no file or folder {path}; {INSTRUCTIONS}")
    table = read_release(path).sort_values("index")
    _require_complete(table, path)
    text = table.to_csv(index=False, float_format="%.2f", lineterminator="\n")

    def write(file: BinaryIO) -> None:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
            packed.write(text.encode())

    target = location(root)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the directory {target.parent}: {error.strerror}") from None
    write_atomically(target, write)
    return read(root)


def read(root: str | os.PathLike | None = None) -> pd.DataFrame:
    """The table: one row per cell, in the order of the official index.

    Args:
        root: folder of the downloads.

    Returns:
        The columns ``index`` (the official number), ``cifar10_valid``, ``cifar10_test``, ``cifar100_valid``,
        ``cifar100_test``, ``imagenet16_valid`` and ``imagenet16_test`` (percent), under the six digits of
        :func:`~ldarts_lib.benchmarks.computation.encode`. CIFAR-10 validation accuracies are of networks
        that were trained on half of the training images, CIFAR-10 test accuracies on all of them.

    Raises:
        BenchmarkMissing: it was not converted yet; the message says how.
        BenchmarkCorrupt: it is damaged, or another table.
    """
    path = location(root)
    if not path.is_file():
        raise BenchmarkMissing(f"NAS-Bench-201: {path} is missing; {INSTRUCTIONS}")
    table = read_table(path)
    _require_complete(table, path)
    return table.set_index("ops")


def known_facts(table: pd.DataFrame) -> list[Fact]:
    """Published accuracies beside those of a table, to tell which release it comes from.

    They are of the best cell on CIFAR-10, of the one that has skip connections only (111111), and of the one
    that is ``nor_conv_3x3`` everywhere but ``skip_connect`` on the edge 3<-0 (333133).

    Args:
        table: as :func:`read` returns it.
    """
    best = Fact("the best cell", "cifar10_test", _BEST_CIFAR10_TEST, float(table["cifar10_test"].max()))
    return [best] + [
        Fact(f"the cell {ops}", column, expected, float(table.loc[ops, column]))
        for ops, column, expected in _KNOWN
    ]


def _require_complete(table: pd.DataFrame, path: Path) -> None:
    if len(table) != ARCHITECTURES:
        raise BenchmarkCorrupt(f"{path} holds {len(table):,} architectures, expected {ARCHITECTURES:,}")
    if sorted(table["ops"].astype(str)) != list(all_ops()):
        raise BenchmarkCorrupt(f"{path} does not hold every cell of NAS-Bench-201 once")
    if table["index"].tolist() != list(range(ARCHITECTURES)):
        raise BenchmarkCorrupt(f"{path}: the column index is not 0 to {ARCHITECTURES - 1}, in this order")
    impossible = ~table[list(ACCURACIES)].apply(lambda column: column.between(0, 100)).all(axis=1)
    if impossible.any():
        raise BenchmarkCorrupt(
            f"{path}: an accuracy of the cell {table['ops'][impossible].iloc[0]} is not between 0 and 100"
        )
