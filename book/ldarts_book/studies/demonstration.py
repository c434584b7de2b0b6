"""The searches that the chapters on the collapse show: recorded ones, or new ones.

What is recorded lies in ``data/recorded/demonstration``: one row per epoch of every search of the study
(``epochs.csv.gz``), and the run directories of the searches that are shown epoch by epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from ldarts_book.figures.frames import Curves, draw_frame, edge_weights, frame_alt_texts
from ldarts_book.groundtruth import random_search
from ldarts_book.studies import study, verdict
from ldarts_book.studies.variants import SEEDS, Group, variants
from ldarts_lib.bilevel.search import search_all
from ldarts_lib.bilevel.trajectory import Trajectory
from ldarts_lib.errors import LdartsError
from ldarts_lib.runs.directory import Run
from ldarts_lib.spaces.genotype import Cell, parse
from ldarts_lib.spaces.space import SPACES
from ldarts_lib.tables.computation import encode
from ldarts_lib.tables.tables import Benchmark

Size = Literal["smoke", "demo", "full"]

SHOWN = ("DARTS", "Λ-DARTS")
"""The variants that are shown epoch by epoch."""


class NotRecorded(LdartsError, ValueError):
    """A search that is not among the recorded ones; the message lists them."""


@dataclass(frozen=True)
class Watched:
    """One search, epoch by epoch.

    Attributes:
        history: the rows of its history.
        trajectory: its architecture weights, and how far its cells agree.
    """

    history: list[dict[str, Any]]
    trajectory: Trajectory

    @property
    def cells(self) -> list[Cell]:
        """The derived cell after each epoch."""
        return [parse(row["genotype"]).normal for row in self.history]

    @property
    def weights(self) -> list[dict[tuple[int, int], float]]:
        """After each epoch the architecture weight of each edge's chosen operation."""
        space = SPACES["nasbench201"].cells["normal"]
        pairs = zip(self.cells, self.trajectory.weights["normal"], strict=True)
        return [edge_weights(cell, space, p) for cell, p in pairs]

    def curves(self, benchmark: Benchmark) -> Curves:
        """The exact accuracy of the derived cell and the validation loss, with their references."""
        rows = [benchmark.query(row["genotype"]) for row in self.history]
        table = benchmark.table
        return Curves(
            [row["accuracy"] for row in rows],
            [row["valid_loss"] for row in self.history],
            best=float(table["accuracy"].max()),
            random=random_cell(benchmark),
            std=[row["std"] for row in rows],
        )


def searches(
    size: Size, seed: int, out: str | Path, device: torch.device | str = "cpu"
) -> dict[str, Watched]:
    """A search of each variant of :data:`SHOWN`.

    Args:
        size: ``smoke`` reads the recorded searches, ``demo`` and ``full`` search now (or go on).
        seed: of both searches.
        out: parent of the run directories.
        device: where to search.

    Raises:
        NotRecorded: ``smoke``, and the seed was not recorded.
    """
    if size == "smoke":
        return {name: _read(_recorded_run(name, seed)) for name in SHOWN}
    protocols = {name: p.model_copy(update={"seed": seed}) for name, p in variants().items()}
    folders = {name: f"{study.slug(name)}-seed{seed}" for name in SHOWN}
    results = search_all({folders[name]: protocols[name] for name in SHOWN}, out, device=device)
    return {
        name: Watched(results[folder].history, results[folder].trajectory) for name, folder in folders.items()
    }


def epochs(
    size: Size,
    out: str | Path,
    device: torch.device | str = "cpu",
    *,
    group: Group = "demonstration",
) -> pd.DataFrame:
    """The rows of a whole study: recorded ones, or with ``full`` searched now (or continued).

    Of the other groups than the demonstration the last epochs are recorded.

    Args:
        size: ``smoke`` and ``demo`` read the record.
        out: parent of the run directories.
        device: where to search.
        group: which study.

    Raises:
        NotRecorded: the record is missing.
    """
    if size == "full":
        return study.run_groups({group: SEEDS[group]}, out, device=device)[group]
    path = _folder(group) / "epochs.csv.gz"
    if not path.exists():
        raise NotRecorded(
            f"there is no {path}; `ldarts study --group {group}` searches anew and writes such a file"
        )
    return pd.read_csv(path, dtype={"ops": str})


def random_cell(benchmark: Benchmark) -> float:
    """The mean accuracy of a cell drawn at random from all 15,625."""
    table = benchmark.table
    return float((table["accuracy"] * table["cells"]).sum() / table["cells"].sum())


def references(benchmark: Benchmark, seconds: float) -> dict[str, float]:
    """What searches are held against: a random cell, random search of equal cost, and the best cell.

    Random search trains as many cells once as the seconds allow, and takes the best of them.

    Args:
        benchmark: Digits-201, whose table has the seconds of a training.
        seconds: that a search takes.
    """
    tries = max(int(seconds / benchmark.table["seconds"].mean()), 1)
    found = random_search(benchmark.table, [tries])["by one seed"].item()
    best = float(benchmark.table["accuracy"].max())
    return {"random cell": random_cell(benchmark), "random search": found, "best cell": best}


def frames(watched: Watched, benchmark: Benchmark) -> tuple[list[Any], list[tuple[str, str]]]:
    """What :func:`~ldarts_book.figures.scrubber.scrubber` takes: a figure and a description of every
    epoch."""
    curves, cells = watched.curves(benchmark), watched.cells
    drawn = [
        draw_frame(cell, weights, curves, epoch)
        for epoch, (cell, weights) in enumerate(zip(cells, watched.weights, strict=True), start=1)
    ]
    return drawn, [frame_alt_texts(cell, curves, epoch) for epoch, cell in enumerate(cells, start=1)]


def recorded_seeds() -> list[int]:
    """The seeds whose searches are recorded epoch by epoch."""
    return sorted({int(path.name.rpartition("seed")[2]) for path in _folder().glob("*-seed*")})


def _folder(group: Group = "demonstration") -> Path:
    return Path(str(files("ldarts_data"))) / "recorded" / group


def _recorded_run(name: str, seed: int) -> Path:
    path = _folder() / f"{study.slug(name)}-seed{seed}"
    if not path.is_dir():
        raise NotRecorded(
            f"seed = {seed}: recorded are the seeds {recorded_seeds()}; size 'demo' searches with any"
        )
    return path


def _read(path: Path) -> Watched:
    return Watched(Run(path).read_history(), Trajectory.load(path))


def last_epochs(judged: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """Per variant the means over the seeds and the last epochs of a study's rows.

    Columns: ``train_alignment``, ``valid_alignment``, ``valid_projected_alignment``, ``entropy``,
    ``train_loss``, ``valid_loss``, ``convolutions``, ``skips``.
    """
    late = study.last(judged, count)
    columns = [
        "train_alignment", "valid_alignment", "valid_projected_alignment", "entropy", "train_loss",
        "valid_loss", "convolutions", "skips",
    ]  # fmt: skip
    return late.groupby("variant", sort=False)[columns].mean()


def summary(judged: pd.DataFrame, baseline: str = "DARTS") -> pd.DataFrame:
    """How searches end (:func:`ldarts_book.studies.verdict.report`), what happens in them
    (:func:`last_epochs`)."""
    found = verdict.report(verdict.outcomes(judged), baseline)
    late = last_epochs(judged)
    return found.join(late[[column for column in late if column not in found]])


def deciders(epochs: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """Per variant and cell, on the batches of α: whose gradient is long, and who goes with the sum.

    Columns: ``norm`` and ``cosine with the sum`` (means over the seeds and the last epochs), ``longest`` and
    ``decides`` (searches in which the cell's mean over these epochs is the largest of all cells). Cells are
    counted from 1, next to the input.
    """
    late = study.last(epochs, count)
    means = late.groupby(["variant", "seed"], sort=False).mean(numeric_only=True)
    cells = sum(column.startswith("decision_") for column in means)
    tables = {}
    for name, ordinal in (("norm", "longest"), ("decision", "decides")):
        table = means[[f"{name}_{cell}" for cell in range(cells)]].set_axis(range(1, cells + 1), axis=1)
        tables[name] = table.groupby("variant", sort=False).mean().stack()
        first = table.idxmax(axis=1).groupby("variant", sort=False).value_counts()
        tables[ordinal] = first.reindex(tables[name].index, fill_value=0)
    found = pd.DataFrame(tables).rename(columns={"decision": "cosine with the sum"})
    found.index.names = ["variant", "cell"]
    return found


def milestones(watched: Watched, benchmark: Benchmark, count: int = 9) -> pd.DataFrame:
    """Evenly spaced epochs of a search, counted from 1: the cell, what it is worth, and the loss."""
    history = pd.DataFrame(watched.history)
    rows = history[["epoch", "valid_loss", "genotype"]].assign(variant="", seed=0)
    rows["ops"] = [encode(parse(text)) for text in rows["genotype"]]
    judged = study.judge(rows, benchmark)
    places = np.unique(np.linspace(0, len(judged) - 1, count).round().astype(int))
    table = judged.iloc[places][["epoch", "ops", "skips", "convolutions", "accuracy", "regret", "valid_loss"]]
    return table.assign(epoch=table["epoch"] + 1).round(3).set_index("epoch")


def loss_against_accuracy(judged: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """How well the validation loss ranks the epochs of a search by the worth of their cells.

    Columns: the mean, smallest and largest Spearman correlation over the searches of a variant (-1 if a low
    loss always meant a good cell), and the mean accuracy of the cell at the lowest loss and at the end.
    """
    rows = {}
    for variant in variants:
        searches = [search for _, search in judged[judged["variant"] == variant].groupby("seed")]
        ranks = [s["valid_loss"].corr(s["accuracy"], method="spearman") for s in searches]
        lowest = [s.loc[s["valid_loss"].idxmin(), "accuracy"] for s in searches]
        last = [s.loc[s["epoch"].idxmax(), "accuracy"] for s in searches]
        rows[variant] = {
            "searches": len(searches),
            "mean rank correlation": np.nanmean(ranks),
            "smallest": np.nanmin(ranks),
            "largest": np.nanmax(ranks),
            "accuracy at the lowest loss": np.mean(lowest),
            "accuracy at the end": np.mean(last),
        }
    return pd.DataFrame(rows).T.round(3)
