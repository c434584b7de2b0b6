import math
import re

import pytest

from ldarts_lib.bilevel.methods import METHODS, PLAIN_METHODS, TEXT_METHODS
from ldarts_lib.bilevel.protocols import RecurrentProtocol, SearchProtocol, protocol
from ldarts_lib.bilevel.regularizers import Regularizer
from ldarts_lib.datasets.catalogue import DATASETS
from ldarts_lib.errors import ProtocolError
from ldarts_lib.evaluation.protocols import LanguageTrainingProtocol, training_protocol
from ldarts_lib.networks.recurrent import Dropouts
from ldarts_lib.runs.directory import Run
from ldarts_lib.settings import SIZES
from ldarts_lib.spaces.published import published
from ldarts_lib.spaces.space import PTB, SPACES

REFUSED = {("darts-minus", "s1"), ("darts-minus", "s4")} | {("lambda-edge", s) for s in ("s1", "s2", "s4")}
"""Edges without a skip, and edges of two operations."""


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("size", SIZES)
def test_every_preset_is_valid(space, size):
    for dataset in DATASETS:
        for method in METHODS:
            if (method, space) in REFUSED:
                continue
            if size == "official" and method not in ("darts", "darts-2nd", "lambda"):
                continue  # test_official.py
            settings = protocol(space, dataset, method, size)
            assert (settings.space, settings.dataset) == (space, dataset)
            assert (settings.method, settings.size) == (method, size)
            assert settings.search_space is SPACES[space]
            assert settings.seed == 0


def test_paper_settings_of_nasbench201():
    settings = protocol("nasbench201", "cifar10", "lambda", "paper")
    assert settings.model_dump(exclude={"space", "dataset", "method", "size", "seed"}, exclude_none=True) == {
        "channels": 16, "depth": 5, "reduction": "residual",
        "epochs": 50, "batch_size": 64, "split": 0.5, "step_order": "weights-first",
        "weight_lr": 0.025, "weight_lr_min": 0.001, "momentum": 0.9, "weight_decay": 3e-4, "clip": 5.0,
        "alpha_lr": 3e-4, "alpha_weight_decay": 1e-3,
        "lambda_max": 0.125, "ramp": "linear", "estimator": "central", "epsilon": 1e-4,
        "supernet": "fast", "strategy": "auto", "checkpoint_cells": False, "precision": "float32",
        "cuda_graph": False, "activation": "relu",
        "regularized_cells": "normal", "regularizer_batch": "training",
        "halves": "seeded", "alpha_batches": "passes", "last_batch": "filled", "clip_alpha": False,
    }  # fmt: skip


@pytest.mark.parametrize("space", [name for name in SPACES if name != "nasbench201"])
def test_paper_settings_of_the_darts_family(space):
    settings = protocol(space, "cifar10", "lambda", "paper")
    assert (settings.channels, settings.depth, settings.epochs) == (16, 8, 50)
    assert (settings.step_order, settings.batch_size) == ("alpha-first", 64)
    assert (settings.lambda_max, settings.epsilon) == (0.125, 1e-4)
    svhn = protocol(space, "svhn", "lambda", "paper")
    assert (svhn.lambda_max, svhn.epsilon) == (0.25, 1e-3)


def test_a_smoke_search_is_a_short_demo():
    for space in SPACES:
        demo, smoke = protocol(space, size="demo"), protocol(space, size="smoke")
        assert smoke.epochs == 2 < demo.epochs
        same = {"size": "demo", "epochs": demo.epochs}
        assert smoke.model_copy(update=same) == demo


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("space", SPACES), ("dataset", DATASETS), ("method", METHODS), ("size", SIZES)],
)
def test_unknown_names_list_the_known_ones(name, allowed):
    with pytest.raises(ProtocolError) as caught:
        protocol(**{name: "unheard-of"})
    message = str(caught.value)
    assert "unheard-of" in message and name in message
    assert all(known in message for known in allowed)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("epochs", [0, -1, 2.5, math.nan, "many"]),
        ("seed", [-1, 2**63, 0.5]),
        ("split", [0, 1, -0.5, math.nan]),
        ("lambda_max", [-0.1, math.nan, math.inf]),
        ("epsilon", [0, -1e-4, math.nan, math.inf]),
        ("weight_lr", [0, -1, math.nan, math.inf]),
        ("momentum", [-0.1, 1, math.nan]),
        ("estimator", ["backward"]),
        ("reduction", ["heavy"]),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, values):
    for value in values:
        with pytest.raises(ProtocolError, match=rf"{name} = {value!r}: "):
            protocol(**{name: value})


def test_clip_factors_are_one_for_each_epoch_given_or_of_a_run(tmp_path):
    Run(tmp_path).write_history([{"epoch": 0, "clip_factor": 0.5}, {"epoch": 1, "clip_factor": 0.25}])
    of_run = protocol(size="smoke", method="darts", clip_factors=str(tmp_path))
    assert of_run == protocol(size="smoke", method="darts", clip_factors=[0.5, 0.25])
    assert SearchProtocol.model_validate_json(of_run.model_dump_json()) == of_run
    assert of_run.changed == "clip_factors = (0.5, 0.25)"
    with pytest.raises(ProtocolError, match="clip_factors has 2 factors for 80 epochs"):
        protocol(method="darts", clip_factors=tmp_path)
    with pytest.raises(ProtocolError, match="clip_factors = -1"):
        protocol(method="darts", clip_factors=-1)


def test_the_final_learning_rate_must_not_exceed_the_initial_one():
    with pytest.raises(ProtocolError, match=r"weight_lr_min = 0\.1 is above weight_lr = 0\.01"):
        protocol(weight_lr=0.01, weight_lr_min=0.1)
    assert protocol(weight_lr=0.01, weight_lr_min=0.01).learning_rate(30) == 0.01


@pytest.mark.parametrize("method", ["lambda", "lambda-sign"])
def test_one_normal_cell_cannot_be_aligned(method):
    with pytest.raises(ProtocolError, match=f"method '{method}' aligns normal cells, .* only 1"):
        protocol("darts", method=method, depth=3)
    assert protocol("darts", method="darts", depth=3).regularizer is None


@pytest.mark.parametrize("space", ["nasbench201", "ptb"])
def test_the_strength_ramp(space):
    """λ t/(T−1); the official code's for recurrent cells goes from 1/(T−1) to T/(T−1) of λ."""
    settings = protocol(space, epochs=5, lambda_max=0.5)
    assert [settings.strength(t) for t in range(5)] == [0, 0.125, 0.25, 0.375, 0.5]
    assert protocol(space, epochs=1, lambda_max=0.5).strength(0) == 0.5
    constant = protocol(space, epochs=5, lambda_max=0.5, ramp="constant")
    assert [constant.strength(t) for t in range(5)] == [0.5] * 5
    assert protocol(space, method="darts", epochs=1).strength(0) == 0


def test_the_learning_rate_is_a_cosine():
    settings = protocol(epochs=4, weight_lr=0.3, weight_lr_min=0.1)
    found = [settings.learning_rate(epoch) for epoch in range(5)]
    expected = [0.3, 0.2 + 0.1 / math.sqrt(2), 0.2, 0.2 - 0.1 / math.sqrt(2), 0.1]
    assert found == pytest.approx(expected)
    assert protocol(epochs=1, weight_lr=0.3).learning_rate(0) == pytest.approx(0.3)


def test_the_form_by_edge_needs_more_than_a_sign_on_each_edge():
    assert protocol("s3", method="lambda-edge").form == "edge"
    with pytest.raises(ProtocolError, match="'s2' has 2 operations on an edge: all cosines would be ±1"):
        protocol("s2", method="lambda-edge")


def test_the_regularizer_of_a_method():
    settings = {"estimator": "forward", "epsilon": 0.01}
    for space, methods in (("nasbench201", PLAIN_METHODS), ("ptb", TEXT_METHODS)):
        chosen = {method: protocol(space, method=method, **settings) for method in methods}
        assert chosen["lambda"].regularizer == Regularizer("cosine", "forward", 0.01)
        assert chosen["lambda-sign"].form == "sign"
        assert {name for name, one in chosen.items() if one.regularizer is None} <= {"darts", "darts-2nd"}


def test_protocols_survive_json():
    settings = protocol("s4", "digits", "lambda-sign", "smoke", seed=3, lambda_max=0.3)
    assert SearchProtocol.model_validate_json(settings.model_dump_json()) == settings
    assert settings != protocol("s4", "digits", "lambda-sign", "smoke", seed=4, lambda_max=0.3)


@pytest.mark.parametrize("kind", [SearchProtocol, RecurrentProtocol, LanguageTrainingProtocol])
def test_every_setting_is_described(kind):
    for name, field in kind.model_fields.items():
        assert re.fullmatch(r"[\w<λβε].*\.\)?", field.description, re.S), name


def evaluation_protocol(_, dataset="civics", size="demo", **settings):
    return training_protocol("DARTS_V2_ptb", published("DARTS_V2_ptb"), dataset, size=size, **settings)


def test_paper_settings_of_texts_are_those_of_the_official_scripts():
    """Λ-DARTS: sota/rnn/run.sh and train_search.py; DARTS: rnn/train.py."""
    search = protocol("ptb", "ptb", "lambda", "paper")
    assert search.search_space is PTB
    assert (search.units, search.cells, search.epochs) == (200, 2, 50)
    assert (search.batch_size, search.bptt) == (256, 35)
    assert (search.weight_lr, search.weight_decay, search.clip) == (20, 5e-7, 0.25)
    assert (search.alpha_lr, search.alpha_weight_decay, search.alpha_beta) == (3e-3, 1e-3, 0.9)
    assert protocol("ptb", "ptb", "lambda").alpha_beta == 0.5
    assert (search.lambda_max, search.epsilon, search.estimator) == (0.25, 1e-3, "central")
    assert Dropouts(**search.dropouts) == Dropouts(0.75, 0.25, 0.75, 0.2, 0.0) and search.slowness == 1e-3
    training = evaluation_protocol("ptb", "ptb", "paper")
    assert (training.units, training.epochs, training.batch_size, training.bptt) == (850, 8000, 64, 35)
    assert (training.weight_lr, training.weight_decay, training.clip) == (20, 8e-7, 0.25)
    assert Dropouts(**training.dropouts) == Dropouts(0.75, 0.25, 0.75, 0.2, 0.1) and training.slowness == 1e-3
    assert (training.evaluation_columns, training.test_columns) == (10, 1)
    assert (training.longest, training.patience, training.cells) == (20, 5, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [protocol, evaluation_protocol])
def test_settings_of_texts_can_be_overridden(kind, size):
    assert kind("ptb", size=size, units=7, seed=3).units == 7
    assert kind("ptb", "civics", size=size).min_count == 2 and kind("ptb", "ptb", size=size).min_count == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "darts-2nd"}, "method = 'darts-2nd': .*'darts', 'lambda' or 'lambda-sign'"),
        ({"batch_size": 1}, "batch_size = 1"),
        ({"dropout_hidden": 1.0}, "dropout_hidden = 1.0"),
        ({"colour": 3}, "unknown setting 'colour'; the settings are dataset, size, seed"),
        ({"cells": 1}, "method 'lambda' aligns cells, but cells = 1"),
    ],
)
def test_bad_settings_of_texts_are_named(settings, message):
    with pytest.raises(ProtocolError, match=message):
        protocol("ptb", **settings)
    assert protocol("ptb", method="darts", cells=1).cells == 1
