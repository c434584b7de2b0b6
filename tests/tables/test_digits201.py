import numpy as np
import pytest

from ldarts_lib.tables.computation import classes


@pytest.fixture(scope="module")
def table(digits201):
    return digits201.frame


def test_the_table_that_ships_is_complete(table):
    assert set(table.index) == set(classes())
    assert table["cells"].sum() == 5**6
    assert {ops: key for key, ops in table["ops"].items()} == {
        ops: key for key, ops in ((k, min(c, key=lambda o: (-o.count("0"), o))) for k, c in classes().items())
    }
    seeds = table.filter(like="accuracy_")
    assert seeds.shape[1] >= 3
    assert not seeds.isna().any(axis=None)
    np.testing.assert_allclose(table["accuracy"], seeds.to_numpy().mean(1), atol=1e-12)
    np.testing.assert_allclose(table["std"], seeds.to_numpy().std(1, ddof=1), atol=1e-12)
    assert table["accuracy"].between(0, 1).all()


def kernels(ops):
    """Kernel weights of one cell at one channel, to be multiplied by C²."""
    return 9 * ops.count("3") + ops.count("2")


def test_sizes_are_those_of_the_architecture(table):
    for ops in ("000000", "333333", "203414"):
        row = table[table["ops"] == ops]
        row = row.iloc[0] if len(row) else table.loc[open_key(ops)]
        ops = row["ops"]
        applied = ops.count("2") + ops.count("3")
        widths = np.array([4, 8, 16])
        stem, head = 9 * 4 + 8, 2 * 16 + 16 * 10 + 10
        reductions = 4 * 8 + 2 * 8 + 8 * 16 + 2 * 16
        cells = kernels(ops) * (widths**2).sum() + 2 * applied * widths.sum()
        assert row["parameters"] == stem + reductions + head + cells
        pixels = np.array([64, 16, 4])
        multiplications = (
            9 * 4 * 64 + 4 * 8 * 16 + 8 * 16 * 4 + 160 + kernels(ops) * (widths**2 * pixels).sum()
        )
        assert row["flops"] == 2 * multiplications


def open_key(ops):
    return next(key for key, cells in classes().items() if ops in cells)
