"""Golden runs: small searches and trainings whose every number is recorded, so that no change goes unseen.

``make golden`` (``python tests/golden.py --record``) records them anew and names what changed;
``test_golden.py`` repeats them. ``python tests/golden.py --compare-grid A B`` compares two folders of runs.
Of the library they know the few names imported here; all else is the command line and run directories.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from ldarts_lib.bilevel.packed import run_packed
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.cli import main
from ldarts_lib.datasets.images import load_images
from ldarts_lib.evaluation.standalone import Recipe, standalone_accuracies, standalone_accuracy
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.environment import cpu_model
from ldarts_lib.runs.threads import prepare
from ldarts_lib.spaces.notations import parse

RECORD = Path(__file__).with_name("golden.json.gz")
NOT_COMPARED = ("seconds",)

SPACES = ("nasbench201", "darts", "darts8", "s1", "s2", "s3", "s4")
METHODS = ("darts", "darts-2nd", "lambda", "lambda-sign", "lambda-projected", "lambda-random", "lambda-noise")
LANGUAGE_METHODS = ("darts", "lambda", "lambda-sign")
ESTIMATORS = ("central", "forward", "exact")
SETTINGS = {
    "all-cells": ("s2", "regularized_cells", "all"),
    "batched": ("s2", "strategy", "batched"),
    "checkpointed": ("s2", "checkpoint_cells", "True"),
    "float64": ("s2", "precision", "float64"),
    "validation-batch": ("s2", "regularizer_batch", "validation"),
    "residual": ("nasbench201", "reduction", "residual"),
    "gelu": ("nasbench201", "activation", "gelu"),
    "alpha-first": ("nasbench201", "step_order", "alpha-first"),
}
"""Settings that no preset of size smoke has: the space, the setting, its value."""

CELLS = (
    "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|",
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_3x3~0|none~1|skip_connect~2|",
    "|none~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|",
)
EVALUATIONS = {
    "cifar": "DARTS_V2",
    "cifar-small": "c10_s4_lambdadarts_corr",
    "imagenet": "lambdadarts_corr_0",
    "nasbench201": CELLS[0],
    "ptb": "DARTS_V2_ptb",
    "lookup": CELLS[0],
}


def ldarts(*arguments: str | Path) -> None:
    """Run the command line in this process, in silence unless it fails."""
    said = StringIO()
    with (
        patch.object(sys, "argv", ["ldarts", *map(str, arguments)]),
        redirect_stdout(said),
        redirect_stderr(said),
    ):
        try:
            main()
        except SystemExit as stop:
            if stop.code:
                raise RuntimeError(said.getvalue()) from None


def read_run(run: Path) -> dict[str, Any]:
    """Every number that a run directory holds: its JSON files, the columns of its history, the last α."""
    found = {
        name: json.loads((run / f"{name}.json").read_text()) for name in ("config", "genotype", "metrics")
    }
    if rows := Run(run).read_history():
        found["history"] = {name: [row[name] for row in rows] for name in rows[0]}
    if (run / "checkpoint.pt").exists():
        alphas = torch.load(run / "checkpoint.pt", weights_only=False).get("alphas", {})
        found["alphas"] = {kind: alpha.tolist() for kind, alpha in alphas.items()}
    if (run / "trajectory.npz").exists():
        with np.load(run / "trajectory.npz") as arrays:
            found["trajectory"] = {n: arrays[n][-1].tolist() for n in arrays if "weights" not in n}
    return found


def differences(recorded: Any, found: Any, place: str = "") -> list[str]:
    """Where two values differ; what only ``found`` has is new and no difference."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        names = [name for name in recorded if name not in NOT_COMPARED]
        missing = [f"{place}/{name} is missing" for name in names if name not in found]
        return missing + [
            one for n in names if n in found for one in differences(recorded[n], found[n], f"{place}/{n}")
        ]
    if isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        pairs = enumerate(zip(recorded, found, strict=True))
        return [one for i, pair in pairs for one in differences(*pair, f"{place}/{i}")]
    return [] if recorded == found else [f"{place}: {recorded!r} → {found!r}"]


def first_losses(found: Any) -> dict[str, float]:
    """The losses of the first epoch of all runs within a golden run."""
    if not isinstance(found, dict):
        return {}
    losses = {name: c[0] for name, c in found.get("history", {}).items() if name.endswith("loss")}
    inner = {name: first_losses(value) for name, value in found.items() if name != "history"}
    return losses | {f"{run}/{name}": x for run, part in inner.items() for name, x in part.items()}


def machine() -> dict[str, Any]:
    """What the last digits depend on."""
    return {
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cpu": cpu_model(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }


def _run(*arguments: str, folder: Path) -> dict[str, Any]:
    ldarts(*arguments, "--size", "smoke", "--seed", "0", "--device", "cpu", "--out", folder / "run")
    return read_run(folder / "run")


def _searched(folder: Path) -> dict[str, Any]:
    """An evaluation of what a search found."""
    search = _run("search", "--set", "split", "0.1", "--set", "batch_size", "32", folder=folder)
    ldarts("evaluate", folder / "run", "--recipe", "lookup", "--size", "smoke", "--out", folder / "lookup")
    return {"search": search, "evaluation": read_run(folder / "lookup")}


def _packed(method: str, folder: Path) -> dict[str, Any]:
    """Several seeds, searched as one."""
    seeds = {f"seed{seed}": protocol(method=method, size="smoke", seed=seed) for seed in range(3)}
    run_packed(list(seeds.values()), [folder / name for name in seeds])
    return {name: read_run(folder / name) for name in seeds}


def _standalone(folder: Path) -> dict[str, Any]:
    """Cells trained as the tables train them, packed and alone."""
    cells, settings = [parse(cell) for cell in CELLS], protocol(size="smoke")
    images, recipe = load_images("noisy-digits"), Recipe(epochs=2)
    return {
        "packed": standalone_accuracies(cells, settings, images, recipe, seeds=(0, 1)).tolist(),
        "single": standalone_accuracy(cells[0], settings, images, recipe, seed=0),
    }


def _cases() -> Iterator[tuple[str, Callable[..., dict[str, Any]]]]:
    def search(space: str, method: str, *settings: str) -> Callable[..., dict[str, Any]]:
        few = () if space == "ptb" else ("--set", "split", "0.1" if space == "nasbench201" else "0.04")
        size = () if space == "ptb" else ("--set", "batch_size", "32")
        return partial(_run, "search", "--space", space, "--method", method, *few, *size, *settings)

    for space, method in (*product(SPACES, METHODS), *product(["ptb"], LANGUAGE_METHODS)):
        yield f"search-{space}-{method}", search(space, method)
    for space, supernet, estimator in product(("nasbench201", "s2"), ("fast", "reference"), ESTIMATORS):
        chosen = ("--set", "supernet", supernet, "--set", "estimator", estimator)
        yield f"search-{space}-{supernet}-{estimator}", search(space, "lambda", *chosen)
    for name, (space, *setting) in SETTINGS.items():
        yield f"search-{space}-{name}", search(space, "lambda", "--set", *setting)
    for recipe, architecture in EVALUATIONS.items():
        few = () if recipe == "lookup" else ("--epochs", "2")
        # two steps an epoch: in more, another processor's roundings grow beyond 1e-3
        few += ("--set", "images", "64") if recipe in ("cifar", "cifar-small", "imagenet") else ()
        yield f"evaluate-{recipe}", partial(_run, "evaluate", architecture, "--recipe", recipe, *few)
    yield "evaluate-searched", _searched
    for method in ("darts", "lambda"):
        yield f"packed-{method}", partial(_packed, method)
    yield "standalone", _standalone


CASES = dict(_cases())
"""All golden runs; each takes an empty ``folder`` and returns numbers by name."""


def read_record() -> dict[str, Any]:
    """The machine of the record, and what each golden run gave there."""
    return json.loads(gzip.decompress(RECORD.read_bytes()))


def record() -> None:
    """Make all runs, write the record anew and name what differs from the one before."""
    prepare()
    before = read_record()["runs"] if RECORD.exists() else {}
    runs = {}
    for name, case in CASES.items():
        begin = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            runs[name] = case(folder=Path(folder))
        changes = differences(before[name], runs[name]) if name in before else ["new"]
        said = f"{len(changes)} changes, {changes[0]}" if changes else "as before"
        print(f"{name:<40}{time.process_time() - begin:5.1f} s  {said}", flush=True)
    text = json.dumps({"machine": machine(), "runs": runs}, ensure_ascii=False)
    RECORD.write_bytes(gzip.compress(text.encode(), mtime=0))


def compare_grids(*folders: Path) -> list[str]:
    """Where the finished runs below two folders differ."""
    runs = [{str(p.parent.relative_to(top)): p.parent for p in top.rglob("metrics.json")} for top in folders]
    if not all(runs):
        raise SystemExit(f"there is no finished run in {folders[0] if not runs[0] else folders[1]}")
    before, after = ({name: read_run(path) for name, path in sorted(some.items())} for some in runs)
    return differences(before, after) + [f"{name} is new" for name in after if name not in before]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--record", action="store_true", help="record all golden runs anew")
    action.add_argument("--compare-grid", nargs=2, type=Path, metavar=("A", "B"), help="two folders of runs")
    given = parser.parse_args()
    if given.record:
        record()
    else:
        found = compare_grids(*given.compare_grid)
        print("\n".join(found) or "no differences")
        sys.exit(bool(found))
