"""The page *Beside the official code* says of the presets what they are."""

from ast import literal_eval
from pathlib import Path

import pytest

from ldarts_lib.bilevel.protocols import protocol

PAGE = (Path(__file__).parents[2] / "book" / "official.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("| `paper` | from | `official` | from |\n")[2].partition("\n\n")[0]
ROWS = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in TABLE.splitlines()[1:]]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[:4]))
def test_the_table_of_presets_is_that_of_the_library(row):
    space, data, method, setting, paper, _, official, _ = row
    for size, told in (("paper", paper), ("official", official)):
        assert getattr(protocol(space, data, method, size), setting) == literal_eval(told)


def test_the_table_names_all_that_the_two_sizes_have_apart():
    named = {(row[0], row[3]) for row in ROWS}
    for space, method in (("nasbench201", "lambda"), ("darts", "lambda")):
        paper, official = (dict(protocol(space, "cifar10", method, size)) for size in ("paper", "official"))
        apart = {(space, name) for name in paper if paper[name] != official[name]} - {(space, "size")}
        assert apart <= named and len(apart) == (7 if space == "nasbench201" else 5)
