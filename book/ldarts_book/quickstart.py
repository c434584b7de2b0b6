"""The chapter on two searches side by side: what they found, in a table and in words."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap

import pandas as pd
import torch

from ldarts_book.figures.style import operation_look
from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.bilevel.search import SearchResult
from ldarts_lib.evaluation.standalone import Recipe, evaluate_all
from ldarts_lib.spaces.notations import parse
from ldarts_lib.tables.chance import random_cell
from ldarts_lib.tables.computation import computation, encode
from ldarts_lib.tables.tables import open_table

_METHODS = {"darts": "DARTS", "lambda": "Λ-DARTS"}
_ALIKE = 0.005
"""Mean accuracies that differ by less count as equal."""
_PROOF = 20
"""Fewer seeds illustrate."""
_NEXT = """\
more seeds      make demo SEEDS=10
your pictures   .venv/bin/ldarts search --dataset FOLDER
why it happens  make book, then the part on the collapse"""


def found_cells(
    results: Mapping[str, SearchResult], protocols: Mapping[str, SearchProtocol], device: torch.device | str
) -> pd.DataFrame:
    """What each search ended with, by method and seed.

    A cell that was searched on the images of Digits-201 is looked up there, which gives a column ``place`` (1
    is the best); others are trained from scratch.

    Args:
        results: of the searches, under the names of their ``protocols``.
        device: where cells are trained, at size ``smoke`` for two epochs.
    """
    genotypes = {name: result.genotype for name, result in results.items()}
    if all(p.dataset == "noisy-digits" for p in protocols.values()):
        rows = {name: open_table("digits-201").query(cell) for name, cell in genotypes.items()}
        worth = {
            name: {"test accuracy": row["accuracy"], "place": row["place"]} for name, row in rows.items()
        }
    else:
        smoke = all(p.size == "smoke" for p in protocols.values())
        trained = evaluate_all(genotypes, protocols, Recipe(2 if smoke else 20), device=device)
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


def story(found: pd.DataFrame, protocols: Mapping[str, SearchProtocol], folder: Path) -> str:
    """What was searched, what came out and what it means, in lines of at most 80 columns.

    Args:
        found: as :func:`found_cells` gives it.
        folder: where their results lie.
    """
    of = next(iter(protocols.values()))
    where = f"on {Path(of.dataset).name}, {found['seed'].nunique()} seeds, {of.epochs} epochs each"
    judged = "trained from scratch"
    if "place" in found:
        judged = f"by Digits-201 (place of {len(open_table('digits-201')):,} different cells)"
    cells = [
        _drawn(f"{_METHODS[one.method]}, seed 0", one.cell) for one in found.itertuples() if not one.seed
    ]
    rows = [f"{'':2}{one:<38}{two}".rstrip() for one, two in zip_longest(*cells, fillvalue="")]
    table = found.drop(columns="cell").assign(method=found["method"].map(_METHODS))
    parts = {
        f"SEARCHED with DARTS and Λ-DARTS {where}": rows,
        f"FOUND, {judged}": table.to_string(index=False).splitlines(),
        "WHAT IT MEANS": wrap(meaning(found), 80),
        "WHAT TO TRY NEXT": _NEXT.splitlines(),
        f"IN {folder}": ["searches.png, cells.png, summary.csv, and a run directory of each search"],
    }
    return "\n\n".join("\n".join([title, *lines]) for title, lines in parts.items())


def meaning(found: pd.DataFrame) -> str:
    """Two sentences on a table of :func:`found_cells`, whatever came out."""
    by_seed = found.pivot(index="seed", columns="method")
    (aligned, accuracy), count = (by_seed[column] for column in ("alignment", "test accuracy")), len(by_seed)
    higher = (aligned["lambda"] > aligned["darts"]).sum()
    means, gain = accuracy.mean(), (accuracy["lambda"] - accuracy["darts"]).mean()
    better = "about as good" if abs(gain) < _ALIKE else "better" if gain > 0 else "worse"
    empty = (by_seed["convolutions"] == 0).sum()
    chance = f"; a random cell has {random_cell(open_table('digits-201')):.2f}" if "place" in found else ""
    caution = "; so few searches illustrate, they prove nothing" if count < _PROOF else ""
    return (
        f"Λ-DARTS ends with the higher alignment Λ in {higher} of {count} seeds, on average with "
        f"{aligned['lambda'].mean():.2f} against {aligned['darts'].mean():.2f}. Its cells are {better} on "
        f"average ({means['lambda']:.2f} against {means['darts']:.2f}{chance}), and collapsed, without a "
        f"convolution between input and output, are {empty['darts']} of {count} cells of DARTS and "
        f"{empty['lambda']} of Λ-DARTS{caution}."
    )


def _drawn(title: str, genotype: str) -> list[str]:
    """A title, and the edges of a cell that do anything."""
    names, lines = ("in", 1, 2, "out"), [title]
    for edge in parse(genotype).normal.edges:
        if edge.operation != "none":
            words = f" {operation_look(edge.operation).words} "
            lines.append(f"{names[edge.source]:>3} ──{words:─<24}▶ {names[edge.target]}")
    return lines
