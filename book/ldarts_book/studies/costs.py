"""What a search costs, in trainings of a random cell: one after the other in one process, on one thread.

Times of other runs do not compare: packs share their time, and a machine is not always as fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from tqdm import tqdm

from ldarts_book.studies.judges import by_perturbation
from ldarts_book.studies.records import write_provenance, write_table
from ldarts_book.studies.study import FAMILIES, FRESH, STUDIES


def drawn_cells(seed: int, count: int = 1, digits: str = "01234") -> list[str]:
    """Cells drawn uniformly, six digits each; more of them begin with the same ones."""
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(list(digits), 6)) for _ in range(count)]


def measure_costs(
    out: str | Path, variants: Sequence[str] = (), size: str = "demo", cells: int = 10
) -> pd.DataFrame:
    """Writes ``costs.csv``: a search of each method in turns with trainings of random cells, CPU time.

    Columns: ``variant``, ``seconds`` of the search and of a ``training``, the mean of its turn, ``ratio``.
    """
    import torch

    from ldarts_book.studies.digits201 import PROTOCOL
    from ldarts_lib.bilevel.protocols import protocol
    from ldarts_lib.bilevel.search import search
    from ldarts_lib.datasets.images import load_images
    from ldarts_lib.evaluation.standalone import standalone_accuracy
    from ldarts_lib.spaces.literals import decode

    images, rows = load_images(PROTOCOL.dataset), []
    train = [partial(standalone_accuracy, decode(ops), PROTOCOL, images) for ops in drawn_cells(0, cells)]
    others = {name for family in FAMILIES.values() for name in [*family][1:]}
    known = {**STUDIES["remedies"].variants, **STUDIES["perturbation"].variants}
    left = [name for name in known if name not in others and (name in variants or not variants)]
    for name in tqdm(left, desc="measuring", unit="method"):
        one = protocol(size=size, seed=FRESH[0], **known[name])
        with TemporaryDirectory() as folder:
            seconds = _cpu_seconds(partial(search, one, folder, progress=False))
            if name in STUDIES["perturbation"].variants:
                seconds += _cpu_seconds(partial(by_perturbation, Path(folder)))
        training = sum(map(_cpu_seconds, train)) / cells
        rows.append({"variant": name, "seconds": seconds, "training": training, "ratio": seconds / training})
    table = pd.DataFrame(rows).round(3)
    write_table(table, Path(out) / "costs.csv")
    write_provenance(
        Path(out),
        f"ldarts study costs --size {size}",
        torch.device("cpu"),
        seed=FRESH[0],
        cells=drawn_cells(0, cells),
    )
    return table


def ratios() -> pd.Series:
    """The recorded cost of each method; of none, if it was not measured."""
    path = Path(str(files("ldarts_data"))) / "recorded" / "costs" / "costs.csv"
    return pd.read_csv(path, index_col="variant")["ratio"] if path.is_file() else pd.Series(dtype=float)


def _cpu_seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin
