"""The benchmark of the search step: what can be counted, and the command."""

import json

import pytest
import torch

from ldarts_book.studies import bench
from ldarts_book.studies.bench import BenchmarkError, Scale, Usage, benchmark
from ldarts_lib import cli

TINY = Scale(2, {"stages": 1, "chain": 5}, 8, 4)


@pytest.fixture(scope="module")
def rows():
    return benchmark(scale=TINY, spaces=["darts"], costs=["central"], rounds=2)


@pytest.mark.slow
def test_every_candidate_is_measured(rows):
    found = [(row.implementation, row.checkpoint) for row in rows]
    assert found == [("reference", False), ("fast", False), ("batched", False), ("fast", True)]
    for row in rows:
        assert (row.space, row.regularizer, row.n) == ("darts", "central", 2)
        assert 0 < row.fastest <= row.seconds <= row.slowest
        assert 0 < row.kernel_calls < row.operator_calls and row.peak_memory_mb > 0
        assert row.implementation != "reference" or row.ratio == 1


@pytest.mark.slow
def test_what_can_be_counted_is_less_than_the_references(rows):
    """Calls and bytes do not depend on the machine."""
    reference, fast, batched, recomputed = rows
    assert batched.operator_calls <= reference.operator_calls / 3
    assert fast.peak_memory_mb < 0.8 * reference.peak_memory_mb
    assert recomputed.peak_memory_mb < 0.6 * fast.peak_memory_mb


def test_usage_counts_calls_and_live_bytes():
    with Usage() as usage:
        a = torch.ones(1000)
        b = a + 1
        del a
        c = b.view(10, 100)
        c.add_(1)
        d = c * 2
    assert usage.calls == 5 and usage.kernels == 4
    assert usage.peak == 8000 and usage.alive == 8000
    assert d.sum() == 6000


@pytest.mark.slow
def test_workers_measure_the_same_things(rows):
    """Calls and bytes are counted, not timed: another process finds the same."""
    again = benchmark(scale=TINY, spaces=["darts"], costs=["central"], rounds=1, workers=2)
    assert [(a.operator_calls, a.peak_memory_mb) for a in again] == [
        (b.operator_calls, b.peak_memory_mb) for b in rows
    ]


def test_bad_requests_are_refused():
    with pytest.raises(BenchmarkError, match="rounds = 0: expected at least 1"):
        benchmark(scale=TINY, rounds=0)
    with pytest.raises(BenchmarkError, match="the reference, which is not among"):
        benchmark(scale=TINY, implementations=["fast"])


def test_the_command_line_writes_the_rows(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "QUICK", TINY)
    monkeypatch.setattr(bench, "cores", lambda: 1)
    file = tmp_path / "new" / "rows.json"
    arguments = ["bench", "--quick", "--spaces", "nasbench201", "--json", str(file)]
    monkeypatch.setattr("sys.argv", ["ldarts", *arguments])
    cli.main()
    assert "nasbench201" in capsys.readouterr().out
    records = json.loads(file.read_text())
    wanted = {
        "space",
        "implementation",
        "regularizer",
        "seconds",
        "ratio",
        "peak_memory_mb",
        "operator_calls",
    }
    assert all(wanted <= record.keys() for record in records)
    pairs = {(r["implementation"], r["regularizer"]) for r in records}
    costs = ("none", "central", "forward", "exact")
    assert pairs == {(i, c) for i in ("reference", "fast", "batched") for c in costs}
    calls = {r["regularizer"]: r["operator_calls"] for r in records if r["implementation"] == "reference"}
    assert calls["none"] < calls["forward"] < calls["central"]
    monkeypatch.setattr("sys.argv", ["ldarts", "bench", "--threads", "0"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "threads = 0: expected at least 1" in capsys.readouterr().err
