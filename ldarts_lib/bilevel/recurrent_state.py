"""The state of the search of a recurrent cell: the same bilevel steps, on windows of a text.

The training text trains the weights ω, the validation text the architecture parameters α, as in the DARTS
code; in every epoch both are read from the beginning, the shorter validation text as often as needed.

Columns of the history: as of a search on images, with dropout, ``*_accuracy`` of the next word and ``skips``
the identities in the derived cell; and ``valid_perplexity``, of the supernet on the whole validation text
after the epoch, without dropout.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ldarts_lib.bilevel.protocols import RecurrentProtocol
from ldarts_lib.bilevel.state import SearchState, measure
from ldarts_lib.datasets.corpus import Corpus, Reader, columns_of
from ldarts_lib.networks.batches import TextBatch
from ldarts_lib.networks.recurrent import Dropouts, mean_loss, perplexity
from ldarts_lib.networks.recurrent_supernet import RecurrentSupernet
from ldarts_lib.networks.supernet import architecture_weights
from ldarts_lib.runs.directory import Row
from ldarts_lib.runs.environment import arithmetic
from ldarts_lib.runs.record import OnStep

HALF_WINDOWS = 0.05
"""Share of the windows that have half the length."""


class RecurrentState(SearchState):
    """As :class:`~ldarts_lib.bilevel.state.SearchState`, of a text in columns [rows, columns].

    Raises:
        ProtocolError: the text is too short for the protocol's columns.
    """

    unit = "word"
    quality, skip = "valid_perplexity", "identity"

    def _supernet(
        self, protocol: RecurrentProtocol, dataset: Corpus, generator: torch.Generator
    ) -> RecurrentSupernet:
        return RecurrentSupernet(
            words=len(dataset.vocabulary),
            units=protocol.units,
            cells=protocol.cells,
            space=protocol.search_space,
            dropouts=Dropouts(**protocol.dropouts),
            generator=generator,
        )

    def _read(self, dataset: Corpus, device: torch.device | str) -> None:
        columns = self.protocol.batch_size
        self.training, self.validation = (columns_of(dataset, p, columns, device) for p in ("train", "valid"))
        self.text = columns_of(dataset, "valid", self.protocol.evaluation_columns, device)
        self.steps = len(self.training) - 1  # words of each column

    def run_epoch(self, epoch: int, on_step: OnStep = lambda _: None) -> Row:
        return super().run_epoch(epoch, on_step) | {"valid_perplexity": self._perplexity()}

    def _steps(self, epoch: int) -> Iterator[tuple[int, Tensor]]:
        hidden = self.bilevel.supernet.initial_hidden(self.protocol.batch_size)
        training, validation = Reader(self.training, hidden), Reader(self.validation, hidden)
        while training.left:
            before = training.position
            measured = self._step(training, validation, epoch)
            yield training.position - before, measured

    def _step(self, training: Reader, validation: Reader, epoch: int) -> Tensor:
        """One bilevel step; returns what is measured of it."""
        bptt = self.protocol.bptt
        half = torch.rand((), generator=self.batches).item() < HALF_WINDOWS
        window = TextBatch.of(*training.read(bptt // 2 if half else bptt), self.protocol.slowness)
        other = TextBatch.of(*validation.read(bptt))
        rate = self.protocol.learning_rate(epoch) * len(window.inputs.words) / bptt
        self.bilevel.weight_optimizer.param_groups[0]["lr"] = rate
        found = self.bilevel.step(window, other)
        training.hidden, validation.hidden = (one.output.hidden for one in found)
        return measure(found, (window, other))

    def _perplexity(self) -> float:
        supernet = self.bilevel.supernet.eval()
        weights = architecture_weights(self.bilevel.alphas, supernet.layout)
        with arithmetic(self.protocol.precision):
            loss = mean_loss(lambda words: supernet(words, weights), supernet, self.text, self.protocol.bptt)
        return perplexity(loss)

    def shown(self, row: Row) -> dict[str, str]:
        return {"perplexity": f"{row['valid_perplexity']:.1f}", "Λ": f"{row['valid_alignment']:+.2f}"}
