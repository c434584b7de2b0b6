"""The training of an architecture of images from scratch with a paper's recipe, and its test.

One device or several (Lightning Fabric): the same batches, augmentation and dropped paths whatever their
number, with BatchNorm over the whole batch. Two things depend on it: the operation ``noise``, and the
augmentation of ImageNet, which worker processes draw.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from ldarts_lib.datasets.images import ImageDataset
from ldarts_lib.evaluation.batchnorm import synchronize_norms
from ldarts_lib.evaluation.images import NOISE, PATHS, TrainingImages, random_stream, training_images
from ldarts_lib.evaluation.protocols import TrainingProtocol
from ldarts_lib.networks.discrete import DiscreteNetwork
from ldarts_lib.networks.sizes import sizes
from ldarts_lib.runs.contents import IMAGES
from ldarts_lib.runs.directory import Row, Run
from ldarts_lib.runs.environment import arithmetic, seed_everything, tuned_convolutions
from ldarts_lib.runs.record import OnStep, State, require_finite, run_epochs
from ldarts_lib.spaces.genotype import OPERATION_NAMES, Genotype

if TYPE_CHECKING:
    from lightning_fabric import Fabric

TOP = 5
_LEARNING = {*OPERATION_NAMES} - {"none", "noise"}
"""Operations through which gradients flow; of registered ones nothing is known."""


class Objective(nn.Module):
    """A network and its training loss, in one module because several devices share one ``forward``."""

    def __init__(self, network: DiscreteNetwork, protocol: TrainingProtocol) -> None:
        super().__init__()
        self.network, self.weight = network, protocol.auxiliary
        # −Σ_k y_k log softmax(logits)_k with y_k = (1 − s)[k = label] + s/K (book/imagenet_transfer)
        self.loss = nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)

    def forward(self, images: Tensor, labels: Tensor, paths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The loss (a scalar), and the logits [batch, classes]."""
        if not self.weight:
            logits = self.network(images, paths)
            return self.loss(logits, labels), logits
        logits, second = self.network.with_auxiliary(images, paths)
        # L + w L_aux, w = 0.4 in the papers (book/darts_space)
        return self.loss(logits, labels) + self.weight * self.loss(second, labels), logits


def network_sizes(protocol: BaseModel, images: ImageDataset | TrainingImages) -> dict[str, Any]:
    """What a network is made with besides its architecture, by the settings of a search or a training."""
    settings = protocol.model_dump(include={"channels", "depth", "reduction", "stem"})
    return settings | {"classes": images.classes, "channels_in": images.channels}


def network_of(protocol: TrainingProtocol, images: ImageDataset | TrainingImages) -> DiscreteNetwork:
    """The network of a protocol, on the CPU; of the images only ``classes`` and ``channels`` count."""
    settings = network_sizes(protocol, images) | {"auxiliary": protocol.auxiliary > 0}
    return DiscreteNetwork(None, protocol.parsed, **settings)


def has_dead_ends(genotype: Genotype) -> bool:
    """Whether the loss does not depend on some parameters.

    It depends on all if each input and each edge has a path to the output, past no operation without a
    gradient.
    """
    for cell in genotype.cells.values():
        live = set(cell.output)
        for edge in reversed(cell.edges):
            if edge.target in live and edge.operation in _LEARNING:
                live.add(edge.source)
        if not {*range(cell.inputs), *(edge.target for edge in cell.edges)} <= live:
            return True
    return False


def train_images(
    fabric: Fabric, run: Run, protocol: TrainingProtocol, dataset: ImageDataset | None, progress: bool
) -> None:
    """This process's part of a training; only the first one writes."""
    part = fabric.global_rank, fabric.world_size
    images = training_images(protocol, fabric.device, part=part, dataset=dataset)
    state, first = ImageTraining(fabric, protocol, images), fabric.is_global_zero
    with tuned_convolutions(fabric.device):  # all batches have one shape
        run_epochs([run], [state], progress=progress and first, writes=first)


class ImageTraining(State):
    """Everything that changes during a training.

    Columns of the history: ``epoch``, ``train_loss``, ``train_accuracy``, ``test_accuracy`` and
    ``test_top5_accuracy`` (NaN where it was not tested), ``learning_rate``, ``drop_probability`` and
    ``seconds``.
    """

    def __init__(self, fabric: Fabric, protocol: TrainingProtocol, images: TrainingImages) -> None:
        self.fabric, self.protocol, self.images = fabric, protocol, images
        self.files = {IMAGES: images.facts}
        self.title = f"{protocol.label} on {protocol.dataset}"
        self.epochs = protocol.epochs
        self.steps = -(-images.training_count // protocol.batch_size)
        seed_everything(protocol.seed)
        self.network = network_of(protocol, images).to(memory_format=torch.channels_last)
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

    def run_epoch(self, epoch: int, on_step: OnStep) -> Row:
        """One pass over the training images, and a test if one is due."""
        with arithmetic(self.protocol.precision):
            return self._epoch(epoch, on_step)

    def _epoch(self, epoch: int, on_step: OnStep) -> Row:
        begin = time.perf_counter()
        seed, rank = self.protocol.seed, self.fabric.global_rank
        torch.manual_seed(random_stream(seed, epoch, NOISE, rank).initial_seed())
        rate, drop = self.protocol.rate(epoch), self.protocol.drop_probability(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        generator = random_stream(seed, epoch, PATHS)
        self.network.train()
        found = torch.zeros(3, dtype=torch.float64, device=self.fabric.device)
        for images, labels in self.images.epoch(epoch):
            found += self._step(images, labels, self._paths(drop, generator))
            on_step()
        loss, hits, count = self.fabric.all_reduce(found, reduce_op="sum").tolist()
        require_finite(torch.tensor(loss), epoch, "training", "learning_rate")
        due = (epoch + 1) % self.protocol.test_every == 0 or epoch + 1 == self.protocol.epochs
        accuracy, top5 = self._tested() if due else (float("nan"), float("nan"))
        row = {"epoch": epoch, "train_loss": loss / count, "train_accuracy": hits / count}
        row |= {"test_accuracy": accuracy, "test_top5_accuracy": top5, "learning_rate": rate}
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
        # m/(1 − q_t) with P(m = 0) = q_t (book/darts_space)
        kept = torch.rand(shape, generator=generator) >= drop
        part = kept[:, self.fabric.global_rank :: self.fabric.world_size].contiguous()
        # as bytes: a copy of less than 64 KiB does not wait for the device
        return part.to(self.fabric.device, non_blocking=True).float() / (1 - drop)

    @torch.no_grad()
    def _tested(self) -> tuple[float, float]:
        """Test accuracy, and the share of test images whose class is among the first five."""
        self.network.eval()
        found = torch.zeros(3, dtype=torch.float64, device=self.fabric.device)
        with self.fabric.autocast():
            for images, labels in self.images.test():
                x = self.fabric.strategy.precision.convert_input(images)
                logits = self.network(x.to(memory_format=torch.channels_last))
                best = logits.topk(min(TOP, logits.shape[-1]), -1).indices == labels[:, None]
                found += torch.stack([best[:, 0].sum(), best.sum(), labels.new_tensor(len(labels))])
        first, among, count = self.fabric.all_reduce(found, reduce_op="sum").tolist()
        return first / count, among / count

    def shown(self, row: Row) -> dict[str, str]:
        return {"loss": f"{row['train_loss']:.3f}", "test": f"{row['test_accuracy']:.4f}"}

    def outcome(self, rows: Sequence[Row]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The best test accuracy is that of the epoch with the best one; the official code logs it.

        A fair comparison must not report it as if it had been chosen without the test images.
        """
        architecture, tested = self.protocol.parsed, [row["test_accuracy"] for row in rows]
        settings = network_sizes(self.protocol, self.images)
        found = sizes(architecture, resolution=self.images.pixels, **settings)
        return architecture.as_json(), {
            **self.protocol.identity,
            "test_accuracy": tested[-1],
            "test_top5_accuracy": rows[-1]["test_top5_accuracy"],
            "best_test_accuracy": max(accuracy for accuracy in tested if accuracy >= 0),
            "parameters": found.parameters,
            "multiply_adds": found.multiply_adds,
        }

    def checkpoint(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.fabric.strategy.precision.load_state_dict(saved["precision"])
