"""The published files of NAS-Bench-201: what they hold, read without running what a pickle can ask for.

An entry holds every training of one architecture: ``arch_str``, ``dataset_seed[data set]`` (the seeds) and
``all_results[data set, seed]`` with ``epochs`` and ``eval_acc1es["split@epoch"]`` (percent, epochs from 0).
NAS-Bench-201 stores all entries in one torch file, under ``arch2infos[index]["full"]``; NATS-Bench stores
one file ``INDEX.pickle.pbz2`` per architecture, under ``"200"``. The layout is that of the official readers,
``nas_201_api`` and ``nats_bench``.
"""

from __future__ import annotations

import bz2
import io
import pickle
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
from tqdm import tqdm

from ldarts_lib.benchmarks.computation import CELLS, encode
from ldarts_lib.benchmarks.errors import BenchmarkCorrupt
from ldarts_lib.genotype import parse

MEASURES = {
    "cifar10_valid": ("cifar10-valid", "x-valid"),  # trained on half of the training images
    "cifar10_test": ("cifar10", "ori-test"),  # trained on all of them
    "cifar100_valid": ("cifar100", "x-valid"),
    "cifar100_test": ("cifar100", "x-test"),
    "imagenet16_valid": ("ImageNet16-120", "x-valid"),
    "imagenet16_test": ("ImageNet16-120", "x-test"),
}
ACCURACIES = tuple(MEASURES)
COLUMNS = ("index", "ops", *ACCURACIES)
ARCHITECTURES = len(CELLS.candidates[0]) ** len(CELLS.edges)
EPOCHS = 200

_ENTRY_FILE = re.compile(r"(\d{6})\.pickle\.pbz2")
_TORCH_PREAMBLE = 3  # pickles before the content: magic number, protocol, description of the machine
_SHORT_NAMES = {"c10": "cifar10", "c100": "cifar100", "in16": "imagenet16"}

Row = tuple[int, str, *tuple[float, ...]]


def read_release(path: Path) -> pd.DataFrame:
    """The columns :data:`COLUMNS` of what a published file or folder holds, accuracies in percent.

    Args:
        path: a torch file of NAS-Bench-201; a folder or a tar archive of NATS-Bench, topology space, or its
            single file ``.pickle.pbz2``; or a table ``.csv`` or ``.csv.gz``.

    Raises:
        BenchmarkCorrupt: the file is truncated, of another kind, or refers to code.
    """
    if path.name.endswith((".csv", ".csv.gz")):
        return read_table(path)
    if path.is_dir():
        rows = _rows_of_entry_files(path, _files_of_folder(path))
    elif tarfile.is_tarfile(path):
        rows = _rows_of_entry_files(path, _files_of_archive(path))
    else:
        rows = _rows_of_single_file(path)
    bar = tqdm(rows, total=ARCHITECTURES, desc="reading", unit="architecture", disable=None)
    return pd.DataFrame(bar, columns=list(COLUMNS))


def read_table(path: Path) -> pd.DataFrame:
    """The columns :data:`COLUMNS` of a table; short names such as ``c10_valid`` and ``in16_test`` are known.

    Raises:
        BenchmarkCorrupt: it is truncated, no table, or a column is missing.
    """
    with _damage_named(path):
        table = pd.read_csv(path, dtype={"ops": str}).rename(columns=_long_name)
        if missing := [name for name in COLUMNS if name not in table]:
            raise BenchmarkCorrupt(
                f"the columns {', '.join(missing)} are missing; it has {', '.join(table.columns)}"
            )
        return table[list(COLUMNS)].astype(dict.fromkeys(ACCURACIES, float) | {"index": int})


def _long_name(column: str) -> str:
    prefix, underscore, split = column.partition("_")
    return _SHORT_NAMES.get(prefix, prefix) + underscore + split


def _files_of_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(folder.iterdir()):
        if _ENTRY_FILE.fullmatch(file.name):
            yield file.name, file.read_bytes()


def _files_of_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and _ENTRY_FILE.fullmatch(name):
                yield name, archive.extractfile(member).read()


def _rows_of_entry_files(path: Path, files: Iterator[tuple[str, bytes]]) -> Iterator[Row]:
    with _damage_named(path):
        for name, packed in files:
            with _damage_named(Path(name)):
                entries = _PlainValues(io.BytesIO(bz2.decompress(packed))).load()
            yield _row(int(name[:6]), entries)


def _rows_of_single_file(path: Path) -> Iterator[Row]:
    with _damage_named(path):
        by_index = _content(path)["arch2infos"]
        for index in sorted(by_index):
            yield _row(index, by_index.pop(index))


def _content(path: Path) -> dict[str, Any]:
    """What a pickle holds, or a file in either format of torch: the new one is a zip archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            member = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            return _PlainValues(archive.open(member)).load()
    with (bz2.open if path.suffix == ".pbz2" else open)(path, "rb") as file:
        for _ in range(1 + _TORCH_PREAMBLE):
            content = _PlainValues(file).load()
            if isinstance(content, dict) and "arch2infos" in content:
                return content
    raise BenchmarkCorrupt("it holds no 'arch2infos'")


def _row(index: int, entries: dict[str, Any]) -> Row:
    """The official rule: the mean over the seeds of the accuracy after the last of 200 epochs."""
    try:
        entry = entries["full"] if "full" in entries else entries[str(EPOCHS)]
        ops = encode(parse(entry["arch_str"]))
        return index, ops, *(_mean_accuracy(entry, *measure) for measure in MEASURES.values())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BenchmarkCorrupt(
            f"architecture {index} is not stored as in NAS-Bench-201 ({type(error).__name__}: {error})"
        ) from error


def _mean_accuracy(entry: dict[str, Any], dataset: str, split: str) -> float:
    trials = [entry["all_results"][dataset, seed] for seed in entry["dataset_seed"][dataset]]
    for trial in trials:
        if trial["epochs"] != EPOCHS:
            raise ValueError(f"trained for {trial['epochs']} epochs on {dataset}, expected {EPOCHS}")
    return fmean(trial["eval_acc1es"][f"{split}@{EPOCHS - 1}"] for trial in trials)


class _PlainValues(pickle.Unpickler):
    """Reads numbers, texts and containers; whatever else the file refers to is refused and not run.

    ``torch.load(weights_only=True)`` refuses the same, but takes twenty times as long.
    """

    ALLOWED = frozenset(
        {
            ("collections", "OrderedDict"),
            ("builtins", "set"),
            ("__builtin__", "set"),  # the name in the oldest protocols
            ("_codecs", "encode"),  # how they write the bytes of a number
            ("numpy", "dtype"),
            ("numpy._core.multiarray", "scalar"),
        }
    )

    def find_class(self, module: str, name: str) -> object:
        current = module.replace("numpy.core.", "numpy._core.")  # the name before NumPy 2
        if (current, name) not in self.ALLOWED:
            raise BenchmarkCorrupt(f"it refers to {module}.{name}, but may hold numbers and texts only")
        return super().find_class(current, name)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Say which file is damaged: unpickling garbage can raise any exception."""
    try:
        yield
    except BenchmarkCorrupt as error:
        raise BenchmarkCorrupt(f"{path}: {error}") from error
    except Exception as error:
        raise BenchmarkCorrupt(
            f"{path} is truncated, or no file of NAS-Bench-201 ({type(error).__name__}: {error})"
        ) from error
