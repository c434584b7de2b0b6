"""Reading metrics: what is complete and in range, and everything else by name."""

import json
import math

import pytest

from ldarts_lib.errors import RunError
from ldarts_lib.runs.metrics import EvaluationMetrics, SearchMetrics, read_metrics
from runfolders import EVALUATION, SEARCH, write_run


@pytest.fixture
def read(tmp_path):
    """Metrics with changes, written and read; None drops a key."""

    def read(metrics, **changes):
        changed = {
            key: value for key, value in (metrics | changes).items() if value is not None or key == "searched"
        }
        return read_metrics(write_run(tmp_path / "run", changed))

    return read


def test_both_stages_are_read(read, tmp_path):
    found = read(SEARCH)
    assert isinstance(found, SearchMetrics)
    assert found.model_dump(exclude_none=True) | {"version": 1} == SEARCH
    found = read_metrics(write_run(tmp_path / "other", EVALUATION))
    assert isinstance(found, EvaluationMetrics)
    assert found.model_dump(exclude_none=True) | {"version": 1} == EVALUATION


def test_lookups_texts_and_published_architectures(read, tmp_path):
    lookup = {**EVALUATION, "recipe": "lookup", "valid_accuracy": 0.9, "benchmark": "digits-201"}
    for key in ("epochs", "parameters", "multiply_adds", "seconds", "best_test_accuracy"):
        del lookup[key]
    assert read(lookup, searched=None).searched is None
    text = {**EVALUATION, "recipe": "ptb", "test_perplexity": 60.0, "valid_perplexity": 62.0}
    for key in ("test_accuracy", "best_test_accuracy", "multiply_adds"):
        del text[key]
    assert read_metrics(write_run(tmp_path / "text", text)).test_perplexity == 60


@pytest.mark.parametrize(
    ("metrics", "changes", "expected"),
    [
        (EVALUATION, {"test_accuracy": 97.0}, r"test_accuracy = 97\.0"),
        (EVALUATION, {"test_accuracy": -0.1}, r"test_accuracy = -0\.1"),
        (EVALUATION, {"best_test_accuracy": math.nan}, "best_test_accuracy = nan"),
        (EVALUATION, {"test_accuracy": "high"}, "test_accuracy = 'high'"),
        (EVALUATION, {"test_accuracy": None}, "test_accuracy missing"),
        (EVALUATION, {"architecture": None}, "architecture missing"),
        (EVALUATION, {"searched": {"space": "s2"}}, r"searched\.dataset missing"),
        (EVALUATION, {"parameters": -1}, "parameters = -1"),
        (EVALUATION, {"size": "huge"}, "size = 'huge'"),
        (EVALUATION, {"test_perplexity": 60.0}, "valid_perplexity missing"),
        (EVALUATION, {"recipe": ""}, "recipe = ''"),
        (SEARCH, {"valid_accuracy": None}, "valid_accuracy missing"),
        (SEARCH, {"valid_loss": math.inf}, "valid_loss = inf"),
        (SEARCH, {"epochs": 0}, "epochs = 0"),
        (SEARCH, {"valid_alignment": 7.0}, r"valid_alignment = 7\.0"),
        (SEARCH, {"stage": "train"}, "stage = 'train'"),
        (SEARCH, {"version": 2}, "version 2"),
        (SEARCH, {"version": None}, "version None"),
    ],
)
def test_bad_values_and_missing_keys_are_named(read, metrics, changes, expected):
    with pytest.raises(RunError, match=rf"metrics\.json.*{expected}"):
        read(metrics, **changes)


@pytest.mark.parametrize("metrics", [SEARCH, EVALUATION], ids=["search", "evaluate"])
def test_metrics_belong_to_their_configuration(tmp_path, metrics):
    path = write_run(tmp_path / "run", metrics)
    config = path.with_name("config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"seed": 7, "epochs": 3}))
    with pytest.raises(RunError, match=r"seed = \d, configured 7; epochs = \d+, configured 3"):
        read_metrics(path)
    config.write_text("{")
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        read_metrics(path)
    config.unlink()
    with pytest.raises(RunError, match=r"no config\.json beside it"):
        read_metrics(path)
