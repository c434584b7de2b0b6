"""Train a discrete recurrent cell from scratch and measure its perplexity on the test text.

Stochastic gradient descent on windows of random length, then, once the validation loss no longer falls, the
same with the mean of all later weights taken for the answer: the averaged descent (ASGD) of the DARTS code,
which is Polyak averaging at a constant learning rate.

Differences from ``rnn/train.py``: a window's learning rate is in proportion to its own length (there, once
weights are averaged, to that of the window before, and before that to the length that was drawn, even where
the text ends earlier); the mean includes every step since the switch; the weights after the last epoch are
tested (there, those of the epoch with the lowest validation loss, to which a training that fails also goes
back); a mean loss divides by the number of words that are predicted (there by one more per column).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ldarts_lib.bilevel.protocols import changes
from ldarts_lib.bilevel.recurrent_protocols import LanguageProtocol, evaluation_protocol
from ldarts_lib.bilevel.windows import Reader, columns_of
from ldarts_lib.datasets import corpus as texts
from ldarts_lib.datasets.corpus import Corpus
from ldarts_lib.evaluation.perplexity import mean_loss, perplexity
from ldarts_lib.evaluation.training import TrainingDiverged
from ldarts_lib.networks.recurrent_discrete import DiscreteLanguageModel
from ldarts_lib.runs.directory import RunDirectory, RunError
from ldarts_lib.runs.environment import arithmetic, environment, seed_everything
from ldarts_lib.runs.threads import limited
from ldarts_lib.spaces.genotype import Genotype

SHORTEST = 5
"""Words of the shortest window that is drawn."""
HALF_WINDOWS = 0.05
"""Share of the windows whose mean length is half."""
SPREAD = 5.0
"""Standard deviation of a window's length."""


class _Evaluation(LanguageProtocol):
    """What ``config.json`` holds: the protocol, and what is trained."""

    architecture: str
    """Its published name, or where it was found."""
    searched: dict[str, Any] | None
    """The search that found it."""
    genotype: str
    """The cell."""


def evaluate(
    protocol: LanguageProtocol,
    genotype: Genotype,
    out: str | Path,
    *,
    architecture: str,
    searched: Mapping[str, Any] | None,
    resume: bool = False,
    device: torch.device | str = "cpu",
    corpus: Corpus | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a recurrent cell and record everything in a run directory.

    Columns of the history: ``epoch``, ``train_loss`` (mean over the windows, with dropout), ``valid_loss``
    and ``valid_perplexity`` (of the validation text, after the epoch), ``averaged`` (1 if the weights that
    it is measured with are the mean of several steps), ``seconds``.

    Args:
        protocol: all settings.
        genotype: a recurrent cell.
        out: run directory; new, or an interrupted run with ``resume``.
        architecture: its published name, or where it was found.
        searched: of a found one the search (space, dataset, method, size, seed); None for a published one.
        resume: continue an interrupted run, on CPU bit for bit as if it had not been interrupted.
        device: where to train.
        corpus: the text, if it is loaded already; by default the protocol's.
        progress: whether to show a progress bar.

    Returns:
        What ``metrics.json`` holds, of the weights after the last epoch.

    Raises:
        GenotypeError: the genotype is no recurrent cell.
        DatasetMissing, DatasetCorrupt: the text cannot be read.
        ProtocolError: the text is too short for the protocol's columns.
        RunError: the directory cannot be used or written.
        TrainingDiverged: the loss is NaN or infinite.
    """
    corpus = corpus or texts.load(protocol.dataset, min_count=protocol.min_count)
    training = Training(protocol, genotype, corpus, device)
    origin = {"architecture": architecture, "searched": dict(searched) if searched else None}
    config = _Evaluation(**protocol.model_dump(), **origin, genotype=str(genotype))
    run = RunDirectory.create(out, config, resume=resume)
    if run.finished:
        return run.read_json("metrics.json")
    rows = training.restore(run) if resume else []
    with (
        limited(protocol.size),
        arithmetic("float32"),
        tqdm(
            total=protocol.epochs,
            initial=len(rows),
            desc=f"{architecture} on {protocol.dataset}, seed {protocol.seed}",
            unit="epoch",
            disable=not progress,
        ) as bar,
    ):
        run.write_environment(environment(torch.device(device)))
        for epoch in range(len(rows), protocol.epochs):
            rows.append(training.run_epoch(epoch, [row["valid_loss"] for row in rows]))
            run.write_history(rows)
            run.write_checkpoint(training.checkpoint(epoch))
            bar.set_postfix(perplexity=f"{rows[-1]['valid_perplexity']:.1f}")
            bar.update()
        outcome = training.outcome(rows)
    identity = {key: getattr(protocol, key) for key in ("recipe", "dataset", "size", "seed")}
    usual = evaluation_protocol(protocol.dataset, protocol.size, seed=protocol.seed)
    identity["changed"] = changes(protocol, usual)
    run.write_outcome(
        genotype, {"stage": "evaluate", **identity, **origin, "genotype": str(genotype), **outcome}
    )
    return run.read_json("metrics.json")


class Training:
    """Everything that changes during a training.

    Args:
        protocol: all settings.
        genotype: the cell.
        corpus: the text.
        device: where to train.
    """

    def __init__(
        self,
        protocol: LanguageProtocol,
        genotype: Genotype,
        corpus: Corpus,
        device: torch.device | str = "cpu",
    ) -> None:
        seed_everything(protocol.seed)
        self.protocol = protocol
        self.model = DiscreteLanguageModel(
            genotype,
            words=len(corpus.vocabulary),
            units=protocol.units,
            cells=protocol.cells,
            dropouts=protocol.dropouts,
            generator=torch.Generator(device).manual_seed(protocol.seed),
        ).to(device)
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.SGD(
            self.parameters, lr=protocol.weight_lr, weight_decay=protocol.weight_decay, foreach=True
        )
        self.batches = torch.Generator().manual_seed(protocol.seed)
        self.train = columns_of(corpus, "train", protocol.batch_size, device)
        self.valid = columns_of(corpus, "valid", protocol.evaluation_columns, device)
        self.test = columns_of(corpus, "test", protocol.test_columns, device)
        self.average: list[Tensor] = []
        self.averaged_steps = 0

    def run_epoch(self, epoch: int, earlier: Sequence[float]) -> dict[str, Any]:
        """One pass over the training text; returns the row of the history.

        Args:
            epoch: counted from 0.
            earlier: the validation losses of the epochs before.

        Raises:
            TrainingDiverged: a loss is NaN or infinite.
        """
        begin = time.perf_counter()
        self.model.train()
        reader = Reader(
            self.train, self.model.initial_hidden(self.protocol.batch_size), self.protocol.slowness
        )
        found = []
        while reader.left:
            found.append(self._step(reader))
        losses = torch.stack(found).double().cpu()
        _require_finite(losses, epoch, "train")
        averaged = bool(self.average)
        valid_loss = self.loss_of(self.valid)
        _require_finite(torch.tensor([valid_loss]), epoch, "valid")
        if not averaged and is_time_to_average([*earlier, valid_loss], self.protocol.patience):
            self.average = [parameter.detach().clone() for parameter in self.parameters]
        return {
            "epoch": epoch,
            "train_loss": losses.mean().item(),
            "valid_loss": valid_loss,
            "valid_perplexity": perplexity(valid_loss),
            "averaged": int(averaged),
            "seconds": round(time.perf_counter() - begin, 3),
        }

    def _step(self, reader: Reader) -> Tensor:
        window = reader.read(window_length(self.protocol, self.batches))
        self.optimizer.param_groups[0]["lr"] = (
            self.protocol.weight_lr * len(window.images.words) / self.protocol.bptt
        )
        found = self.model(window.images)
        self.optimizer.zero_grad()
        window.losses(found).backward()
        nn.utils.clip_grad_norm_(self.parameters, self.protocol.clip, foreach=True)
        self.optimizer.step()
        if self.average:
            self.averaged_steps += 1
            weight = 1 / self.averaged_steps
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], weight)
        reader.hidden = found.hidden.detach()
        with torch.no_grad():
            return nn.functional.cross_entropy(found.logits, window.labels)

    def loss_of(self, text: Tensor) -> float:
        """Mean loss of a text [rows, columns], of the averaged weights once there are any."""
        self.model.eval()
        current = [parameter.detach().clone() for parameter in self.parameters] if self.average else []
        self._set(self.average)
        found = mean_loss(self.model, self.model, text, self.protocol.bptt)
        self._set(current)
        return found

    @torch.no_grad()
    def _set(self, values: Sequence[Tensor]) -> None:
        if values:
            torch._foreach_copy_(self.parameters, values)

    def outcome(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What is known after the last epoch."""
        last, test_loss = rows[-1], self.loss_of(self.test)
        _require_finite(torch.tensor([test_loss]), self.protocol.epochs - 1, "test")
        return {
            "epochs": self.protocol.epochs,
            "valid_perplexity": last["valid_perplexity"],
            "test_perplexity": perplexity(test_loss),
            "parameters": sum(parameter.numel() for parameter in self.parameters),
            "seconds": round(sum(float(row["seconds"]) for row in rows), 3),
        }

    def checkpoint(self, epoch: int) -> dict[str, Any]:
        """Tensors and plain values from which :meth:`restore` continues after ``epoch``."""
        return {
            "epoch": epoch,
            "model": self.model.state_dict(),
            "average": self.average,
            "averaged_steps": self.averaged_steps,
            "batches": self.batches.get_state(),
            "masks": self.model.generator.get_state(),
        }

    def restore(self, run: RunDirectory) -> list[dict[str, Any]]:
        """Continue from the last checkpoint of a run; returns the history up to it."""
        saved = run.read_checkpoint()
        if saved is None:
            return []
        rows = run.read_history()[: saved["epoch"] + 1]
        if len(rows) <= saved["epoch"]:
            raise RunError(
                f"{run.path}: the history has {len(rows)} epochs, the checkpoint {saved['epoch'] + 1}; "
                "delete the directory and train again"
            )
        self.model.load_state_dict(saved["model"])
        self.average = [tensor.to(self.parameters[0].device) for tensor in saved["average"]]
        self.averaged_steps = saved["averaged_steps"]
        self.batches.set_state(saved["batches"])
        self.model.generator.set_state(saved["masks"])
        return rows


def window_length(protocol: LanguageProtocol, generator: torch.Generator) -> int:
    """A random number of words: normal around bptt, one time in twenty around its half, and bounded."""
    draw = torch.rand((), generator=generator).item()
    mean = protocol.bptt / 2 if draw < HALF_WINDOWS else protocol.bptt
    length = int(mean + SPREAD * torch.randn((), generator=generator).item())
    return min(max(SHORTEST, length), protocol.bptt + protocol.longest)


def is_time_to_average(losses: Sequence[float], patience: int) -> bool:
    """Whether the last validation loss is above the best one of more than ``patience`` epochs before it."""
    *earlier, last = losses
    return len(earlier) > patience and last > min(earlier[:-patience])


def _require_finite(losses: Tensor, epoch: int, part: str) -> None:
    bad = (~losses.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise TrainingDiverged(
            f"the {part} loss is {losses[bad[0]].item()} in epoch {epoch}, step {bad[0]} (counted from 0); "
            "the checkpoint of the last good epoch is kept. A smaller weight_lr may help"
        )
