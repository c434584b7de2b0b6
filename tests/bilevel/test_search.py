import json
import math
import multiprocessing
import random
import signal
import time

import numpy as np
import pytest
import torch

from ldarts_lib.bilevel import search as search_module
from ldarts_lib.bilevel.protocols import METHODS, ProtocolError, protocol
from ldarts_lib.bilevel.search import SearchDiverged, search
from ldarts_lib.bilevel.trajectory import Trajectory
from ldarts_lib.runs.directory import RunDirectory, RunError
from ldarts_lib.spaces.genotype import parse
from ldarts_lib.spaces.space import SPACES

FILES = {
    "config.json",
    "environment.json",
    "history.csv",
    "checkpoint.pt",
    "genotype.json",
    "metrics.json",
    "trajectory.npz",
}
QUIETLY_RESUMED = {"resume": True, "progress": False}
FORK = multiprocessing.get_context("fork")


def timeless(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def same_state(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_state, a, b))
    return a == b


def assert_same_run(one, other):
    assert timeless(one.read_history()) == timeless(other.read_history())
    assert same_state(one.read_checkpoint(), other.read_checkpoint())
    assert one.read_json("genotype.json") == other.read_json("genotype.json")
    ours, theirs = Trajectory.load(one.path), Trajectory.load(other.path)
    np.testing.assert_equal(dict(ours.weights), dict(theirs.weights))
    np.testing.assert_equal(ours.cosines, theirs.cosines)
    np.testing.assert_equal(ours.decisions, theirs.decisions)


@pytest.mark.parametrize("space", SPACES)
def test_every_space_is_searched_and_recorded(space, tmp_path):
    settings = protocol(
        space, size="smoke", channels=2, batch_size=250, depth=1 if space == "nasbench201" else 4
    )
    result = search(settings, tmp_path / "run", progress=False)
    assert {path.name for path in result.path.iterdir()} == FILES
    assert RunDirectory(result.path).read_json("environment.json")["device"].startswith("cpu")
    SPACES[space].validate(result.genotype)
    run = RunDirectory(result.path)
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
    settings = protocol(method=method, size="smoke", epochs=4, batch_size=100)
    first = search(settings, tmp_path / "a", progress=False)
    search(settings, tmp_path / "b", progress=False)
    assert_same_run(RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b"))
    assert first.history[-1]["valid_loss"] < first.history[0]["valid_loss"] < 3
    other = search(settings.model_copy(update={"seed": 1}), tmp_path / "c", progress=False)
    assert other.history[0]["train_loss"] != first.history[0]["train_loss"]


def test_without_strength_both_methods_are_the_same_search(tmp_path):
    darts = search(protocol(method="darts", size="smoke"), tmp_path / "a", progress=False)
    aligned = search(protocol(method="lambda", size="smoke", lambda_max=0), tmp_path / "b", progress=False)
    assert timeless(darts.history) == timeless(aligned.history)


def test_a_search_in_float64_is_the_same_search_with_smaller_roundings(tmp_path):
    settings = {"method": "darts", "size": "smoke", "batch_size": 100}
    double = search(protocol(precision="float64", **settings), tmp_path / "double", progress=False)
    single = search(protocol(**settings), tmp_path / "single", progress=False)
    assert double.alphas["normal"].dtype == torch.float64
    for one, other in zip(double.history, single.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
    assert double.history[0]["train_loss"] != single.history[0]["train_loss"]


def test_one_epoch_works(tmp_path):
    result = search(protocol(size="smoke", epochs=1), tmp_path / "run", progress=False)
    assert result.history[0]["lambda"] == 1.0
    assert math.isfinite(result.history[0]["train_loss"])


def test_a_search_on_loaded_images_equals_one_that_loads_them(tmp_path):
    from ldarts_lib.datasets import load

    settings = protocol(size="smoke", dataset="digits", epochs=1)
    search(settings, tmp_path / "a", progress=False)
    search(settings, tmp_path / "b", progress=False, dataset=load("digits"))
    assert_same_run(RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b"))


@pytest.mark.gpu
def test_a_gpu_searches_the_same_batches_as_the_cpu(tmp_path):
    settings = protocol(size="smoke", epochs=1)
    on_cpu = search(settings, tmp_path / "cpu", progress=False)
    on_gpu = search(settings, tmp_path / "gpu", progress=False, device="cuda")
    assert on_gpu.history[0]["train_loss"] == pytest.approx(on_cpu.history[0]["train_loss"], rel=1e-2)


def test_resuming_a_finished_run_returns_it(tmp_path):
    settings = protocol(size="smoke")
    done = search(settings, tmp_path / "run", progress=False)
    modified = (tmp_path / "run" / "metrics.json").stat().st_mtime_ns
    again = search(settings, tmp_path / "run", progress=False, resume=True)
    assert again.history == done.history
    assert (tmp_path / "run" / "metrics.json").stat().st_mtime_ns == modified


@pytest.mark.parametrize("space", ["nasbench201", "s4"])
def test_a_killed_search_resumes_bit_for_bit(space, tmp_path):
    """SIGKILL at random moments, resume until finished, compare with the uninterrupted search."""
    depth = 1 if space == "nasbench201" else 4
    settings = protocol(space, size="smoke", epochs=6, channels=2, depth=depth, batch_size=250)
    whole, broken = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "broken")
    search(settings, whole.path, progress=False)
    moments, kills = random.Random(space), 0
    while not broken.finished and kills < 3:
        begun = len(broken.read_history())
        process = FORK.Process(target=search, args=(settings, broken.path), kwargs=QUIETLY_RESUMED)
        process.start()
        while process.is_alive() and len(broken.read_history()) == begun:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 1, "no kill came before the end: the search is too short for this test"
    search(settings, broken.path, **QUIETLY_RESUMED)
    assert_same_run(whole, broken)


def test_a_diverging_search_stops_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    settings = protocol(size="smoke", epochs=4)
    original = search_module.Bilevel.start_epoch

    def poison(self, epoch):
        original(self, epoch)
        if epoch == 2:
            with torch.no_grad():
                self.parameters[0].fill_(torch.nan)

    monkeypatch.setattr(search_module.Bilevel, "start_epoch", poison)
    with pytest.raises(SearchDiverged, match="loss is nan in epoch 2, step 0"):
        search(settings, tmp_path / "run", progress=False)
    run = RunDirectory(tmp_path / "run")
    assert run.read_checkpoint()["epoch"] == 1
    assert len(run.read_history()) == 2
    assert not run.finished


def test_a_batch_larger_than_a_half_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ProtocolError, match=r"batch_size.*501.*500"):
        search(protocol(size="smoke", batch_size=501), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_history_behind_its_checkpoint_is_refused(tmp_path):
    settings = protocol(size="smoke")
    search(settings, tmp_path / "run", progress=False)
    (tmp_path / "run" / "metrics.json").unlink()
    history = tmp_path / "run" / "history.csv"
    history.write_text("".join(history.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(RunError, match="history has 1 epochs, the checkpoint 2"):
        search(settings, tmp_path / "run", progress=False, resume=True)


def test_weights_and_alphas_move_only_by_their_own_half(tmp_path):
    """A search whose α learning rate is tiny keeps α; one whose ω learning rate is tiny keeps ω."""
    frozen = search(protocol(size="smoke", alpha_lr=1e-12), tmp_path / "a", progress=False)
    moving = search(protocol(size="smoke"), tmp_path / "b", progress=False)
    for kind, alpha in frozen.alphas.items():
        assert alpha.abs().max() < 1e-2
        assert moving.alphas[kind].abs().max() > 1e-2
