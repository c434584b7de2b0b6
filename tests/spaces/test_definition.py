"""Search spaces of one's own, read from files."""

import json
import sys

import pytest

import own_operations  # noqa: F401
from ldarts_lib.errors import SpaceError
from ldarts_lib.spaces.definition import as_definition, as_space, find_space, import_modules, read_space
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.space import SPACES, CellSpace, Space

YAML = """\
# a chain
name: mine
import: [own_operations]
macro: chain
cells:
  normal:
    nodes: 2
    candidates: [skip_connect,
                 gated]
  reduce:
    candidates:
      2<-0: [skip_connect, gated]
      2<-1: [skip_connect, max_pool_3x3]
      3<-0: [gated, skip_connect]
      3<-1: [gated, skip_connect]
      3<-2: [gated, skip_connect]
keep: 1
"""
TOML = """\
name = "mine"
macro = "stages"
import = ["own_operations"]
pooling_norm = true

[cells.normal]
nodes = 4
candidates = ["none", "wide_pool"]
"""


def written(folder, text):
    path = folder / ("space.yaml" if ": " in text else "space.toml")
    path.write_text(text)
    return path


def refused(folder, text):
    with pytest.raises(SpaceError) as caught:
        read_space(written(folder, text))
    return str(caught.value)


def test_a_file_says_what_a_space_holds(tmp_path):
    normal = CellSpace.uniform(2, 2, ("skip_connect", "gated"), "concat")
    mixed = (("skip_connect", "gated"), ("skip_connect", "max_pool_3x3"), *[("gated", "skip_connect")] * 3)
    expected = Space("mine", {"normal": normal, "reduce": CellSpace(2, 2, mixed, "concat")}, "chain", keep=1)
    assert read_space(written(tmp_path, YAML)) == expected
    cell = CellSpace.uniform(1, 4, ("none", "wide_pool"), "last")
    space = read_space(written(tmp_path, TOML))
    assert space == Space("mine", {"normal": cell}, "stages", pooling_norm=True)
    assert space.registered == ["wide_pool"] and not space.random and not space.separable


@pytest.mark.parametrize("text", [YAML, TOML])
def test_the_definition_is_the_space(tmp_path, text):
    space = read_space(written(tmp_path, text))
    kept = json.loads(json.dumps(as_definition(space)))
    assert kept["import"] == ["own_operations"] and as_space(kept) == space
    assert find_space(kept) == find_space(space) == ("mine", space)
    assert find_space(SPACES["s1"]) == find_space("s1") == ("s1", None)


@pytest.mark.parametrize(
    ("old", "new", "place", "expected"),
    [
        ("gated]\n  reduce", "gatd]\n  reduce", "line 9, cells.normal.candidates", "did you mean 'gated'?"),
        ("max_pool_3x3", "sep_conv_9x9", "line 13, cells.reduce.candidates", "choose one of none, noise,"),
        ("2<-1:", "2<-2:", "line 11, cells.reduce.candidates", "unknown edge '2<-2'"),
        ("      3<-2: [gated, skip_connect]\n", "", "line 11, cells.reduce.candidates", "the edges 3<-2"),
        ("max_pool_3x3", "gated, none", "line 11, cells.reduce.candidates", "the same number of candidates"),
        ("nodes: 2", "nodes: 0", "line 7, cells.normal.nodes", "greater than or equal to 1"),
        ("nodes: 2", "node: 2", "line 7, cells.normal.node", "unknown key 'node'; the keys are nodes,"),
        ("    nodes: 2\n", "", "line 6, cells.normal.nodes", "it is missing"),
        ("nodes: 2", "output: first", "line 7, cells.normal.output", "'last' or 'concat'"),
        ("macro: chain", "macro: stages", "line 10, cells.reduce", "'stages' has normal cells only"),
        ("macro: chain", "macro: tree", "line 4, macro", "'stages' or 'chain'"),
        ("macro: chain\n", "", "line 1, macro", "Field required"),
        ("keep: 1", "keep: none", "line 17, keep", "'none': expected a number of edges to keep from 1"),
        ("name: mine", "name: s2", "line 2, name", "'s2' is the name of a space that ships"),
        ("name: mine", "name: a/b", "line 2, name", "'a/b'"),
        ("own_operations", "./own_operations.py", "line 3, import", "no name of a module"),
        ("own_operations", "own_operations.py", "line 3, import", "write my_operations for my_operations.py"),
        ("own_operations", "a/b", "line 3, import", "'a/b' is no name of a module"),
        ("own_operations", "not_there", "line 3, import", "ModuleNotFoundError: No module named 'not_there'"),
        ("keep: 1", "keep: [", "line 18", "while parsing a flow node"),
    ],
)
def test_a_bad_file_is_refused_with_line_and_field(tmp_path, old, new, place, expected):
    assert old in YAML
    message = refused(tmp_path, YAML.replace(old, new, 1))
    assert place in message and expected in message and "\n" not in message


def test_all_problems_of_a_toml_file_are_listed(tmp_path):
    first, second = refused(tmp_path, TOML.replace("true", "7").replace("wide", "wild")).splitlines()
    assert "line 4, pooling_norm: 7" in second
    assert "line 8, cells.normal.candidates: unknown operation 'wild_pool'" in first
    assert "at line 8, column" in refused(tmp_path, TOML.replace(', "wide_pool"]', "("))
    with pytest.raises(SpaceError, match=r"cannot read the space none\.yaml: "):
        read_space("none.yaml")


def test_modules_are_found_beside_the_file_and_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "here").mkdir()
    (tmp_path / "beside_the_file.py").write_text("")
    (tmp_path / "here" / "in_the_folder.py").write_text("")
    (tmp_path / "broken_module.py").write_text("import nothing_of_that_name")
    monkeypatch.chdir(tmp_path / "here")
    import_modules(("in_the_folder",))
    read_space(written(tmp_path, TOML.replace('["own', '["beside_the_file", "own')))
    with pytest.raises(SpaceError, match=r"'broken_module' cannot be imported .*'nothing_of_that_name'"):
        import_modules(("broken_module",))
    (tmp_path / "script_that_ends.py").write_text("raise SystemExit(7)")
    with pytest.raises(SpaceError, match=r"'script_that_ends' cannot be imported .SystemExit: 7"):
        import_modules(("script_that_ends",))


@pytest.mark.parametrize(
    ("macro", "nodes", "keep"),
    [
        *[("stages", 2, None), ("stages", 5, "all"), ("stages", 5, 1)],
        *[("chain", 2, None), ("chain", 6, 2), ("chain", 3, 1), ("chain", 6, "all")],
    ],
)
def test_spaces_of_other_sizes_select_cells_that_are_read_back(macro, nodes, keep):
    kinds, inputs = (("normal",), 1) if macro == "stages" else (("normal", "reduce"), 2)
    cell = CellSpace.uniform(inputs, nodes, ("none", "gated"), "last" if inputs == 1 else "concat")
    space = Space("mine", dict.fromkeys(kinds, cell), macro, keep=keep)
    genotype = space.discretize({kind: [[0.6, 0.4]] * len(cell.edges) for kind in kinds})
    space.validate(genotype)
    assert parse(str(genotype)) == genotype
    assert genotype.kind == ("nasbench201" if macro == "stages" else "darts")
    kept = [min(node, space.kept or node) for node in range(inputs, inputs + nodes)]
    assert len(genotype.normal.edges) == sum(kept)
