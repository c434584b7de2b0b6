"""Numbers that others have published, each with its source: what the book puts its own results beside.

``data/published_results.csv`` has one row per number. Only numbers that were read in a source are in it; a
row without a value stands for one of which no source was found, as its note says. Tables that were made
under different protocols are kept apart. Accuracies and errors are in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd
from IPython.display import HTML
from jinja2 import Template

from ldarts_lib.errors import LdartsError, require_known

TABLES = {
    "nasbench201": "NAS-Bench-201",
    "darts-space": "DARTS space",
    "s1-s4-one-search": "S1 to S4, best of several",
    "s1-s4-three-searches": "S1 to S4, mean of three",
}
"""The tables, S1 to S4 in two protocols; that of the DARTS space has its transfer, too."""
QUANTITIES = {
    "valid_accuracy": "valid",
    "test_accuracy": "accuracy",
    "test_error": "error",
    "best_test_error": "error, best",
    "parameters_millions": "parameters (M)",
    "gpu_days": "GPU-days",
}
"""The quantities, and what a column of them is called."""
COLUMNS = (
    "table", "method", "space", "searched", "evaluated", "quantity", "value", "std", "n", "protocol",
    "source", "reported_by", "note",
)  # fmt: skip
LEFT_OUT = {
    "NAS-Bench-201: DARTS-, CDARTS": "no source found",
    "NAS-Bench-201: the row DARTS of GENIUS": "it mixes two rows; both are here from their own sources",
    "DARTS space: FairDARTS on other images; all but the best numbers of ZARTS and DARTS+": "no source found",
    "S1 to S4, one search: PC-DARTS, DARTS-ES, R-DARTS, SDARTS": "no source found",
    "S1 to S4, three searches: five cells of ROME": "the digits of its Table 1 are garbled in the text",
    "S1 to S4: Λ-DARTS": "no source found",
}
"""What is not in the tables, and why."""


class PublishedError(LdartsError, ValueError):
    """A table of published numbers that breaks its own rules; the message names the row."""


@cache
def _read() -> pd.DataFrame:
    rows = _csv("published_results.csv", [name for name in COLUMNS if name != "n"])
    shown = rows["value"] + (" ± " + rows["std"]).where(rows["std"] != "", "")
    rows[["value", "std"]] = rows[["value", "std"]].apply(pd.to_numeric)
    return checked(rows).assign(shown=shown)


def rows_of(table: str | None = None) -> pd.DataFrame:
    """The published numbers of a table, or all, one row each, in the order of the file.

    Columns: ``table``, ``method``, ``space``, ``searched`` and ``evaluated`` (data sets; empty where the
    source does not say), ``quantity``, ``value`` (NaN where it is not available), ``std``, ``n`` (searches;
    NaN where it is not known), ``protocol``, ``source`` (short names of :func:`sources`), ``reported_by``
    (the same, if the source is not the publication that made the number), ``note``, and ``shown`` (value and
    standard deviation as they are printed there).

    Raises:
        PublishedError: the file breaks a rule of :func:`checked`.
        UnknownName: no such table.
    """
    if table is None:
        return _read().copy()
    require_known("table", table, TABLES)
    return _read()[_read()["table"] == table]


def checked(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, if each keeps the rules.

    Every value has a known table, quantity and source, and a protocol; every row without a value has a note.
    No number is there twice, and a table of S1 to S4 holds one protocol only.

    Raises:
        PublishedError: a row breaks a rule.
    """
    if list(rows.columns) != list(COLUMNS):
        raise PublishedError(f"expected the columns {list(COLUMNS)}, got {list(rows.columns)}")
    there, known = rows["value"].notna(), {"", *sources().index}
    named = (rows["source"] + "; " + rows["reported_by"]).str.split("; ")
    protocols = rows["protocol"].where(there & rows["table"].str.startswith("s1-s4"))
    broken = {
        "an unknown table": ~rows["table"].isin(TABLES),
        "an unknown quantity": ~rows["quantity"].isin(QUANTITIES),
        "an unknown source": ~named.map(known.issuperset),
        "no value, and no note that says why": ~there & (rows["note"] == ""),
        "a value without a source or a protocol": there & ((rows["source"] == "") | (rows["protocol"] == "")),
        "a number that is there twice": rows.duplicated([*COLUMNS[:6]]),
        "a table that mixes protocols": protocols.groupby(rows["table"]).transform("nunique") > 1,
    }
    for problem, where in broken.items():
        if where.any():
            line, row = where.idxmax() + 2, rows[where].iloc[0].to_dict()
            raise PublishedError(f"published_results.csv, line {line}: {problem}: {row}")
    return rows


def sources() -> pd.DataFrame:
    """The sources under their short names: ``title``, ``citation`` (key of the bibliography), ``address``."""
    return _csv("published_sources.csv", ["source", "title", "citation", "address"]).set_index("source")


def figure1() -> pd.DataFrame:
    """The curves of the paper's Figure 1, read off its pixels: one row per method and epoch.

    Columns: ``method``, ``epoch``, ``alignment`` (Λ), ``accuracy`` (CIFAR-10 test accuracy of the derived
    cell on NAS-Bench-201, percent), their reading errors ``alignment_error`` and ``accuracy_error``, and
    ``note``.
    """
    return _csv("published_figure1.csv", ["method", "note"])


def nasbench201() -> pd.DataFrame:
    """NAS-Bench-201: methods × (data set, valid or test), percent, with the source of each row."""
    return _wide(rows_of("nasbench201"), QUANTITIES | {"test_accuracy": "test"})


def darts_space() -> pd.DataFrame:
    """The DARTS space: accuracy (percent), parameters (millions) and GPU-days, on CIFAR-10 and CIFAR-100."""
    rows = rows_of("darts-space")
    return _wide(rows[rows["evaluated"] != "imagenet"])


def imagenet() -> pd.DataFrame:
    """The transfer to ImageNet: top-1 accuracy (percent), parameters (millions), data set of the search."""
    rows = rows_of("darts-space")
    rows = rows[rows["evaluated"] == "imagenet"]
    table = _wide(rows)
    searched = rows.groupby("method")["searched"].first().replace("", "not stated")
    table.insert(0, "searched on", searched)
    return table


def filtered_table() -> HTML:
    """Every number that has a source in one table, which a page filters and sorts without a server."""
    rows = rows_of()
    rows = rows[rows["value"].notna()]
    space = rows["space"].str.upper().where(rows["table"].str.startswith("s1-s4"), "")
    columns = {
        "table": rows["table"].map(TABLES),
        "method": rows["method"],
        "data set": (rows["evaluated"] + " " + space).str.strip(),
        "quantity": rows["quantity"].map(QUANTITIES),
        "value": rows["shown"],
        "searches": rows["n"].map("{:.0f}".format).replace("nan", ""),
        "source": [origin(*pair) for pair in rows[["source", "reported_by"]].itertuples(index=False)],
        "protocol and notes": rows["protocol"] + ("; " + rows["note"]).where(rows["note"] != "", ""),
    }
    table = pd.DataFrame(columns).to_html(index=False, border=0)
    template = Template(Path(__file__).with_name("listing.html").read_text(encoding="utf-8"))
    label = "published numbers, with their sources"
    return HTML(template.render(table=table, filters=[*enumerate(columns)][:4], label=label))


def s1_s4(table: str) -> pd.DataFrame:
    """S1 to S4: (data set, space) × methods, test error in percent; methods without any are left out.

    Raises:
        UnknownName: the table is neither ``s1-s4-one-search`` nor ``s1-s4-three-searches``, which must not
            be mixed.
    """
    require_known("table", table, [*TABLES][2:])
    rows = rows_of(table)
    wide = rows.pivot(index=["evaluated", "space"], columns="method", values="shown")
    wide.index.names = ["data set", "space"]
    known = rows.loc[rows["value"].notna(), "method"].unique()
    return wide[known].rename_axis(columns=None)


def origin(source: str, reported_by: str) -> str:
    """Where a number comes from, in words: second-hand, from the method's own paper, or nowhere."""
    if not source:
        return "no source found"
    return f"as reported by {source}" if reported_by else f"{source}, its own publication"


def _wide(rows: pd.DataFrame, words: Mapping[str, str] = QUANTITIES) -> pd.DataFrame:
    """Methods × (data set, quantity) as text; the last column names the sources of the row."""
    long = rows.assign(heading=(rows["evaluated"] + " " + rows["quantity"].map(words)).str.strip())
    table = long.pivot(index="method", columns="heading", values="shown")
    table = table.loc[long["method"].unique(), long["heading"].unique()].fillna("").rename_axis(columns=None)
    named = rows.groupby("method", sort=False)[["source", "reported_by"]].agg(
        lambda names: "; ".join(dict.fromkeys(part for name in names for part in name.split("; ") if part))
    )
    return table.assign(source=[origin(*named.loc[method]) for method in table.index])


def _csv(name: str, texts: Sequence[str]) -> pd.DataFrame:
    """A table that ships, in which some columns are text, empty rather than NaN."""
    path = Path(str(files("ldarts_data"))) / name
    table = pd.read_csv(path, dtype=dict.fromkeys(texts, str))
    return table.fillna(dict.fromkeys(texts, ""))
