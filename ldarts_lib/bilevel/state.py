"""Everything that changes during a search: supernet, architecture parameters, optimizers, random numbers.

Columns of the history: ``epoch``; for the batches of ω (``train``) and of α (``valid``) the mean ``*_loss``,
``*_accuracy`` (of the supernet), ``*_alignment`` (Λ of the normal cells), ``*_projected_alignment`` (Λ
without the offset that α cannot feel) and ``*_norm_l`` (mean gradient norm of normal cell l); ``lambda``
(λ_t), ``learning_rate`` (of ω), ``entropy`` (mean over all edges, in nats), ``skips`` (skip connections in
the derived genotype), ``genotype``, ``seconds``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ldarts_lib.bilevel import alignment
from ldarts_lib.bilevel.cuda_graph import GraphedBilevel
from ldarts_lib.bilevel.gradients import Gradients
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.bilevel.regularizers import REGULARIZED_KIND
from ldarts_lib.bilevel.trajectory import Trajectory
from ldarts_lib.datasets.batches import Batches
from ldarts_lib.datasets.images import ImageDataset
from ldarts_lib.errors import ProtocolError, RunError
from ldarts_lib.fast.supernet import FastSupernet
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet, initial_alphas
from ldarts_lib.runs.directory import Row, Run
from ldarts_lib.runs.environment import seed_everything
from ldarts_lib.runs.metrics import IDENTITY
from ldarts_lib.runs.record import OnStep, State, require_finite
from ldarts_lib.spaces.genotype import Genotype

HALVES = ("train", "valid")
SCALARS = ("loss", "accuracy", "alignment", "projected_alignment")
_SIZES = {"channels", "depth", "reduction", "activation"}


class SearchState(State):
    """The state of a search on images; that of a search on a text differs in little.

    Args:
        bilevel: supernet, α and their optimizers.
        halves: the data of ω and of α.
        batches: where the order of the batches and the augmentation are drawn from.
    """

    quality, skip = "valid_accuracy", "skip_connect"

    def __init__(self, bilevel: Bilevel, halves: tuple[Any, Any], batches: torch.Generator) -> None:
        self.bilevel = bilevel
        self.training, self.validation = halves
        self.batches = batches
        self.protocol = bilevel.protocol
        self.trajectory = Trajectory()
        self.title = f"{self.protocol.method} on {self.protocol.space}, seed {self.protocol.seed}"
        self.epochs = self.protocol.epochs

    @classmethod
    def start(
        cls, protocol: SearchProtocol, dataset: ImageDataset, device: torch.device | str = "cpu"
    ) -> SearchState:
        """The state before the first step, made from the protocol's seed alone.

        Raises:
            ProtocolError: the batch is larger than a half of the images.
        """
        seed_everything(protocol.seed)
        generator = torch.Generator(device).manual_seed(protocol.seed)
        dtype = floating_type(protocol)
        supernet = make_supernet(
            protocol, classes=dataset.classes, channels_in=dataset.channels, generator=generator
        ).to(device, dtype)
        batches = torch.Generator().manual_seed(protocol.seed)
        alphas = initial_alphas(protocol.search_space, generator=batches, device=device, dtype=dtype)
        halves = dataset.halves(fraction=protocol.split, seed=protocol.seed)
        smallest = min(len(half) for half in halves)
        if protocol.batch_size > smallest:
            raise ProtocolError(
                f"batch_size = {protocol.batch_size} is larger than a half of the search images of "
                f"{dataset.name}, {smallest}"
            )
        return cls(Bilevel(supernet, alphas, protocol), halves, batches)

    @property
    def steps(self) -> int:
        """Units of the progress bar per epoch."""
        return self.training.steps(self.protocol.batch_size)

    def run_epoch(self, epoch: int, on_step: OnStep = lambda _: None) -> Row:
        """One pass over the data of ω."""
        begin = time.perf_counter()
        self.bilevel.start_epoch(epoch)
        self.bilevel.supernet.train()
        measured = []
        for units, numbers in self._steps(epoch):
            measured.append(numbers)
            on_step(units)
        numbers = torch.stack(measured, 1).double().cpu()  # waits for the device
        return self.summarize(epoch, numbers, time.perf_counter() - begin)

    def summarize(self, epoch: int, measured: Tensor, seconds: float) -> Row:
        """The row of an epoch that has just ended; the trajectory grows by it.

        Args:
            epoch: counted from 0.
            measured: [2, steps, numbers], what :func:`measure` gave in each step, on the CPU in float64.
            seconds: that the epoch took.
        """
        row: Row = {"epoch": epoch}
        agreement = []
        cells = self.bilevel.supernet.layout.count(REGULARIZED_KIND)
        for name, table in zip(HALVES, measured, strict=True):
            require_finite(table[:, 0], epoch, name, "weight_lr or lambda_max")
            scalars, norms, decisions, cosines = table.mean(0).split([len(SCALARS), cells, cells, cells**2])
            row |= {f"{name}_{key}": value for key, value in zip(SCALARS, scalars.tolist(), strict=True)}
            row |= {f"{name}_norm_{cell}": norm for cell, norm in enumerate(norms.tolist())}
            agreement.append((cosines.view(cells, cells), decisions))
        cosines, decisions = (torch.stack(both).numpy() for both in zip(*agreement, strict=True))
        p, genotype = self._weights(), self.genotype()
        self.trajectory = self.trajectory.followed_by(p, cosines, decisions)
        return row | {
            "lambda": self.protocol.strength(epoch),
            "learning_rate": self.protocol.learning_rate(epoch),
            "entropy": torch.cat([-torch.special.xlogy(q, q).sum(-1) for q in p.values()]).mean().item(),
            "skips": genotype.count(self.skip),
            "genotype": str(genotype),
            "seconds": round(seconds, 3),
        }

    def _steps(self, epoch: int) -> Iterator[tuple[int, Tensor]]:
        """Make the steps of an epoch; yields the units of the bar that each went on, and what it measured."""
        bilevel = GraphedBilevel(self.bilevel) if self.protocol.cuda_graph else self.bilevel
        for batches in self.pairs():
            yield 1, measure(bilevel.step(*batches), batches)

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

    def genotype(self) -> Genotype:
        """The architecture that the current α select."""
        return self.protocol.search_space.discretize({kind: p.numpy() for kind, p in self._weights().items()})

    def _weights(self) -> dict[str, Tensor]:
        return {kind: alpha.detach().softmax(-1).cpu() for kind, alpha in self.bilevel.alphas.items()}

    def checkpoint(self) -> dict[str, Any]:
        bilevel = self.bilevel
        return {
            "supernet": bilevel.supernet.state_dict(),
            "alphas": {kind: alpha.detach() for kind, alpha in bilevel.alphas.items()},
            "weight_optimizer": bilevel.weight_optimizer.state_dict(),
            "alpha_optimizer": bilevel.alpha_optimizer.state_dict(),
            "batches": self.batches.get_state(),
            "operations": bilevel.supernet.generator.get_state(),
            "trajectory": {n: torch.from_numpy(a) for n, a in self.trajectory.arrays().items()},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        bilevel = self.bilevel
        self._restore_random_numbers(saved["operations"])
        self.batches.set_state(saved["batches"])
        bilevel.supernet.load_state_dict(saved["supernet"])
        with torch.no_grad():
            for kind, alpha in bilevel.alphas.items():
                alpha.copy_(saved["alphas"][kind])
        bilevel.weight_optimizer.load_state_dict(saved["weight_optimizer"])
        bilevel.alpha_optimizer.load_state_dict(saved["alpha_optimizer"])
        self.trajectory = Trajectory.of(saved["trajectory"])

    def _restore_random_numbers(self, state: Tensor) -> None:
        """Random numbers of a CPU cannot go on on a GPU, nor the reverse: fine if none are drawn."""
        supernet, form = self.bilevel.supernet, self.protocol.form
        if len(state) == len(supernet.generator.get_state()):
            supernet.generator.set_state(state)
        elif supernet.draws or form in alignment.RANDOM_FORMS:
            raise RunError(
                "this search draws random numbers on its device, and was begun on a device of another kind: "
                "go on there, or begin in another directory"
            )

    def outcome(self, rows: Sequence[Row]) -> tuple[dict[str, Any], dict[str, Any]]:
        kept = ("valid_loss", self.quality, "valid_alignment", "entropy", "skips", "genotype")
        return self.genotype().as_json(), {
            "stage": "search",
            **{key: getattr(self.protocol, key) for key in IDENTITY},
            "changed": self.protocol.changed,
            "epochs": self.epochs,
            **{key: rows[-1][key] for key in kept},
        }

    def shown(self, row: Row) -> dict[str, str]:
        return {
            "loss": f"{row['valid_loss']:.3f}",
            "Λ": f"{row['valid_alignment']:+.2f}",
            "skips": str(row["skips"]),
        }

    def save(self, run: Run) -> None:
        self.trajectory.save(run)


def measure(found: Sequence[Gradients], batches: Sequence[Batch]) -> Tensor:
    """What is measured of both passes of a step; it stays on the device until the epoch ends.

    Returns:
        [2, numbers]: the :data:`SCALARS`, then each normal cell's norm ‖g_l‖, its decision cos(g_l, Σg), and
        all cosines; of a packed supernet [2, copies, numbers].
    """
    return torch.stack([_measured(one, batch) for one, batch in zip(found, batches, strict=True)])


def _measured(found: Gradients, batch: Batch) -> Tensor:
    by_cell = found.cells[REGULARIZED_KIND]
    g = by_cell.flatten(-2).movedim(0, -2)
    raw, projected = alignment.layer_alignment(g), alignment.projected_alignment(g, by_cell.shape[-1])
    scalars = torch.stack([found.loss, batch.accuracy(found.output), raw, projected], -1)
    agreement = alignment.decision_scores(g), alignment.cosine_matrix(g).flatten(-2)
    return torch.cat([scalars, alignment.cell_norms(g), *agreement], -1)


def make_supernet(
    protocol: SearchProtocol, *, classes: int, channels_in: int, generator: torch.Generator
) -> Supernet:
    """The supernet of a protocol, on the CPU.

    Args:
        protocol: all settings.
        classes, channels_in: of the images.
        generator: where random operations draw from, on the device of the search.
    """
    own = {"classes": classes, "channels_in": channels_in, "generator": generator}
    if protocol.supernet == "reference":
        return Supernet(protocol.search_space, **own, **protocol.model_dump(include=_SIZES))
    precision = torch.bfloat16 if protocol.precision == "bfloat16" else None
    return FastSupernet(protocol.search_space, precision=precision, **own, **fast_settings(protocol))


def fast_settings(protocol: SearchProtocol) -> dict[str, Any]:
    """What a protocol says of its fast supernet."""
    computes = {"strategy": protocol.strategy, "checkpoint": protocol.checkpoint_cells}
    return protocol.model_dump(include=_SIZES) | computes


def floating_type(protocol: SearchProtocol) -> torch.dtype:
    """The type of images, weights and α."""
    return torch.float64 if protocol.precision == "float64" else torch.float32
