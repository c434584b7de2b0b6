"""Parameterized notebooks: declarations, validation, execution, and the check from the inside."""

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import nbformat
import papermill
import pytest
import torch
from filelock import FileLock
from IPython.core.interactiveshell import InteractiveShell

from ldarts_book import execution
from ldarts_book.notebook import (
    NotebookError,
    NotebookFailed,
    ParameterError,
    begin,
    declarations,
    notebook_parameters,
    validate,
)
from ldarts_lib.errors import RunError

SETUP = "from ldarts_book.notebook import begin"
PARAMETERS = """
size: str = "smoke"  # @param ["smoke","demo"] {type:"string"} -- how much
seeds: int = 3  # @param {type:"integer"} -- number of seeds
rate: float = 0.1  # @param {type:"number"} learning rate
out: str = "runs"  # where runs go
steps: list = [1, 2]  # milestones
flag: bool = False  # whether to draw
"""
BEGIN = "folder, where = begin(globals())\nprint('reached')"
SHOW = "import json; print(json.dumps([size, seeds, rate, out, steps, flag, str(folder), where]))"
PLAIN = SETUP, PARAMETERS, BEGIN, SHOW


@pytest.fixture(autouse=True)
def importable(monkeypatch, tmp_path):
    """Kernels find the library from any directory, and leave the user's IPython alone."""
    monkeypatch.setenv("PYTHONPATH", str(Path(execution.__file__).parents[1]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)


def write(path: Path, *sources: str, tagged: tuple[int, ...] = (1,)) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    for position in tagged:
        cells[position].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    notebook.metadata["language_info"] = {"name": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


@pytest.fixture
def reader():
    """Someone who runs cells by hand, in a real IPython; returns the variables."""
    shell = InteractiveShell()

    def run(*sources: str) -> dict[str, Any]:
        for source in (SETUP, *sources):
            shell.run_cell(source, store_history=True).raise_error()
        return shell.user_ns

    return run


# Declarations


def test_declarations_are_read_in_order_with_types_defaults_and_choices(tmp_path):
    fields = notebook_parameters(write(tmp_path / "n.ipynb", *PLAIN)).model_fields
    kinds = (Literal["smoke", "demo"], int, float, str, list[int], bool)
    defaults = ("smoke", 3, 0.1, "runs", [1, 2], False)
    assert list(fields) == ["size", "seeds", "rate", "out", "steps", "flag"]
    found = [(field.annotation, field.default) for field in fields.values()]
    assert found == [*zip(kinds, defaults, strict=True)]
    assert declarations("x: list = [  # first\n    'ä',\n]  # the names\n")().x == ["ä"]


@pytest.mark.parametrize("tagged", [(), (0, 1)])
def test_a_notebook_has_exactly_one_tagged_cell(tmp_path, tagged):
    path = write(tmp_path / "n.ipynb", "a: int = 1  # one", "b: int = 1  # two", tagged=tagged)
    with pytest.raises(NotebookError, match=f"exactly one cell.*found {len(tagged)}"):
        notebook_parameters(path)


@pytest.mark.parametrize(
    "source",
    [
        "seeds = 3  # seeds",
        "seeds: int  # seeds",
        "import os",
        "seeds: int = 3",
        'seeds: int = 3  # @param {type:"integer"}',
        "# number of seeds\nseeds: int = 3",
        "seeds: int = '3'  # seeds",
        "seeds: int = True  # seeds",
        "seeds: int = print('ran')  # seeds",
        "size: str = 'b'  # @param ['a'] size",
        "size: str = 'b'  # @param [a, b] size",
        "x: dict = {}  # options",
        "x: int | None = 1  # limit",
        "x: list = [1, 'a']  # mixed",
        "x: int = 0  # @param {min:1} too small",
        "x: int = 1  # @param [1, 2] numbers",
        "_x: int = 1  # hidden",
        "x: int = (",
        "%matplotlib inline",
        "",
    ],
)
def test_a_malformed_declaration_is_named(tmp_path, capsys, source):
    path = write(tmp_path / "n.ipynb", source, tagged=(0,))
    with pytest.raises(NotebookError) as caught:
        notebook_parameters(path)
    assert str(caught.value).startswith(f"{path}: {'line ' if source else 'it declares no parameter'}")
    assert "ran" not in capsys.readouterr().out


# Validation


@pytest.mark.parametrize(
    ("declaration", "given", "expected"),
    [
        ("int = 1", "3", 3),
        ("float = 1.0", "1e-3", 0.001),
        ("float = 1.0", 2, 2.0),
        ("str = ''", "3", "3"),
        ("str = 'runs'", "~x~1", "~x~1"),
        ("bool = True", "False", False),
        ("list = [1.0]", "1, 2.5", [1.0, 2.5]),
        ("list = [1.0]", [1, 2], [1.0, 2.0]),
        ("list = ['a']", "['a', 'b']", ["a", "b"]),
        ("list = []", "", []),
        ("list = []", "a", ["a"]),
        ("list = ['a']  # @param ['a', 'b'] which", "b,a", ["b", "a"]),
    ],
)
def test_values_and_text_are_read_to_the_declared_type(declaration, given, expected):
    value = validate(declarations(f"x: {declaration} # help"), {"x": given})["x"]
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    ("declaration", "given", "expected"),
    [
        ("int = 1", "1.5", "x = '1.5': Input should be a valid integer"),
        ("int = 1", True, "x = True: expected a number"),
        ("int = 1", None, "x = None: Input should be a valid integer"),
        ("float = 1.0", "fast", "x = 'fast': Input should be a valid number"),
        ("float = 1.0", False, "x = False: expected a number"),
        ("bool = True", "maybe", "x = 'maybe': Input should be a valid boolean"),
        ("str = ''", 3, "x = 3: Input should be a valid string"),
        ("list = [1]", "1,x", "x.1 = 'x': Input should be a valid integer"),
        ("list = [1]", "[1, __import__('os')]", "x.1 = \"__import__('os')\": Input should be"),
        ("list = [1]", 1, "x = 1: Input should be a valid list"),
        ("list = ['a']  # @param ['a', 'b'] which", "a,c", "x.1 = 'c': Input should be 'a' or 'b'"),
        (
            'int = 1  # @param {type:"integer", min:1} -- n',
            0,
            "x = 0: Input should be greater than or equal to 1",
        ),
        ('float = 1.0  # @param {type:"slider", min:-1, max:1.5} -- n', "2", "x = '2': Input should be less"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_value_and_type(declaration, given, expected):
    with pytest.raises(ParameterError) as caught:
        validate(declarations(f"x: {declaration} # help"), {"x": given})
    assert str(caught.value).startswith(expected)


def test_the_users_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    history = ["out: str = 'runs'  # folder", "# Parameters\nout = '~/x'\n"]
    namespace = {"In": history, "out": "~/x", "size": "smoke"}
    assert begin(namespace, namespace["out"])[0] == tmp_path / "x" and namespace["out"] == str(tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


# Execution


def test_a_notebook_runs_with_its_values_and_this_python_in_the_callers_directory(
    tmp_path, monkeypatch, capfd, caplog
):
    shadow = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    shadow.parent.mkdir(parents=True)
    shadow.write_text('{"argv": ["/bin/false"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    where = "import os, sys; print('at', os.getcwd(), sys.executable)"
    path = write(tmp_path / "book/n.ipynb", *PLAIN, where)
    executed = tmp_path / "here" / "{runs}" / "n.ipynb"
    executed.parent.mkdir(parents=True)
    executed.write_text("an older run")
    monkeypatch.chdir(tmp_path / "here")
    text = "'\"\\\n); open('ran', 'w')  # text stays text"
    given = {"size": "demo", "seeds": "5", "steps": "3,4", "flag": True, "out": text}
    assert execution.run_notebook(path, given, "{runs}").resolve() == executed
    assert [file.name for file in executed.parent.iterdir()] == ["n.ipynb"]
    shown_values = json.loads(printed(executed).split("reached\n")[1].splitlines()[0])
    assert shown_values == ["demo", 5, 0.1, text, [3, 4], True, f"{text}/demo", None]
    assert not Path("ran").exists()
    shown = capfd.readouterr()
    assert f"at {tmp_path / 'here'} {sys.executable}" in shown.out
    assert shown.err == "" and "unknown parameter" not in caplog.text


def test_nothing_runs_or_is_written_if_a_parameter_or_the_place_is_bad(tmp_path):
    path = write(tmp_path / "n.ipynb", "open('ran', 'w')", PARAMETERS)
    with pytest.raises(ParameterError, match="sede"):
        execution.run_notebook(path, {"sede": 3}, tmp_path / "runs")
    with pytest.raises(NotebookError, match="overwrite"):
        execution.run_notebook(path, {}, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["n.ipynb"]


def test_a_notebook_is_left_alone_that_another_process_makes_or_nobody_can_lock(tmp_path, monkeypatch):
    path = write(tmp_path / "n.ipynb", "open('ran', 'w')", PARAMETERS)
    (tmp_path / "runs").mkdir()
    with (
        FileLock(tmp_path / "runs" / ".n.lock"),
        pytest.raises(NotebookError, match=r"n\.ipynb is being made by another process"),
    ):
        execution.run_notebook(path, {}, tmp_path / "runs")
    assert not (tmp_path / "ran").exists()

    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(RunError, match=r"cannot lock .*No locks available"):
        execution.run_notebook(path, {}, tmp_path / "runs")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("# divide\nraise ValueError('by\\n' * 9000)", "'# divide': ValueError: by by [by ]{9,1000}"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", ".*: the kernel was killed by SIGSEGV"),
    ],
)
def test_a_failed_cell_and_a_dead_kernel_are_named_and_what_ran_is_kept(tmp_path, cell, expected):
    path = write(tmp_path / "n.ipynb", SETUP, PARAMETERS, BEGIN, cell, "print('on')")
    with pytest.raises(NotebookFailed, match=f"(?m)failed in the cell {expected}$") as caught:
        execution.run_notebook(path, {"seeds": 4}, tmp_path / "runs")
    assert str(tmp_path / "runs" / "n.ipynb") in str(caught.value)
    assert printed(tmp_path / "runs" / "n.ipynb") == "reached\n"


def test_prints_are_shown_whole_and_on_a_terminal_progress_on_one_line(monkeypatch, capfd):
    with execution._Relay() as relay:
        for text in ["one\ntw", "o\n", "\r 10%", "\r 90%", "\r100%", "\n", "unfinished"]:
            relay.write(text)
    assert capfd.readouterr() == ("one\ntwo\n100%\nunfinished\n", "")
    shown = StringIO()
    shown.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", shown)
    with execution._Relay() as relay:
        relay.cells["file"].write("\rcell 3 of 9")
        assert shown.getvalue().endswith("\rcell 3 of 9")
        relay.write("\rsearching: 40%")
        assert shown.getvalue().rstrip(" ").endswith("\rsearching: 40%")
    assert "\n" not in shown.getvalue()


# The check from the inside


def test_plain_papermill_stops_at_unknown_names_and_bad_values(tmp_path):
    plain = write(tmp_path / "n.ipynb", *PLAIN)
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(plain, "out.ipynb", {"sede": 3, "size": "hugee"}, progress_bar=False)
    assert caught.value.ename == "ParameterError"
    assert "unknown parameter 'sede'; the parameters are size, seeds, rate, out" in caught.value.evalue
    assert "size = 'hugee': Input should be 'smoke' or 'demo'" in caught.value.evalue
    assert "reached" not in printed(Path("out.ipynb"))


def test_a_reader_edits_and_reruns_cells(reader):
    reader(PARAMETERS, BEGIN, BEGIN)
    assert repr(reader(PARAMETERS.replace("rate: float = 0.1", "rate: float = 1"), BEGIN)["rate"]) == "1.0"
    with pytest.raises(ParameterError, match="seeds = 'many'"):
        reader("seeds = 'many'", BEGIN)
    reader(PARAMETERS, BEGIN)
    reader("x: dict = {}  # a scratch cell", "a = 'a'; b: str = a  # another", "%precision 3", BEGIN)


def test_a_reader_corrects_an_injected_cell(reader):
    with pytest.raises(ParameterError, match="unknown parameter 'sede'"):
        reader(PARAMETERS, "# Parameters\nsede = 3\nseeds = 4\n", BEGIN)
    with pytest.raises(SyntaxError):
        reader("# Parameters\nseeds = \n")
    reader(BEGIN)
    found = reader("# Parameters\nrate = 1\nsteps = [5]\nPAPERMILL_OUTPUT_PATH = 'x'\n", BEGIN)
    assert (repr(found["rate"]), found["steps"]) == ("1.0", [5])
    assert reader("# Parameters\nsede = 3\n", PARAMETERS, BEGIN)["seeds"] == 3
    with pytest.raises(ParameterError, match="no cell that ran declares the parameters seeds"):
        begin({"In": ["seeds = 3", "# Parameters\nseeds = 4\n"]})


def test_without_ipython_nothing_is_checked_and_the_device_is_resolved(capsys):
    namespace = {"size": "hugee", "out": "runs", "device": "cpu"}
    assert begin(namespace) == (Path("runs/hugee"), torch.device("cpu"))
    assert begin({**namespace, "In": "a reader's own variable"}, "there")[0] == Path("there")
    assert Path("runs/hugee").is_dir() and Path("there").is_dir()
    assert capsys.readouterr().out.startswith("cpu: ")


def test_parameters_are_refused_before_torch_is_imported():
    history = [PARAMETERS, "# Parameters\nsede = 3\n"]
    script = f"import sys; sys.modules['torch'] = None\n{SETUP}\nbegin({{'In': {history!r}}})"
    failed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "ParameterError: unknown parameter 'sede'" in failed.stderr
