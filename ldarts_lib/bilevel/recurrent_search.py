"""The search of a recurrent cell: the bilevel steps of :mod:`ldarts_lib.bilevel.half_steps` on windows of a
text.

The training text trains the weights ω, the validation text the architecture parameters α, as in the DARTS
code; in every epoch both are read from the beginning, the shorter validation text as often as needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ldarts_lib.bilevel.gradients import Gradients
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.measurements import measure
from ldarts_lib.bilevel.protocols import changes
from ldarts_lib.bilevel.recurrent_protocols import RecurrentProtocol
from ldarts_lib.bilevel.recurrent_protocols import protocol as preset
from ldarts_lib.bilevel.search import SearchResult, SearchState, floating_type
from ldarts_lib.bilevel.windows import Reader, TextBatch, columns_of
from ldarts_lib.datasets import corpus as texts
from ldarts_lib.datasets.corpus import Corpus
from ldarts_lib.evaluation.perplexity import mean_loss, perplexity
from ldarts_lib.networks.recurrent_supernet import RecurrentSupernet
from ldarts_lib.networks.supernet import architecture_weights, initial_alphas
from ldarts_lib.runs.directory import RunDirectory
from ldarts_lib.runs.environment import arithmetic, environment, seed_everything
from ldarts_lib.runs.threads import limited

HALF_WINDOWS = 0.05
"""Share of the windows that have half the length."""


def search(
    protocol: RecurrentProtocol,
    out: str | Path,
    *,
    resume: bool = False,
    device: torch.device | str = "cpu",
    corpus: Corpus | None = None,
    progress: bool = True,
) -> SearchResult:
    """Search a recurrent cell and record everything in a run directory.

    Columns of the history: ``epoch``; for the windows of ω (``train``) and of α (``valid``), with dropout,
    the mean ``*_loss``, ``*_accuracy`` (of the next word), ``*_alignment`` (Λ of the cells),
    ``*_projected_alignment`` (Λ without the offset that α cannot feel) and ``*_norm_l`` (mean gradient norm
    of cell l); ``lambda`` (λ_t), ``learning_rate`` (of ω), ``entropy`` (mean over all edges, in nats),
    ``skips`` (identities in the derived cell), ``genotype``, ``seconds``; and ``valid_perplexity``, of the
    supernet on the whole validation text after the epoch, without dropout.

    Args:
        protocol: all settings.
        out: run directory; new, or an interrupted run with ``resume``.
        resume: continue an interrupted run, on CPU bit for bit as if it had not been interrupted.
        device: where to search.
        corpus: the text, if it is loaded already; by default the protocol's.
        progress: whether to show a progress bar.

    Raises:
        DatasetMissing, DatasetCorrupt: the text cannot be read.
        ProtocolError: the text is too short for the protocol's columns.
        RunError: the directory cannot be used or written.
        SearchDiverged: the loss is NaN or infinite.
    """
    corpus = corpus or texts.load(protocol.dataset, min_count=protocol.min_count)
    state = RecurrentState.start(protocol, corpus, device)
    run = RunDirectory.create(out, protocol, resume=resume)
    rows = state.restore(run) if resume else []
    if run.finished:
        return state.result(run, rows)
    words = len(state.training) - 1
    with (
        limited(protocol.size),
        tqdm(
            total=protocol.epochs * words,
            initial=len(rows) * words,
            desc=f"{protocol.method} on {protocol.space}, seed {protocol.seed}",
            unit="word",
            disable=not progress,
        ) as bar,
    ):
        run.write_environment(environment(torch.device(device)))
        for epoch in range(len(rows), protocol.epochs):
            with arithmetic(protocol.precision):
                rows.append(state.run_epoch(epoch, bar.update))
            state.save(run, rows)
            shown = {"perplexity": f"{rows[-1]['valid_perplexity']:.1f}"}
            bar.set_postfix({"epoch": epoch + 1, **shown, "Λ": f"{rows[-1]['valid_alignment']:+.2f}"})
    result = state.result(run, rows)
    run.write_outcome(result.genotype, metrics(protocol, rows))
    return result


class RecurrentState(SearchState):
    """Everything that changes during a search; saved and restored as that of a search on images.

    The halves are the training and the validation text in columns, [rows, columns] each.
    """

    text: Tensor
    """The validation text in the columns in which perplexities are measured."""

    @classmethod
    def start(
        cls, protocol: RecurrentProtocol, dataset: Corpus, device: torch.device | str = "cpu"
    ) -> RecurrentState:
        """The state before the first step, made from the protocol's seed alone."""
        seed_everything(protocol.seed)
        dtype = floating_type(protocol)
        supernet = RecurrentSupernet(
            words=len(dataset.vocabulary),
            units=protocol.units,
            cells=protocol.cells,
            space=protocol.search_space,
            dropouts=protocol.dropouts,
            generator=torch.Generator(device).manual_seed(protocol.seed),
        ).to(device, dtype)
        batches = torch.Generator().manual_seed(protocol.seed)
        alphas = initial_alphas(protocol.search_space, generator=batches, device=device, dtype=dtype)
        columns = protocol.batch_size
        halves = tuple(columns_of(dataset, part, columns, device) for part in ("train", "valid"))
        state = cls(Bilevel(supernet, alphas, protocol), halves, batches)
        state.text = columns_of(dataset, "valid", protocol.evaluation_columns, device)
        return state

    def run_epoch(self, epoch: int, on_step: Callable[[int], object]) -> dict[str, Any]:
        """One pass over the training text; returns the row of the history.

        Args:
            epoch: counted from 0.
            on_step: called after each step with the number of words that each column went on.
        """
        begin = time.perf_counter()
        self.bilevel.start_epoch(epoch)
        self.bilevel.supernet.train()
        hidden = self.bilevel.supernet.initial_hidden(self.protocol.batch_size)
        training = Reader(self.training, hidden, self.protocol.slowness)
        validation = Reader(self.validation, hidden)
        measured = []
        while training.left:
            before = training.position
            measured.append(self._step(training, validation, epoch))
            on_step(training.position - before)
        halves = torch.stack([torch.stack(half) for half in zip(*measured, strict=True)])
        row = self.summarize(epoch, halves.double().cpu(), time.perf_counter() - begin)
        row["valid_perplexity"] = self._perplexity()
        return row

    def _step(self, training: Reader, validation: Reader, epoch: int) -> list[Tensor]:
        """One bilevel step; returns what is measured of the training and of the validation window."""
        bptt = self.protocol.bptt
        half = torch.rand((), generator=self.batches).item() < HALF_WINDOWS
        window, other = training.read(bptt // 2 if half else bptt), validation.read(bptt)
        rate = self.protocol.learning_rate(epoch) * len(window.images.words) / bptt
        self.bilevel.weight_optimizer.param_groups[0]["lr"] = rate
        of_weights, of_alpha = self.bilevel.step(window, other)
        training.hidden, validation.hidden = of_weights.logits.hidden, of_alpha.logits.hidden
        return [_measure(of_weights, window), _measure(of_alpha, other)]

    def _perplexity(self) -> float:
        supernet = self.bilevel.supernet.eval()
        weights = architecture_weights(self.bilevel.alphas, supernet.layout)
        return perplexity(
            mean_loss(lambda inputs: supernet(inputs, weights), supernet, self.text, self.protocol.bptt)
        )

    def _architecture(self, epoch: int) -> dict[str, Any]:
        found = super()._architecture(epoch)
        return found | {"skips": self.genotype().count("identity")}


def _measure(found: Gradients, batch: TextBatch) -> Tensor:
    return measure(replace(found, logits=found.logits.logits), batch)


def metrics(protocol: RecurrentProtocol, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The outcome of a finished search: what ``metrics.json`` holds."""
    last = rows[-1]
    kept = ("valid_loss", "valid_perplexity", "valid_alignment", "entropy", "skips", "genotype")
    identity = {key: getattr(protocol, key) for key in ("space", "dataset", "method", "size", "seed")}
    return {
        "stage": "search",
        **identity,
        "changed": changes(
            protocol, preset(protocol.dataset, protocol.method, protocol.size, seed=protocol.seed)
        ),
        "epochs": protocol.epochs,
        **{key: last[key] for key in kept},
        "seconds": round(sum(float(row["seconds"]) for row in rows), 3),
    }
