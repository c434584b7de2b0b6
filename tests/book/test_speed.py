import json

import pytest
import torch

from ldarts_book.precision import precision_effects
from ldarts_book.speed import BenchmarkError, Scale, Usage, benchmark

TINY = Scale(2, {"stages": 1, "chain": 5}, 8, 4)


@pytest.fixture(scope="module")
def rows():
    return benchmark(scale=TINY, spaces=["darts", "nasbench201"], costs=["none", "central"], rounds=2)


def test_every_combination_is_measured(rows):
    found = {(r.space, r.implementation, r.regularizer, r.checkpoint) for r in rows}
    implementations = ("reference", "fast", "batched")
    expected = {
        (space, name, cost, False)
        for space in ("darts", "nasbench201")
        for name in implementations
        for cost in ("none", "central")
    }
    assert found == expected | {(space, "fast", "central", True) for space in ("darts", "nasbench201")}
    assert len(rows) == len(found)
    for row in rows:
        assert 0 < row.fastest <= row.seconds <= row.slowest and row.n == 2
        assert 0 < row.kernel_calls < row.operator_calls and row.peak_memory_mb > 0
        assert row.implementation != "reference" or row.ratio == 1


def by_name(rows, space, cost):
    chosen = [r for r in rows if (r.space, r.regularizer, r.checkpoint) == (space, cost, False)]
    return {row.implementation: row for row in chosen}


def test_what_can_be_counted_is_less_than_the_references(rows):
    """Calls and bytes do not depend on the machine."""
    darts = by_name(rows, "darts", "central")
    assert darts["batched"].operator_calls <= darts["reference"].operator_calls / 3
    assert darts["fast"].peak_memory_mb < 0.8 * darts["reference"].peak_memory_mb
    (recomputed,) = (r for r in rows if r.space == "darts" and r.checkpoint)
    assert recomputed.peak_memory_mb < 0.6 * darts["fast"].peak_memory_mb
    assert darts["reference"].operator_calls > by_name(rows, "darts", "none")["reference"].operator_calls


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
    again = benchmark(
        scale=TINY, spaces=["darts", "nasbench201"], costs=["none", "central"], rounds=1, workers=2
    )
    for found, expected in zip(again, rows, strict=True):
        assert found.operator_calls == expected.operator_calls
        assert found.peak_memory_mb == expected.peak_memory_mb


def test_bad_requests_are_refused():
    with pytest.raises(BenchmarkError, match="rounds = 0: expected at least 1"):
        benchmark(scale=TINY, rounds=0)
    with pytest.raises(BenchmarkError, match="the reference, which is not among"):
        benchmark(scale=TINY, implementations=["fast"])


def test_lower_precision_is_measured():
    full, half = precision_effects(["nasbench201"], epochs=1)
    assert (full.precision, half.precision) == ("float32", "bfloat16")
    assert full.alignment_float64 == half.alignment_float64
    for measure in ("cells", "loss", "regularizer"):
        assert 0 < getattr(full, measure) < 0.01 < getattr(half, measure) < 1  # float32 by machine


def test_the_command_line_writes_the_rows(capsys, monkeypatch, tmp_path):
    from ldarts_book import speed as bench
    from ldarts_lib import cli

    monkeypatch.setattr(bench, "QUICK", TINY)
    monkeypatch.setattr("ldarts_book.speed.cores", lambda: 1)
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
    monkeypatch.setattr("sys.argv", ["ldarts", "bench", "--threads", "0"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "threads = 0: expected at least 1" in capsys.readouterr().err
