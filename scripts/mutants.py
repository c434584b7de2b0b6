"""Whether the tests would notice a mistake: wrong changes of the code, one at a time, each against its tests.

    python scripts/mutants.py [WORD ...]     only the changes whose file or text contains a WORD

The table is ``mutants.txt`` beside this file. A block begins with ``[FILE] TESTS``, a narrow selection of
fast tests, which pass as long as nothing is changed; a line below it is ``TEXT → REPLACEMENT``, and
``≡ REASON`` after it if no test can notice the change. The exit code is 1 if another one goes unnoticed, and
2 if a text is not found exactly once, or its tests do not run.
"""

from __future__ import annotations

import argparse
import compileall
import csv
import gc
import importlib
import multiprocessing
import os
import py_compile
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix(".txt")
LIMIT = 900
"""Seconds; what a change lets run longer, the tests have noticed."""
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "_build", "runs", "*.egg-info")
LOADED = ("lightning_fabric", "pandas", "pydantic", "pytest_timeout", "torch._dynamo", "torchvision", "tyro")
"""What takes long to import is imported once, and not for each change."""
OPTIONS = ["-x", "-q", "--assert=plain", "--hypothesis-profile=unshrunk", "-p", "no:cacheprovider"]
OPTIONS += ["-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin"]
"""The first failure says enough: nothing is explained, and no smaller example is looked for."""


class Mutant(NamedTuple):
    """One change of one file, the tests that must notice, and why they cannot, if they cannot."""

    file: str
    tests: str
    text: str
    replacement: str
    reason: str = ""

    def applied(self, root: Path) -> str:
        """The file with the change."""
        source = (root / self.file).read_text(encoding="utf-8")
        if (found := source.count(self.text)) != 1:
            raise ValueError(f"{self.file} holds {found} times {self.text!r}")
        return source.replace(self.text, self.replacement)


def read(table: Path = TABLE) -> list[Mutant]:
    """The changes of a table."""
    mutants, file, tests = [], "", ""
    for line in filter(str.strip, table.read_text(encoding="utf-8").splitlines()):
        if line.startswith("["):
            file, _, tests = line[1:].partition("] ")
        elif not line.startswith("#"):
            text, _, rest = line.partition(" → ")
            replacement, _, reason = rest.partition(" ≡ ")
            mutants.append(Mutant(file, tests, text, replacement, reason))
    return mutants


def tried(mutant: Mutant, copy: Path) -> str:
    """Whether the tests in a copy of the repository notice a change: yes, no, or what went wrong."""
    path = copy / mutant.file
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutant.applied(copy), encoding="utf-8")
        return _verdict(copy, mutant.tests)
    except ValueError as error:
        return str(error)
    finally:
        path.write_text(before, encoding="utf-8")


def _verdict(copy: Path, tests: str) -> str:
    """Run tests in a child of this process, which has not imported what is changed."""
    sys.stdout.flush()
    if not (child := os.fork()):
        code = pytest.ExitCode.INTERNAL_ERROR
        try:
            code = _run(copy, tests)
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    return {0: "no", 1: "yes", -signal.SIGALRM: "yes"}.get(code, f"pytest {tests} ends with {code}")


def _run(copy: Path, tests: str) -> int:
    """In silence, from the copy, for a limited time."""
    signal.alarm(LIMIT)
    os.chdir(copy)
    sys.path[:0] = [str(copy), str(copy / "book")]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])  # of processes that a test starts
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1), os.dup2(silent, 2)
    return pytest.main([*OPTIONS, *shlex.split(tests)])


def _all_tried(mutants: Iterable[Mutant], jobs: int, root: Path) -> Iterator[tuple[Mutant, str, float]]:
    """Each with the verdict and the seconds, in their order; so many at a time, each in a copy of its own."""
    with tempfile.TemporaryDirectory() as folder:
        begin = (Path(folder), root)
        with multiprocessing.get_context("fork").Pool(jobs, _copied, begin) as pool:
            yield from pool.imap(_timed, mutants)


def _copied(folder: Path, root: Path) -> None:
    global copy
    copy = shutil.copytree(root, folder / str(os.getpid()), ignore=LEFT_OUT)
    # by the hash: two changes within a second would be one by the time
    compileall.compile_dir(copy, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)


def _timed(mutant: Mutant) -> tuple[Mutant, str, float]:
    start = time.monotonic()
    return mutant, tried(mutant, copy), time.monotonic() - start


def main(arguments: Sequence[str] | None = None, root: Path = ROOT, table: Path = TABLE) -> int:
    """Try the changes of a table, and tell; the exit code is as above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only changes that contain one of these")
    parser.add_argument("--csv", type=Path, help="write how many changes of each file were noticed")
    parser.add_argument("--jobs", type=int, default=1, help="how many are tried at a time")
    given = parser.parse_args(arguments)
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()  # pytest collects garbage ten times, and would copy all that is loaded into each child
    settings.register_profile("unshrunk", derandomize=True, deadline=None, phases=[Phase.generate])
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = True
    counts: dict[str, Counter[str]] = {}
    worst, begin = 0, time.monotonic()
    chosen = [
        one
        for one in read(table)
        if not given.words or any(word in f"{one.file} {one.text}" for word in given.words)
    ]
    for mutant, noticed, seconds in _all_tried(chosen, given.jobs, root):
        if noticed == "no" and mutant.reason:
            noticed = "equivalent"
        elif noticed == "yes" and mutant.reason:
            noticed = f"yes, but it should not: {mutant.reason}"
        worst = max(worst, {"yes": 0, "equivalent": 0, "no": 1}.get(noticed, 2))
        counts.setdefault(mutant.file, Counter()).update(["changes", noticed])
        change = f"{mutant.text} → {mutant.replacement}"
        print(noticed, f"{seconds:.1f} s", mutant.file, change, sep=" | ", flush=True)
    columns = ("changes", "yes", "equivalent")
    total = sum(counts.values(), Counter())
    print(*(f"{total[name]} {name}" for name in columns), f"{time.monotonic() - begin:.0f} s", sep=", ")
    if given.csv:
        with given.csv.open("w", encoding="utf-8", newline="") as stream:
            rows = [[file, *(one[name] for name in columns)] for file, one in counts.items()]
            csv.writer(stream, lineterminator="\n").writerows(
                [["file", "changes", "noticed", "equivalent"], *rows]
            )
    return worst


if __name__ == "__main__":
    sys.exit(main())
