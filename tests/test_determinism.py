"""When a run repeats bit for bit and when only to rounding: the table of book/made.md, found again."""

import multiprocessing
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from ldarts_lib.bilevel.packed import run_packed
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.search import search
from ldarts_lib.datasets.corpus import load_text
from ldarts_lib.evaluation.evaluate import evaluate
from ldarts_lib.evaluation.protocols import training_protocol
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.threads import VARIABLE
from ldarts_lib.spaces.notations import parse

CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
FORK = multiprocessing.get_context("fork")
QUIET = {"device": "cpu", "progress": False}
IMAGES = protocol(size="smoke", epochs=1, epoch_steps=4, batch_size=32)
TEXT = protocol("ptb", size="smoke", epochs=1, units=8)


def search_text(out):
    text = load_text(TEXT.dataset, min_count=TEXT.min_count)
    few = replace(text, train=text.train[:600], valid=text.valid[:600])
    search(TEXT, out, dataset=few, **QUIET)


def train(out):
    settings = {"images": 64, "batch_size": 32, "epochs": 1}
    evaluate(training_protocol("a cell", parse(CELL), "digits", size="smoke", **settings), out, **QUIET)


RUNS = {
    "search on images": lambda out: search(IMAGES, out, **QUIET),
    "search on a text": search_text,
    "training": train,
}


def numbers(out):
    """All that a run's history holds, and all its weights."""
    rows = Run(out).read_history()
    found = [float(v) for row in rows for k, v in row.items() if k != "seconds" and is_number(v)]
    saved = Run(out).read_checkpoint()
    weights = next(saved[name] for name in ("supernet", "network") if name in saved)
    return torch.tensor(found).double(), torch.cat([w.double().flatten() for w in weights.values()])


def is_number(value):
    return isinstance(value, int | float) and value == value


@contextmanager
def other_work():
    """A process that multiplies matrices meanwhile."""
    busy = FORK.Process(target=lambda: [torch.rand(300, 300) @ torch.rand(300, 300) for _ in range(10**6)])
    busy.start()
    try:
        yield
    finally:
        busy.kill()
        busy.join()


def in_another_process(begin, out, monkeypatch):
    process = FORK.Process(target=begin, args=(out,))
    process.start()
    process.join()


def with_two_threads(begin, out, monkeypatch):
    monkeypatch.setenv(VARIABLE, "2")
    begin(out)


def beside_other_work(begin, out, monkeypatch):
    with other_work():
        begin(out)


def in_a_pack(begin, out, monkeypatch):
    run_packed([IMAGES, IMAGES.model_copy(update={"seed": 1})], [out, out.parent / "other"])


WAYS = {
    "again": lambda begin, out, _: begin(out),
    "in another process": in_another_process,
    "beside other work": beside_other_work,
    "with two threads": with_two_threads,
    "in a pack": in_a_pack,
}


def table(repository):
    """The cells of the page, by run and way."""
    lines = (repository / "book" / "made.md").read_text(encoding="utf-8").splitlines()
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines[next(k for k, line in enumerate(lines) if line.startswith("| run |")) :]
        if line.startswith("|")
    )
    return {(row[0], way): cell for row in rows for way, cell in zip(head[1:], row[1:], strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_the_table_of_what_repeats_bit_for_bit(run, repository, tmp_path, monkeypatch):
    begin, expected = RUNS[run], table(repository)
    assert {way for _, way in expected} == set(WAYS)
    begin(tmp_path / "first")
    first, found = numbers(tmp_path / "first"), {}
    for number, (way, repeat) in enumerate(WAYS.items()):
        if way == "in a pack" and run != "search on images":
            found[way] = "–"
            continue
        with monkeypatch.context() as changes:
            repeat(begin, tmp_path / str(number), changes)
        other = numbers(tmp_path / str(number))
        torch.testing.assert_close(other[0], first[0], rtol=1e-2, atol=1e-3)
        found[way] = "equal" if all(map(torch.equal, other, first)) else "to rounding"
    assert found == {way: cell for (name, way), cell in expected.items() if name == run}
