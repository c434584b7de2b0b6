"""The search: epochs of bilevel steps, a history of what the cells want, a genotype at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ldarts_lib.bilevel.cuda_graph import GraphedBilevel
from ldarts_lib.bilevel.gradients import Batch
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.measurements import measure, unpack
from ldarts_lib.bilevel.protocols import Protocol, ProtocolError
from ldarts_lib.bilevel.regularizers import REGULARIZED_KIND
from ldarts_lib.bilevel.trajectory import Trajectory
from ldarts_lib.datasets import Batches, ImageDataset, load
from ldarts_lib.errors import LdartsError
from ldarts_lib.fast import FastSupernet
from ldarts_lib.networks.supernet import Supernet, initial_alphas
from ldarts_lib.runs.directory import RunDirectory, RunError
from ldarts_lib.runs.environment import arithmetic, environment, seed_everything
from ldarts_lib.runs.threads import limited
from ldarts_lib.spaces.genotype import Genotype

HALVES = ("train", "valid")


class SearchDiverged(LdartsError, RuntimeError):
    """The loss is no longer a number; the message says when. The last checkpoint is of the epoch before."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        genotype: the derived architecture after the last epoch.
        history: one row (column name → value) per epoch; the columns are described in :func:`search`.
        alphas: per cell kind the final architecture parameters [edges, operations].
        path: the run directory.
        trajectory: the architecture weights and the cells' agreement, epoch by epoch.
    """

    genotype: Genotype
    history: list[dict[str, Any]]
    alphas: dict[str, Tensor]
    path: Path
    trajectory: Trajectory


def search(
    protocol: Protocol,
    out: str | Path,
    *,
    resume: bool = False,
    device: torch.device | str = "cpu",
    dataset: ImageDataset | None = None,
    progress: bool = True,
) -> SearchResult:
    """Search a cell and record everything in a run directory.

    Columns of the history: ``epoch``; for the batches of ω (``train``) and of α (``valid``) the mean
    ``*_loss``, ``*_accuracy`` (of the supernet), ``*_alignment`` (Λ of the normal cells),
    ``*_projected_alignment`` (Λ without the offset that α cannot feel) and ``*_norm_l`` (mean gradient norm
    of normal cell l); ``lambda`` (λ_t), ``learning_rate`` (of ω), ``entropy`` (mean over all edges, in nats),
    ``skips`` (skip connections in the derived genotype), ``genotype``, ``seconds``.

    Args:
        protocol: all settings.
        out: run directory; new, or an interrupted run with ``resume``.
        resume: continue an interrupted run, on CPU bit for bit as if it had not been interrupted.
        device: where to search.
        dataset: the images, if they are loaded already; by default the protocol's data set.
        progress: whether to show a progress bar.

    Raises:
        ProtocolError: the batch is larger than a half of the images.
        RunError: the directory cannot be used or written.
        SearchDiverged: the loss is NaN or infinite.
    """
    if protocol.cuda_graph and torch.device(device).type != "cuda":
        raise ProtocolError(f"cuda_graph needs a CUDA device, the search runs on {device}")
    state = SearchState.start(protocol, dataset or load(protocol.dataset, device=device), device)
    run = RunDirectory.create(out, protocol, resume=resume)
    rows = state.restore(run) if resume else []
    if run.finished:
        return state.result(run, rows)
    steps = state.training.steps(protocol.batch_size)
    with (
        limited(protocol.size),
        tqdm(
            total=protocol.epochs * steps,
            initial=len(rows) * steps,
            desc=f"{protocol.method} on {protocol.space}, seed {protocol.seed}",
            unit="step",
            disable=not progress,
        ) as bar,
    ):
        run.write_environment(environment(torch.device(device)))
        for epoch in range(len(rows), protocol.epochs):
            with arithmetic(protocol.precision):
                rows.append(state.run_epoch(epoch, lambda: bar.update()))
            state.save(run, rows)
            bar.set_postfix({"epoch": epoch + 1, **_shown(rows[-1])})
    result = state.result(run, rows)
    run.write_outcome(result.genotype, metrics(protocol, rows))
    return result


class SearchState:
    """Everything that changes during a search, so that it can be saved and restored as one."""

    def __init__(self, bilevel: Bilevel, halves: tuple[Batches, Batches], batches: torch.Generator) -> None:
        self.bilevel = bilevel
        self.training, self.validation = halves
        self.batches = batches
        self.protocol = bilevel.protocol
        self.trajectory = Trajectory()

    @classmethod
    def start(
        cls, protocol: Protocol, dataset: ImageDataset, device: torch.device | str = "cpu"
    ) -> SearchState:
        """The state before the first step, made from the protocol's seed alone."""
        seed_everything(protocol.seed)
        generator = torch.Generator(device).manual_seed(protocol.seed)
        dtype = floating_type(protocol)
        space = protocol.search_space
        supernet = make_supernet(
            protocol, classes=dataset.classes, channels_in=dataset.channels, generator=generator
        ).to(device, dtype)
        batches = torch.Generator().manual_seed(protocol.seed)
        alphas = initial_alphas(space, generator=batches, device=device, dtype=dtype)
        halves = dataset.halves(fraction=protocol.split, seed=protocol.seed)
        smallest = min(len(half) for half in halves)
        if protocol.batch_size > smallest:
            raise ProtocolError(
                f"batch_size = {protocol.batch_size} is larger than a half of the search images of "
                f"{dataset.name}, {smallest}"
            )
        return cls(Bilevel(supernet, alphas, protocol), halves, batches)

    def run_epoch(self, epoch: int, on_step: Callable[[], object]) -> dict[str, Any]:
        """One pass over the ω half; returns the row of the history."""
        begin = time.perf_counter()
        self.bilevel.start_epoch(epoch)
        self.bilevel.supernet.train()
        measured = []
        bilevel = GraphedBilevel(self.bilevel) if self.protocol.cuda_graph else self.bilevel
        for training, validation in self.pairs():
            found = bilevel.step(training, validation)
            measured.append([measure(g, b) for g, b in zip(found, (training, validation), strict=True)])
            on_step()
        halves = torch.stack([torch.stack(half) for half in zip(*measured, strict=True)])
        return self.summarize(epoch, halves.double().cpu(), time.perf_counter() - begin)

    def summarize(self, epoch: int, measured: Tensor, seconds: float) -> dict[str, Any]:
        """The row of an epoch that has just ended; the trajectory grows by it.

        Args:
            epoch: counted from 0.
            measured: [2, steps, numbers], of both halves what
            :func:`~ldarts_lib.bilevel.measurements.measure` gave.
            seconds: that the epoch took.

        Raises:
            SearchDiverged: a loss is NaN or infinite.
        """
        row: dict[str, Any] = {"epoch": epoch}
        agreement = []
        cells = self.bilevel.supernet.layout.count(REGULARIZED_KIND)
        for name, table in zip(HALVES, measured, strict=True):
            _require_finite(table[:, 0], epoch, name)
            numbers, cosines, decisions = unpack(table.mean(0), cells)
            row |= {f"{name}_{key}": value for key, value in numbers.items()}
            agreement.append((cosines, decisions))
        cosines, decisions = (torch.stack(both).numpy() for both in zip(*agreement, strict=True))
        weights = {kind: p.cpu().numpy() for kind, p in self._weights().items()}
        self.trajectory = self.trajectory.followed_by(weights, cosines, decisions)
        return row | self._architecture(epoch) | {"seconds": round(seconds, 3)}

    def pairs(self) -> Iterator[tuple[Batch, Batch]]:
        """The batches of ω and of α of the steps of one epoch."""
        size, dtype = self.protocol.batch_size, floating_type(self.protocol)
        training = self.training.epoch(size, self.batches, augment=True)
        validation = self._endless(self.validation)
        for images, labels in training:
            others, their_labels = next(validation)
            yield Batch(images.to(dtype), labels), Batch(others.to(dtype), their_labels)

    def _endless(self, half: Batches) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from half.epoch(self.protocol.batch_size, self.batches, augment=True)

    def _weights(self) -> dict[str, Tensor]:
        return {kind: alpha.detach().softmax(-1) for kind, alpha in self.bilevel.alphas.items()}

    def _architecture(self, epoch: int) -> dict[str, Any]:
        weights = self._weights()
        entropy = torch.cat([-torch.special.xlogy(p, p).sum(-1) for p in weights.values()]).mean()
        genotype = self.genotype()
        return {
            "lambda": self.protocol.strength(epoch),
            "learning_rate": self.protocol.learning_rate(epoch),
            "entropy": entropy.item(),
            "skips": genotype.count("skip_connect"),
            "genotype": str(genotype),
        }

    def genotype(self) -> Genotype:
        """The architecture that the current α select."""
        weights = {kind: p.cpu().numpy() for kind, p in self._weights().items()}
        return self.protocol.search_space.discretize(weights)

    def save(self, run: RunDirectory, rows: list[dict[str, Any]]) -> None:
        """Write what :meth:`restore` reads, after the epoch of the last row; the checkpoint last of all."""
        run.write_history(rows)
        self.trajectory.save(run)
        run.write_checkpoint(self.checkpoint(rows[-1]["epoch"]))

    def checkpoint(self, epoch: int) -> dict[str, Any]:
        """Tensors and plain values from which :meth:`restore` continues after ``epoch``."""
        return {
            "epoch": epoch,
            "supernet": self.bilevel.supernet.state_dict(),
            "alphas": {kind: alpha.detach() for kind, alpha in self.bilevel.alphas.items()},
            "weight_optimizer": self.bilevel.weight_optimizer.state_dict(),
            "alpha_optimizer": self.bilevel.alpha_optimizer.state_dict(),
            "batches": self.batches.get_state(),
            "operations": self.bilevel.supernet.generator.get_state(),
        }

    def restore(self, run: RunDirectory) -> list[dict[str, Any]]:
        """Continue from the last checkpoint of a run; returns the history up to it."""
        saved = run.read_checkpoint()
        if saved is None:
            return []
        self.bilevel.supernet.load_state_dict(saved["supernet"])
        with torch.no_grad():
            for kind, alpha in self.bilevel.alphas.items():
                alpha.copy_(saved["alphas"][kind])
        self.bilevel.weight_optimizer.load_state_dict(saved["weight_optimizer"])
        self.bilevel.alpha_optimizer.load_state_dict(saved["alpha_optimizer"])
        self.batches.set_state(saved["batches"])
        self.bilevel.supernet.generator.set_state(saved["operations"])
        rows = run.read_history()[: saved["epoch"] + 1]
        self.trajectory = Trajectory.load(run.path).until(saved["epoch"] + 1)
        if len(rows) <= saved["epoch"]:
            raise RunError(
                f"{run.path}: the history has {len(rows)} epochs, the checkpoint {saved['epoch'] + 1}; "
                "delete the directory and search again"
            )
        return rows

    def result(self, run: RunDirectory, rows: list[dict[str, Any]]) -> SearchResult:
        """The outcome so far."""
        alphas = {kind: alpha.detach().cpu() for kind, alpha in self.bilevel.alphas.items()}
        return SearchResult(self.genotype(), rows, alphas, run.path, self.trajectory)


def make_supernet(
    protocol: Protocol, *, classes: int, channels_in: int, generator: torch.Generator
) -> Supernet:
    """The supernet of a protocol, on the CPU.

    Args:
        protocol: all settings.
        classes, channels_in: of the images.
        generator: where random operations draw from, on the device of the search.
    """
    sizes = {**supernet_sizes(protocol), "classes": classes, "channels_in": channels_in}
    if protocol.supernet == "reference":
        return Supernet(protocol.search_space, generator=generator, **sizes)
    precision = torch.bfloat16 if protocol.precision == "bfloat16" else None
    return FastSupernet(
        protocol.search_space, generator=generator, precision=precision, **execution(protocol), **sizes
    )


def supernet_sizes(protocol: Protocol) -> dict[str, Any]:
    """What a protocol says of its supernet, whatever computes it."""
    return protocol.model_dump(include={"channels", "depth", "reduction", "activation"})


def floating_type(protocol: Protocol) -> torch.dtype:
    """The type of images, weights and α."""
    return torch.float64 if protocol.precision == "float64" else torch.float32


def execution(protocol: Protocol) -> dict[str, Any]:
    """What a protocol says of how its fast supernet computes."""
    return {"strategy": protocol.strategy, "checkpoint": protocol.checkpoint_cells}


def _require_finite(losses: Tensor, epoch: int, half: str) -> None:
    bad = (~losses.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise SearchDiverged(
            f"the {half} loss is {losses[bad[0]].item()} in epoch {epoch}, step {bad[0]} (counted from 0); "
            "the checkpoint of the last good epoch is kept. A smaller weight_lr or lambda_max may help"
        )


def _shown(row: dict[str, Any]) -> dict[str, str]:
    return {
        "loss": f"{row['valid_loss']:.3f}",
        "Λ": f"{row['valid_alignment']:+.2f}",
        "skips": str(row["skips"]),
    }


def metrics(protocol: Protocol, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The outcome of a finished search: what ``metrics.json`` holds."""
    last = rows[-1]
    kept = ("valid_loss", "valid_accuracy", "valid_alignment", "entropy", "skips", "genotype")
    identity = {key: getattr(protocol, key) for key in ("space", "dataset", "method", "size", "seed")}
    seconds = sum(float(row["seconds"]) for row in rows)
    return {
        "stage": "search",
        **identity,
        "changed": protocol.changed,
        "epochs": protocol.epochs,
        **{key: last[key] for key in kept},
        "seconds": round(seconds, 3),
    }
