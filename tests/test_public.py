"""The public face: twenty names, loaded when they are used, each with an example that runs."""

import ast
import doctest
import inspect
import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ldarts_lib

HEAVY = ("torch", "scipy", "matplotlib", "sklearn", "pandas")
FACE = sorted(ldarts_lib.__all__)
LIBRARY = Path(ldarts_lib.__file__).parent


def loaded_after(code: str) -> set[str]:
    """The packages that a fresh Python has loaded after a piece of code."""
    script = f"import sys\n{code}\nprint('LOADED', *{{name.partition('.')[0] for name in sys.modules}})"
    printed = subprocess.check_output([sys.executable, "-c", script], text=True)
    return set(printed.rpartition("LOADED ")[2].split())


def command(*arguments: str) -> str:
    return (
        f"sys.argv = {['ldarts', *arguments]!r}\n"
        "from ldarts_lib.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass"
    )


def home(name: str) -> ModuleType:
    """The module that a public name comes from."""
    (module,) = (module for module, names in ldarts_lib._HOMES.items() if name in names)
    return sys.modules[f"ldarts_lib.{module}"]


def documentation(name: str) -> str:
    """The docstring of a public name; that of a constant is the text below it."""
    value = getattr(ldarts_lib, name)
    if inspect.isroutine(value) or inspect.isclass(value):
        return value.__doc__ or ""
    body = ast.parse(inspect.getsource(home(name))).body
    return next(
        after.value.value
        for statement, after in itertools.pairwise(body)
        if ast.unparse(statement).startswith((f"{name} =", f"{name}:")) and isinstance(after, ast.Expr)
    )


def test_the_names_are_those_that_an_editor_sees():
    body = ast.parse((LIBRARY / "__init__.py").read_text()).body
    [checked] = [s for s in body if isinstance(s, ast.If)]
    assert sorted(alias.asname or alias.name for s in checked.body for alias in s.names) == FACE
    assert set(FACE) <= set(dir(ldarts_lib))
    assert all(getattr(ldarts_lib, name) is getattr(ldarts_lib, name) for name in FACE)
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        ldarts_lib.serach  # noqa: B018


def test_no_two_functions_or_classes_share_a_name(repository):
    """Those of the command line are its commands: they are called what they do."""
    homes: dict[str, set[Path]] = {}
    for path in [*LIBRARY.rglob("*.py"), *(repository / "book/ldarts_book").rglob("*.py")]:
        for node in ast.parse(path.read_text()).body if path.name != "cli.py" else ():
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(path)
    assert not {name: paths for name, paths in homes.items() if len(paths) > 1}


def test_no_name_shadows_a_room():
    assert not {path.stem for path in LIBRARY.iterdir()} & set(FACE)


@pytest.mark.parametrize(
    "code",
    [
        "import ldarts_lib, ldarts_book.grid.onejob",
        command("--help"),
        command("search", "--help"),
        command("query", "333133"),
        command("query", "DARTS_V2"),
    ],
    ids=["import", "help", "search --help", "query", "query DARTS"],
)
def test_what_must_be_quick_loads_nothing_heavy(code):
    assert not loaded_after(code) & set(HEAVY)


@pytest.mark.parametrize("name", FACE)
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = inspect.cleandoc(documentation(name))
    test = doctest.DocTestParser().get_doctest(text, {**vars(home(name))}, name, None, None)
    assert test.examples
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.DocTestRunner(optionflags=flags).run(test).failed == 0


def test_the_example_of_the_library_page_runs(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = str(repository / "book" / "api.md")
    assert doctest.testfile(page, module_relative=False) == (0, 4)
