import copy
import math
from dataclasses import replace

import pytest
import torch

from ldarts_lib.datasets import corpus
from ldarts_lib.datasets.corpus import columns_of
from ldarts_lib.errors import ProtocolError
from ldarts_lib.evaluation.evaluate import evaluate
from ldarts_lib.evaluation.language import LanguageTraining, is_time_to_average, window_length
from ldarts_lib.evaluation.protocols import training_protocol
from ldarts_lib.networks.batches import Inputs
from ldarts_lib.networks.recurrent import mean_loss, perplexity
from ldarts_lib.runs.contents import METRICS_VERSION
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.record import Diverged
from ldarts_lib.spaces.notations import parse

CELL = parse("Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('tanh', 1)], concat=range(1, 4))")
QUIET = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def civics():
    return corpus.load_text("civics", min_count=2)


def tiny(cell=CELL, **settings):
    return training_protocol("DARTS_V2", cell, **{"size": "smoke", "units": 8, "epochs": 2} | settings)


def test_an_evaluation_is_recorded(tmp_path, civics):
    settings = tiny(epochs=4, units=16)
    found = evaluate(settings, tmp_path / "run", **QUIET)
    run = Run(tmp_path / "run")
    rows = run.read_history()
    words = len(civics.vocabulary)
    assert found == run.read_json("metrics.json")
    assert found == {
        "version": METRICS_VERSION,
        "stage": "evaluate",
        "recipe": "ptb",
        "dataset": "civics",
        "size": "smoke",
        "seed": 0,
        "architecture": "DARTS_V2",
        "searched": None,
        "genotype": str(CELL),
        "changed": "units = 16, epochs = 4",
        "epochs": 4,
        "valid_perplexity": rows[-1]["valid_perplexity"],
        "test_perplexity": found["test_perplexity"],
        "parameters": words * 16 + words + 32 * 32 + 3 * 16 * 32,
        "seconds": pytest.approx(sum(row["seconds"] for row in rows), abs=5e-3),
    }
    assert rows[-1]["valid_perplexity"] == pytest.approx(math.exp(rows[-1]["valid_loss"]))
    assert rows[-1]["valid_loss"] < rows[0]["valid_loss"] < math.log(words)
    assert found["test_perplexity"] < 90


def test_a_training_repeats_and_restores_bit_for_bit(civics):
    """Before and after the switch to averaging."""
    protocol = tiny(patience=1, batch_size=8)
    civics = replace(civics, train=civics.train[:600], valid=civics.valid[:400])

    def epochs(state, *numbers):
        return [state.run_epoch(number, lambda: None) | {"seconds": 0} for number in numbers]

    whole = LanguageTraining(protocol, civics)
    rows, saved = [], []
    for epoch in range(6):
        saved.append(copy.deepcopy(whole.checkpoint()))
        rows += epochs(whole, epoch)
    switch = [row["averaged"] for row in rows].index(1)
    assert 1 < switch < 5
    for moment in (1, switch + 1):
        torch.manual_seed(99)  # whatever else happened
        parts = LanguageTraining(protocol, civics)
        parts.restore(saved[moment])
        assert epochs(parts, *range(moment, 6)) == rows[moment:]
        assert all(map(torch.equal, parts.parameters, whole.parameters))
        assert all(map(torch.equal, parts.average, whole.average))
    assert epochs(LanguageTraining(tiny(seed=1), civics), 0) != rows[:1]


def test_the_steps_of_an_epoch_equal_clipped_sgd_by_hand(civics):
    """With η n/N for a window of n of N words, the same masks, and hidden states that go on."""
    civics = replace(civics, train=civics.train[:640])
    settings = {"batch_size": 4, "bptt": 9, "clip": 0.2, "weight_decay": 0.01, "slowness": 0.5}
    training, other = (LanguageTraining(tiny(dropout_words=0.1, **settings), civics) for _ in range(2))
    model, text, place, counts = other.model.train(), other.train, 0, []
    hidden = torch.zeros(1, 4, 8)
    while place < len(text) - 1:
        n = min(window_length(training.protocol, other.batches), len(text) - 1 - place)
        found = model(Inputs(text[place : place + n], hidden))
        targets = text[place + 1 : place + n + 1].flatten()
        loss = torch.nn.functional.cross_entropy(found.logits, targets)
        if n > 1:
            loss = loss + 0.5 * (found.outputs[1:] - found.outputs[:-1]).square().mean()
        grads = torch.autograd.grad(loss, other.parameters)
        norm = torch.cat([g.flatten() for g in grads]).norm()
        with torch.no_grad():
            for w, g in zip(other.parameters, grads, strict=True):
                w -= 20 * n / 9 * (g * min(1, 0.2 / norm) + 0.01 * w)
        counts.append((n, norm > 0.2))
        hidden, place = found.hidden.detach(), place + n
    training.run_epoch(0, lambda: None)
    assert len({n for n, _ in counts}) > 2 and any(clipped for _, clipped in counts)
    for ours, theirs in zip(training.parameters, other.parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_average_is_the_mean_of_all_weights_since_the_switch(civics):
    training = LanguageTraining(tiny(patience=1), civics)
    training.run_epoch(0, lambda: None)
    assert not training.average
    training.valid_losses = [0.0, 9.0]  # worse than an earlier epoch
    assert training.run_epoch(1, lambda: None)["averaged"] == 0
    assert training.average
    seen = []
    training.optimizer.register_step_post_hook(
        lambda *_: seen.append([parameter.detach().clone() for parameter in training.parameters])
    )
    row = training.run_epoch(2, lambda: None)
    assert row["averaged"] == 1 and training.averaged_steps == len(seen) > 5
    for average, *values in zip(training.average, *seen, strict=True):
        torch.testing.assert_close(average, torch.stack(values).mean(0), rtol=1e-4, atol=1e-6)
    for parameter, value in zip(training.parameters, seen[-1], strict=True):
        assert torch.equal(parameter, value)  # the training itself goes on from the current weights
    with torch.no_grad():
        for parameter, average in zip(training.parameters, training.average, strict=True):
            parameter.copy_(average)
    training.average = []
    assert training.loss_of(training.valid) == pytest.approx(row["valid_loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ([5.0, 4, 3, 3.5], 5, False),
        ([3.0, 5, 5, 5, 5, 5, 3.1], 5, True),
        ([5.0, 3, 5, 5, 5, 5, 3.1], 5, False),  # the better one is only five epochs ago
        ([3.0, 5, 5, 5, 5, 5, 2.9], 5, False),
    ],
)
def test_averaging_begins_when_the_loss_no_longer_falls(losses, patience, expected):
    """rnn/train.py: ``len(best) > nonmono and val_loss > min(best[:-nonmono])``."""
    assert is_time_to_average(losses, patience) == expected


def test_lengths_of_windows():
    generator = torch.Generator().manual_seed(0)
    settings = tiny(size="paper")
    lengths = torch.tensor([window_length(settings, generator) for _ in range(4000)]).double()
    assert lengths.min() >= 5 and lengths.max() <= 55
    short = lengths < 24
    assert short.double().mean() == pytest.approx(0.05, abs=0.02)
    assert lengths[~short].mean() == pytest.approx(34.5, abs=0.5)
    assert lengths[~short].std() == pytest.approx(5, abs=0.5)
    assert {window_length(tiny(bptt=2, longest=1), generator) for _ in range(50)} == {3}


def test_a_loss_is_the_mean_over_all_words_whatever_the_windows(civics):
    training = LanguageTraining(tiny(evaluation_columns=3), civics)
    training.model.double().eval()
    text = columns_of(civics, "test", 3)[:41]
    whole = training.model(Inputs(text[:-1], training.model.initial_hidden(3)))
    expected = -whole.logits.log_softmax(-1)[torch.arange(120), text[1:].flatten()].mean().item()
    for length in (1, 7, 40, 99):
        assert mean_loss(training.model, training.model, text, length) == pytest.approx(expected, rel=1e-12)


def test_a_perplexity_that_is_too_large_is_infinite():
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(1e4) == math.inf


def test_a_loss_that_is_no_number_stops_the_training(tmp_path):
    with pytest.raises(Diverged, match="the train loss is nan in epoch 0, step"):
        evaluate(tiny(weight_lr=1e30, clip=1e30), tmp_path / "run", **QUIET)
    assert not Run(tmp_path / "run").finished


def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ProtocolError, match="recurrent"):
        training_protocol("none", parse("|none~0|+|none~0|none~1|"), "civics", "ptb")
    with pytest.raises(ProtocolError, match="4000 columns need at least 8000 words, but the train part"):
        evaluate(tiny(batch_size=4000), tmp_path / "run", **QUIET)
    with pytest.raises(ProtocolError, match="devices = 2"):
        evaluate(tiny(), tmp_path / "run", devices=2, **QUIET)
    assert not (tmp_path / "run").exists()
