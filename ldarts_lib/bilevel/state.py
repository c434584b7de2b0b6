"""Everything that changes during a search: supernet, architecture parameters, optimizers, random numbers.

Columns of the history: ``epoch``; for the batches of ω (``train``) and of α (``valid``) the mean ``*_loss``,
``*_accuracy`` (of the supernet), ``*_alignment`` (Λ of the normal cells), ``*_projected_alignment`` (Λ
without the offset that α cannot feel) and ``*_norm_l`` (mean gradient norm of normal cell l); of the steps of
ω the means of :data:`~ldarts_lib.bilevel.gradients.NORMS` (empty what is not known); ``lambda`` (λ_t),
``learning_rate`` (of ω), ``entropy`` (mean over all edges, in nats), ``skips`` (skip connections in the
derived genotype), ``genotype``, ``seconds``.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count, islice
from typing import Any

import torch
from torch import Tensor

from ldarts_lib.bilevel import alignment
from ldarts_lib.bilevel.cuda_graph import GraphedBilevel
from ldarts_lib.bilevel.gradients import NORMS, Gradients
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.bilevel.regularizers import REGULARIZED_KIND
from ldarts_lib.bilevel.trajectory import Trajectory
from ldarts_lib.datasets.images import ImageDataset
from ldarts_lib.errors import ProtocolError
from ldarts_lib.fast.supernet import FastSupernet
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet, initial_alphas
from ldarts_lib.runs.contents import IMAGES
from ldarts_lib.runs.directory import Row, Run
from ldarts_lib.runs.environment import restore_generator, seed_everything
from ldarts_lib.runs.metrics import IDENTITY
from ldarts_lib.runs.record import OnStep, State, require_finite
from ldarts_lib.spaces.genotype import Genotype

SCALARS = ("loss", "accuracy", "alignment", "projected_alignment")
_SIZES = {"channels", "depth", "reduction", "activation"}


class SearchState(State):
    """The state of a search on images, made from the protocol's seed alone; that on a text differs in little.

    Raises:
        ProtocolError: the batch is larger than a half of the images.
    """

    quality, skip = "valid_accuracy", "skip_connect"

    def __init__(self, protocol: Any, dataset: Any, device: torch.device | str = "cpu") -> None:
        seed_everything(protocol.seed)
        self.protocol, self.epochs, self.trajectory = protocol, protocol.epochs, Trajectory()
        self.title = f"{protocol.method} on {protocol.space}, seed {protocol.seed}"
        self.batches = torch.Generator().manual_seed(protocol.seed)
        own, dtype = torch.Generator(device).manual_seed(protocol.seed), floating_type(protocol)
        supernet = self._supernet(protocol, dataset, own).to(device, dtype)
        alphas = initial_alphas(protocol.search_space, generator=self.batches, device=device, dtype=dtype)
        for name, further in protocol.new_remedy().further_alphas(self.batches).items():
            alphas[name] = further.to(device, dtype).requires_grad_()
        self.bilevel = Bilevel(supernet, alphas, protocol)
        self.stepper = GraphedBilevel(self.bilevel) if protocol.cuda_graph else self.bilevel
        self._read(dataset, device)

    def _supernet(
        self, protocol: SearchProtocol, dataset: ImageDataset, generator: torch.Generator
    ) -> Supernet:
        sizes = {"classes": dataset.classes, "channels_in": dataset.channels}
        return make_supernet(protocol, **sizes, generator=generator)

    def _read(self, dataset: ImageDataset, device: torch.device | str) -> None:
        """Take from the data what trains ω and what trains α."""
        size = self.protocol.batch_size
        halves = dataset.halves(self.protocol.halves, fraction=self.protocol.split, seed=self.protocol.seed)
        if size > (smallest := min(map(len, halves))):
            raise ProtocolError(
                f"batch_size = {size} is larger than a half of the images of {dataset.name}, {smallest}; "
                f"set batch_size to {smallest} or less"
            )
        self.training, self.validation = halves
        self.files = {IMAGES: dataset.describe()}
        self.steps = min(self.training.steps(size), self.protocol.epoch_steps or sys.maxsize)

    def run_epoch(self, epoch: int, on_step: OnStep = lambda _: None) -> Row:
        """One pass over the data of ω; returns its row of the history."""
        begin = time.perf_counter()
        self.stepper.start_epoch(epoch)
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
            measured: [2, steps, numbers], what :func:`measure` gave in each step, on the CPU in float64.
            seconds: that the epoch took.
        """
        row: Row = {"epoch": epoch}
        agreement = []
        cells = self.bilevel.supernet.layout.count(REGULARIZED_KIND)
        for name, table in zip(("train", "valid"), measured, strict=True):
            require_finite(table[:, 0], epoch, name, "weight_lr or lambda_max")
            means = table[:, : -len(NORMS)].mean(0)
            scalars, norms, decisions, cosines = means.split([len(SCALARS), cells, cells, cells**2])
            row |= {f"{name}_{key}": value for key, value in zip(SCALARS, scalars.tolist(), strict=True)}
            row |= {f"{name}_norm_{cell}": norm for cell, norm in enumerate(norms.tolist())}
            agreement.append((cosines.view(cells, cells), decisions))
        cosines, decisions = (torch.stack(both).numpy() for both in zip(*agreement, strict=True))
        p, genotype = self._weights(), self.genotype()
        self.trajectory = self.trajectory.followed_by(p, cosines, decisions)
        # what is not known (NaN) is an empty column
        means = zip(NORMS, measured[0, :, -len(NORMS) :].mean(0).tolist(), strict=True)
        row |= {name: None if math.isnan(value) else value for name, value in means}
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
        for batches in self.pairs():
            yield 1, measure(self.stepper.step(*batches), batches)
        self.bilevel.remedy.after_epoch(self.bilevel, epoch, batches[1])

    def pairs(self) -> Iterator[tuple[Batch, Batch]]:
        """The batches of ω and of α of the steps of one epoch."""
        size, dtype = self.protocol.batch_size, floating_type(self.protocol)
        how = {"augment": True, "fill": self.protocol.last_batch == "filled"}
        training = self.training.epoch(size, self.batches, **how)
        again = (self.validation.epoch(size, self.batches, **how) for _ in count())
        passes, drawn = chain.from_iterable(again), self.protocol.alpha_batches == "drawn"
        for images, labels in islice(training, self.steps):
            others, theirs = self.validation.drawn(len(labels), self.batches) if drawn else next(passes)
            yield Batch(images.to(dtype), labels), Batch(others.to(dtype), theirs)

    def genotype(self) -> Genotype:
        """The architecture that the current α select."""
        return self.protocol.search_space.discretize({kind: p.numpy() for kind, p in self._weights().items()})

    def _weights(self) -> dict[str, Tensor]:
        alphas = {kind: alpha.detach() for kind, alpha in self.bilevel.alphas.items()}
        return {kind: p.cpu() for kind, p in self.bilevel.remedy.decided(alphas).items()}

    @property
    def ended(self) -> bool:
        return self.bilevel.remedy.ended

    def checkpoint(self) -> dict[str, Any]:
        bilevel = self.bilevel
        return {
            "supernet": bilevel.supernet.state_dict(),
            "alphas": {kind: alpha.detach() for kind, alpha in bilevel.alphas.items()},
            "alpha_gradients": {kind: alpha.grad for kind, alpha in bilevel.alphas.items()},
            "weight_optimizer": bilevel.weight_optimizer.state_dict(),
            "alpha_optimizer": bilevel.alpha_optimizer.state_dict(),
            "batches": self.batches.get_state(),
            "operations": bilevel.supernet.generator.get_state(),
            "remedy": dict(bilevel.remedy.kept),
            "trajectory": {n: torch.from_numpy(a) for n, a in self.trajectory.arrays().items()},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        bilevel = self.bilevel
        draws = bilevel.supernet.draws or bilevel.remedy.draws or self.protocol.form in alignment.RANDOM_FORMS
        restore_generator(bilevel.supernet.generator, saved["operations"], draws=draws)
        self.batches.set_state(saved["batches"])
        bilevel.supernet.load_state_dict(saved["supernet"])
        with torch.no_grad():
            for kind, alpha in bilevel.alphas.items():
                alpha.copy_(saved["alphas"][kind])
                earlier = saved.get("alpha_gradients", {}).get(kind)
                alpha.grad = None if earlier is None else earlier.to(alpha.device)
        bilevel.weight_optimizer.load_state_dict(saved["weight_optimizer"])
        bilevel.alpha_optimizer.load_state_dict(saved["alpha_optimizer"])
        for group in bilevel.alpha_optimizer.param_groups:  # not as on the device of the checkpoint
            group["capturable"] = group["params"][0].is_cuda
        self.trajectory = Trajectory.of(saved["trajectory"])
        device = next(iter(bilevel.alphas.values())).device
        bilevel.remedy.kept.update((name, t.to(device)) for name, t in saved.get("remedy", {}).items())

    def outcome(self, rows: Sequence[Row]) -> tuple[dict[str, Any], dict[str, Any]]:
        kept = ("valid_loss", self.quality, "valid_alignment", "entropy", "skips", "genotype")
        return self.genotype().as_json(), {
            "stage": "search",
            **{key: getattr(self.protocol, key) for key in IDENTITY},
            "changed": self.protocol.changed,
            "epochs": self.epochs,
            **{key: rows[-1][key] for key in kept},
            **self.bilevel.remedy.facts(),
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
        all cosines, and of the step of ω the :data:`~ldarts_lib.bilevel.gradients.NORMS`; of a packed
        supernet [2, copies, numbers].
    """
    return torch.stack([_measured(one, batch) for one, batch in zip(found, batches, strict=True)])


def _measured(found: Gradients, batch: Batch) -> Tensor:
    by_cell = found.cells[REGULARIZED_KIND]
    g = by_cell.flatten(-2).movedim(0, -2)
    raw, projected = alignment.layer_alignment(g), alignment.projected_alignment(g, by_cell.shape[-1])
    scalars = torch.stack([found.loss, batch.accuracy(found.output), raw, projected], -1)
    agreement = alignment.decision_scores(g), alignment.cosine_matrix(g).flatten(-2)
    norms = scalars.new_zeros(*scalars.shape[:-1], len(NORMS)) if found.norms is None else found.norms
    return torch.cat([scalars, alignment.cell_norms(g), *agreement, norms], -1)


def make_supernet(
    protocol: SearchProtocol, *, classes: int, channels_in: int, generator: torch.Generator
) -> Supernet:
    """The supernet of a protocol, on the CPU; its random operations draw from ``generator``."""
    own = {"classes": classes, "channels_in": channels_in, "generator": generator}
    if protocol.supernet == "reference":
        return Supernet(protocol.search_space, **own, **_sizes(protocol))
    precision = torch.bfloat16 if protocol.precision == "bfloat16" else None
    return FastSupernet(protocol.search_space, precision=precision, **own, **fast_settings(protocol))


def fast_settings(protocol: SearchProtocol) -> dict[str, Any]:
    """What a protocol says of its fast supernet."""
    computes = {"strategy": protocol.strategy, "checkpoint": protocol.checkpoint_cells}
    return _sizes(protocol) | computes


def _sizes(protocol: SearchProtocol) -> dict[str, Any]:
    return protocol.model_dump(include=_SIZES) | protocol.new_remedy().supernet_options()


def floating_type(protocol: SearchProtocol) -> torch.dtype:
    """The type of images, weights and α."""
    return torch.float64 if protocol.precision == "float64" else torch.float32
