import pytest

from ldarts_book.studies import kinds
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.runs.directory import Run
from ldarts_lib.spaces.genotype import parse
from ldarts_lib.spaces.space import SPACES


def test_random_architectures_are_of_the_space_and_of_their_seed():
    drawn = [kinds.draw(seed) for seed in range(20)]
    for genotype in drawn:
        SPACES["s2"].validate(genotype)
    assert len(set(map(str, drawn))) == 20
    assert kinds.draw(3) == drawn[3]
    share = sum(genotype.count("skip_connect") for genotype in drawn) / (16 * 20)
    assert 0.35 < share < 0.65


def test_the_variants_differ_in_what_they_align():
    normal, every = (protocol("s2", **kinds.VARIANTS[name]) for name in ("normal cells", "all cells"))
    assert normal.regularizer.aligned(SPACES["s2"].cells) == ["normal"]
    assert every.regularizer.aligned(SPACES["s2"].cells) == ["normal", "reduce"]
    assert normal.model_copy(update={"regularized_cells": "all"}) == every


def test_the_record_is_whole_and_counts_its_cells():
    found = kinds.outcomes("smoke", "unused")
    assert set(found["variant"]) == {*kinds.VARIANTS, kinds.FLOOR}
    for _, rows in found.groupby("variant"):
        assert rows["seed"].tolist() == list(kinds.SEEDS)
    for row in found.itertuples():
        genotype = parse(row.genotype)
        SPACES["s2"].validate(genotype)
        assert (row.skips, row.convolutions) == tuple(map(genotype.count, ("skip_connect", "sep_conv_3x3")))
    drawn = found[found["variant"] == kinds.FLOOR].set_index("seed")["genotype"]
    assert drawn.to_dict() == {seed: str(kinds.draw(seed)) for seed in kinds.SEEDS}


@pytest.mark.slow
def test_a_study_searches_trains_and_continues(tmp_path):
    found = kinds.run([3], tmp_path, size="smoke", workers=2)
    assert found["variant"].tolist() == [*kinds.VARIANTS, kinds.FLOOR]
    assert found["accuracy"].between(0.3, 1).all()
    trained = Run(tmp_path / "darts-seed3").read_json("standalone.json")["accuracies"]
    assert len(trained) == kinds.TRAININGS
    again = kinds.run([3], tmp_path, size="smoke", workers=1)
    assert again.equals(found)
