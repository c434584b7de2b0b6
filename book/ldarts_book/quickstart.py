"""The chapter on two searches side by side: what they found, in a table and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd

from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.bilevel.search import SearchResult
from ldarts_lib.evaluation.standalone import evaluate_all
from ldarts_lib.spaces.genotype import Cell, parse
from ldarts_lib.tables.chance import random_cell
from ldarts_lib.tables.computation import computation, encode
from ldarts_lib.tables.tables import open_table

_METHODS = {"darts": "DARTS", "lambda": "Λ-DARTS"}
_WORDS = {
    "skip_connect": "skip", "nor_conv_1x1": "conv 1×1", "nor_conv_3x3": "conv 3×3", "avg_pool_3x3": "pool 3×3",
}  # fmt: skip
_ALIKE = 0.005
"""Mean accuracies that differ by less count as equal."""
_NEXT = """\
more seeds      ldarts run-notebook book/quickstart.ipynb -p size demo -p seeds 10
your pictures   ldarts search --dataset FOLDER
why it happens  make book, then the part on the collapse"""


def found_cells(
    results: Mapping[str, SearchResult], protocols: Mapping[str, SearchProtocol], **training: Any
) -> pd.DataFrame:
    """What each search ended with, by method and seed.

    A cell that was searched on the images of Digits-201 is looked up there, which gives a column ``place`` (1
    is the best); others are trained from scratch.

    Args:
        results: of the searches, under the names of their ``protocols``.
        training: as for :func:`~ldarts_lib.evaluation.standalone.evaluate_all`.
    """
    genotypes = {name: result.genotype for name, result in results.items()}
    if all(p.dataset == "noisy-digits" for p in protocols.values()):
        rows = {name: open_table("digits-201").query(cell) for name, cell in genotypes.items()}
        worth = {name: {"test accuracy": row["accuracy"], "place": row["place"]} for name, row in rows.items()}
    else:
        trained = evaluate_all(genotypes, protocols, **training)
        worth = {name: {"test accuracy": accuracy} for name, accuracy in trained.items()}
    found = [
        {
            "method": p.method,
            "seed": p.seed,
            "skips": results[name].history[-1]["skips"],
            "convolutions": len(computation(encode(genotypes[name])).applied),
            "alignment": round(results[name].history[-1]["valid_alignment"], 3),
            **{key: round(value, 4) for key, value in worth[name].items()},
            "cell": str(genotypes[name]),
        }
        for name, p in protocols.items()
    ]
    return pd.DataFrame(found).sort_values(["method", "seed"], ignore_index=True)


def summary(found: pd.DataFrame, protocols: Mapping[str, SearchProtocol], folder: Path) -> str:
    """What was searched, what came out and what it means, in lines of at most 80 columns.

    Args:
        found: as :func:`found_cells` gives it.
        protocols: of the searches.
        folder: where their results lie.
    """
    of = next(iter(protocols.values()))
    half = f"seeds 0 to {found['seed'].max()}, {of.epochs} epochs each"
    judged = "trained from scratch"
    if "place" in found:
        judged = f"looked up in Digits-201, place of {len(open_table('digits-201')):,} different cells"
    first = found[found["seed"] == found["seed"].min()]
    drawn = (_drawn(f"{_METHODS[m]}, seed {s}", parse(c).normal) for m, s, c in zip(first["method"], first["seed"], first["cell"]))
    lines = (f"{one:<40}{two}".rstrip() for one, two in zip_longest(*drawn, fillvalue=""))
    table = found.drop(columns="cell").assign(method=found["method"].map(_METHODS))
    return "\n\n".join(
        (
            f"SEARCHED: DARTS and Λ-DARTS on {Path(of.dataset).name}, {half}",
            "\n".join(lines),
            f"FOUND, {judged}:\n{table.to_string(index=False)}",
            f"THAT MEANS: {meaning(found)}",
            f"WHAT TO TRY NEXT\n{_NEXT}",
            f"figures          {folder / 'searches.png'}, cells.png\ntable            {folder / 'summary.csv'}\nrun directories  {folder}"
        )
    )


def meaning(found: pd.DataFrame) -> str:
    """Two sentences on a table of :func:`found_cells`, whatever came out."""
    by_seed = found.pivot(index="seed", columns="method")
    (aligned, accuracy), count = (by_seed[column] for column in ("alignment", "test accuracy")), len(by_seed)
    higher = (aligned["lambda"] > aligned["darts"]).sum()
    means, gain = accuracy.mean(), (accuracy["lambda"] - accuracy["darts"]).mean()
    better = "about as good" if abs(gain) < _ALIKE else "better" if gain > 0 else "worse"
    empty = (by_seed["convolutions"] == 0).sum()
    chance = f", a random cell has {random_cell(open_table('digits-201')):.2f}" if "place" in found else ""
    return fill(
        f"Λ-DARTS ends with the higher alignment Λ in {higher} of {count} seeds, {aligned['lambda'].mean():+.2f} "
        f"on average against {aligned['darts'].mean():+.2f}. Its cells are {better} on average "
        f"({means['lambda']:.2f} against {means['darts']:.2f}{chance}), and without a convolution are left "
        f"{empty['darts']} of {count} cells of DARTS and {empty['lambda']} of Λ-DARTS: "
        f"so few searches illustrate, they prove nothing.",
        80,
    )


def _drawn(title: str, cell: Cell) -> Iterator[str]:
    yield title
    names = {0: "in", cell.output[-1]: "out"}
    for edge in cell.edges:
        if edge.operation != "none":
            source, target = (names.get(node, str(node)) for node in (edge.source, edge.target))
            yield f"  {source:>2} ── {_WORDS[edge.operation]:─<9}▶ {target}"
