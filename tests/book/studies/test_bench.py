"""The benchmark of the search step: what can be counted, when it ends, and the command."""

import time

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from ldarts_book.studies import bench
from ldarts_book.studies.bench import Scale, Usage, benchmark
from ldarts_lib.bilevel.cuda_graph import WARM_UP_STEPS

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
    assert (reference.ratio, reference.uncertainty) == (1, 0) and fast.uncertainty > 0
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


@pytest.fixture
def clock(monkeypatch):
    """Steps that take what is told: seconds of the reference, and of the fast supernet, round by round."""

    def of(reference, fast):
        told = iter(np.ravel([reference, fast], order="F"))
        monkeypatch.setattr(bench, "timed", lambda step, device: float(next(told)))
        few = {"spaces": ["nasbench201"], "implementations": ["reference", "fast"], "costs": ["none"]}
        return lambda **options: benchmark(scale=TINY, checkpoints=False, **few, **options)[1]

    return of


def test_the_ratio_is_the_mean_of_the_rounds_ratios_with_students_interval(clock):
    reference, fast = np.array([3.0, 4.0, 5.0, 4.2]), np.array([1.5, 1.8, 2.4, 2.0])
    row = clock(reference, fast)(rounds=4)
    found = stats.ttest_1samp(np.log(reference / fast), 0).confidence_interval()
    assert row.n == 4 and row.ratio == pytest.approx(stats.gmean(reference / fast))
    assert row.uncertainty == pytest.approx((found.high - found.low) / 2)


def test_rounds_go_on_until_the_interval_is_narrow_or_time_is_up(clock):
    noisy = [3.0, 5.0, 4.0, *[4.0] * 60]
    row = clock(noisy, np.ones(63))()
    assert 3 < row.n < 63 and row.uncertainty <= bench.PRECISION and bench.unsettled([row]) == ""
    assert clock([2.0] * 9, np.ones(9))().n == bench.FEWEST
    row = clock(noisy, np.ones(63))(minutes=0)
    assert (row.n, row.uncertainty) == (1, None) and row.cells[6] == "?"
    assert "not reached in time for 1 of 1 rows" in bench.unsettled([row])


def test_seconds_are_those_of_this_process():
    assert bench.timed(lambda: time.sleep(0.2), torch.device("cpu")) < 0.1


def test_on_a_gpu_the_graph_of_a_step_is_measured_once_it_was_captured(monkeypatch):
    """Without a GPU: instead of a graph, something that makes the steps it is asked for, and counts them."""
    made, before = [], []

    class Graphed:
        def __init__(self, bilevel):
            self.bilevel, self.steps = bilevel, 0
            made.append(self)

        def start_epoch(self, epoch):
            self.bilevel.start_epoch(epoch)

        def step(self, *batches):
            self.steps += 1
            return self.bilevel.step(*batches)

    class Counted(Usage):
        def __enter__(self):
            before.append(made[0].steps)
            return super().__enter__()

    monkeypatch.setattr(bench, "GraphedBilevel", Graphed)
    monkeypatch.setattr(bench, "Usage", Counted)
    few = {"spaces": ["nasbench201"], "costs": ["central"], "rounds": 1, "checkpoints": False}
    rows = benchmark(scale=TINY, implementations=["reference", "batched", "graphed"], **few)
    assert [row.implementation for row in rows] == ["reference", "batched", "graphed"]
    assert before == [0, 0, WARM_UP_STEPS + 1] and made[0].steps == WARM_UP_STEPS + 3
    assert rows[2].operator_calls == rows[1].operator_calls < rows[0].operator_calls
    monkeypatch.setattr(bench, "benchmark", lambda **options: options["implementations"])
    given = {
        (kind, quick): bench.measured([], 1, quick=quick, batch=None, device=torch.device(kind))
        for kind in ("cpu", "cuda")
        for quick in (False, True)
    }
    assert {key for key, names in given.items() if "graphed" in names} == {("cuda", False), ("cuda", True)}


@pytest.mark.slow
def test_the_command_line_writes_the_rows(ldarts, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "QUICK", TINY)
    monkeypatch.setattr(bench, "cores", lambda: 1)
    file = tmp_path / "new" / "rows.json"
    code, output, _ = ldarts("bench", "--quick", "--spaces", "nasbench201", "--json", file)
    assert code == 0 and "nasbench201" in output
    table = pd.read_json(file)
    assert {"space", "seconds", "ratio", "peak_memory_mb", "operator_calls"} <= set(table.columns)
    calls = table.pivot(index="implementation", columns="regularizer", values="operator_calls")
    assert calls.shape == (2, 3) and calls.notna().all().all()
    none, exact, central = calls.loc["reference", ["none", "exact", "central"]]
    assert none < central < exact
    assert ldarts("bench", "--rounds", "0")[0] == 2
