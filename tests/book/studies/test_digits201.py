import json

import numpy as np
import pandas as pd
import pytest

from ldarts_book.studies import digits201 as maker
from ldarts_lib.datasets.images import load_images
from ldarts_lib.evaluation.standalone import Recipe, standalone_accuracy
from ldarts_lib.spaces.literals import decode
from ldarts_lib.tables.computation import classes


@pytest.mark.slow
def test_a_table_is_made_and_continued(tmp_path, capfd):
    cells = ["000300", "000400"]
    first = maker.make(tmp_path, seeds=1, recipe=Recipe(epochs=1), workers=1, cells=cells)
    assert first["ops"].tolist() == cells
    assert {"computation", "cells", "parameters", "flops", "seconds", "accuracy_0"} <= set(first)
    part = next((tmp_path / "parts").iterdir())
    written = part.stat().st_mtime_ns
    capfd.readouterr()
    more = maker.make(tmp_path, seeds=4, recipe=Recipe(epochs=1), workers=1, cells=cells)
    assert "8/8" in capfd.readouterr().err
    again = maker.make(tmp_path, seeds=1, recipe=Recipe(epochs=1), workers=1, cells=cells)
    assert part.stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(first, again)
    assert [c for c in more if c.startswith("accuracy_")] == [f"accuracy_{seed}" for seed in range(4)]
    np.testing.assert_allclose(more["accuracy_0"], first["accuracy_0"], atol=0.02)
    images = load_images("noisy-digits")
    alone = standalone_accuracy(decode("000400"), maker.PROTOCOL, images, Recipe(epochs=1), seed=3)
    assert more.set_index("ops").loc["000400", "accuracy_3"] == pytest.approx(alone, abs=0.02)
    facts = json.loads((tmp_path / "provenance.json").read_text())
    assert facts["seeds"] == 1 and facts["recipe"]["epochs"] == 1 and facts["environment"]["versions"]


def test_less_than_one_seed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        maker.make(tmp_path, seeds=0)
    with pytest.raises(ValueError, match="'300001' is not among the 5,044 cells"):
        maker.make(tmp_path, cells=["300001"])


def test_each_computation_has_one_representative_without_dead_edges():
    found = maker.representatives()
    assert len(found) == len(classes())
    assert sorted(sum(found.values(), ())) == sorted(sum(classes().values(), ()))
    for ops, cells in found.items():
        assert ops in cells
        assert ops.count("0") == max(other.count("0") for other in cells)


@pytest.mark.slow
def test_ten_random_rows_are_trained_again(digits201):
    """Other seeds than the table's: within its noise, each row and on average.

    One row of each tenth of the ranking: ten rows from anywhere often differ by less than their noise.
    """
    table, images = digits201.frame, load_images("noisy-digits")
    random = np.random.default_rng()
    tenths = np.array_split(np.arange(len(table)), 10)
    rows = table.sort_values("accuracy").iloc[[random.choice(tenth) for tenth in tenths]]
    noise = np.sqrt((table["std"] ** 2).mean())
    cells = [decode(ops) for ops in rows["ops"]]
    found = [standalone_accuracy(one, maker.PROTOCOL, images, seed=100 + i) for i, one in enumerate(cells)]
    found = np.array(found)
    apart = (found - rows["accuracy"]) / np.maximum(rows["std"], noise)
    assert apart.abs().max() < 6, rows.assign(found=found, apart=apart).to_string()
    assert abs(apart.mean()) < 2
    assert np.corrcoef(found, rows["accuracy"])[0, 1] > 0.8
