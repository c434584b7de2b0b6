"""A recurrent cell's gradient taken apart: what each time step of a window adds to it.

All time steps of a window use the same architecture weights p. The regularizer of Λ-DARTS aligns the cells'
gradients by p, so it matters whether these are sums over all steps, as in
:mod:`ldarts_lib.networks.recurrent_supernet`, or those of the last step alone, as the published code keeps
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ldarts_lib.bilevel.alignment import layer_alignment
from ldarts_lib.bilevel.protocols import RecurrentProtocol
from ldarts_lib.bilevel.recurrent_state import RecurrentState
from ldarts_lib.datasets.corpus import Corpus, Reader, load_text
from ldarts_lib.networks.batches import Inputs, Prediction, TextBatch
from ldarts_lib.networks.recurrent_supernet import RecurrentSupernet
from ldarts_lib.networks.supernet import architecture_weights


def whole_search(
    settings: RecurrentProtocol, device: torch.device | str = "cpu"
) -> tuple[Corpus, RecurrentState, list[dict[str, Any]]]:
    """A whole search: its text, its state at the end, and its history."""
    text = load_text(settings.dataset, min_count=settings.min_count)
    state = RecurrentState(settings, text, device)
    return text, state, [state.run_epoch(epoch) for epoch in range(settings.epochs)]


def gradients_by_step(supernet: RecurrentSupernet, batch: TextBatch, alphas: Mapping[str, Tensor]) -> Tensor:
    """∂L/∂p of every time step and cell, [time, cells, edges × operations].

    The window is read word by word, each with its own copy of p; the gradient flows through the hidden states
    as usual. The sum over the time steps is the gradient of :func:`ldarts_lib.bilevel.gradients.gradients`.

    Args:
        supernet: in evaluation mode, or without dropout, whose masks would differ from word to word.

    Raises:
        ValueError: the supernet drops something.
    """
    rates = vars(supernet.dropouts)
    if supernet.training and any(rates.values()):
        raise ValueError(
            f"a window's masks cannot be kept from word to word: switch dropout off, got {rates}"
        )
    p = architecture_weights(alphas, supernet.layout)["normal"].detach()
    words, hidden = batch.inputs.words, batch.inputs.hidden
    copies = p.expand(len(words), *p.shape).clone().requires_grad_()
    logits, outputs = [], []
    for word, weights in zip(words.split(1), copies, strict=True):
        found = supernet(Inputs(word, hidden), {"normal": weights}, update_statistics=False)
        hidden = found.hidden
        logits.append(found.logits)
        outputs.append(found.outputs)
    loss = batch.losses(Prediction(torch.cat(logits), hidden, torch.cat(outputs)))
    (found,) = torch.autograd.grad(loss, copies)
    return found.flatten(2)


def last_against_all(
    supernet: RecurrentSupernet,
    text: Tensor,
    alphas: Mapping[str, Tensor],
    lengths: Sequence[int],
    windows: int,
) -> pd.DataFrame:
    """The gradient of the last step beside that of the whole window, for windows of several lengths.

    Args:
        supernet: as for :func:`gradients_by_step`.
        text: in columns, [rows, columns]; it is read from the beginning for each length.
        lengths: of the windows, in words.
        windows: how many of each length at most.

    Returns:
        One row per window: ``length``, ``window``, ``cosine`` (of the two gradients, mean over the cells),
        ``share`` (of the lengths of the two), ``alignment`` and ``alignment of the last step`` (Λ).
    """
    rows = []
    for length in lengths:
        reader = Reader(text, supernet.initial_hidden(text.shape[1]))
        for window in range(min(windows, reader.left // length)):
            batch = TextBatch.of(*reader.read(length))
            by_step = gradients_by_step(supernet, batch, alphas)
            with torch.no_grad():
                weights = architecture_weights(alphas, supernet.layout)
                reader.hidden = supernet(batch.inputs, weights, update_statistics=False).hidden
            rows.append({"length": length, "window": window} | _compare(by_step))
    return pd.DataFrame(rows)


def averaged(windows: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`last_against_all` as curves: means and standard errors.

    Beside the cosine stands what it would be if all steps were orthogonal and equally long, 1/√T.
    """
    lines = []
    for variant, panel, column in (
        ("last step and window", "cosine", "cosine"),
        ("all steps", "alignment", "alignment"),
        ("last step", "alignment", "alignment of the last step"),
    ):
        found = windows.groupby("length")[column].agg(["mean", "sem"]).fillna(0)
        ends = {"low": found["mean"] - found["sem"], "high": found["mean"] + found["sem"]}
        lines.append(pd.DataFrame({panel: found["mean"], "variant": variant} | ends))
    expected = {"cosine": lines[0].index.to_numpy() ** -0.5, "variant": r"$1/\sqrt{T}$"}
    lines.append(pd.DataFrame(expected, index=lines[0].index))
    return pd.concat(lines).rename_axis("words per window, T").reset_index()


def _compare(by_step: Tensor) -> dict[str, float]:
    every, last = by_step.sum(0), by_step[-1]
    return {
        "cosine": torch.cosine_similarity(every, last, dim=-1).mean().item(),
        "share": (last.norm(dim=-1) / every.norm(dim=-1)).mean().item(),
        "alignment": layer_alignment(every).item(),
        "alignment of the last step": layer_alignment(last).item(),
    }
