import os
import signal
import subprocess
import sys
import time

import pytest

from ldarts_lib.bilevel.parallel import evaluate_all, process_pool, search_all
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.search import search
from ldarts_lib.datasets import load
from ldarts_lib.evaluation.small import Recipe, standalone_accuracy
from ldarts_lib.runs.directory import RunDirectory, RunError
from ldarts_lib.runs.processes import ProcessFailed


def test_parallel_searches_equal_single_ones_and_continue(tmp_path, capfd):
    protocols = {
        method: protocol(method=method, size="smoke", batch_size=250, channels=2)
        for method in ("darts", "lambda")
    }
    results = search_all(protocols, tmp_path / "many", workers=2)
    assert list(results) == list(protocols)
    assert "4/4" in capfd.readouterr().err
    alone = search(protocols["lambda"], tmp_path / "alone", progress=False)
    for one, other in zip(alone.history, results["lambda"].history, strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}
    assert "finished earlier" not in capfd.readouterr().out
    again = search_all(protocols, tmp_path / "many", workers=1)
    assert again["darts"].history == results["darts"].history
    assert "2 of 2 searches finished earlier" in capfd.readouterr().out

    genotypes = {name: result.genotype for name, result in results.items()}
    accuracies = evaluate_all(genotypes, protocols, Recipe(epochs=1), seed=3)
    expected = standalone_accuracy(
        genotypes["darts"], protocols["darts"], load("noisy-digits"), Recipe(epochs=1), seed=3
    )
    assert accuracies["darts"] == expected


def test_one_failing_search_does_not_stop_the_others(tmp_path):
    protocols = {seed: protocol(size="smoke", epochs=1, seed=int(seed)) for seed in "01"}
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="not empty"):
        search_all(protocols, tmp_path, workers=1)
    assert RunDirectory(tmp_path / "1").finished


@pytest.mark.parametrize("workers", [0, -1])
def test_less_than_one_worker_is_refused(tmp_path, workers):
    with pytest.raises(ValueError, match=f"at least 1, got {workers}"):
        search_all({}, tmp_path, workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_signal_that_kills_a_worker_is_named(workers):
    killed = pytest.raises(ProcessFailed, match="a worker process was killed by SIGSEGV")
    with killed, process_pool(workers, "cpu") as pool:
        for _ in range(workers - 1):
            pool.submit(time.sleep, 30)
        pool.submit(signal.raise_signal, signal.SIGSEGV).result()


SLEEPER = """
import os, time
from ldarts_lib.bilevel.parallel import process_pool

def work():
    print(os.getpid(), flush=True)
    time.sleep(120)

if __name__ == "__main__":
    with process_pool(1, "cpu") as pool:
        pool.submit(work).result()
"""


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    with parent:
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(worker, 0)
            time.sleep(0.1)
