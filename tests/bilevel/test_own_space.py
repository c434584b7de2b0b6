"""Searches of spaces of one's own: a file in, and run directories that need it no more."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from ldarts_book.figures import draw_genotype
from ldarts_book.grid import evaluations
from ldarts_book.grid.grid import GridError, read_grid
from ldarts_lib.bilevel.packed import can_pack
from ldarts_lib.bilevel.protocols import SearchProtocol, protocol
from ldarts_lib.bilevel.search import search, search_all
from ldarts_lib.errors import ProtocolError
from ldarts_lib.evaluation.protocols import TrainingProtocol
from ldarts_lib.runs.directory import Run
from ldarts_lib.spaces.definition import as_definition, read_space
from ldarts_lib.spaces.space import CellSpace, Space

FILE = """
name: mine
import: [own_operations]
macro: stages
cells: {normal: {nodes: 2, candidates: [gated, wide_pool]}}
"""
TINY = {"size": "smoke", "epochs": 1, "channels": 2, "batch_size": 500}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    return path


def test_a_search_and_all_that_follows_need_no_file(file, tmp_path):
    """The search runs in a worker process, which imports the module itself."""
    chosen, out = protocol(file, **TINY), tmp_path / "runs"
    found = search_all({"one": chosen}, out, workers=1)["one"]
    file.unlink()
    settings = SearchProtocol(**Run(out / "one").read_json("config.json"))
    assert settings == chosen and settings.changed == "channels = 2, epochs = 1, batch_size = 500"
    assert search(settings, out / "one", progress=False).genotype == found.genotype
    draw_genotype(found.genotype)
    tiny = {"epochs": 1, "images": 32, "batch_size": 16, "channels": 2, "progress": False}
    names = ("noisy-digits", "nasbench201", "smoke", 0, tmp_path / "judged")
    assert evaluations.judge(str(out / "one"), *names, **tiny)["searched"]["space"] == "mine"
    trained = TrainingProtocol(**Run(tmp_path / "judged").read_json("config.json"))
    assert trained.imports == ("own_operations",) and trained.parsed == found.genotype


def test_a_value_is_as_good_as_a_file(file):
    space = read_space(file)
    assert protocol(space) == protocol(str(file)) == protocol(as_definition(space))
    assert protocol(space).search_space == space and protocol(space).depth == protocol().depth
    cells = dict.fromkeys(["normal", "reduce"], CellSpace.uniform(2, 2, ("gated",), "last"))
    assert protocol(Space("two", cells, "chain")).depth == protocol("s2").depth
    assert protocol("s2").definition is None


def test_what_does_not_go_with_it_is_refused(file):
    assert not can_pack(protocol(file)) and can_pack(protocol())
    for setting in ("cuda_graph", "checkpoint_cells"):
        with pytest.raises(ProtocolError, match=f"{setting} does not go with operations of .*, here gated"):
            protocol(file, **{setting: True})
    with pytest.raises(ProtocolError, match="unknown space 'mine'; choose one of nasbench201"):
        protocol("mine")
    with pytest.raises(ValidationError, match="unknown space 'other'; choose one of mine"):
        SearchProtocol(**protocol(file).model_dump() | {"space": "other"})
    with pytest.raises(ValueError, match="'darts' is the name of a space that ships"):
        protocol(Space("darts", protocol(file).search_space.cells, "stages"))


def test_a_grid_searches_it(file, tmp_path):
    grid = tmp_path / "grid.yaml"
    part = "{spaces: [%s], datasets: [noisy-digits], methods: [darts], seeds: [0], evaluations: [recipe: %s]}"
    grid.write_text(f"size: smoke\nparts:\n  all: {part % (file, 'lookup')}")
    with pytest.raises(GridError, match=r"'lookup' does not take cells of .*; choose among nasbench201$"):
        read_grid(grid)
    grid.write_text(f"size: smoke\nparts:\n  all: {part % (file, 'nasbench201')}")
    job, judged = read_grid(grid).jobs()
    assert job.identity["space"] == judged.space == "mine"
    assert job.directory == "mine/noisy-digits/darts/seed0/search"
    assert job.parameters(Path("out"))["space"] == str(file)
    assert judged.parameters(Path("out"))["architecture"] == f"out/{job.directory}"
