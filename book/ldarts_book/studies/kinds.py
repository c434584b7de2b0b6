"""Which cells to align: the normal ones, as published, or all kinds. A study in S2, judged by training.

NAS-Bench-201 has one kind of cell, so its table cannot answer. In S2 there are two, and no table: every
derived architecture is trained from scratch, as a network of the size of the supernet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from ldarts_book.studies.demonstration import NotRecorded
from ldarts_book.studies.study import slug
from ldarts_lib.bilevel.protocols import SearchProtocol, protocol
from ldarts_lib.bilevel.search import search_all
from ldarts_lib.datasets import load
from ldarts_lib.evaluation.small import standalone_accuracy
from ldarts_lib.files import write_json
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.processes import process_pool
from ldarts_lib.spaces.genotype import Genotype, parse

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "DARTS": {"method": "darts"},
    "normal cells": {"method": "lambda"},
    "all cells": {"method": "lambda", "regularized_cells": "all"},
}
"""The searches that are compared."""
FLOOR = "random cells"
"""Architectures that nobody searched for, drawn as from a search with random architecture weights."""
SEEDS = range(10, 20)
"""No setting was chosen on these seeds."""
TRAININGS = 2
"""Trainings of each architecture; its accuracy is their mean."""


def run(
    seeds: Sequence[int],
    out: str | Path,
    *,
    size: str = "demo",
    workers: int | None = None,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """Search in S2 with every variant and seed, and train what was found; interrupted studies continue.

    Args:
        seeds: of the searches and of the random architectures.
        out: parent of the run directories.
        size: preset of the searches.
        workers, device: as for :func:`~ldarts_lib.bilevel.search.search_all`.

    Returns:
        One row per variant (with :data:`FLOOR`) and seed: ``genotype``, ``skips`` and ``convolutions`` (of
        both cells), ``accuracy`` (mean of the trainings, between 0 and 1), and of the search
        ``valid_alignment`` (Λ of the normal cells on the batches of α, last epoch) and ``seconds``.
    """
    protocols = {name: protocol("s2", size=size, **settings) for name, settings in VARIANTS.items()}
    names = {(name, seed): f"{slug(name)}-seed{seed}" for name in protocols for seed in seeds}
    searches = {
        folder: protocols[name].model_copy(update={"seed": seed}) for (name, seed), folder in names.items()
    }
    results = search_all(searches, out, workers=workers, device=device)
    rows = [
        {
            "variant": name,
            "seed": seed,
            "genotype": str(results[folder].genotype),
            "valid_alignment": results[folder].history[-1]["valid_alignment"],
            "seconds": sum(row["seconds"] for row in results[folder].history),
        }
        for (name, seed), folder in names.items()
    ]
    rows += [{"variant": FLOOR, "seed": seed, "genotype": str(draw(seed))} for seed in seeds]
    found = pd.DataFrame(rows)
    folders = [Path(out) / f"{slug(row['variant'])}-seed{row['seed']}" for row in rows]
    jobs = [
        (folder, genotype, protocols["DARTS"], device)
        for folder, genotype in zip(folders, found["genotype"], strict=True)
    ]
    with process_pool(workers, device) as pool:
        trained = tqdm(pool.map(_train, jobs), total=len(jobs), desc="training from scratch", unit="cell")
        found["accuracy"] = list(trained)
    return found.assign(
        skips=[parse(text).count("skip_connect") for text in found["genotype"]],
        convolutions=[parse(text).count("sep_conv_3x3") for text in found["genotype"]],
    )


def draw(seed: int) -> Genotype:
    """The architecture of S2 that random architecture weights derive."""
    space = protocol("s2", size="demo").search_space
    generator = np.random.default_rng(seed)
    return space.discretize({kind: generator.random(cell.shape) for kind, cell in space.cells.items()})


def _train(job: tuple[Path, str, SearchProtocol, torch.device | str]) -> float:
    """The mean accuracy of an architecture, from its folder if it was trained before."""
    folder, text, settings, device = job
    run, name = Run(folder), "standalone.json"
    if not (folder / name).exists():
        images = load(settings.dataset, device=device)
        found = [standalone_accuracy(parse(text), settings, images, seed=seed) for seed in range(TRAININGS)]
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / name, {"accuracies": found})
    return float(np.mean(run.read_json(name)["accuracies"]))


def outcomes(
    size: Literal["smoke", "demo", "full"], out: str | Path, device: torch.device | str = "cpu"
) -> pd.DataFrame:
    """The rows of the study: recorded ones, or with ``full`` searched now (or continued).

    Raises:
        NotRecorded: the record is missing.
    """
    if size == "full":
        return run(SEEDS, out, device=device)
    path = Path(str(files("ldarts_data"))) / "recorded" / "kinds" / "outcomes.csv"
    if not path.exists():
        raise NotRecorded(f"there is no {path}; `ldarts kinds` searches anew and writes such a file")
    return pd.read_csv(path)
