"""What the text says of recorded data, and how each number of it is computed from the record.

``data/ledger.csv`` has one row per statement: the ``page``, the ``quote`` as it stands there, the ``record``,
what is ``computed`` from it, in the order of the quote's numbers, on which ``seeds`` (all, if empty), and
where its setting was ``chosen``. A computation is an expression in the names below and the methods of
:class:`Searches`; of a quote without numbers it says whether it holds. ``data/ledger_constants.csv`` has what
else may stand in the text as a number: a ``pattern``, on which ``page`` (all, if empty), and the ``reason``.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ldarts_book import studies
from ldarts_book.published import numbers
from ldarts_lib.files import read_json
from ldarts_lib.spaces.notations import parse
from ldarts_lib.tables.computation import encode
from ldarts_lib.tables.tables import open_table

NUMBER = re.compile(r"(?<![\w.,])[-−+±]?\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?")
_DATA = Path(str(files("ldarts_data")))
_FOUR = {"demonstration": "10-29", "robustness": "30-39", "lengths": "40-59", "remedies": "200-239"}


@dataclass(frozen=True)
class Searches:
    """The searches of a recorded study with some seeds; the series have a number per seed."""

    study: str
    seeds: str = ""

    def end(self, variant: str, column: str = "accuracy", setting: str = "") -> pd.Series:
        """What searches end with; of the demonstration's DARTS also stopped early."""
        return self._of(_ends(self.study), variant, column, setting)

    def late(self, variant: str, column: str, setting: str = "") -> pd.Series:
        """Means over the last ten epochs."""
        return self._of(_late(self.study), variant, column, setting)

    def at(self, variant: str, epoch: int, column: str = "accuracy") -> pd.Series:
        """What there is after an epoch, counted from 1."""
        rows = _judged(self.study)
        return self._of(rows[rows["epoch"] == epoch - 1], variant, column)

    def by_epoch(self, variant: str, column: str = "accuracy") -> pd.Series:
        """Means over the seeds, by epoch from 1 on."""
        rows = self._known(_judged(self.study))
        means = rows[rows["variant"] == variant].groupby("epoch")[column].mean()
        return means.set_axis(means.index + 1)

    def gain(self, one: str, other: str = "DARTS", setting: str = "") -> pd.Series:
        """What one ends with more than the other."""
        return self.end(one, setting=setting) - self.end(other, setting=setting)

    def ranks(self, variant: str, after: int = 0) -> pd.Series:
        """Rank correlation of validation loss and accuracy over the epochs after the first ones."""
        rows = _judged(self.study)
        searches = rows[(rows["variant"] == variant) & (rows["epoch"] >= after)].groupby("seed")
        return searches[["valid_loss", "accuracy"]].apply(lambda one: one.corr("spearman").iloc[0, 1])

    def corrected(self, column: str = "p", baseline: str = "DARTS") -> pd.Series:
        """Holm's p of all variants against one, by variant."""
        found = studies.report(self._known(_ends(self.study)), baseline)[column].drop(baseline)
        return pd.Series(studies.holm(found), found.index)

    def variants(self, first: str) -> list[str]:
        """Those whose names begin so."""
        return [name for name in _ends(self.study)["variant"].unique() if name.startswith(first)]

    def cost(self, variant: str) -> float:
        """The seconds of a search, in trainings of a cell drawn at random."""
        return self.end(variant, "seconds").mean() / np.average(
            _table()["seconds"], weights=_table()["cells"]
        )

    def worse(self, variant: str) -> pd.Series:
        """The share of all cells that are worse than the one found."""
        return pd.Series(_chapter("ablations").share_below(_table(), self.end(variant)))

    def _known(self, rows: pd.DataFrame) -> pd.DataFrame:
        first, _, last = self.seeds.partition("-")
        return rows[rows["seed"].between(int(first), int(last))] if last else rows

    def _of(self, rows: pd.DataFrame, variant: str, column: str, setting: str = "") -> pd.Series:
        rows = self._known(rows[rows["variant"] == variant])
        rows = rows[rows["setting"] == setting] if setting else rows
        return rows.set_index("seed")[column].sort_index()


@cache
def _judged(study: str) -> pd.DataFrame:
    """A record with what its cells are worth; that of the quickstart has a file for each search."""
    if study != "quickstart":
        return studies.judged(study)
    paths = sorted((_DATA / "recorded" / study).glob("*-seed?.csv"))
    names = {"darts": "DARTS", "lambda": "Λ-DARTS"}
    keys = [{"variant": names[path.stem.partition("-")[0]], "seed": int(path.stem[-1])} for path in paths]
    rows = pd.concat(pd.read_csv(path).assign(**key) for path, key in zip(paths, keys, strict=True))
    ops = rows["genotype"].map(lambda text: encode(parse(text)))
    return studies.LOOKED_UP.judge(rows.assign(ops=ops).drop(columns="skips").reset_index(drop=True))


@cache
def _ends(study: str) -> pd.DataFrame:
    return (studies.with_stopping if study == "demonstration" else studies.outcomes)(_judged(study))


@cache
def _late(study: str) -> pd.DataFrame:
    keys = ["variant", "seed", *({"setting"} & {*_judged(study)})]
    return studies.last(_judged(study)).groupby(keys).mean(numeric_only=True).reset_index()


def _chapter(name: str) -> Any:
    """The module of a chapter, for what it computes."""
    return import_module(f"ldarts_book.{name}")


def _table(name: str = "digits-201") -> pd.DataFrame:
    return open_table(name).frame


def _four(variant: str, column: str = "accuracy") -> pd.Series:
    """The preset's searches with the seeds of all four studies that made them."""
    settings = {"robustness": "baseline"}
    found = {one: Searches(one, s).end(variant, column, settings.get(one, "")) for one, s in _FOUR.items()}
    return pd.concat(found)


def _discordant(one: pd.Series, other: pd.Series) -> tuple[int, int, float]:
    """On how many seeds exactly one holds, on how many of these it is the first, and McNemar's exact p."""
    first, both = int((one & ~other).sum()), int((one != other).sum())
    return both, first, float(stats.binomtest(first, both).pvalue)


def _published(table: str, method: str, quantity: str, **where: str) -> list[float]:
    """A published number, and its standard deviation if there is one."""
    (row,) = _fit(numbers.rows_of(table), method=method, quantity=quantity, **where).to_dict("records")
    return [row["value"]] if np.isnan(row["std"]) else [row["value"], row["std"]]


def _fit(rows: pd.DataFrame, **where: Any) -> pd.DataFrame:
    return rows[(rows[list(where)] == list(where.values())).all(axis=1)] if where else rows


@cache
def _chance(cells: int) -> float:
    """What random search finds with so many cells, chosen by one training."""
    return studies.random_search(_table(), [cells])["by one seed"].item()


@cache
def _cached(compute: Any, values: tuple[float, ...]) -> Any:
    return compute(pd.Series(values))


_NAMES: dict[str, Any] = {
    "p": lambda gains: _cached(studies.signed_rank, tuple(gains)),
    "ci": lambda gains: _cached(studies.mean_interval, tuple(gains)),
    "t": lambda gains: stats.ttest_1samp(gains, 0).pvalue,
    "holm": studies.holm, "optimism": studies.optimism, "deciders": studies.deciders,
    "chance": lambda k: _chance(int(k)),
    "strings": lambda: _table()["accuracy"].repeat(_table()["cells"]),
    "spearman": lambda one, other: stats.spearmanr(one, other).statistic,
    "fisher": lambda a, n, b, m: stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue,
    "csv": lambda path, **where: _fit(pd.read_csv(_DATA / path), **where),
    "json": lambda path: read_json(_DATA / path),
    "of": Searches, "judged": _judged, "ends": _ends, "four": _four, "discordant": _discordant,
    "published": _published, "chapter": _chapter, "table": _table, "studies": studies, "pd": pd,
    **{name: vars(builtins)[name] for name in ("abs", "divmod", "len", "map", "max", "min", "round", "sum")},
}  # fmt: skip


def entries(name: str = "ledger") -> pd.DataFrame:
    """The ledger, or ``ledger_constants``, as text."""
    return pd.read_csv(_DATA / f"{name}.csv", dtype=str, keep_default_na=False)


def compute(row: Mapping[str, str]) -> npt.NDArray[Any]:
    """What a row of the ledger says: the numbers of its quote, or whether it holds."""
    own = Searches(row["record"], row["seeds"])
    methods = {name: getattr(own, name) for name in vars(Searches) if not name.startswith("_")}
    found = eval(row["computed"], {"__builtins__": {}, **_NAMES, **methods})  # noqa: S307 -- a file that ships
    return np.hstack(found if isinstance(found, tuple) else [found])


def page() -> pd.DataFrame:
    """The ledger with what is computed and how many seeds there are, for people to read."""
    rows, values, seeds = entries(), [], []
    for row in rows.to_dict("records"):
        found, study = compute(row), row["record"]
        values.append("holds" if found.dtype == bool else ", ".join(f"{value:.4g}" for value in found))
        known = Searches(study, row["seeds"])._known(_ends(study)) if study in studies.STUDIES else None
        seeds.append("" if known is None else known["seed"].nunique())
    columns = ["page", "quote", "value", "n", "record", "seeds", "chosen", "computed"]
    return rows.assign(value=values, n=seeds)[columns]
