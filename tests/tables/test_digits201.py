import numpy as np
import pytest

from ldarts_lib.tables.computation import classes


@pytest.fixture(scope="module")
def table(digits201):
    return digits201.frame


def test_the_table_that_ships_is_complete(table):
    """Of each computation the cell with the most edges that do nothing was trained, the first of several."""
    chosen = {key: min(cells, key=lambda ops: (-ops.count("0"), ops)) for key, cells in classes().items()}
    assert table["ops"].to_dict() == chosen
    assert table["cells"].to_dict() == {key: len(cells) for key, cells in classes().items()}
    seeds = table.filter(like="accuracy_").to_numpy()
    assert seeds.shape[1] >= 3 and seeds.min() >= 0 and seeds.max() <= 1
    np.testing.assert_allclose(table["accuracy"], seeds.mean(1), atol=1e-12)
    np.testing.assert_allclose(table["std"], seeds.std(1, ddof=1), atol=1e-12)


@pytest.mark.parametrize("ops", ["000000", "333333", "203414"])
def test_sizes_are_those_of_the_architecture(table, ops):
    row = table.loc[next(key for key, cells in classes().items() if ops in cells)]
    convolutions = row["ops"].count("2"), row["ops"].count("3")
    kernels = convolutions[0] + 9 * convolutions[1]  # times the square of the channels
    channels, pixels = np.array([4, 8, 16]), np.array([64, 16, 4])
    stem, head = 9 * 4 + 8, 2 * 16 + 16 * 10 + 10
    reductions = 4 * 8 + 2 * 8 + 8 * 16 + 2 * 16
    cells = kernels * (channels**2).sum() + 2 * sum(convolutions) * channels.sum()
    assert row["parameters"] == stem + reductions + head + cells
    fixed = 9 * 4 * 64 + 4 * 8 * 16 + 8 * 16 * 4 + 160
    assert row["flops"] == 2 * (fixed + kernels * (channels**2 * pixels).sum())
