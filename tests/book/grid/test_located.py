"""YAML with lines: where values are, and what is no YAML."""

import pytest

from ldarts_book.grid.located import LocatedError, read_yaml

TEXT = """\
a:
  b: [1,
    2]
  c: {d: x}
"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "file.yaml"
        path.write_text(text)
        return read_yaml(path)

    return read


def test_every_value_knows_its_line(read):
    found = read(TEXT)
    assert found.value == {"a": {"b": [1, 2], "c": {"d": "x"}}}
    assert found.where(("a", "b", 1)) == f"{found.path}, line 3, a.b[1]"
    assert found.where(("a", "c", "d")) == f"{found.path}, line 4, a.c.d"
    assert found.where(()) == f"{found.path}, line 1"


def test_a_place_that_is_missing_has_the_line_of_the_one_above(read):
    found = read(TEXT)
    assert found.where(("a", "c", "e")) == f"{found.path}, line 4, a.c.e"


def test_an_empty_file_is_none(read):
    assert read("# nothing\n").value is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1\nb: 2\n", "line 2: no YAML"),
        ("a: 1\na: 2\n", "line 2: 'a' is given twice, first in line 1"),
        ("x: &a [*a]\n", "an anchor contains itself"),
        ("? [1]\n: 2\n", "line 1: no YAML: found unhashable key"),
        ("a: !!python/name:os.system x\n", "line 1: no YAML"),
        ("a: \x00\n", "no YAML"),
    ],
)
def test_other_text_is_refused(read, text, expected):
    with pytest.raises(LocatedError, match=expected):
        read(text)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(LocatedError, match=r"cannot read .*none\.yaml: No such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(LocatedError, match=r"cannot read .*bytes\.yaml: it is no text"):
        read_yaml(tmp_path / "bytes.yaml")
