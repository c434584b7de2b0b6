"""Sphinx extension: the tables behind "Build your own cell", as one script beside the landing page.

It holds, for all 15,625 cells in the order of their six digits, the accuracies in Digits-201 and in
NAS-Bench-201 as 16-bit numbers, and the cells of every epoch of a recorded search of DARTS and of Λ-DARTS.
So the page needs no kernel and no server, and works from a folder.
"""

from __future__ import annotations

import base64
import hashlib
import json
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from execution_cache import sources_of
from sphinx.application import Sphinx

if TYPE_CHECKING:
    from ldarts_lib.tables.tables import Table

# What it computes with is imported in the functions: most builds find the script as it should be.

PAGE, DATA = "book/index", "cells.js"
PERCENT = "NAS-Bench-201, CIFAR-10"
SEED = 16
"""Of the searches that are walked; the chapter on watching shows the same."""
STEPS = 10_000
"""What 1 is in the table."""


def accuracies(table: Table, whole: float) -> np.ndarray:
    """The accuracy of each string of six digits, in steps of 1/10,000 of the whole."""
    strings = ("".join(digits) for digits in product("01234", repeat=6))
    column = dict(zip(table.columns[table.label], table.columns[table.target], strict=True))
    return np.array([round(column[table.key(ops)] / whole * STEPS) for ops in strings], "<u2")


def walks() -> dict[str, list[int]]:
    """Of each method the cells of all epochs, each as the number of its string."""
    from ldarts_book import studies

    rows = studies.judged("demonstration").query("seed == @SEED").sort_values("epoch")
    return {name: [int(ops, 5) for ops in rows.loc[rows["variant"] == name, "ops"]] for name in studies.SHOWN}


def contents() -> dict[str, Any]:
    """Everything that the page needs, ready for JSON."""
    from ldarts_book import studies
    from ldarts_book.figures.style import METHODS, OPERATIONS
    from ldarts_lib import open_table
    from ldarts_lib.spaces.space import SPACES

    tables = {
        "Digits-201": accuracies(open_table("digits-201"), 1.0),
        PERCENT: accuracies(open_table("nasbench201"), 100.0),
    }
    looks = [OPERATIONS[name] for name in SPACES["nasbench201"].cells["normal"].candidates[0]]
    return {
        "operations": [{"label": look.label, "words": look.words, "colour": look.colour} for look in looks],
        "tables": {name: base64.b64encode(table.tobytes()).decode() for name, table in tables.items()},
        "percent": [PERCENT],
        "steps": STEPS,
        "seed": SEED,
        "walks": walks(),
        "colours": {look.label: look.colour for look in METHODS.values() if look.label in studies.SHOWN},
    }


def write_tables(app: Sphinx) -> None:
    """Write the script, beside the book's other static files, unless it is there and made by the same."""
    path, code = Path(app.outdir) / "_static" / DATA, Path(__file__).read_text(encoding="utf-8")
    depends = sources_of(Path(app.srcdir)).mark(code) + code
    mark = f"// {hashlib.sha256(depends.encode()).hexdigest()}\n"
    if path.exists() and path.read_text(encoding="utf-8").startswith(mark):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(contents(), ensure_ascii=False)
    path.write_text(f"{mark}window.LDARTS_CELLS = {text};\n", encoding="utf-8")


def add_scripts(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Load both scripts on the page that has the builder, and on no other."""
    if page == PAGE:
        app.add_js_file(DATA, loading_method="defer")
        app.add_js_file("builder.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension (called by Sphinx)."""
    app.connect("builder-inited", write_tables)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
