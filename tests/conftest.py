"""What all tests share: one thread per process, the repository's root, a GPU, a browser."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLBACKEND", "agg")

from ldarts_lib.runs import threads

threads.prepare()  # before torch is imported
# isort: split
import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from builds import build_strictly
from ldarts_lib import cli
from ldarts_lib.tables.tables import Table, open_table

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("repeatable")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked ``gpu`` on a machine without one."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def digits201() -> Table:
    """The benchmark that ships."""
    return open_table("digits-201")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's Chromium; the test is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("needs Chromium")


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """Chromium, driven by playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def whole_book(repository: Path) -> Path:
    """The pages of this book, built where ``make book`` builds them, which executes nothing twice."""
    (repository / "_build").mkdir(exist_ok=True)
    with FileLock(repository / "_build" / "tests.lock"):  # of other workers
        result = build_strictly(repository)
    assert result.returncode == 0, result.stdout + result.stderr
    return repository / "_build" / "html" / "book"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch) -> Iterator[None]:
    """Each test begins with one thread; one that changes the number changes it for itself alone."""
    monkeypatch.setenv(threads.VARIABLE, "")
    for name in threads.LIBRARIES:
        monkeypatch.setenv(name, "1")
    with threads.limited(None):
        yield


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
