"""A signal ends every command soon, with one line that says what is kept, and no process stays behind."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

SMOKE = ("--size", "smoke", "--device", "cpu")
LONG = {
    "a search": ("search", *SMOKE, "--epochs", "100000"),
    "an evaluation": ("evaluate", "DARTS_V2", "--recipe", "cifar-small", *SMOKE, "--epochs", "100000"),
    "a language search": ("search", "--space", "ptb", *SMOKE, "--epochs", "100000"),
    "a pool": ("study", "demonstration", "--workers", "2"),
    "a bench": ("bench", "--spaces", "nasbench201", "--rounds", "100000"),
    "a download": ("data", "cifar10"),
    "a notebook": ("run-notebook", "x.ipynb"),
    "a grid": ("sweep", "grid.yaml", "--out", "runs", "--jobs", "2", "--device", "cpu"),
}
SENT = [(what, number) for what, number in zip(LONG, (signal.SIGTERM, signal.SIGINT) * 4, strict=True)]
SENT += [("a search", signal.SIGINT), ("a grid", signal.SIGTERM)]
GRID = """size: demo
parts:
  one: {spaces: [nasbench201], datasets: [noisy-digits], methods: [darts], seeds: [0, 1]}
"""
START = """
import pathlib, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job in the background
from ldarts_lib.cli import main
from ldarts_lib.datasets import mirrors

def stalled(url, partial):
    pathlib.Path("begun").touch()
    time.sleep(1000)

mirrors._transfer = stalled
main()
"""
BUSY = "import time\nopen('begun', 'w').close()\nwhile True: time.sleep(0.1)"


def used(processes):
    """Seconds of CPU of these and of those that they have waited for."""
    found = 0.0
    for process in processes:
        try:
            found += sum(process.cpu_times()[:4])
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("what", "number"), SENT)
def test_a_signal_ends_it(what, number, tmp_path, record_property):
    cells = [nbformat.v4.new_code_cell(source) for source in ("seeds: int = 3  # how many", BUSY)]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "x.ipynb")
    (tmp_path / "grid.yaml").write_text(GRID)
    around = os.environ | {"LDARTS_DATA": str(tmp_path / "data")}
    with (tmp_path / "err").open("w") as err:
        command = [sys.executable, "-c", START, *LONG[what]]
        child = subprocess.Popen(
            command, cwd=tmp_path, env=around, stdout=err, stderr=err, start_new_session=True
        )
    process = psutil.Process(child.pid)
    every = [process]
    while not (any(tmp_path.rglob("begun")) or any(tmp_path.rglob("checkpoint.pt")) or used(every) > 20):
        assert child.poll() is None, (tmp_path / "err").read_text()
        time.sleep(0.2)
        every = [process, *process.children(recursive=True)]
    before, began = used(every), time.monotonic()
    (os.killpg if number == signal.SIGINT else os.kill)(child.pid, number)  # Ctrl-C reaches all of a terminal
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall, cpu = time.monotonic() - began, usage.ru_utime + usage.ru_stime - before
    record_property("seconds", f"{what}, {number.name}: {wall:.1f} of the clock, {cpu:.1f} of CPU")
    print(f"{what}, {number.name}: {wall:.1f} s, {cpu:.1f} s of CPU")
    text = (tmp_path / "err").read_text()
    assert child.returncode == 128 + number and "Traceback" not in text, text[-2000:]
    assert "what is finished is kept; to go on: ldarts " in text.splitlines()[-1]
    limit = 10 if what == "a grid" else 2
    assert cpu < limit and wall < limit * max(1, 2 * os.getloadavg()[0] / os.cpu_count())
    _, left = psutil.wait_procs(every[1:], limit)
    assert not [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
