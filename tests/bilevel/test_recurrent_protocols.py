import re

import pytest

from ldarts_lib.bilevel.recurrent_protocols import METHODS, RecurrentProtocol, recurrent_protocol
from ldarts_lib.bilevel.regularizers import Regularizer
from ldarts_lib.errors import ProtocolError
from ldarts_lib.evaluation.protocols import LanguageTrainingProtocol, training_protocol
from ldarts_lib.networks.recurrent import Dropouts
from ldarts_lib.settings import SIZES
from ldarts_lib.spaces.published import published


def evaluation_protocol(dataset="civics", size="demo", **settings):
    return training_protocol("DARTS_V2_ptb", published("DARTS_V2_ptb"), dataset, size=size, **settings)


def test_paper_settings_are_those_of_the_official_scripts():
    """Λ-DARTS: sota/rnn/run.sh and train_search.py; DARTS: rnn/train.py."""
    search = recurrent_protocol("ptb", "lambda", "paper")
    assert (search.units, search.cells, search.epochs) == (200, 2, 50)
    assert (search.batch_size, search.bptt) == (256, 35)
    assert (search.weight_lr, search.weight_decay, search.clip) == (20, 5e-7, 0.25)
    assert (search.alpha_lr, search.alpha_weight_decay) == (3e-3, 1e-3)
    assert (search.lambda_max, search.epsilon, search.estimator) == (0.25, 1e-3, "central")
    assert Dropouts(**search.dropouts) == Dropouts(0.75, 0.25, 0.75, 0.2, 0.0) and search.slowness == 1e-3
    training = evaluation_protocol("ptb", "paper")
    assert (training.units, training.epochs, training.batch_size, training.bptt) == (850, 8000, 64, 35)
    assert (training.weight_lr, training.weight_decay, training.clip) == (20, 8e-7, 0.25)
    assert Dropouts(**training.dropouts) == Dropouts(0.75, 0.25, 0.75, 0.2, 0.1) and training.slowness == 1e-3
    assert (training.evaluation_columns, training.test_columns) == (10, 1)
    assert (training.longest, training.patience, training.cells) == (20, 5, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [recurrent_protocol, evaluation_protocol])
def test_every_size_is_valid_and_can_be_overridden(kind, size):
    assert kind(size=size).size == size
    assert kind(size=size, units=7, seed=3).units == 7
    assert kind("civics", size=size).min_count == 2 and kind("ptb", size=size).min_count == 1


def test_methods_have_their_regularizers():
    forms = {method: recurrent_protocol(method=method).regularizer for method in METHODS}
    assert forms["darts"] is None
    assert forms["lambda"] == Regularizer("cosine", "central", 1e-3)
    assert forms["lambda-sign"].form == "sign"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "darts-2nd"}, "method = 'darts-2nd': .*'darts', 'lambda' or 'lambda-sign'"),
        ({"size": "huge"}, "size = 'huge'"),
        ({"batch_size": 1}, "batch_size = 1"),
        ({"dropout_hidden": 1.0}, "dropout_hidden = 1.0"),
        ({"colour": 3}, "unknown setting 'colour'; the settings are dataset, size, seed"),
        ({"cells": 1}, "method 'lambda' aligns cells, but cells = 1"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ProtocolError, match=message):
        recurrent_protocol(**settings)
    assert recurrent_protocol(method="darts", cells=1).cells == 1


@pytest.mark.parametrize("kind", [RecurrentProtocol, LanguageTrainingProtocol])
def test_every_setting_is_described(kind):
    for name, field in kind.model_fields.items():
        assert re.fullmatch(r"[\w<λβ].*\.\)?", field.description, re.S), name
