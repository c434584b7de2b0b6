"""Run directories without a run: what a finished search and a finished evaluation leave."""

import json
from pathlib import Path

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
