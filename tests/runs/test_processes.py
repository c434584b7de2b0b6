"""Processes end with the one that started them, however that ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ldarts_lib.runs.processes import ProcessFailed, ending, process_pool

SLEEPER = """
import os, signal, time
from ldarts_lib.runs.processes import process_pool

def work():
    print(os.getpid(), flush=True)
    time.sleep(120)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job in the background
    with process_pool(1, "cpu") as pool:
        pool.submit(work).result()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_a_parent_that_is_killed_or_interrupted(tmp_path, how):
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER)
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with parent:
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)
        os.kill(worker, signal.SIGINT)  # Ctrl-C reaches all of a terminal's processes; the parent decides
        parent.send_signal(how)
        assert parent.wait(20) != 0
    deadline = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(worker, 0)
            time.sleep(0.1)


def test_a_process_that_was_killed_for_want_of_memory_says_what_to_lower(monkeypatch):
    expected = "killed by SIGKILL (for want of memory, most often: lower batch_size or channels, or run fewer"
    assert expected in ending(-9) and ending(-11) == "was killed by SIGSEGV"
    monkeypatch.delattr(signal, "SIGKILL")  # as on Windows
    assert ending(-signal.SIGTERM) == "was killed by SIGTERM"
    assert ending(3221225477) == "ended with exit code 3221225477"


@pytest.mark.parametrize("workers", [1, 2])
def test_the_signal_that_kills_a_worker_is_named(workers):
    killed = pytest.raises(ProcessFailed, match="a worker process was killed by SIGSEGV")
    with killed, process_pool(workers, "cpu") as pool:
        for _ in range(workers - 1):
            pool.submit(time.sleep, 3)
        pool.submit(signal.raise_signal, signal.SIGSEGV).result()
