"""The cell of a finished search by perturbation instead of by α (DARTS-PT, Wang et al., 2021).

Their algorithm 1: edges are decided in random order, one of each kind of cell at a time. An edge keeps the
operation without which the supernet's validation accuracy is lowest (of equal ones, its loss highest); then ω
and the other α are tuned as in the search, from a tenth of its learning rate, 5 epochs after a search of 50.
Where nodes keep some of their edges, the nodes follow: what costs least goes. All see the same batches.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.bilevel.state import SearchState, floating_type
from ldarts_lib.datasets.own import images_of
from ldarts_lib.errors import RunError
from ldarts_lib.files import locked, write_atomically, write_json
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import cell_copies
from ldarts_lib.progress import Bar
from ldarts_lib.runs.contents import CONFIG
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.environment import arithmetic
from ldarts_lib.runs.record import restored
from ldarts_lib.settings import validated
from ldarts_lib.spaces.genotype import Genotype

TUNED_SHARE = 0.1
"""Epochs between two decisions, as a share of those of the search."""
_DRAWN = ("gdas", "drnas")
SELECTED, _PARTLY = "genotype-perturbation.json", "perturbation.pt"


def select_by_perturbation(
    path: str | Path, *, device: torch.device | str = "cpu", progress: bool = True
) -> Genotype:
    """Decide the cell of a finished search on images, in :data:`SELECTED` beside the run's own files.

    What was interrupted goes on after its last decision.

    Raises:
        RunError: the run is no finished search on images, or one whose p are drawn, or another process works
            in it.
        DatasetMissing, DatasetCorrupt: its images are not at hand.
    """
    run = Run(path)
    config = run.read_json(CONFIG) if (run.path / CONFIG).exists() else {}
    if not run.finished or "step_order" not in config or config.get("space") == "ptb":
        raise RunError(f"{path}: a selection by perturbation needs a finished search on images")
    protocol = validated(SearchProtocol, config)
    if protocol.method in _DRAWN:
        raise RunError(f"{path}: method {protocol.method!r} draws its p in each pass; select by its weights")
    state = SearchState(protocol, images_of(protocol, device), device)
    restored(run, state, run.read_checkpoint() or {})
    selection = _Selection(state)
    with locked(run.path):
        if partly := run.read_tensors(_PARTLY, "delete it"):
            restored(run, selection, partly)
        bar = {"total": len(selection.tasks), "initial": selection.made, "desc": "deciding", "unit": "edge"}
        with Bar(**bar, disable=not progress) as steps:
            while selection.made < len(selection.tasks):
                selection.decide()
                write_atomically(run.path / _PARTLY, lambda file: torch.save(selection.checkpoint(), file))
                steps.update()
        genotype = selection.genotype()
        write_json(run.path / SELECTED, genotype.as_json())
        (run.path / _PARTLY).unlink(missing_ok=True)
    return genotype


class _Selection(Bilevel):
    """The half-steps of a search that has ended, while its edges are being decided.

    Attributes:
        tasks: what is decided together: of each kind an edge, or a node (as a negative number).
        made: how many of the tasks are done.
        chosen: of each kind the p of decided edges, [edges, operations]; NaN in the others.
    """

    def __init__(self, state: SearchState) -> None:
        self.state, self.made, found, settings = state, 0, state.bilevel, state.protocol
        self.space, draw = settings.search_space, torch.Generator().manual_seed(settings.seed)
        orders = []
        for cell in self.space.cells.values():
            nodes = range(cell.inputs, cell.inputs + cell.nodes)
            crowded = [-node for node in nodes if self.space.kept and node > self.space.kept]
            parts = range(len(cell.edges)), crowded
            orders.append([part[i] for part in parts for i in torch.randperm(len(part), generator=draw)])
        self.tasks = [dict(zip(self.space.cells, task, strict=True)) for task in zip_longest(*orders)]
        self.epochs, rate = max(1, round(TUNED_SHARE * settings.epochs)), settings.weight_lr / 10
        tuned = {"weight_lr": rate, "weight_lr_min": min(rate, settings.weight_lr_min), "ramp": "constant"}
        tuned |= {"epochs": self.epochs * (len(self.tasks) - 1) or 1, "clip_factors": None}
        super().__init__(found.supernet, found.alphas, settings.model_copy(update=tuned))
        state.bilevel, self.remedy = self, found.remedy
        self.chosen = {kind: found.alphas[kind].detach() * torch.nan for kind in self.space.cells}

    def mixtures(self) -> dict[str, Tensor]:
        p = super().mixtures()
        return p | {k: torch.where(c.isnan(), p[k], c.nan_to_num()) for k, c in self.chosen.items()}

    def decide(self) -> None:
        """The next task, after the tuning that follows the one before."""
        self.supernet.train()
        for epoch in range((self.made - 1) * self.epochs, self.made * self.epochs) if self.made else ():
            self.start_epoch(epoch)
            self.share = 1.0
            for batches in self.state.pairs():
                self.step(*batches)
        for kind, task in self.tasks[self.made].items():
            cell, chosen = self.space.cells[kind], self.chosen[kind]
            if task is not None and task >= 0:
                names = enumerate(cell.candidates[task])
                allowed = [o for o, name in names if name != "none" or not self.space.kept]
                needed = min(allowed, key=lambda o: self._quality(kind, (task, o)))
                chosen[task], chosen[task, needed] = 0.0, 1.0
            elif task is not None:
                edges = {e for e, (node, _) in enumerate(cell.edges) if node == -task}
                while len(edges) > self.space.kept:
                    edges -= {needless := max(sorted(edges), key=lambda e: self._quality(kind, e))}
                    chosen[needless] = 0.0
        self.made += 1

    @torch.no_grad()
    def _quality(self, kind: str, removed: Any) -> tuple[float, ...]:
        """Accuracy and minus the loss on all images of α, without entries of one kind's p."""
        p = {name: q.detach().clone() for name, q in self.mixtures().items()}
        p[kind][removed] = 0.0
        weights, total, state = cell_copies(p, self.supernet.layout), 0.0, self.supernet.random_state()
        keep, self.supernet.rule.keep = self.supernet.rule.keep, 1.0
        order, protocol = torch.Generator().manual_seed(0), self.state.protocol
        for images, labels in self.state.validation.epoch(protocol.batch_size, order, augment=False):
            batch = Batch(images.to(floating_type(protocol)), labels)
            with arithmetic(protocol.precision):
                output = self.supernet(batch.inputs, weights, update_statistics=False)
            total = total + torch.stack([batch.accuracy(output), -batch.losses(output)])
        self.supernet.set_random_state(state)
        self.supernet.rule.keep = keep
        return tuple(total.tolist())

    def genotype(self) -> Genotype:
        return self.space.discretize({kind: chosen.cpu().numpy() for kind, chosen in self.chosen.items()})

    def checkpoint(self) -> dict[str, Any]:
        return self.state.checkpoint() | {"made": self.made, "chosen": self.chosen}

    def restore(self, saved: dict[str, Any]) -> None:
        self.state.restore(saved)
        self.made = saved["made"]
        self.chosen = {kind: c.to(self.chosen[kind].device) for kind, c in saved["chosen"].items()}
