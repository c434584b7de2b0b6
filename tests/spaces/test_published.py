import json

import pytest

from helpers import published as held_architectures
from ldarts_lib.runs.directory import RunDirectory, RunError
from ldarts_lib.spaces import published
from ldarts_lib.spaces.genotype import GenotypeError, parse
from ldarts_lib.spaces.recurrent import PTB
from ldarts_lib.spaces.space import SPACES


def test_the_cells_equal_the_held_ones():
    """Edge by edge, read from the other file without our parser."""
    genotypes = held_architectures()["genotypes"]
    recurrent = {"DARTS_V1_ptb", "DARTS_V2_ptb", "ENAS_ptb"}
    assert set(published.names()) == set(genotypes) | recurrent
    for name, expected in genotypes.items():
        found = published.get(name)
        for kind, cell in found.cells.items():
            assert [[e.operation, e.source] for e in cell.edges] == expected[kind]
            assert [e.target for e in cell.edges] == [2 + i // 2 for i in range(len(cell.edges))]
            assert list(cell.output) == expected[f"{kind}_concat"]


def test_every_cell_has_a_source_and_fits_its_space():
    for name in published.names():
        record = published.record(name)
        assert record.source
        assert record.dataset in ("cifar10", "cifar100", "svhn", "ptb")
        if record.space:
            (PTB if record.space == "ptb" else SPACES[record.space]).validate(record.genotype)
        else:
            assert name in ("NASNet", "AmoebaNet", "ENAS_ptb")


def test_an_architecture_is_a_name_a_genotype_or_a_run(tmp_path):
    found = published.get("DARTS_V2")
    assert published.architecture("DARTS_V2") == found
    assert published.architecture(str(found)) == found
    RunDirectory(tmp_path).write_outcome(found, {})
    assert published.architecture(str(tmp_path)) == found


def test_what_is_no_architecture_is_named(tmp_path):
    with pytest.raises(ValueError, match="unknown published architecture 'DARTS_V3'; choose one of lambda"):
        published.get("DARTS_V3")
    with pytest.raises(GenotypeError, match=r"unknown architecture 'DARTS_V3': expected .* DARTS_V2"):
        published.architecture("DARTS_V3")
    with pytest.raises(RunError, match=r"has no genotype\.json"):
        published.architecture(str(tmp_path))
    (tmp_path / "genotype.json").write_text(json.dumps({"genotype": "Genotype(normal=[('skip_connect', 7)"}))
    with pytest.raises(GenotypeError):
        published.architecture(str(tmp_path))


def test_printed_cells_are_read_back():
    for name in published.names():
        assert parse(str(published.get(name))) == published.get(name)
