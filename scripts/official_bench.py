"""A whole step of Λ-DARTS by the official code and by this library, in turns, on one thread of a CPU.

Needs a checkout of https://github.com/dr-faustus/Lambda-DARTS (commit c7ac3ba), which stays as it is: its own
functions ``train`` and ``search_func`` make the steps; ``.cuda()`` is without effect, and its accuracy, which
today's PyTorch refuses, is not computed. Both sides see the same random pictures. A ratio is the CPU time of
the official code by ours, with the published central difference and with the exact gradient.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import pandas as pd
import torch
from torch import Tensor, nn

from ldarts_book.studies import bench
from ldarts_lib.networks.batches import Batch
from ldarts_lib.progress import Bar

Step = Callable[[Batch, Batch], Any]
SPACES = {"darts": "s5", "s2": "s2", "nasbench201": ""}
"""The names of the spaces here and in the official code."""
STRENGTH, EPSILON = 0.125, 1e-4


def load(file: Path, *paths: Path) -> ModuleType:
    """A program as a module, in a folder of its own, into which it writes as soon as it is imported."""
    spec = importlib.util.spec_from_file_location("official", file)
    module = importlib.util.module_from_spec(spec)
    sys.path[:0] = map(str, paths)
    with tempfile.TemporaryDirectory() as folder, patch.object(sys, "argv", [str(file)]):
        (inside := Path(folder, "experiments", "sota")).mkdir(parents=True)
        old = os.getcwd()
        os.chdir(inside)
        try:
            spec.loader.exec_module(module)
        finally:
            os.chdir(old)
    return module


def chain_step(code: Path, space: str) -> Step:
    """A step of ``sota/cnn/train_search.py``."""
    sys.modules["torch.utils.tensorboard"] = MagicMock()
    program = load(code / "sota/cnn/train_search.py", code)
    program.utils.accuracy = lambda *_, **__: (torch.zeros(()), torch.zeros(()))
    program.args.corr_regularization = "corr"
    loss, primitives = nn.CrossEntropyLoss(), program.spaces_dict[SPACES[space]]
    depth = bench.OFFICIAL.depths["chain"]
    more = {"epsilon_0": EPSILON, "lambda_": STRENGTH, "corr_type": "corr"}
    net = program.Network(bench.OFFICIAL.channels, 10, depth, loss, primitives, **more)
    architect = program.Architect(net, program.args)
    optimizer = torch.optim.SGD(net.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)

    def step(train: Batch, valid: Batch) -> None:
        one, other = [(train.inputs, train.targets)], [(valid.inputs, valid.targets)]
        program.train(one, other, net, architect, loss, optimizer, 0.025)

    return step


def stages_step(code: Path, _: str) -> Step:
    """A step of ``NAS-Bench201/exps/algos/DARTS-V1.py``."""
    program = load(code / "NAS-Bench201/exps/algos/DARTS-V1.py", code / "NAS-Bench201/lib")
    program.obtain_accuracy = lambda *_, **__: (torch.zeros(()), torch.zeros(()))
    program.args = SimpleNamespace(corr_regularization=True)
    sizes = {"C": bench.OFFICIAL.channels, "N": bench.OFFICIAL.depths["stages"], "max_nodes": 4}
    named = {
        "name": "DARTS-V1",
        "num_classes": 10,
        "space": program.get_search_spaces("cell", "nas-bench-102"),
    }
    net = program.get_cell_based_tiny_net(SimpleNamespace(**sizes, **named))
    net.epsilon_0, net.lambda_ = EPSILON, STRENGTH
    loss, quiet = nn.CrossEntropyLoss(), SimpleNamespace(update=lambda *_: None, log=lambda _: None)
    weights = torch.optim.SGD(net.get_weights(), 0.025, momentum=0.9, weight_decay=5e-4)
    alphas = torch.optim.Adam(net.get_alphas(), 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)

    def step(train: Batch, valid: Batch) -> None:
        every = [(train.inputs, train.targets, valid.inputs, valid.targets)]
        program.search_func(every, net, loss, quiet, weights, alphas, "", 1, quiet)

    return step


def compare(code: Path, space: str, batch: int, rounds: int) -> list[list[Any]]:
    """The rows of a space, after a round that does not count."""
    scale, device = replace(bench.OFFICIAL, batch=batch), torch.device("cpu")
    draw = torch.Generator().manual_seed(0)
    batches = [bench.random_batch(scale, draw, device) for _ in range(2)]
    make = stages_step if space == "nasbench201" else chain_step
    steps = {"official": make(code, space)}
    for cost in ("central", "exact"):
        steps[cost] = bench.problem_of(space, scale, "fast", cost, False, device).step
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in Bar(range(rounds + 1), desc=space, unit="round"):
        for name, step in steps.items():
            taken = bench.timed(lambda step=step: step(*batches), device)
            if round_:
                seconds[name].append(taken)
    rows = []
    for cost in ("central", "exact"):
        ratio, half = bench.mean_ratio(seconds["official"], seconds[cost])
        medians = (pd.Series(seconds[name]).median() for name in ("official", cost))
        rows.append(
            [space, cost, *(f"{x:.3f}" for x in medians), rounds, f"{ratio:.2f}", f"{100 * half:.1f}"]
        )
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("code", type=Path, help="the checkout of the official code")
    parser.add_argument("--spaces", nargs="+", default=[*SPACES], choices=SPACES)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--csv", type=Path, help="where to write the table, too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    stay = lambda self, *_, **__: self  # noqa: E731
    with patch.object(Tensor, "cuda", stay), patch.object(nn.Module, "cuda", stay):
        rows = [
            row
            for space in given.spaces
            for row in compare(given.code.resolve(), space, given.batch, given.rounds)
        ]
    columns = ["space", "regularizer", "official", "ours", "n", "ratio", "±%"]
    table = pd.DataFrame(rows, columns=columns)
    print(table.to_string(index=False))
    if given.csv:
        table.to_csv(given.csv, index=False)


if __name__ == "__main__":
    main()
