"""Who judges a search: a table of all cells, or a training from scratch. Each says what *collapsed* means.

Reading a record needs no torch: what loads it is imported where it is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ldarts_lib.bilevel.trajectory import ALPHA, Trajectory
from ldarts_lib.files import read_json, write_json
from ldarts_lib.progress import Bar
from ldarts_lib.spaces.genotype import Genotype
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.space import Space
from ldarts_lib.tables.computation import computation, encode
from ldarts_lib.tables.tables import Table, open_table

_NEWER = ("train_loss_norm", "train_penalty_norm", "clip_factor")
"""Columns that a history need not have."""
_HISTORY = (
    "train_loss", "valid_loss", "train_alignment", "valid_alignment", "train_projected_alignment",
    "valid_projected_alignment", "entropy", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A finished search: what names it in the rows of its study, what happened in it, and its settings."""

    keys: Mapping[str, Any]
    path: Path
    history: list[dict[str, Any]]
    trajectory: Trajectory
    protocol: Any = None


@dataclass(frozen=True)
class LookedUp:
    """The cell that is derived after an epoch is looked up in a table of all cells.

    A search has *collapsed* if no convolution lies on a path from the input to the output of its cell.

    Attributes:
        selection: of the last cell, by its ``weights`` or by ``perturbation``.
    """

    table: str = "digits-201"
    selection: str = "weights"
    file: ClassVar[str] = "epochs.csv.gz"

    def rows(self, found: list[Found], *, workers: int | None = None, device: Any = "cpu") -> pd.DataFrame:
        """What is recorded, one row per epoch.

        Columns: what names the search, ``epoch``, ``ops`` (the six digits of the derived cell), columns of
        the history, and of each normal cell l on the batches of α ``norm_l``, the norm of its gradient, and
        ``decision_l``, its cosine with the sum.
        """
        if self.selection == "perturbation":
            cells = _in_processes(partial(by_perturbation, device=device), found, workers, device)
            for one, cell in zip(found, cells, strict=True):
                one.history[-1]["genotype"] = cell
        return pd.DataFrame(
            {
                **one.keys,
                "epoch": row["epoch"],
                "ops": encode(parse(row["genotype"])),
                **{column: row[column] for column in _HISTORY},
                **{column: row.get(column) for column in _NEWER},
                **{f"norm_{cell}": row[f"valid_norm_{cell}"] for cell in range(len(cosines))},
                **{f"decision_{cell}": cosine for cell, cosine in enumerate(cosines)},
            }
            for one in found
            for row, cosines in zip(one.history, one.trajectory.decisions[:, ALPHA], strict=True)
        )

    def judge(self, rows: pd.DataFrame, table: Table | None = None) -> pd.DataFrame:
        """Adds ``accuracy`` and ``regret`` in the table's unit, ``skips`` (among the six edges),
        ``convolutions`` (applications on paths from input to output), ``disconnected`` and ``collapsed``."""
        table = table or open_table(self.table)
        known = {
            ops: {
                "accuracy": float(table.frame.at[table.key(ops), table.target]),
                "skips": ops.count("1"),
                "convolutions": len(computation(ops).applied),
                "disconnected": computation(ops).key == "0",
            }
            for ops in rows["ops"].unique()
        }
        judged = rows.join(pd.DataFrame.from_dict(known, orient="index"), on="ops")
        regret = table.frame[table.target].max() - judged["accuracy"]
        return judged.assign(regret=regret, collapsed=judged["convolutions"] == 0)


@dataclass(frozen=True)
class Trained:
    """The architecture that a search ends with is trained from scratch, as large as the search's supernet.

    A search has *collapsed* if neither of its two cells has a separable convolution.

    Attributes:
        trainings: of each architecture; its accuracy is their mean.
        floor: the name of random architectures, one per seed, that nobody searched for.
    """

    trainings: int = 2
    floor: str = "random cells"
    file: ClassVar[str] = "outcomes.csv"

    def rows(self, found: list[Found], *, workers: int | None = None, device: Any = "cpu") -> pd.DataFrame:
        """What is recorded, one row per search and per random architecture; run directories keep trainings.

        Columns: what names the search, ``genotype``, of the search ``valid_alignment`` (last epoch) and
        ``seconds``, ``accuracy`` (between 0 and 1), ``skips`` and ``convolutions`` (of both cells).
        """
        first = found[0].keys["variant"]
        every = [*found, *(self._floor(one) for one in found if one.keys["variant"] == first)]
        train = partial(_train, trainings=self.trainings, device=device)
        accuracies = _in_processes(train, every, workers, device)
        cells = [parse(one.history[-1]["genotype"]) for one in every]
        return pd.DataFrame(
            {
                **one.keys,
                "genotype": str(cell),
                "valid_alignment": one.history[-1]["valid_alignment"],
                "seconds": sum(row["seconds"] for row in one.history),
                "accuracy": accuracy,
                "skips": cell.count("skip_connect"),
                "convolutions": cell.count("sep_conv_3x3"),
            }
            for one, cell, accuracy in zip(every, cells, accuracies, strict=True)
        )

    def _floor(self, one: Found) -> Found:
        """What random architecture weights would have derived in place of a search."""
        genotype = draw(one.protocol.search_space, one.keys["seed"])
        history = [{"genotype": str(genotype), "valid_alignment": np.nan, "seconds": np.nan}]
        path = one.path.with_name(f"random-{one.path.name}")
        return replace(one, keys={**one.keys, "variant": self.floor}, path=path, history=history)

    def judge(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Adds ``collapsed``; all else is recorded."""
        return rows.assign(collapsed=rows["convolutions"] == 0)


@dataclass(frozen=True)
class Retrained:
    """The cell that a search ends with is trained once with each recipe, and so is random search's.

    Attributes:
        tries: cells among which random search chooses by one training of the table, about three quarters of
            what a search of Λ-DARTS costs.
    """

    rates: tuple[float, ...] = (0.0125, 0.05, 0.2)
    epochs: tuple[int, ...] = (5, 20, 80)
    tries: int = 18
    file: ClassVar[str] = "recipes.csv"

    def rows(self, found: Sequence[Found], *, device: Any = "cpu", **_: Any) -> pd.DataFrame:
        """One row per cell and ``recipe``: ``ops``, ``accuracy`` (0 to 1), and ``seconds`` of all recipes."""
        from ldarts_lib.datasets.images import load_images
        from ldarts_lib.evaluation.standalone import Recipe, standalone_accuracies

        worth = open_table("digits-201").query
        cells = [{**one.keys, "ops": encode(parse(one.history[-1]["genotype"]))} for one in found]
        for seed in sorted({one.keys["seed"] for one in found}):
            best = max(drawn_cells(seed, self.tries), key=lambda ops: worth(parse(ops))["accuracy_0"])
            cells.append({"variant": "random search", "seed": seed, "ops": best})
        settings, genotypes = found[0].protocol, [parse(cell["ops"]) for cell in cells]
        images = load_images(settings.dataset, device=device)
        rows, begin = [], time.process_time()
        for rate, epochs in Bar([*product(self.rates, self.epochs)], "training", unit="recipe"):
            recipe = Recipe(epochs=epochs, learning_rate=rate)
            # seed 0 is that of the training by which random search has chosen
            accuracies = standalone_accuracies(genotypes, settings, images, recipe, seeds=[100])[:, 0]
            named = pd.DataFrame(cells).assign(recipe=f"{rate:g}, {epochs} epochs")
            rows.append(named.assign(accuracy=accuracies.numpy()))
        return pd.concat(rows, ignore_index=True).assign(seconds=(time.process_time() - begin) / len(cells))

    def judge(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Adds ``setting``, the recipe, and ``collapsed`` as :class:`LookedUp` has it."""
        dead = {ops: not computation(ops).applied for ops in rows["ops"].unique()}
        return rows.assign(setting=rows["recipe"], collapsed=rows["ops"].map(dead))


LOOKED_UP = LookedUp()
Judge = LookedUp | Trained | Retrained


def draw(space: Space, seed: int) -> Genotype:
    """The architecture that random architecture weights derive."""
    generator = np.random.default_rng(seed)
    return space.discretize({kind: generator.random(cell.shape) for kind, cell in space.cells.items()})


def drawn_cells(seed: int, count: int = 1, digits: str = "01234") -> list[str]:
    """Cells drawn uniformly, six digits each; more of them begin with the same ones."""
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(list(digits), 6)) for _ in range(count)]


def by_perturbation(one: Found, device: Any = "cpu") -> str:
    """The cell that is selected of a finished search by perturbation, from its folder if it was before."""
    from ldarts_lib.bilevel.perturbation import SELECTED, select_by_perturbation

    if (kept := one.path / SELECTED).exists():
        return read_json(kept)["genotype"]
    return str(select_by_perturbation(one.path, device=device, progress=False))


def _in_processes(
    work: Callable[..., Any], found: list[Found], workers: int | None, device: Any
) -> list[Any]:
    from ldarts_lib.runs.processes import process_pool

    with process_pool(workers, device) as pool:
        return list(Bar(pool.map(work, found), total=len(found), desc="judging", unit="cell"))


def _train(one: Found, trainings: int, device: Any) -> float:
    """The mean accuracy of an architecture, from its folder if it was trained before."""
    from ldarts_lib.datasets.images import load_images
    from ldarts_lib.evaluation.standalone import standalone_accuracy

    kept = one.path / "standalone.json"
    if not kept.exists():
        genotype = parse(one.history[-1]["genotype"])
        images = load_images(one.protocol.dataset, device=device)
        found = [standalone_accuracy(genotype, one.protocol, images, seed=seed) for seed in range(trainings)]
        one.path.mkdir(parents=True, exist_ok=True)
        write_json(kept, {"accuracies": found})
    return float(np.mean(read_json(kept)["accuracies"]))
