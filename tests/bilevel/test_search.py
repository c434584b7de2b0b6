"""The search on images: what it leaves, that it repeats, goes on where it stopped, and what it refuses."""

import json
import math
import multiprocessing
import random
import signal
import time

import numpy as np
import pytest
import torch

from ldarts_lib.bilevel import search as module
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import METHODS, protocol
from ldarts_lib.bilevel.search import search
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.bilevel.trajectory import Trajectory
from ldarts_lib.datasets.images import load_images
from ldarts_lib.errors import ProtocolError, RunError
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.record import Diverged
from ldarts_lib.spaces.genotype import parse
from ldarts_lib.spaces.space import SPACES
from runfolders import assert_same_run, timeless

FILES = {
    "config.json",
    "environment.json",
    "history.csv",
    "checkpoint.pt",
    "genotype.json",
    "metrics.json",
    "trajectory.npz",
}
FORK = multiprocessing.get_context("fork")


def quickly(settings, out, **keywords):
    return search(settings, out, progress=False, **keywords)


@pytest.mark.parametrize("space", SPACES)
def test_every_space_is_searched_and_recorded(space, tmp_path):
    settings = protocol(
        space, size="smoke", channels=2, batch_size=250, depth=1 if space == "nasbench201" else 4
    )
    result = quickly(settings, tmp_path / "run")
    assert {path.name for path in result.path.iterdir() if path.name != ".lock"} == FILES
    assert Run(result.path).read_json("environment.json")["device"].startswith("cpu")
    SPACES[space].validate(result.genotype)
    run = Run(result.path)
    assert run.read_history() == result.history
    assert [row["epoch"] for row in result.history] == [0, 1]
    assert [row["lambda"] for row in result.history] == [0, settings.lambda_max]
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
        assert -1 <= last[f"{half}_alignment"] <= 1
        assert -1 <= last[f"{half}_projected_alignment"] <= 1
        assert all(last[f"{half}_norm_{cell}"] > 0 for cell in range(cells))
        assert f"{half}_norm_{cells}" not in last
        assert 0 <= last[f"{half}_accuracy"] <= 1
    assert json.loads((result.path / "metrics.json").read_text())["genotype"] == str(result.genotype)


@pytest.mark.parametrize("method", METHODS)
def test_a_search_learns_and_is_reproducible(method, tmp_path):
    settings = protocol(method=method, size="smoke", epochs=3, batch_size=100)
    first = quickly(settings, tmp_path / "a")
    quickly(settings, tmp_path / "b")
    assert_same_run(Run(tmp_path / "a"), Run(tmp_path / "b"))
    assert first.history[-1]["valid_loss"] < first.history[0]["valid_loss"] < 3


def test_without_strength_both_methods_are_the_same_search(tmp_path):
    darts = quickly(protocol(method="darts", size="smoke"), tmp_path / "a")
    aligned = quickly(protocol(method="lambda", size="smoke", lambda_max=0), tmp_path / "b")
    assert timeless(darts.history) == timeless(aligned.history)


def test_a_search_in_float64_is_the_same_search_with_smaller_roundings(tmp_path):
    settings = {"method": "darts", "size": "smoke", "batch_size": 100}
    double = quickly(protocol(precision="float64", **settings), tmp_path / "double")
    single = quickly(protocol(**settings), tmp_path / "single")
    assert double.alphas["normal"].dtype == torch.float64
    for one, other in zip(double.history, single.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
    assert double.history[0]["train_loss"] != single.history[0]["train_loss"]


def test_one_epoch_on_loaded_images_is_that_of_a_search_that_loads_them_and_of_its_seed(tmp_path):
    settings = protocol(size="smoke", dataset="digits", epochs=1)
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


def test_a_finished_search_is_read_without_its_images(tmp_path, monkeypatch):
    settings = protocol(size="smoke", epochs=1)
    done = quickly(settings, tmp_path)
    monkeypatch.setattr(module, "load_images", lambda *_, **__: pytest.fail("loaded"))
    again = quickly(settings, tmp_path)
    assert again.genotype == done.genotype and again.history == done.history
    assert torch.equal(again.alphas["normal"], done.alphas["normal"])


def test_a_killed_search_goes_on_bit_for_bit(tmp_path):
    """SIGKILL at random moments until it is finished, against the uninterrupted search; S4 draws noise."""
    settings = protocol("s4", size="smoke", epochs=6, channels=2, depth=4, batch_size=250)
    whole, broken = Run(tmp_path / "whole"), Run(tmp_path / "broken")
    quickly(settings, whole.path)
    moments, kills = random.Random(0), 0
    while not broken.finished and kills < 3:
        begun = broken.epochs
        process = FORK.Process(target=quickly, args=(settings, broken.path))
        process.start()
        while process.is_alive() and broken.epochs == begun:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 1, "no kill came before the end: the search is too short for this test"
    quickly(settings, broken.path)
    assert_same_run(whole, broken)


@pytest.mark.parametrize("space", ["nasbench201", "s4"])
def test_a_search_changes_the_kind_of_device_only_if_it_draws_nothing_there(space):
    settings = protocol(space, size="smoke", channels=2, depth=1 if space == "nasbench201" else 4)
    state = SearchState.start(settings, load_images("digits"))
    saved = state.checkpoint() | {"operations": torch.zeros(16, dtype=torch.uint8)}  # as on a GPU
    if space == "nasbench201":
        state.restore(saved)
    else:
        with pytest.raises(RunError, match="begun on a device of another kind"):
            state.restore(saved)


def test_a_diverging_search_stops_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    original = Bilevel.start_epoch

    def poison(self, epoch):
        original(self, epoch)
        if epoch == 1:
            with torch.no_grad():
                self.parameters[0].fill_(torch.nan)

    monkeypatch.setattr(Bilevel, "start_epoch", poison)
    with pytest.raises(Diverged, match=r"the train loss is nan in epoch 1, step 0 .*weight_lr or lambda_max"):
        quickly(protocol(size="smoke"), tmp_path)
    assert Run(tmp_path).read_checkpoint()["epoch"] == 0


def test_a_batch_larger_than_a_half_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ProtocolError, match=r"batch_size.*501.*500"):
        quickly(protocol(size="smoke", batch_size=501), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_and_alphas_move_only_by_their_own_half(tmp_path):
    """A search whose α learning rate is tiny keeps α."""
    frozen = quickly(protocol(size="smoke", alpha_lr=1e-12), tmp_path / "a")
    moving = quickly(protocol(size="smoke"), tmp_path / "b")
    for kind, alpha in frozen.alphas.items():
        assert alpha.abs().max() < 1e-2
        assert moving.alphas[kind].abs().max() > 1e-2
