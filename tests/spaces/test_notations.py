"""Architectures as people hold them: the table notations.yaml, files, names, and any text."""

import json
import os
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ldarts_lib.spaces.genotype import Genotype, GenotypeError
from ldarts_lib.spaces.literals import decode
from ldarts_lib.spaces.notations import architecture, parse
from ldarts_lib.spaces.published import published
from ldarts_lib.spaces.space import PTB, SPACES
from spaces.test_genotype import random_genotype

KNOWN = yaml.safe_load(Path(__file__).with_name("notations.yaml").read_text(encoding="utf-8"))
CELLS, TEXTS = KNOWN["cells"], KNOWN["texts"]
SHORT, OTHER = CELLS["short"], CELLS["short"].replace("skip_connect", "none")

PIECES = ["Genotype(", "Structure(", "normal=", "'normal'", "'none'", "none~0", "range(", "concat", "2.5"]
PIECES += ["None", *'[](){},01|+~\n#\\":=-*']


@pytest.mark.parametrize("entry", TEXTS, ids=range(len(TEXTS)))
def test_every_text_of_the_table_is_read_as_it_says(entry):
    if "refused" in entry:
        with pytest.raises(GenotypeError) as refusal:
            parse(entry["text"])
        assert entry["refused"] in str(refusal.value) and "\n" not in str(refusal.value)
    else:
        expected = CELLS.get(entry["means"], entry["means"])
        assert str(parse(entry["text"])) == expected == str(parse(expected))
        assert parse(f"\ufeff  {entry['text']}\n") == parse(expected)


def written(genotype: Genotype) -> list[str]:
    """A genotype in every notation that can hold it."""
    texts = [str(genotype), f"epoch 3: x = {genotype}, 0.1", json.dumps(genotype.as_json(), indent=2)]
    pairs, nodes, triples, output = {}, {}, {}, {}
    for name, cell in genotype.cells.items():
        output[f"{name}_concat"] = list(cell.output)
        pairs[name] = [(e.operation, e.source) for e in cell.edges]
        triples[name] = [(e.operation, e.target, e.source) for e in cell.edges]
        targets = range(cell.inputs, cell.inputs + cell.nodes)
        nodes[name] = [[(e.operation, e.source) for e in cell.incoming(node)] for node in targets]
    if genotype.kind == "nasbench201":
        return [*texts, f"Structure({nodes['normal']})", repr(tuple(map(tuple, nodes["normal"])))]
    fields = [value for name in pairs for value in (pairs[name], output[f"{name}_concat"])]
    unnamed = f"Genotype({', '.join(map(str, fields))})"
    if genotype.kind == "recurrent":
        return [*texts, unnamed]
    named = f"MyGenotype({', '.join(f'{name}={value}' for name, value in (nodes | output).items())})"
    return [*texts, unnamed, named, json.dumps(pairs | output), json.dumps(fields), str(triples | output)]


@pytest.mark.parametrize("space", [*SPACES.values(), PTB], ids=[*SPACES, "ptb"])
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_what_is_written_is_read_back(space, seed):
    genotype = random_genotype(space, random.Random(seed))
    assert all(parse(text) == genotype for text in written(genotype))
    space.validate(genotype)
    assert genotype.kind == {"stages": "nasbench201", "chain": "darts"}.get(space.macro, "recurrent")
    genotype.require(genotype.kind)


@st.composite
def damaged(draw):
    text = draw(st.sampled_from([entry["text"] for entry in TEXTS]))
    start = draw(st.integers(0, len(text)))
    return text[:start] + draw(st.text("()[]{}'\"|~,0a#\n", max_size=2)) + text[start + 1 :]


@settings(max_examples=300)
@given(st.text(max_size=80) | st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | damaged())
def test_any_text_ends_in_an_architecture_or_one_line(text):
    for read in (parse, architecture):
        try:
            read(text)
        except GenotypeError as error:
            assert "\n" not in str(error) and str(error)


@pytest.mark.parametrize(
    "text", ["(" * 100_000, "Genotype(" + "[" * 5000, "a" * 100_000, "|a~" + "9" * 5000 + "|"]
)
def test_texts_of_unusual_size_are_refused(text):
    with pytest.raises(GenotypeError):
        parse(text)


def test_names_digits_and_official_numbers():
    assert architecture(" DARTS_V2 ") == ("DARTS_V2", published("DARTS_V2"))
    assert architecture("320143") == ("320143", decode("320143"))
    assert architecture("nb201:0")[1] == decode("421211") and architecture("nb201:3")[1] == decode("410001")
    name, genotype = architecture(f"genotype = {SHORT}")
    assert (name, str(genotype)) == (SHORT, SHORT)
    for text, message in {
        "nb201:15625": "nb201:15625: expected a number from 0 to 15,624",
        "12804": "expected 6 digits from 0 to 4, or nb201:12804",
        "DARTS_V9": "unknown architecture 'DARTS_V9': expected .*DARTS_V2",
        "cells/none.json": "unknown architecture 'cells/none.json'",
        "a\0b": "unknown architecture",
        "x" * 5000: "unknown architecture 'x{80}'",
    }.items():
        with pytest.raises(GenotypeError, match=message):
            architecture(text)


def test_files_hold_architectures(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    files = {
        "cell.txt": f"\ufeff{SHORT}\n",
        "cell.json": CELLS["nb201"],
        "run/genotype.json": json.dumps(parse(SHORT).as_json()),
        "genotypes.py": f"Genotype = namedtuple('Genotype', '')\nA = {SHORT}\n# X = {OTHER}\nB = {OTHER}\n",
        "log.txt": f"1 genotype = {SHORT}\n2 genotype = {OTHER}\n",
        "same.log": f"1 genotype = {SHORT}\n2 genotype = {SHORT}\n",
        "model.py": f"def f():\n    return Genotype(normal=found)\nONE = {SHORT}\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("cell.txt", "run/genotype.json", "run", "same.log", "model.py", "genotypes.py:A"):
        assert architecture(f"~/{path}") == (f"~/{path}", parse(SHORT))
        assert architecture(str(tmp_path / path))[1] == parse(SHORT)
    assert str(architecture(f"{tmp_path}/cell.json")[1]) == CELLS["nb201"]
    assert str(architecture(f"{tmp_path}/genotypes.py:B")[1]) == OTHER
    for path, message in {
        "genotypes.py": "genotypes.py holds 2 different architectures: A, B; write FILE:NAME",
        "genotypes.py:X": "genotypes.py holds no architecture called 'X'",
        "log.txt": "log.txt holds 2 different architectures: genotype; give one",
        "": "unknown architecture",
    }.items():
        with pytest.raises(GenotypeError, match=message):
            architecture(f"{tmp_path}/{path}")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "picture.png").write_bytes(os.urandom(2000).replace(b"|", b"") + b"\x89PNG")
    with pytest.raises(GenotypeError):
        architecture(str(tmp_path / "picture.png"))
    with (tmp_path / "large.log").open("wb") as file:
        file.truncate(2**27)
    with pytest.raises(GenotypeError, match="more than 64 MB"):
        architecture(str(tmp_path / "large.log"))
