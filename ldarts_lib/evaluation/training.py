"""Train one architecture from scratch with a paper's recipe, and test it.

One device or several (Lightning Fabric): the same batches, augmentation and dropped paths whatever their
number, with BatchNorm over the whole batch. Two things depend on it: the operation ``noise``, and the
augmentation of ImageNet, which worker processes draw.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from ldarts_lib.datasets import ImageDataset
from ldarts_lib.errors import LdartsError
from ldarts_lib.evaluation.batchnorm import synchronize_norms
from ldarts_lib.evaluation.devices import launch, require_devices
from ldarts_lib.evaluation.images import NOISE, PATHS, TrainingImages, random_stream, training_images
from ldarts_lib.evaluation.protocols import TrainingProtocol
from ldarts_lib.networks.discrete import DiscreteNetwork
from ldarts_lib.networks.sizes import sizes
from ldarts_lib.runs.directory import METRICS, RunDirectory, RunError
from ldarts_lib.runs.environment import arithmetic, environment, resolve_device, seed_everything
from ldarts_lib.runs.threads import limited
from ldarts_lib.spaces.genotype import Cell

if TYPE_CHECKING:
    from lightning_fabric import Fabric

TOP = 5


class TrainingDiverged(LdartsError, RuntimeError):
    """The loss is no longer a number; the message says when. The last checkpoint is of the epoch before."""


class Objective(nn.Module):
    """A network and its training loss, in one module because several devices share one ``forward``."""

    def __init__(self, network: DiscreteNetwork, protocol: TrainingProtocol) -> None:
        super().__init__()
        self.network = network
        self.weight, self.smoothing = protocol.auxiliary, protocol.label_smoothing

    def forward(self, images: Tensor, labels: Tensor, paths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The loss (a scalar), and the logits [batch, classes]."""
        if not self.weight:
            logits = self.network(images, paths)
            return self._loss(logits, labels), logits
        logits, second = self.network.with_auxiliary(images, paths)
        return self._loss(logits, labels) + self.weight * self._loss(second, labels), logits

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=self.smoothing)


def train(
    protocol: TrainingProtocol,
    out: str | Path,
    *,
    searched: Mapping[str, Any] | None = None,
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    dataset: ImageDataset | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train an architecture, test it, and record everything in a run directory.

    Columns of the history: ``epoch``, ``train_loss``, ``train_accuracy``, ``test_accuracy`` and
    ``test_top5_accuracy`` (NaN where it was not tested), ``learning_rate``, ``drop_probability`` and
    ``seconds``.

    Args:
        protocol: all settings.
        out: run directory; new, or an interrupted run with ``resume``.
        searched: what identifies the search that found the architecture; None for a published one.
        resume: continue an interrupted run, on a CPU bit for bit as if it had not been interrupted.
        device: auto, cpu, cuda, cuda:1, ...
        devices: how many devices share each batch, one process each; on the CPU as many processes.
        dataset: the images, if they are loaded already.
        progress: whether to show a progress bar.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        ProtocolError: the images do not go with the protocol.
        RunError: the directory cannot be used or written.
        TrainingDiverged: the loss is NaN or infinite (ProcessFailed with the same text on several devices).
    """
    where = resolve_device(device)
    require_devices(where, devices, named=":" in device)
    if resume and RunDirectory(out).finished:
        return RunDirectory.create(out, protocol, resume=True).read_json(METRICS)
    training_images(protocol, torch.device("cpu"), part=(0, devices), dataset=dataset)
    run = RunDirectory.create(out, protocol, resume=resume)
    if run.finished:
        return run.read_json(METRICS)
    with limited(protocol.size):
        run.write_environment({**environment(where), "devices": devices})
        launch(
            _train,
            run,
            protocol,
            searched,
            dataset.to("cpu") if dataset and devices > 1 else dataset,
            progress,
            device=where,
            devices=devices,
            precision=protocol.precision,
            dead_ends=not all(_feeds_output(cell) for cell in protocol.cells.cells.values()),
        )
    return run.read_json(METRICS)


def network_of(protocol: TrainingProtocol, *, classes: int, channels_in: int) -> DiscreteNetwork:
    """The network of a protocol, before its first step, on the CPU.

    Args:
        protocol: all settings.
        classes, channels_in: of the images.
    """
    seed_everything(protocol.seed)
    return DiscreteNetwork(
        None,
        protocol.cells,
        classes=classes,
        channels_in=channels_in,
        auxiliary=protocol.auxiliary > 0,
        **protocol.model_dump(include={"channels", "depth", "reduction", "stem"}),
    )


def _feeds_output(cell: Cell) -> bool:
    """Whether each input and each edge has a path to the output, past no operation without a gradient."""
    live = set(cell.output)
    for edge in reversed(cell.edges):
        if edge.target in live and edge.operation not in ("none", "noise"):
            live.add(edge.source)
    return set(range(cell.inputs)) <= live and all(edge.target in live for edge in cell.edges)


def _train(
    fabric: Fabric,
    run: RunDirectory,
    protocol: TrainingProtocol,
    searched: Mapping[str, Any] | None,
    dataset: ImageDataset | None,
    progress: bool,
) -> None:
    torch.backends.cudnn.benchmark = fabric.device.type == "cuda"  # all batches have one shape
    part = fabric.global_rank, fabric.world_size
    images = training_images(protocol, fabric.device, part=part, dataset=dataset)
    state = TrainingState(fabric, protocol, images)
    rows = state.restore(run)
    steps = -(-images.training_count // protocol.batch_size)
    with tqdm(
        total=protocol.epochs * steps,
        initial=len(rows) * steps,
        desc=f"{protocol.architecture} on {protocol.dataset}",
        unit="step",
        disable=not progress or not fabric.is_global_zero,
    ) as bar:
        for epoch in range(len(rows), protocol.epochs):
            with arithmetic("float32" if protocol.precision == "32-true" else "tf32"):
                rows.append(state.run_epoch(epoch, bar))
            if fabric.is_global_zero:
                run.write_history(rows)
                run.write_checkpoint(state.checkpoint(epoch))
    if fabric.is_global_zero:
        run.write_outcome(protocol.cells, metrics(protocol, searched, rows, images))


class TrainingState:
    """Everything that changes during a training, so that it can be saved and restored as one.

    Args:
        fabric: devices and floating type.
        protocol: all settings.
        images: training and test images.
    """

    def __init__(self, fabric: Fabric, protocol: TrainingProtocol, images: TrainingImages) -> None:
        self.fabric, self.protocol, self.images = fabric, protocol, images
        self.network = network_of(protocol, classes=images.classes, channels_in=images.channels)
        self.network = self.network.to(memory_format=torch.channels_last)
        if fabric.world_size > 1:
            synchronize_norms(self.network, fabric.device)
        objective = Objective(self.network, protocol)
        optimizer = torch.optim.SGD(
            objective.parameters(),
            protocol.learning_rate,
            protocol.momentum,
            weight_decay=protocol.weight_decay,
            nesterov=protocol.nesterov,
        )
        compiled = torch.compile(objective) if protocol.compile else objective
        self.objective, self.optimizer = fabric.setup(compiled, optimizer)

    def run_epoch(self, epoch: int, bar: tqdm) -> dict[str, Any]:
        """One pass over the training images, and a test if one is due; returns the row of the history."""
        begin = time.perf_counter()
        seed, rank = self.protocol.seed, self.fabric.global_rank
        torch.manual_seed(random_stream(seed, epoch, NOISE, rank).initial_seed())
        rate, drop = self.protocol.rate(epoch), self.protocol.drop_probability(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        generator = random_stream(seed, epoch, PATHS)
        self.network.train()
        found = torch.zeros(3, dtype=_sums(self.fabric.device), device=self.fabric.device)
        for images, labels in self.images.epoch(epoch):
            found += self._step(images, labels, self._paths(drop, generator))
            bar.update()
        loss, hits, count = self.fabric.all_reduce(found, reduce_op="sum").tolist()
        if not torch.isfinite(torch.tensor(loss)):
            raise TrainingDiverged(
                f"the training loss is {loss} in epoch {epoch} (counted from 0); the checkpoint of the last "
                "good epoch is kept. A smaller learning_rate may help"
            )
        tested = (epoch + 1) % self.protocol.test_every == 0 or epoch + 1 == self.protocol.epochs
        accuracy, top5 = self._tested() if tested else (float("nan"), float("nan"))
        row = {"epoch": epoch, "train_loss": loss / count, "train_accuracy": hits / count}
        row |= {"test_accuracy": accuracy, "test_top5_accuracy": top5, "learning_rate": rate}
        bar.set_postfix({"epoch": epoch + 1, "loss": f"{loss / count:.3f}", "test": f"{accuracy:.4f}"})
        return row | {"drop_probability": drop, "seconds": round(time.perf_counter() - begin, 3)}

    def _step(self, images: Tensor, labels: Tensor, paths: Tensor | None) -> Tensor:
        """One step; returns the sum of the losses, the right answers and the number of images."""
        images = images.to(memory_format=torch.channels_last)
        self.optimizer.zero_grad()
        loss, logits = self.objective(images, labels, paths)
        self.fabric.backward(loss)
        if self.protocol.clip is not None:
            self.fabric.clip_gradients(
                self.objective, self.optimizer, max_norm=self.protocol.clip, error_if_nonfinite=False
            )
        self.optimizer.step()
        hits = (logits.argmax(-1) == labels).sum()
        return torch.stack([loss.detach() * len(labels), hits, torch.full_like(hits, len(labels))])

    def _paths(self, drop: float, generator: torch.Generator) -> Tensor | None:
        """Factors of this process's part of a batch, [edges, images]: 0 for a dropped path."""
        if drop == 0:
            return None
        shape = sum(self.network.edges), self.protocol.batch_size
        kept = (torch.rand(shape, generator=generator) >= drop).float() / (1 - drop)
        part = kept[:, self.fabric.global_rank :: self.fabric.world_size].contiguous()
        return part.to(self.fabric.device, non_blocking=True)

    @torch.no_grad()
    def _tested(self) -> tuple[float, float]:
        """Test accuracy, and the share of test images whose class is among the first five."""
        self.network.eval()
        found = torch.zeros(3, dtype=_sums(self.fabric.device), device=self.fabric.device)
        with self.fabric.autocast():
            for images, labels in self.images.test():
                x = self.fabric.strategy.precision.convert_input(images)
                logits = self.network(x.to(memory_format=torch.channels_last))
                best = logits.topk(min(TOP, logits.shape[-1]), -1).indices == labels[:, None]
                found += torch.stack([best[:, 0].sum(), best.sum(), labels.new_tensor(len(labels))])
        first, among, count = self.fabric.all_reduce(found, reduce_op="sum").tolist()
        return first / count, among / count

    def checkpoint(self, epoch: int) -> dict[str, Any]:
        """Tensors and plain values from which :meth:`restore` continues after ``epoch``."""
        return {
            "epoch": epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, run: RunDirectory) -> list[dict[str, Any]]:
        """Continue from the last checkpoint of a run; returns the history up to it."""
        saved = run.read_checkpoint()
        if saved is None:
            return []
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.fabric.strategy.precision.load_state_dict(saved["precision"])
        rows = run.read_history()[: saved["epoch"] + 1]
        if len(rows) <= saved["epoch"]:
            raise RunError(
                f"{run.path}: the history has {len(rows)} epochs, the checkpoint {saved['epoch'] + 1}; "
                "delete the directory and train again"
            )
        return rows


def _sums(device: torch.device) -> torch.dtype:
    """The floating type of sums over an epoch; Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def metrics(
    protocol: TrainingProtocol,
    searched: Mapping[str, Any] | None,
    rows: list[dict[str, Any]],
    images: TrainingImages,
) -> dict[str, Any]:
    """The outcome of a finished training: what ``metrics.json`` holds.

    ``best_test_accuracy`` is that of the epoch with the best one, which a fair comparison must not report
    as if it had been chosen without the test images; the official code logs it.
    """
    found = sizes(
        protocol.cells,
        classes=images.classes,
        channels_in=images.channels,
        resolution=images.pixels,
        **protocol.model_dump(include={"channels", "depth", "reduction", "stem"}),
    )
    return {
        "stage": "evaluate",
        **protocol.model_dump(include={"recipe", "dataset", "size", "seed", "architecture", "genotype"}),
        "changed": protocol.changed,
        "searched": dict(searched) if searched else None,
        "epochs": protocol.epochs,
        "test_accuracy": rows[-1]["test_accuracy"],
        "test_top5_accuracy": rows[-1]["test_top5_accuracy"],
        "best_test_accuracy": max(row["test_accuracy"] for row in rows if row["test_accuracy"] >= 0),
        "parameters": found.parameters,
        "multiply_adds": found.multiply_adds,
        "seconds": round(sum(float(row["seconds"]) for row in rows), 3),
    }
