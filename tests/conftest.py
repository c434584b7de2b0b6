"""What all tests share: one thread per process, the repository's root, a GPU, a browser."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; workers run in parallel
os.environ.setdefault("MPLBACKEND", "agg")

import gridtext
import pytest
import torch

from ldarts_lib import cli
from ldarts_lib.benchmarks.tables import Benchmark, open_benchmark
from ldarts_lib.grids.grid import read_grid


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked ``gpu`` on a machine without one."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def digits201() -> Benchmark:
    """The benchmark that ships."""
    return open_benchmark("digits-201")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's Chromium; the test is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("needs Chromium")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread in this process, as in the worker processes of the library."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def ldarts(monkeypatch, capsys):
    """Run the command line in this process; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ldarts", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def grid(tmp_path):
    """Read a grid from text, with replacements."""

    def read(text=gridtext.GRID, **changes):
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "grid.yaml"
        path.write_text(text)
        return read_grid(path)

    return read
