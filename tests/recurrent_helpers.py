"""A small recurrent supernet, a naive oracle that shares no code with the library, and comparing runs."""

from __future__ import annotations

import torch
from torch import Tensor

from ldarts_lib.networks.batches import Inputs, TextBatch
from ldarts_lib.networks.recurrent import Dropouts
from ldarts_lib.networks.recurrent_supernet import RecurrentSupernet
from ldarts_lib.spaces.space import PTB, Space

WORDS, UNITS, TIME, COLUMNS = 7, 3, 4, 5
NAIVE = {"none": lambda x: 0 * x, "tanh": torch.tanh, "relu": lambda x: x.clamp(min=0)}
NAIVE |= {"sigmoid": lambda x: 1 / (1 + (-x).exp()), "identity": lambda x: x}
SOME = Dropouts(output=0.3, hidden=0.2, inputs=0.4, embedding=0.25, words=0.15)
NONE = Dropouts(0.0, 0.0, 0.0, 0.0, 0.0)


def supernet(space: Space = PTB, dropouts: Dropouts = SOME, cells: int = 2) -> RecurrentSupernet:
    """In float64; all its parameters and statistics are random."""
    masks = torch.Generator().manual_seed(5)
    net = RecurrentSupernet(
        words=WORDS, units=UNITS, cells=cells, space=space, dropouts=dropouts, generator=masks
    ).double()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
        for cell in net.cells:
            cell.norm.running_mean.copy_(torch.randn(UNITS, generator=draw))
            cell.norm.running_var.copy_(1 + torch.rand(UNITS, generator=draw))
    return net


def window(net: RecurrentSupernet, slowness: float = 0.1, seed: int = 0) -> TextBatch:
    """Random words and hidden states, different in each cell."""
    draw = torch.Generator().manual_seed(100 + seed)
    words = torch.randint(WORDS, (TIME, COLUMNS), generator=draw)
    hidden = torch.randn(len(net.cells), COLUMNS, UNITS, generator=draw, dtype=torch.float64)
    return TextBatch(Inputs(words, hidden), torch.randint(WORDS, (TIME * COLUMNS,), generator=draw), slowness)


def random_weights(net: RecurrentSupernet, seed: int = 0) -> dict[str, Tensor]:
    """Softmax weights that differ from cell to cell, as a leaf."""
    draw = torch.Generator().manual_seed(200 + seed)
    shape = (len(net.cells), *net.space.cells["normal"].shape)
    return {"normal": torch.randn(shape, generator=draw, dtype=torch.float64).softmax(-1).requires_grad_()}


def naive_mask(net: RecurrentSupernet, rate: float, *shape: int) -> Tensor:
    if not net.training or rate == 0:
        return torch.ones(shape, dtype=torch.float64)
    return torch.empty(shape, dtype=torch.float64).bernoulli_(1 - rate, generator=net.generator) / (1 - rate)


def naive_norm(net: RecurrentSupernet, x: Tensor, norm: torch.nn.BatchNorm1d) -> Tensor:
    if net.training:
        mean, variance = x.mean(0), x.var(0, unbiased=False)
    else:
        mean, variance = norm.running_mean, norm.running_var
    return (x - mean) / (variance + 1e-5).sqrt()


def naive_cell(net, cell, words, hidden, x_mask, h_mask, weights) -> Tensor:
    """[time, columns, units]; ``weights`` has one matrix per time step."""
    outputs, space = [], net.space.cells["normal"]
    for x, p in zip(words, weights, strict=True):
        c, h = (torch.cat([x * x_mask, hidden * h_mask], 1) @ cell.first).split(UNITS, 1)
        states = [naive_norm(net, hidden + c.sigmoid() * (h.tanh() - hidden), cell.norm)]
        edge = 0
        for i in range(space.nodes):
            node = torch.zeros_like(hidden)
            for state in states:
                c, h = ((state * h_mask) @ cell.rest[i]).split(UNITS, 1)
                for k, name in enumerate(space.candidates[edge]):
                    if name != "none":
                        node = node + p[edge, k] * (state + c.sigmoid() * (NAIVE[name](h) - state))
                edge += 1
            states.append(naive_norm(net, node, cell.norm))
        hidden = sum(states[1:]) / space.nodes
        outputs.append(hidden)
    return torch.stack(outputs)


def naive_loss(net: RecurrentSupernet, batch: TextBatch, weights: list[list[Tensor]]) -> Tensor:
    """The loss of a window; ``weights[cell][time]`` is the matrix that a cell uses at a time step."""
    rates, units = net.dropouts, (COLUMNS, UNITS)
    embedding = net.embedding * naive_mask(net, rates.words, WORDS, 1)
    x = embedding[batch.inputs.words] * naive_mask(net, rates.embedding, *units)
    for cell, hidden, own in zip(net.cells, batch.inputs.hidden, weights, strict=True):
        x_mask, h_mask = naive_mask(net, rates.inputs, *units), naive_mask(net, rates.hidden, *units)
        x = naive_cell(net, cell, x, hidden, x_mask, h_mask, own)
    logits = (x * naive_mask(net, rates.output, *units)).reshape(-1, UNITS) @ net.embedding.T + net.bias
    chosen = logits.log_softmax(1)[torch.arange(len(logits)), batch.targets]
    return -chosen.mean() + batch.slowness * ((x[1:] - x[:-1]) ** 2).mean()
