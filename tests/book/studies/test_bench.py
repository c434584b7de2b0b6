"""The benchmark of the search step: what can be counted, and the command."""

import pandas as pd
import pytest
import torch

from ldarts_book.studies import bench
from ldarts_book.studies.bench import Scale, Usage, benchmark

TINY = Scale(2, {"stages": 1, "chain": 5}, 8, 4)


@pytest.mark.slow
def test_every_candidate_is_measured_and_what_can_be_counted_is_less_than_the_references():
    """Calls and bytes do not depend on the machine, nor on the process that counts them."""
    rows, again = (
        benchmark(scale=TINY, spaces=["darts"], costs=["central"], rounds=2, workers=n) for n in (1, 2)
    )
    counted = [[(row.operator_calls, row.peak_memory_mb) for row in each] for each in (rows, again)]
    assert counted[0] == counted[1]
    found = [(row.implementation, row.checkpoint) for row in rows]
    assert found == [("reference", False), ("fast", False), ("batched", False), ("fast", True)]
    for row in rows:
        assert 0 < row.fastest <= row.seconds <= row.slowest and row.n == 2
        assert 0 < row.kernel_calls < row.operator_calls
    reference, fast, batched, recomputed = rows
    assert reference.ratio == 1
    assert batched.operator_calls <= 0.35 * reference.operator_calls
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


def test_the_command_line_writes_the_rows(ldarts, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "QUICK", TINY)
    monkeypatch.setattr(bench, "cores", lambda: 1)
    file = tmp_path / "new" / "rows.json"
    code, output, _ = ldarts("bench", "--quick", "--spaces", "nasbench201", "--json", file)
    assert code == 0 and "nasbench201" in output
    table = pd.read_json(file)
    assert {"space", "seconds", "ratio", "peak_memory_mb", "operator_calls"} <= set(table.columns)
    calls = table.pivot(index="implementation", columns="regularizer", values="operator_calls")
    assert calls.shape == (3, 4) and calls.notna().all().all()
    none, forward, central = calls.loc["reference", ["none", "forward", "central"]]
    assert none < forward < central
    assert ldarts("bench", "--rounds", "0")[0] == 2
