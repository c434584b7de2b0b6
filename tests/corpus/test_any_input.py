"""Whatever comes in: settings, spaces, grids and notebooks give a value or an error of ours."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldarts_book.grid.grid import read_grid
from ldarts_book.notebook import declarations, notebook_parameters, validate
from ldarts_lib.bilevel.protocols import RecurrentProtocol, SearchProtocol, protocol
from ldarts_lib.errors import LdartsError
from ldarts_lib.evaluation.protocols import TrainingProtocol
from ldarts_lib.settings import validated
from ldarts_lib.spaces.definition import read_space

TEXTS = ["", "0", "-1", "nan", "1e999", "[/red]", "[1, 2]", "null", "\0", "\udcff", "9" * 5000, "2020-01-01"]
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(TEXTS) | st.text(max_size=9)
VALUES = st.recursive(
    PLAIN, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=3), part, max_size=3)
)
GRID = """size: smoke
parts:
  one:
    spaces: [s2, darts]
    datasets: [digits]
    methods: [lambda]
    seeds: range(0, 3)
    evaluations:
      - {recipe: cifar-small, datasets: [digits], seeds: [0, 1]}
"""
SPACE = """name: mine
macro: chain
cells:
  normal:
    nodes: 2
    candidates: [skip_connect, sep_conv_3x3]
  reduce:
    candidates:
      2<-0: [skip_connect]
      2<-1: [max_pool_3x3]
keep: 1
"""
PIECES = [
    "-1",
    "10**9",
    "range(0, 10**9)",
    "!!int x",
    "!!binary aGk=",
    "!!set {a}",
    "&a [*a]",
    "*b",
    "[" * 2000,
]
PIECES += ["{", "'[/red]'", "2020-01-01", "\t", "\0", "~", "9" * 5000, "null", ": :", "- ", "<<: *a", "#"]
SOURCE = 'size: str = "smoke"  # @param ["smoke", "demo"] -- how long\nseeds: int = 3  # how many\n'
SOURCE += "shares: list = [0.5]  # of what"
CODE = [
    "open('x')",
    "(" * 200,
    "'" * 3,
    "__import__('os')",
    "9" * 5000,
    "\0",
    "lambda: 0",
    "\n",
    "  ",
    "# @param [",
]
DECLARED = declarations(SOURCE)


@st.composite
def damaged(draw, text, pieces):
    """A text in which up to three stretches are exchanged, most often for something nasty."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        piece = draw(st.sampled_from(pieces) | st.text(max_size=3))
        text = text[:start] + piece + text[start + draw(st.integers(0, 8)) :]
    return text


def fine(read, *arguments, **options):
    """The value, or None after a short error of ours, within two seconds of this process."""
    began = time.process_time()
    try:
        return read(*arguments, **options)
    except LdartsError as error:
        assert str(error) and len(str(error)) < 8000
    finally:
        assert time.process_time() - began < 2
    return None


@pytest.mark.parametrize("model", [SearchProtocol, RecurrentProtocol, TrainingProtocol])
@settings(max_examples=100)
@given(data=st.data())
def test_settings(model, data):
    names = st.sampled_from([*model.model_fields]) | st.text(max_size=5)
    fine(validated, model, data.draw(st.dictionaries(names, VALUES, max_size=4)))


@settings(max_examples=60)
@given(given=st.dictionaries(st.sampled_from([*SearchProtocol.model_fields]), VALUES, max_size=2))
def test_settings_that_a_preset_gets(given):
    chosen = {
        name: value for name, value in given.items() if name not in ("space", "dataset", "method", "size")
    }
    fine(protocol, **chosen)


@pytest.mark.parametrize(("read", "text"), [(read_grid, GRID), (read_space, SPACE)])
@settings(max_examples=120)
@given(data=st.data())
def test_a_grid_or_a_space(tmp_path_factory, read, text, data):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(data.draw(damaged(text, PIECES)), errors="replace")
    fine(read, path)


@settings(max_examples=100)
@given(source=damaged(SOURCE, CODE), names=st.dictionaries(st.sampled_from(["seeds", "size", ""]), VALUES))
def test_the_parameters_of_a_notebook(tmp_path_factory, source, names):
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": source, "outputs": []}
    content = {
        "cells": [cell | {"execution_count": None}],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    path = tmp_path_factory.getbasetemp() / "any.ipynb"
    path.write_text(json.dumps(content))
    declared = fine(notebook_parameters, path)
    if declared:
        fine(validate, declared, names)


@settings(max_examples=100)
@given(
    given=st.dictionaries(st.sampled_from([*DECLARED.model_fields]) | st.text(max_size=3), VALUES, max_size=3)
)
def test_values_of_parameters(given):
    fine(validate, DECLARED, given)


@settings(max_examples=60)
@given(content=damaged(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), PIECES))
def test_a_notebook(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "no.ipynb"
    path.write_text(content, errors="replace")
    fine(notebook_parameters, path)
