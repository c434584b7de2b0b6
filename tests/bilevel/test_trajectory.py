import numpy as np
import pytest

from ldarts_lib.bilevel.trajectory import FILE, Trajectory
from ldarts_lib.errors import RunError
from ldarts_lib.runs.directory import Run


def grown(epochs):
    trajectory = Trajectory()
    for epoch in range(epochs):
        weights = {"normal": np.full((6, 5), epoch / 10), "reduce": np.full((2, 5), epoch)}
        trajectory = trajectory.followed_by(weights, np.full((2, 3, 3), epoch), np.full((2, 3), -epoch))
    return trajectory


def test_it_grows_epoch_by_epoch_and_is_read_back(tmp_path):
    assert len(Trajectory()) == 0
    trajectory = grown(4)
    assert len(trajectory) == 4
    assert trajectory.weights["normal"].shape == (4, 6, 5)
    assert trajectory.weights["reduce"][2, 0, 0] == 2
    assert trajectory.cosines.shape == (4, 2, 3, 3) and trajectory.cosines.dtype == np.float32
    assert trajectory.decisions[3, 1, 2] == -3
    trajectory.save(Run(tmp_path))
    for again in (Trajectory.load(tmp_path), Trajectory.of(trajectory.arrays())):
        np.testing.assert_equal(dict(again.weights), dict(trajectory.weights))
        np.testing.assert_array_equal(again.cosines, trajectory.cosines)
        np.testing.assert_array_equal(again.decisions, trajectory.decisions)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", None])
def test_what_cannot_be_read_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(RunError, match=r"has no trajectory\.npz|trajectory\.npz is damaged"):
        Trajectory.load(tmp_path)
