"""The training of a discrete recurrent cell from scratch, and its perplexity on the test text.

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
from typing import Any

import torch
from torch import Tensor, nn

from ldarts_lib.datasets.corpus import Corpus, Reader, columns_of
from ldarts_lib.evaluation.protocols import LanguageTrainingProtocol
from ldarts_lib.networks.batches import TextBatch
from ldarts_lib.networks.recurrent import DiscreteLanguageModel, Dropouts, mean_loss, perplexity
from ldarts_lib.runs.directory import Row
from ldarts_lib.runs.environment import arithmetic, restore_generator, seed_everything
from ldarts_lib.runs.record import OnStep, State, require_finite

SHORTEST, SPREAD, HALF_WINDOWS = 5, 5.0, 0.05
"""Of a window: its fewest words, their standard deviation, and how often their mean is half."""


class LanguageTraining(State):
    """Everything that changes during a training.

    Columns of the history: ``epoch``, ``train_loss`` (mean over the windows, with dropout), ``valid_loss``
    and ``valid_perplexity`` (of the validation text, after the epoch), ``averaged`` (1 if the weights that
    it is measured with are the mean of several steps), ``seconds``.

    Raises:
        ProtocolError: the text is too short for the protocol's columns.
    """

    steps, unit = 1, "epoch"

    def __init__(
        self, protocol: LanguageTrainingProtocol, corpus: Corpus, device: torch.device | str = "cpu"
    ) -> None:
        seed_everything(protocol.seed)
        self.protocol = protocol
        self.title = f"{protocol.label} on {protocol.dataset}, seed {protocol.seed}"
        self.epochs = protocol.epochs
        self.model = DiscreteLanguageModel(
            protocol.parsed,
            words=len(corpus.vocabulary),
            units=protocol.units,
            cells=protocol.cells,
            dropouts=Dropouts(**protocol.dropouts),
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
        self.valid_losses: list[float] = []
        self.average: list[Tensor] = []
        self.averaged_steps = 0

    @arithmetic("float32")
    def run_epoch(self, epoch: int, on_step: OnStep) -> Row:
        """One pass over the training text."""
        begin = time.perf_counter()
        self.model.train()
        reader = Reader(self.train, self.model.initial_hidden(self.protocol.batch_size))
        found = []
        while reader.left:
            found.append(self._step(reader))
        losses = torch.stack(found).double().cpu()
        require_finite(losses, epoch, "train", "weight_lr")
        averaged = bool(self.average)
        valid_loss = self.loss_of(self.valid)
        require_finite(torch.tensor(valid_loss), epoch, "valid", "weight_lr")
        self.valid_losses.append(valid_loss)
        if not averaged and is_time_to_average(self.valid_losses, self.protocol.patience):
            self.average = [parameter.detach().clone() for parameter in self.parameters]
        on_step()
        return {
            "epoch": epoch,
            "train_loss": losses.mean().item(),
            "valid_loss": valid_loss,
            "valid_perplexity": perplexity(valid_loss),
            "averaged": int(averaged),
            "seconds": round(time.perf_counter() - begin, 3),
        }

    def _step(self, reader: Reader) -> Tensor:
        length = window_length(self.protocol, self.batches)
        window = TextBatch.of(*reader.read(length), self.protocol.slowness)
        # η n/N for a window of n words, N = bptt
        rate = self.protocol.weight_lr * len(window.inputs.words) / self.protocol.bptt
        self.optimizer.param_groups[0]["lr"] = rate
        found = self.model(window.inputs)
        self.optimizer.zero_grad()
        window.losses(found).backward()
        nn.utils.clip_grad_norm_(self.parameters, self.protocol.clip, foreach=True)
        self.optimizer.step()
        if self.average:
            self.averaged_steps += 1
            # ω̄_k = ω̄_{k−1} + (ω_k − ω̄_{k−1}) / k, the mean of the weights after each of k steps
            weight = 1 / self.averaged_steps
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], weight)
        reader.hidden = found.hidden.detach()
        with torch.no_grad():
            return nn.functional.cross_entropy(found.logits, window.targets)

    @arithmetic("float32")
    @torch.no_grad()
    def loss_of(self, text: Tensor) -> float:
        """Mean loss of a text [rows, columns], of the averaged weights once there are any."""
        current = [parameter.clone() for parameter in self.parameters]
        torch._foreach_copy_(self.parameters, self.average or current)
        found = mean_loss(self.model.eval(), self.model, text, self.protocol.bptt)
        torch._foreach_copy_(self.parameters, current)
        return found

    def shown(self, row: Row) -> dict[str, str]:
        return {"perplexity": f"{row['valid_perplexity']:.1f}"}

    def outcome(self, rows: Sequence[Row]) -> tuple[dict[str, Any], dict[str, Any]]:
        test_loss = self.loss_of(self.test)
        require_finite(torch.tensor(test_loss), self.epochs - 1, "test", "weight_lr")
        return self.protocol.parsed.as_json(), {
            **self.protocol.identity,
            "valid_perplexity": rows[-1]["valid_perplexity"],
            "test_perplexity": perplexity(test_loss),
            "parameters": sum(parameter.numel() for parameter in self.parameters),
        }

    def checkpoint(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "valid_losses": self.valid_losses,
            "average": self.average,
            "averaged_steps": self.averaged_steps,
            "batches": self.batches.get_state(),
            "masks": self.model.generator.get_state(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.valid_losses = list(saved["valid_losses"])
        self.average = [tensor.to(self.parameters[0].device) for tensor in saved["average"]]
        self.averaged_steps = saved["averaged_steps"]
        self.batches.set_state(saved["batches"])
        draws = any(self.protocol.dropouts.values())
        restore_generator(self.model.generator, saved["masks"], draws=draws)


def window_length(protocol: LanguageTrainingProtocol, generator: torch.Generator) -> int:
    """A random number of words: normal around bptt, one time in twenty around its half, and bounded."""
    # n = N + 5 ε with N = bptt, or N/2 + 5 ε one time in twenty; ε is standard normal
    draw = torch.rand((), generator=generator).item()
    mean = protocol.bptt / 2 if draw < HALF_WINDOWS else protocol.bptt
    length = int(mean + SPREAD * torch.randn((), generator=generator).item())
    return min(max(SHORTEST, length), protocol.bptt + protocol.longest)


def is_time_to_average(losses: Sequence[float], patience: int) -> bool:
    """Whether the last validation loss is above the best one of more than ``patience`` epochs before it."""
    *earlier, last = losses
    # v_t > min { v_s : s < t − n }, n = patience: the trigger of NT-ASGD
    return len(earlier) > patience and last > min(earlier[:-patience])
