import math

import pytest
import torch

from ldarts_lib.bilevel.methods import TEXT_METHODS
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.recurrent_state import RecurrentState
from ldarts_lib.bilevel.search import search
from ldarts_lib.datasets import corpus
from ldarts_lib.datasets.corpus import Reader
from ldarts_lib.errors import ProtocolError
from ldarts_lib.evaluation.evaluate import evaluate
from ldarts_lib.evaluation.protocols import training_protocol
from ldarts_lib.networks.recurrent import Dropouts
from ldarts_lib.runs.contents import METRICS_VERSION
from ldarts_lib.runs.directory import Run
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.space import PTB
from runfolders import assert_same_run, timeless


@pytest.fixture
def roses(tmp_path):
    """A folder with a short text of one's own."""
    for part in corpus.PARTS:
        (tmp_path / f"{part}.txt").write_text("a rose is a rose is a rose\n" * 14)
    return str(tmp_path)


def tiny(dataset="civics", **settings):
    small = {"units": 4, "batch_size": 8, "bptt": 6, "evaluation_columns": 2}
    return protocol("ptb", dataset, size="smoke", **small | settings)


def quickly(settings, out, **keywords):
    return search(settings, out, progress=False, **keywords)


@pytest.mark.slow
def test_a_search_and_the_evaluation_of_its_cell_end_to_end(tmp_path):
    settings = protocol("ptb", size="smoke")
    result = quickly(settings, tmp_path / "search")
    PTB.validate(result.genotype)
    run = Run(result.path)
    first, last = result.history
    of_cells = {f"{half}_norm_{cell}" for half in ("train", "valid") for cell in (0, 1)}
    assert of_cells | {"valid_perplexity", "train_alignment", "lambda", "genotype"} <= set(last)
    assert last["train_loss"] < first["train_loss"] < 8
    assert 1 < last["valid_perplexity"] < 452  # words of the vocabulary
    assert (first["lambda"], last["lambda"]) == (0, settings.lambda_max)
    assert 0 < last["entropy"] <= math.log(5)
    metrics = run.read_json("metrics.json")
    kept = ("valid_loss", "valid_perplexity", "valid_alignment", "entropy", "skips", "genotype")
    assert metrics == {
        **{"version": METRICS_VERSION, "stage": "search", "space": "ptb", "dataset": "civics"},
        **{"method": "lambda", "size": "smoke", "seed": 0, "changed": "", "epochs": 2},
        **{key: last[key] for key in kept},
        "seconds": pytest.approx(first["seconds"] + last["seconds"], abs=2e-3),
    }
    assert (last["skips"], last["genotype"]) == (result.genotype.count("identity"), str(result.genotype))
    assert run.read_json("genotype.json")["genotype"] == str(result.genotype)
    searched = {key: metrics[key] for key in ("space", "dataset", "method", "size", "seed")}
    cell = parse(metrics["genotype"])
    chosen = training_protocol("ptb/civics/lambda/seed0", cell, size="smoke", epochs=2, searched=searched)
    found = evaluate(chosen, tmp_path / "ptb-civics", device="cpu", progress=False)
    assert found["searched"] == searched
    assert 20 < found["test_perplexity"] < 452


def test_methods_differ_once_lambda_is_positive(tmp_path, roses):
    histories = {m: quickly(tiny(roses, method=m), tmp_path / m).history for m in TEXT_METHODS}
    first = [timeless(rows)[0] for rows in histories.values()]
    assert first[0] == first[1] == first[2]  # λ is 0 in the first epoch
    assert len({rows[1]["train_loss"] for rows in histories.values()}) == 3


def test_an_interrupted_search_goes_on_bit_for_bit(tmp_path, roses, monkeypatch):
    settings = tiny(roses)
    quickly(settings, tmp_path / "whole")
    original = RecurrentState._step

    def interrupted(self, training, validation, epoch):
        if epoch == 1 and training.position > 5:
            raise KeyboardInterrupt
        return original(self, training, validation, epoch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RecurrentState, "_step", interrupted)
        quickly(settings, tmp_path / "broken")
    assert Run(tmp_path / "broken").epochs == 1
    torch.manual_seed(99)  # the global state does not matter
    quickly(settings, tmp_path / "broken")
    assert_same_run(Run(tmp_path / "whole"), Run(tmp_path / "broken"))


def test_a_text_that_is_too_short_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(
        ProtocolError, match="500 columns need at least 1000 words, but the valid part of civics"
    ):
        quickly(tiny(batch_size=500), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_ones_own_is_searched(tmp_path, roses):
    settings = tiny(roses, epochs=1)
    loaded = quickly(settings, tmp_path / "run")
    assert loaded.history[0]["valid_perplexity"] < 6
    given = quickly(settings, tmp_path / "given", dataset=corpus.load_text(roses))
    assert timeless(given.history) == timeless(loaded.history)
    other = quickly(settings.model_copy(update={"seed": 1}), tmp_path / "other")
    assert other.history[0]["train_loss"] != loaded.history[0]["train_loss"]


def test_windows_half_as_long_move_the_weights_half_as_far(monkeypatch):
    monkeypatch.setattr("ldarts_lib.bilevel.recurrent_state.HALF_WINDOWS", 0.5)
    settings = tiny(method="darts", batch_size=2, bptt=8)
    state = RecurrentState(settings, corpus.load_text("civics", min_count=2))
    state.bilevel.start_epoch(0)
    rates, ends = [], []

    def step(window, other):
        words = len(window.inputs.words)
        rates.append((words, state.bilevel.weight_optimizer.param_groups[0]["lr"]))
        assert len(other.inputs.words) == 8
        ends[:] = real(window, other)
        return ends

    real, hidden = state.bilevel.step, state.bilevel.supernet.initial_hidden(2)
    monkeypatch.setattr(state.bilevel, "step", step)
    training, validation = Reader(state.training, hidden), Reader(state.validation, hidden)
    for _ in range(8):
        state._step(training, validation, 0)
    assert {words for words, _ in rates} == {4, 8}
    assert all(rate == settings.weight_lr * words / 8 for words, rate in rates)
    for reader, end in zip((training, validation), ends, strict=True):
        assert torch.equal(reader.hidden, end.output.hidden)
    assert training.hidden.abs().sum() > 0 and not torch.equal(training.hidden[0], training.hidden[1])
    assert not torch.equal(training.hidden, validation.hidden)


@pytest.mark.gpu
def test_a_gpu_searches_the_same_windows_as_the_cpu(tmp_path):
    settings = tiny(
        epochs=1, batch_size=160, weight_lr=0.1, **{f"dropout_{name}": 0.0 for name in vars(Dropouts())}
    )
    on_cpu = quickly(settings, tmp_path / "cpu")
    on_gpu = quickly(settings, tmp_path / "gpu", device="cuda")
    assert on_gpu.history[0]["train_loss"] == pytest.approx(on_cpu.history[0]["train_loss"], rel=1e-3)
