import subprocess
import sys

import pytest

from helpers import RELEASED
from ldarts_lib.errors import UnknownName
from ldarts_lib.spaces.genotype import GenotypeError
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.published import published, published_record
from ldarts_lib.spaces.space import PTB, SPACES


def test_the_cells_equal_the_released_ones():
    """Edge by edge, read from the other file without our parser."""
    genotypes = RELEASED["cells"]
    recurrent = {"DARTS_V1_ptb", "DARTS_V2_ptb", "ENAS_ptb"}
    assert set(published()) == set(genotypes) | recurrent
    for name, expected in genotypes.items():
        for kind, cell in published(name).cells.items():
            assert [[e.operation, e.source] for e in cell.edges] == expected[kind]
            assert [e.target for e in cell.edges] == [2 + i // 2 for i in range(len(cell.edges))]
            assert list(cell.output) == expected[f"{kind}_concat"]


@pytest.mark.parametrize("name", published())
def test_every_cell_has_a_source_fits_its_space_and_is_read_back(name):
    record = published_record(name)
    assert record.source and record.dataset in ("cifar10", "cifar100", "svhn", "ptb")
    assert parse(str(record.genotype)) == record.genotype == published(name)
    assert (record.space is None) == (name in ("NASNet", "AmoebaNet", "ENAS_ptb"))
    for space in (*SPACES.values(), PTB):
        if space.name == record.space:
            space.validate(record.genotype)
        elif record.space is None:
            with pytest.raises(GenotypeError, match=f"space '{space.name}'"):
                space.validate(record.genotype)


def test_a_name_that_is_not_published_is_refused():
    with pytest.raises(UnknownName, match="published architecture 'DARTS_V3'; choose one of lambda"):
        published("DARTS_V3")


def test_spaces_load_no_torch():
    code = (
        "import sys, ldarts_lib.spaces.published, ldarts_lib.spaces.space; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
