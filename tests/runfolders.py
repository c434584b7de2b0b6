"""Run directories without a run, as a finished search or evaluation leaves them; and two compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ldarts_lib.files import read_json
from ldarts_lib.runs.directory import Run

SEARCHED = {
    "space": "s2",
    "dataset": "cifar10",
    "method": "lambda",
    "size": "paper",
    "seed": 1,
    "changed": "",
}
SEARCH = {
    "version": 1,
    "stage": "search",
    **SEARCHED,
    "epochs": 50,
    "valid_loss": 1.5,
    "valid_accuracy": 0.75,
    "valid_alignment": 0.5,
    "entropy": 0.25,
    "skips": 3,
    "genotype": "|none~0|",
    "seconds": 12.5,
}
EVALUATION = {
    "version": 1,
    "stage": "evaluate",
    "recipe": "cifar",
    "dataset": "cifar10",
    "size": "paper",
    "seed": 0,
    "architecture": "s2/cifar10/lambda/seed1",
    "changed": "",
    "searched": SEARCHED,
    "genotype": "|none~0|",
    "epochs": 600,
    "test_accuracy": 0.97,
    "best_test_accuracy": 0.975,
    "parameters": 3_000_000,
    "multiply_adds": 500_000_000,
    "seconds": 99.0,
}
TINY = ("--size", "smoke", "--epochs", 2, "--set", "channels", 2, "--set", "batch_size", 500)
SEARCHING = ("search", *TINY, "--device", "cpu")
TRAINING = ("evaluate", "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|", "--size")
TRAINING += ("smoke", "--epochs", 1, "--set", "images", 32, "--device", "cpu")
"""Commands that make such runs in a second; they lack --out."""
CONFIGURED = ("space", "dataset", "method", "size", "seed", "recipe", "architecture", "epochs")


def write_run(folder: Path, metrics: dict, config: dict | None = None, **files: str) -> Path:
    """A run directory with these metrics; returns the path of its ``metrics.json``."""
    folder.mkdir(parents=True)
    settings = {key: metrics[key] for key in CONFIGURED if key in metrics} | (config or {})
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "environment.json").write_text(json.dumps({"command": ["ldarts"]}))
    (folder / "genotype.json").write_text(json.dumps({"genotype": metrics.get("genotype")}))
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    path = folder / "metrics.json"
    path.write_text(json.dumps(metrics))
    return path


def timeless(record: Any) -> Any:
    """A row, or a list of rows, without what the clock says."""
    if isinstance(record, list):
        return [timeless(row) for row in record]
    return {key: value for key, value in record.items() if key != "seconds"}


def same_state(a: Any, b: Any) -> bool:
    """Whether two checkpoints are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_state, a, b))
    return a == b


def assert_same_run(one: Run, other: Run) -> None:
    """Two run directories differ in their times only."""
    assert timeless(one.read_history()) == timeless(other.read_history())
    ours, theirs = (run.read_checkpoint() for run in (one, other))
    assert timeless(ours.pop("history")) == timeless(theirs.pop("history"))
    assert same_state(ours, theirs)
    ours, theirs = (read_json(run.path / "metrics.json") for run in (one, other))
    assert timeless(ours) == timeless(theirs)
    assert one.read_json("genotype.json") == other.read_json("genotype.json")
    if (one.path / "trajectory.npz").exists():
        ours, theirs = (np.load(run.path / "trajectory.npz") for run in (one, other))
        np.testing.assert_equal(dict(ours), dict(theirs))
