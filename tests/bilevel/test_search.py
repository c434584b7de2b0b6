"""Searches: what they leave, that they repeat, go on where they stopped, and what they refuse."""

import json
import math

import numpy as np
import pytest
import torch

from ldarts_lib.bilevel.methods import PLAIN_METHODS
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.search import search, search_all
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.bilevel.trajectory import Trajectory
from ldarts_lib.datasets.images import load_images
from ldarts_lib.errors import ProtocolError, RunError
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.record import Diverged
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.space import SPACES
from runfolders import assert_same_run, timeless

FILES = "config environment images genotype metrics"
ALL_FILES = {*(f"{name}.json" for name in FILES.split()), "history.csv", "checkpoint.pt", "trajectory.npz"}


def quickly(settings, out, **keywords):
    return search(settings, out, progress=False, **keywords)


def small(space="nasbench201", **settings):
    """Two epochs of two steps each, of a tiny supernet."""
    sizes = {"channels": 2, "batch_size": 20, "split": 0.04, "depth": 1 if space == "nasbench201" else 4}
    return protocol(space, size="smoke", **sizes | settings)


@pytest.mark.parametrize(("space", "method"), zip(SPACES, reversed(PLAIN_METHODS), strict=False))
def test_every_space_and_every_method_is_searched_and_recorded(space, method, tmp_path):
    settings = small(space, method=method)
    result = quickly(settings, tmp_path / "run")
    assert {path.name for path in result.path.iterdir() if path.name != ".lock"} == ALL_FILES
    assert Run(result.path).read_json("environment.json")["device"].startswith("cpu")
    SPACES[space].validate(result.genotype)
    assert Run(result.path).read_history() == result.history
    assert [row["epoch"] for row in result.history] == [0, 1]
    assert [row["lambda"] for row in result.history] == [0, settings.lambda_max if settings.form else 0]
    last = result.history[-1]
    edges = torch.cat([alpha.softmax(-1) for alpha in result.alphas.values()])
    assert last["entropy"] == pytest.approx(-(edges * edges.log()).sum(-1).mean().item(), rel=1e-5)
    assert last["skips"] == str(result.genotype).count("skip_connect")
    trajectory = Trajectory.load(result.path)
    assert len(trajectory) == 2
    for kind, alpha in result.alphas.items():
        np.testing.assert_allclose(trajectory.weights[kind][-1], alpha.softmax(-1), atol=1e-6)
    assert parse(last["genotype"]) == result.genotype
    cells = settings.search_space.layout(settings.depth).count("normal")
    assert trajectory.decisions.shape == (2, 2, cells)
    for number, half in enumerate(("train", "valid")):
        cosines = trajectory.cosines[-1, number]
        np.testing.assert_allclose(cosines.diagonal(), 1, atol=1e-5)
        pairs = cosines[~np.eye(cells, dtype=bool)]
        assert pairs.mean() == pytest.approx(last[f"{half}_alignment"], abs=1e-5)
        assert -1 <= last[f"{half}_projected_alignment"] <= 1
        assert all(last[f"{half}_norm_{cell}"] > 0 for cell in range(cells))
        assert f"{half}_norm_{cells}" not in last
        assert 0 <= last[f"{half}_accuracy"] <= 1
    assert json.loads((result.path / "metrics.json").read_text())["genotype"] == str(result.genotype)


def test_a_search_in_float64_is_the_same_search_with_smaller_roundings(tmp_path):
    settings = {"method": "darts", "size": "smoke", "batch_size": 100}
    double = quickly(protocol(precision="float64", **settings), tmp_path / "double")
    single = quickly(protocol(**settings), tmp_path / "single")
    assert double.alphas["normal"].dtype == torch.float64
    for one, other in zip(double.history, single.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
    assert double.history[0]["train_loss"] != single.history[0]["train_loss"]
    assert double.history[1]["valid_loss"] < double.history[0]["valid_loss"] < 3


def test_one_epoch_on_loaded_images_is_that_of_a_search_that_loads_them_and_of_its_seed(tmp_path):
    settings = small(dataset="digits", epochs=1)
    one = quickly(settings, tmp_path / "a")
    quickly(settings, tmp_path / "b", dataset=load_images("digits"))
    assert_same_run(Run(tmp_path / "a"), Run(tmp_path / "b"))
    assert one.history[0]["lambda"] == 1.0 and math.isfinite(one.history[0]["train_loss"])
    other = quickly(settings.model_copy(update={"seed": 1}), tmp_path / "c")
    assert other.history[0]["train_loss"] != one.history[0]["train_loss"]


@pytest.mark.gpu
def test_a_gpu_searches_the_same_batches_as_the_cpu(tmp_path):
    settings = protocol(size="smoke", epochs=1)
    on_cpu = quickly(settings, tmp_path / "cpu")
    on_gpu = quickly(settings, tmp_path / "gpu", device="cuda")
    assert on_gpu.history[0]["train_loss"] == pytest.approx(on_cpu.history[0]["train_loss"], rel=1e-2)


def test_an_interrupted_search_goes_on_bit_for_bit(tmp_path, monkeypatch):
    """In S4, which draws noise, with random directions: everything that changes is in the checkpoint."""
    settings = small("s4", method="lambda-random")
    quickly(settings, tmp_path / "whole")
    save = SearchState.save

    def interrupted(state, run):
        if len(state.trajectory) == 2:
            raise KeyboardInterrupt
        save(state, run)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SearchState, "save", interrupted)
        quickly(settings, tmp_path / "broken")
    assert Run(tmp_path / "broken").read_checkpoint()["epoch"] == 0
    torch.manual_seed(99)  # the global state does not matter
    quickly(settings, tmp_path / "broken")
    assert_same_run(Run(tmp_path / "whole"), Run(tmp_path / "broken"))


@pytest.mark.parametrize("space", ["nasbench201", "s4"])
def test_a_search_changes_the_kind_of_device_only_if_it_draws_nothing_there(space):
    state = SearchState(small(space), load_images("digits"))
    saved = state.checkpoint() | {"operations": torch.zeros(16, dtype=torch.uint8)}  # as on a GPU
    saved["alpha_optimizer"]["param_groups"][0]["capturable"] = True
    if space == "nasbench201":
        state.restore(saved)
        assert state.bilevel.alpha_optimizer.param_groups[0]["capturable"] is False
    else:
        with pytest.raises(RunError, match="begun on a device of another kind"):
            state.restore(saved)


def test_a_batch_larger_than_a_half_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ProtocolError, match=r"batch_size.*501.*500"):
        quickly(protocol(size="smoke", batch_size=501), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_parallel_searches_equal_single_ones_and_are_read_again(tmp_path, capfd):
    """One search fails: the others are finished first."""
    good = small()
    protocols = {"bad": small(weight_lr=1e30, clip=1e30), "good": good}
    with pytest.raises(Diverged, match=r"the train loss is nan in epoch \d, .* weight_lr or lambda_max"):
        search_all(protocols, tmp_path, workers=1)
    assert "2/4" in capfd.readouterr().err
    alone = quickly(good, tmp_path / "alone")
    again = search_all({"good": good, "alone": good}, tmp_path)  # starts no process
    assert list(again) == ["good", "alone"]
    assert timeless(again["good"].history) == timeless(alone.history)
    assert "2 of 2 searches finished earlier" in capfd.readouterr().out


def test_a_directory_of_something_else_is_refused_before_anything_is_searched(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="not empty"):
        search_all({seed: protocol(size="smoke", seed=int(seed)) for seed in "01"}, tmp_path)
    assert not Run(tmp_path / "0").epochs
