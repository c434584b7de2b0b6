"""Sweeps: what runs and what does not, several at a time, failures, interruptions, kills."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import torch

from ldarts_book.grid import locks, sweep
from ldarts_book.grid.grid import read_grid
from ldarts_book.grid.locks import FolderBusy
from ldarts_book.grid.status import status
from ldarts_book.grid.sweep import PlacesError, SweepFailed, run_grid, slots
from ldarts_lib.runs.threads import cores
from tiny import GRID, write_notebooks

DARTS, LAMBDA = "nasbench201/noisy-digits/darts/seed0", "nasbench201/noisy-digits/lambda/seed0"


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    return write_notebooks(tmp_path_factory.mktemp("book"))


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    return path


@pytest.fixture
def run(grid, tmp_path, notebooks, monkeypatch):
    """Run the small grid; keyword arguments are told to the notebooks."""

    def run(workers=2, **told):
        for name in ("TINY_FAIL", "TINY_WAIT"):
            monkeypatch.setenv(name, told.get(name, ""))
        return run_grid(read_grid(grid), tmp_path / "out", notebooks=notebooks, workers=workers, device="cpu")

    return run


def names(jobs):
    return sorted(job.directory for job in jobs)


def states(grid, out):
    return {job.directory: status(job, out).state for job in read_grid(grid).jobs()}


def test_failures_are_kept_dependants_skipped_and_the_rest_runs_then_only_what_is_missing(
    run, grid, tmp_path, capfd
):
    out = tmp_path / "out"
    report = run(TINY_FAIL=f"{DARTS}/search")
    assert names(report.finished) == [f"{LAMBDA}/lookup-noisy-digits", f"{LAMBDA}/search"]
    assert names(report.skipped) == [f"{DARTS}/lookup-noisy-digits"]
    (failure,) = report.failed
    assert failure.job.directory == f"{DARTS}/search"
    assert "RuntimeError: asked to fail" in failure.reason
    assert failure.notebook == out / f"{DARTS}/search.ipynb"
    outputs = [o for cell in nbformat.read(failure.notebook, 4).cells for o in cell.get("outputs", [])]
    assert any(o.output_type == "error" and o.ename == "RuntimeError" for o in outputs)
    assert states(grid, out)[f"{DARTS}/search"] == "failed"
    with pytest.raises(SweepFailed, match=r"search\.ipynb\nskipped: .*lookup-noisy-digits"):
        report.raise_if_failed()
    printed = capfd.readouterr().out
    assert f"failed {DARTS}/search: " in printed
    assert "4 jobs, 0 of them need nothing; 2 at a time" in printed

    kept = (out / LAMBDA / "search/metrics.json").stat().st_mtime_ns
    report = run()
    assert names(report.earlier) == [f"{LAMBDA}/lookup-noisy-digits", f"{LAMBDA}/search"]
    assert names(report.finished) == [f"{DARTS}/lookup-noisy-digits", f"{DARTS}/search"]
    assert not report.failed
    report.raise_if_failed()
    assert (out / LAMBDA / "search/metrics.json").stat().st_mtime_ns == kept
    assert set(states(grid, out).values()) == {"finished"}
    environment = json.loads((out / DARTS / "search/environment.json").read_text())
    assert (environment["device"], environment["LDARTS_THREADS"]) == ("cpu", "1")
    assert environment["began_at"] == 3  # the failed search had trained its epochs; it goes on from there
    evaluated = json.loads((out / LAMBDA / "lookup-noisy-digits/metrics.json").read_text())
    assert evaluated["searched"]["method"] == "lambda"


SWEEP = """
import sys
from ldarts_book.grid.grid import read_grid
from ldarts_book.grid.sweep import run_grid
grid, out, notebooks = sys.argv[1:]
run_grid(read_grid(grid), out, notebooks=notebooks, workers=2, device="cpu")
"""


def start_and_wait_for(waiting, grid, out, notebooks):
    """A sweep in a process of its own, of whose jobs some wait for ever, and the kernels that do."""
    environment = {**os.environ, "TINY_WAIT": " ".join(waiting)}
    process = subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(grid), str(out), str(notebooks)], env=environment, text=True
    )
    files = [out / path / "waits" for path in waiting]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    return process, [int(file.read_text()) for file in files]


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_the_end_of_a_sweep_ends_its_jobs_and_the_next_one_resumes_them(
    run, grid, tmp_path, notebooks, how, monkeypatch, request
):
    out, waiting = tmp_path / "out", [f"{DARTS}/search", f"{LAMBDA}/search"]
    process, kernels = start_and_wait_for(waiting, grid, out, notebooks)
    request.addfinalizer(process.kill)
    jobs = children(process.pid)
    assert len(jobs) == 2
    assert all(map(is_alive, kernels + jobs))
    with monkeypatch.context() as patched, pytest.raises(FolderBusy):
        patched.setattr(locks, "WAIT_SECONDS", 0.1)
        run()
    process.send_signal(how)
    process.wait(30)
    if how is signal.SIGKILL:
        report = run()  # it waits for the jobs that are ending
        assert not any(map(is_alive, kernels + jobs))
        assert len(report.finished) == 4
        for path in waiting:
            assert json.loads((out / path / "environment.json").read_text())["began_at"] == 2
            assert (out / path / "history.csv").read_text().count("\n") == 1 + 3
    else:
        wait_until(lambda: not any(map(is_alive, kernels + jobs)), 30)
        assert states(grid, out)[f"{DARTS}/search"] == "interrupted"


def test_damaged_and_foreign_metrics_are_named_and_not_touched(run, tmp_path):
    for path, text in {DARTS: '{"version"', LAMBDA: '{"version": 99}'}.items():
        folder = tmp_path / "out" / path / "search"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(text)
    report = run()
    reasons = {failure.job.method: failure.reason for failure in report.failed}
    assert "damaged" in reasons["darts"]
    assert "version 99" in reasons["lambda"]
    assert len(report.skipped) == 2
    assert (tmp_path / "out" / DARTS / "search/metrics.json").read_text() == '{"version"'


def test_a_notebook_that_leaves_no_metrics_fails(run, grid, tmp_path, notebooks, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in notebooks.iterdir():
        notebook = nbformat.read(path, 4)
        notebook.cells = notebook.cells[:1]
        nbformat.write(notebook, empty / path.name)
    report = run_grid(read_grid(grid), tmp_path / "out", notebooks=empty, workers=2, device="cpu")
    assert {failure.reason for failure in report.failed} == {
        "the notebook ran to its end, but left no metrics.json"
    }


def test_a_missing_notebook_fails_with_its_name(run, grid, tmp_path):
    report = run_grid(read_grid(grid), tmp_path / "out", notebooks=tmp_path, workers=2, device="cpu")
    assert all("there is no notebook" in failure.reason for failure in report.failed)
    assert [failure.notebook for failure in report.failed] == [None, None]


def test_places_on_a_cpu_and_on_gpus(monkeypatch):
    assert [slot.device for slot in slots(3, "cpu")] == ["cpu"] * 3
    assert len(slots(None, "cpu")) == cores()
    with pytest.raises(PlacesError, match="at least 1, got 0"):
        slots(0, "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(sweep, "resolve_device", lambda name: torch.device(name if ":" in name else "cuda:0"))
    for visible, expected in {"": ["0", "1"], "5,7": ["5", "7"]}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        if not visible:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        found = slots(None, "auto")
        assert [slot.environment for slot in found] == [{"CUDA_VISIBLE_DEVICES": name} for name in expected]
        assert {slot.device for slot in found} == {"cuda"}
        (second,) = slots(None, "cuda:1")
        assert second.environment == {"CUDA_VISIBLE_DEVICES": expected[1]}
        assert len(slots(1, "cuda")) == 1
        with pytest.raises(PlacesError, match="workers = 3, but one runs on each GPU, and there are 2"):
            slots(3, "auto")
