"""Parameterized notebooks: declarations, validation, execution, and the check from the inside."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

from ldarts_book import notebook as notebooks
from ldarts_book.notebook import NotebookError, NotebookFailed, ParameterError
from ldarts_book.parameters import declarations

SETUP = "from typing import Literal\nfrom ldarts_book.notebook import check_parameters"
PARAMETERS = """
size: Literal["smoke", "demo"] = "smoke"  # @param ["smoke","demo"] {type:"string"} -- how much
seeds: int = 3  # @param {type:"integer"} -- number of seeds
rate: float = 0.1  # @param {type:"number"} learning rate
out: str = "runs"  # where runs go
steps: tuple[int, ...] = (1, 2)  # milestones
limit: int | None = None  # epochs at most
flag: bool = False  # whether to draw
"""
CHECK = "check_parameters(globals())\nprint('reached')"
SHOW = "import json; print(json.dumps([size, seeds, rate, out, steps, limit, flag]))"
PLAIN = SETUP, PARAMETERS, CHECK, SHOW


@pytest.fixture(autouse=True)
def importable(monkeypatch, tmp_path):
    """Kernels find the library from any directory, and leave the user's IPython alone."""
    monkeypatch.setenv("PYTHONPATH", str(Path(notebooks.__file__).parents[1]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))


def write(path: Path, *sources: str, tagged: int | tuple[int, ...] = 1) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    for position in [tagged] if isinstance(tagged, int) else tagged:
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


class Reader:
    """Someone who runs cells by hand, in a real IPython."""

    def __init__(self) -> None:
        self.shell = InteractiveShell()
        self.run(SETUP)

    def run(self, *sources: str) -> None:
        for source in sources:
            result = self.shell.run_cell(source, store_history=True)
            result.raise_error()

    def __getitem__(self, name: str) -> Any:
        return self.shell.user_ns[name]


@pytest.fixture
def reader():
    return Reader()


# Declarations


def test_declarations_are_read_in_order_with_types_defaults_and_help(tmp_path):
    declared = notebooks.notebook_parameters(write(tmp_path / "n.ipynb", *PLAIN))
    assert list(declared) == ["size", "seeds", "rate", "out", "steps", "limit", "flag"]
    assert {name: p.default for name, p in declared.items()} == {
        "size": "smoke",
        "seeds": 3,
        "rate": 0.1,
        "out": "runs",
        "steps": (1, 2),
        "limit": None,
        "flag": False,
    }
    helps = [declared[name].help for name in ("size", "seeds", "rate", "out")]
    assert helps == ["how much", "number of seeds", "learning rate", "where runs go"]
    assert declared["limit"].annotation == "int | None"


@pytest.mark.parametrize("tagged", [(), (0, 1)])
def test_a_notebook_has_exactly_one_tagged_cell(tmp_path, tagged):
    path = write(tmp_path / "n.ipynb", "a: int = 1  # one", "b: int = 1  # two", tagged=tagged)
    with pytest.raises(NotebookError, match=f"exactly one cell.*found {len(tagged)}"):
        notebooks.notebook_parameters(path)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("seeds = 3  # seeds", "expected `name: type = value"),
        ("seeds: int  # seeds", "expected `name: type = value"),
        ("import os", "got `import os`"),
        ("seeds: int = 3", "seeds needs a comment"),
        ('seeds: int = 3  # @param {type:"integer"}', "seeds needs a comment"),
        ("# number of seeds\nseeds: int = 3", "seeds needs a comment"),
        ("seeds: int = 'x'  # seeds", "default 'x' is no literal of int"),
        ("seeds: int = '3'  # seeds", "default '3' is no literal of int"),
        ("seeds: int = 1 + 2  # seeds", "no literal of int"),
        ("seeds: int = print('ran')  # seeds", "no literal of int"),
        ("size: Literal['a'] = 'b'  # size", "default 'b' is no literal"),
        ("size: Literal[a] = 'b'  # size", "literal values only"),
        ("x: dict = {}  # options", "the type dict is not supported; supported: int, float"),
        ("x: int = 1  # one\nx: int = 2  # two", "x is declared twice"),
        ("x: int = (", "line 1: "),
        ("%matplotlib inline", "line 1: "),
        ("", "declares no parameter"),
    ],
)
def test_a_malformed_declaration_is_named(tmp_path, capsys, source, problem):
    path = write(tmp_path / "n.ipynb", source, tagged=0)
    with pytest.raises(NotebookError) as caught:
        notebooks.notebook_parameters(path)
    assert problem in str(caught.value) and str(path) in str(caught.value)
    assert "ran" not in capsys.readouterr().out


def test_a_declaration_may_take_several_lines():
    declared = declarations("x: list[str] = [  # first\n    'a',\n]  # the names\n")
    assert declared["x"].default == ["a"] and declared["x"].help == "the names"


# Validation


@pytest.mark.parametrize(
    ("annotation", "default", "given", "expected"),
    [
        ("int", "1", "3", 3),
        ("int", "1", 3.0, 3),
        ("float", "1.0", "1e-3", 0.001),
        ("float", "1.0", 2, 2.0),
        ("str", "''", "3", "3"),
        ("str", "''", "none", "none"),
        ("bool", "True", "False", False),
        ("bool", "True", "1", True),
        ("bool", "True", 0, False),
        ("Literal['a', 'b']", "'a'", "b", "b"),
        ("Literal[1, 2]", "1", "2", 2),
        ("int | None", "1", "none", None),
        ("int | None", "None", "4", 4),
        ("list[float]", "[]", "1, 2.5", [1.0, 2.5]),
        ("list[str]", "[]", "['a', 'b']", ["a", "b"]),
        ("list[str]", "[]", "", []),
        ("list[Literal['a', 'b']]", "[]", "b,a", ["b", "a"]),
        ("tuple[int, ...]", "()", [1, 2], (1, 2)),
        ("tuple[int, str]", "(1, 'a')", "(2, 'b')", (2, "b")),
    ],
)
def test_values_and_text_are_read_to_the_declared_type(annotation, default, given, expected):
    declared = declarations(f"x: {annotation} = {default}  # help")
    value = notebooks.validate(declared, {"x": given})["x"]
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "default", "given"),
    [
        ("int", "1", "1.5"),
        ("int", "1", 1.5),
        ("int", "1", True),
        ("int", "1", None),
        ("float", "1.0", "fast"),
        ("float", "1.0", False),
        ("bool", "True", "yes"),
        ("bool", "True", 2),
        ("str", "''", 3),
        ("Literal['a', 'b']", "'a'", "c"),
        ("Literal[1, 2]", "1", True),
        ("int | None", "1", "nothing"),
        ("list[int]", "[]", "1,x"),
        ("list[int]", "[]", "[1, __import__('os')]"),
        ("list[int]", "[]", "[1,"),
        ("tuple[int, str]", "(1, 'a')", "1"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_value_and_type(annotation, default, given):
    declared = declarations(f"x: {annotation} = {default}  # help")
    with pytest.raises(ParameterError) as caught:
        notebooks.validate(declared, {"x": given})
    assert f"x = {given!r}: expected " in str(caught.value)


def test_all_problems_are_reported_at_once_with_what_is_allowed():
    with pytest.raises(ParameterError) as caught:
        notebooks.validate(declarations(PARAMETERS), {"sede": 3, "size": "hugee", "rate": 1})
    message = str(caught.value)
    assert "unknown parameter 'sede' (did you mean 'seeds'?)" in message
    assert "size = 'hugee': expected one of 'smoke', 'demo'" in message
    assert "rate = " not in message
    assert "allowed parameters: size: Literal['smoke', 'demo'], seeds: int, rate: float" in message


# Execution


def test_a_notebook_runs_with_its_values_in_the_callers_directory(tmp_path, monkeypatch, capfd, caplog):
    where = "import os, sys; print('at', os.getcwd(), sys.executable)"
    path = write(tmp_path / "book" / "n.ipynb", *PLAIN, where)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    given = {"size": "demo", "seeds": "5", "steps": "3,4", "limit": 7, "flag": True}
    executed = notebooks.run_notebook(path, given, Path("{runs}"))
    assert executed == Path("{runs}") / "n.ipynb"
    assert [file.name for file in executed.parent.iterdir()] == ["n.ipynb"]
    assert '["demo", 5, 0.1, "runs", [3, 4], 7, true]' in printed(executed)
    shown = capfd.readouterr()
    assert f"at {tmp_path / 'here'} {sys.executable}" in shown.out
    assert "6/6" in shown.err and "unknown parameter" not in caplog.text


def test_a_shadowing_kernelspec_is_not_used_and_a_rerun_replaces(tmp_path, monkeypatch):
    shadow = tmp_path / "jupyter" / "kernels" / "python3"
    shadow.mkdir(parents=True)
    wrong = {"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}
    (shadow / "kernel.json").write_text(json.dumps(wrong))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    path = write(tmp_path / "n.ipynb", *PLAIN)
    with pytest.raises(RuntimeError, match="Kernel died"):
        papermill.execute_notebook(path, tmp_path / "plain.ipynb", progress_bar=False)
    executed = tmp_path / "runs" / "n.ipynb"
    executed.parent.mkdir()
    executed.write_text("an older run")
    assert "reached" in printed(notebooks.run_notebook(path, {}, executed.parent))


def test_nothing_runs_or_is_written_if_a_parameter_is_bad(tmp_path):
    witness = tmp_path / "ran"
    path = write(tmp_path / "n.ipynb", f"open({str(witness)!r}, 'w')", PARAMETERS)
    with pytest.raises(ParameterError, match="sede"):
        notebooks.run_notebook(path, {"sede": 3}, tmp_path / "runs")
    assert not witness.exists() and not (tmp_path / "runs").exists()


def test_a_notebook_is_not_overwritten_by_its_own_execution(tmp_path):
    path = write(tmp_path / "n.ipynb", *PLAIN)
    before = path.read_bytes()
    with pytest.raises(NotebookError, match="overwrite"):
        notebooks.run_notebook(path, {}, tmp_path)
    assert path.read_bytes() == before


def test_a_failed_cell_is_named_and_its_traceback_kept(tmp_path):
    path = write(tmp_path / "n.ipynb", SETUP, PARAMETERS, CHECK, "# divide\n1 / 0", "print('on')")
    with pytest.raises(NotebookFailed) as caught:
        notebooks.run_notebook(path, {"seeds": 4}, tmp_path / "runs")
    executed = tmp_path / "runs" / "n.ipynb"
    message = str(caught.value)
    assert "failed in the cell '# divide': ZeroDivisionError: division by zero" in message
    assert str(executed) in message
    assert "ZeroDivisionError" in executed.read_text()
    assert printed(executed) == "reached\n"


@pytest.mark.parametrize(
    ("death", "ending"),
    [
        ("os._exit(9)", "ended with exit code 9$"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV$"),
        ("os.kill(os.getpid(), signal.SIGKILL)", r"was killed by SIGKILL \(out of memory, most often\)$"),
    ],
)
def test_a_dead_kernel_is_a_failure_too(tmp_path, death, ending):
    kill = f"print('last words', flush=True)\nimport os, signal; {death}"
    path = write(tmp_path / "n.ipynb", SETUP, PARAMETERS, kill, "print('later')")
    with pytest.raises(NotebookFailed, match=rf"(?m)in the cell .print.'last words'.*the kernel {ending}"):
        notebooks.run_notebook(path, {}, tmp_path / "runs")
    assert (tmp_path / "runs" / "n.ipynb").exists()


def test_prints_are_shown_whole_and_progress_at_its_last_state(capfd):
    with notebooks._relayed_prints() as relays:
        out, err = relays["stdout_file"], relays["stderr_file"]
        for text in ["one\ntw", "o\n"]:
            out.write(text)
        for text in ["\r 10%", "\r 90%", "\r100%"]:
            err.write(text)
        out.write("three\n")
        err.write("\n")
        out.write("unfinished")
    assert capfd.readouterr().out.splitlines() == ["one", "two", "three", "100%", "unfinished"]


# The check from the inside


def test_plain_papermill_stops_at_unknown_names_and_bad_values(tmp_path):
    path = write(tmp_path / "n.ipynb", *PLAIN)
    given = ["-p", "sede", "3", "-p", "size", "hugee", "-p", "seeds", "4"]
    result = subprocess.run(
        [sys.executable, "-m", "papermill", path, tmp_path / "out.ipynb", *given],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert result.returncode != 0
    assert "ParameterError: unknown parameter 'sede' (did you mean 'seeds'?)" in result.stderr
    assert "size = 'hugee': expected one of 'smoke', 'demo'" in result.stderr
    assert "reached" not in printed(tmp_path / "out.ipynb")


def test_plain_papermill_runs_good_values_as_their_declared_types(tmp_path):
    path = write(tmp_path / "n.ipynb", SETUP, PARAMETERS, CHECK, "print(repr((rate, steps)))")
    given = {"rate": 1, "steps": [5], "PAPERMILL_OUTPUT_PATH": "x"}
    papermill.execute_notebook(path, tmp_path / "out.ipynb", given, progress_bar=False)
    assert "(1.0, (5,))" in printed(tmp_path / "out.ipynb")


def test_nbclient_as_used_by_the_book_runs_the_defaults(tmp_path):
    notebook = nbformat.read(write(tmp_path / "n.ipynb", *PLAIN), as_version=4)
    NotebookClient(notebook, kernel_name="python3").execute()
    assert notebook.cells[2].outputs[0].text == "reached\n"


def test_a_reader_edits_and_reruns_cells(reader):
    reader.run(PARAMETERS, CHECK, CHECK)
    reader.run(PARAMETERS.replace("rate: float = 0.1", "rate: float = 1"), CHECK)
    assert reader["rate"] == 1.0 and type(reader["rate"]) is float
    reader.run("seeds = 'many'")
    with pytest.raises(ParameterError, match="seeds = 'many': expected int"):
        reader.run(CHECK)
    reader.run(PARAMETERS, CHECK)
    reader.run("x: dict = {}  # a scratch cell", "a = 'a'; b: Literal[a] = a  # another", CHECK)
    reader.run("b: Literal[a] = a  # the type is no literal", "%precision 3", CHECK)


def test_a_reader_corrects_an_injected_cell(reader):
    reader.run(PARAMETERS, "# Parameters\nsede = 3\nseeds = 4\n")
    with pytest.raises(ParameterError, match="unknown parameter 'sede'"):
        reader.run(CHECK)
    with pytest.raises(SyntaxError):
        reader.run("# Parameters\nseeds = \n")
    reader.run(CHECK)
    reader.run("# Parameters\nseeds = 5\n", CHECK)
    assert reader["seeds"] == 5
    reader.run("# Parameters\nsede = 3\n", PARAMETERS, CHECK)
    assert reader["seeds"] == 3


def test_injected_values_that_no_cell_declares_are_refused(reader):
    reader.run("seeds = 3", "# Parameters\nseeds = 4\n")
    with pytest.raises(ParameterError, match="seeds were given, but no cell that ran declares"):
        reader.run(CHECK)


def test_without_ipython_the_check_does_nothing():
    script = "\n".join([*PLAIN, "assert (seeds, steps) == (3, (1, 2))"])
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)
    notebooks.check_parameters({"In": "a reader's own variable", "seeds": "many"})
