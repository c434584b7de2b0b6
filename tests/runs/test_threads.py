"""One rule for the number of CPU threads, in searches, trainings, kernels, worker processes and jobs."""

import json
import os
import subprocess
import sys

import nbformat
import pytest
import torch

from ldarts_book.grid.onejob import main as run_job
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.search import search
from ldarts_lib.datasets.images import load_images
from ldarts_lib.evaluation.evaluate import evaluate
from ldarts_lib.evaluation.protocols import training_protocol
from ldarts_lib.evaluation.standalone import Recipe, standalone_accuracy
from ldarts_lib.runs import threads
from ldarts_lib.runs.processes import process_pool
from ldarts_lib.runs.threads import ThreadsError, cores, prepare, thread_count
from ldarts_lib.spaces.notations import parse

CELL = "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"
KERNEL = (
    """
import json, os, sys
from ldarts_book.notebook import begin
""",
    """
size: str = "smoke"  # @param ["smoke", "full"] -- how long
""",
    """
begin(globals(), ".")
early = "torch" not in sys.modules
import torch
print(json.dumps([early, torch.get_num_threads(), os.environ["OMP_WAIT_POLICY"]]))
""",
)


@pytest.fixture
def five_cores(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 5)


def recorded(run):
    return json.loads((run / "environment.json").read_text())["threads"]


def test_small_sizes_have_one_thread_and_large_ones_the_cores(five_cores):
    assert [thread_count(size) for size in (None, "smoke", "demo", "paper", "full")] == [1, 1, 1, 5, 5]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux alone has it")
def test_cores_are_those_that_this_process_may_use():
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
    one = "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    code = f"import os; from ldarts_lib.runs.threads import cores; {one}; print(cores())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "1"


def test_the_user_overrides_and_bad_numbers_are_named(monkeypatch):
    prepare("smoke", 3)
    assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"], thread_count("paper")) == (3, "3", 3)
    with pytest.raises(ThreadsError, match="threads = 0: expected 1 to 1,024"):
        prepare(threads=0)
    for bad in ("0", "-1", "many", "1.5", "1025", "9" * 20):
        monkeypatch.setenv("LDARTS_THREADS", bad)
        with pytest.raises(ThreadsError, match=rf"threads = {bad}: .* of LDARTS_THREADS"):
            thread_count("smoke")


@pytest.mark.parametrize(("size", "expected"), [("smoke", 1), ("paper", 5)])
def test_a_search_and_a_training_have_the_threads_of_their_size(size, expected, tmp_path, five_cores):
    torch.set_num_threads(2)
    sizes = {"channels": 2, "depth": 1, "batch_size": 500, "epochs": 1}
    search(protocol(size=size, **sizes), tmp_path / "search", progress=False)
    given = sizes | {"batch_size": 32, "images": 32, "reduction": "light"}
    chosen = training_protocol("a", parse(CELL), "digits", "nasbench201", size, **given)
    evaluate(chosen, tmp_path / "training", device="cpu", progress=False)
    for run in tmp_path.iterdir():
        assert (recorded(run), torch.get_num_threads()) == (expected, 2)


def test_the_command_line_prepares_before_torch_is_loaded(tmp_path):
    arguments = (
        f"search --size smoke --epochs 1 --set batch_size 500 --threads 2 --out {tmp_path / 'run'}".split()
    )
    code = f"import sys; sys.argv = {['ldarts', *arguments]!r}; from ldarts_lib.cli import main; main()"
    unset = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    printed = subprocess.check_output([sys.executable, "-c", code], env=unset, text=True)
    assert f"2 of {cores()} threads" in printed
    found = json.loads((tmp_path / "run/environment.json").read_text())
    assert (found["threads"], found["determinism"]["OMP_WAIT_POLICY"]) == (2, "PASSIVE")


@pytest.mark.parametrize(("size", "chosen", "expected"), [("smoke", "", 1), ("full", "2", 2)])
def test_a_kernel_has_the_threads_of_its_size_before_torch_is_loaded(
    size, chosen, expected, tmp_path, ldarts, monkeypatch
):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in KERNEL])
    book.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(book, tmp_path / "some.ipynb")
    given = ["--threads", chosen] if chosen else []
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    code, _, err = ldarts(
        "run-notebook", tmp_path / "some.ipynb", "-p", "size", size, *given, "--out", tmp_path / "out"
    )
    assert code == 0, err
    cells = nbformat.read(tmp_path / "out/some.ipynb", 4).cells
    assert json.loads(cells[-1].outputs[0].text) == [True, expected, "PASSIVE"]


def test_a_job_has_the_threads_that_its_scheduler_gives(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_THREADS", "2")
    parameters = {"architecture": CELL, "recipe": "lookup", "out": str(tmp_path / "run")}
    notebook = repository / "book/one_evaluation.ipynb"
    assert run_job([str(notebook), str(tmp_path / "one.ipynb"), json.dumps(parameters)]) == 0
    assert recorded(tmp_path / "run") == 2


def test_worker_processes_have_one_thread_or_the_users(monkeypatch):
    for given, expected in (("", 1), ("2", 2)):
        monkeypatch.setenv("LDARTS_THREADS", given)
        with process_pool(1, "cpu") as pool:
            assert pool.submit(torch.get_num_threads).result() == expected
            assert pool.submit(thread_count, "paper").result() == expected


def test_a_small_training_has_one_thread(five_cores):
    seen = []

    class Watched(Recipe):
        def rate(self, epoch):
            seen.append(torch.get_num_threads())
            return super().rate(epoch)

    given = parse(CELL), protocol(size="smoke", channels=2), load_images("noisy-digits"), Watched(epochs=1)
    torch.set_num_threads(2)
    standalone_accuracy(*given)
    assert (seen, torch.get_num_threads()) == ([1], 2)
