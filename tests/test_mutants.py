"""The table of wrong changes: none rots, none is too many; and what the script makes of small ones."""

import importlib.util
import subprocess
import sys

import pytest

SOURCE = "def double(x):\n    return 2 * x\n"
TEST = "from room import double\n\n\ndef test_double():\n    assert double(0) == 0\n"


@pytest.fixture(scope="module")
def mutants(repository):
    spec = importlib.util.spec_from_file_location("mutants", repository / "scripts/mutants.py")
    sys.modules["mutants"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutants"]


def test_every_change_is_found_once_and_has_tests(mutants, repository):
    table = mutants.read()
    assert len(table) > 120 and len({(one.file, one.text, one.replacement) for one in table}) == len(table)
    for one in table:
        one.applied(repository)
        tests = [word for word in one.tests.split() if word.endswith(".py")]
        assert tests and all((repository / test).is_file() for test in tests)


CHANGES = {
    "2 * x → 2 + x": ("yes", 0),
    "2 * x → 3 * x": ("no", 1),
    "2 * x → x * 2 ≡ a product": ("equivalent", 0),
    "2 * x → 2 / x ≡ wrong": ("yes, but it should not: wrong", 2),
    "4 * x → 2 * x": ("room.py holds 0 times '4 * x'", 2),
}


@pytest.mark.slow
def test_what_is_noticed_is_told_and_decides_the_exit_code(repository, tmp_path):
    """In a process of its own, as the script forks."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/room.py").write_text(SOURCE)
    (tmp_path / "home/test_room.py").write_text(TEST)
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import mutants\n"
        "mutants.LOADED = ()\n"
        "home, *tables = map(Path, sys.argv[2:])\n"
        "print([mutants.main([], home, table) for table in tables])\n"
    )
    tables = [tmp_path / f"{number}.txt" for number in range(len(CHANGES))]
    for table, change in zip(tables, CHANGES, strict=True):
        table.write_text(f"# a comment\n\n[room.py] test_room.py -k double\n{change}\n")
    command = [sys.executable, "-c", program, repository / "scripts", tmp_path / "home", *tables]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *lines, codes = done.stdout.splitlines()
    assert codes == str([code for _, code in CHANGES.values()])
    for line, change, (verdict, _) in zip(lines[::2], CHANGES, CHANGES.values(), strict=True):
        assert line.startswith(f"{verdict} | ") and change.partition(" ≡ ")[0] in line
    assert lines[1].startswith("1 changes, 1 yes, 0 equivalent")
    assert (tmp_path / "home/room.py").read_text() == SOURCE
