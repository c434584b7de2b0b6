"""What the cells of a search want: who pulls hard, and who has its way; and what they want on average."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pandas as pd
import torch
from torch import Tensor

from ldarts_book.studies import predictions, secants
from ldarts_book.studies.theory import cells, copies, drawn, searched
from ldarts_lib.bilevel import alignment
from ldarts_lib.bilevel.protocols import SearchProtocol, protocol

LOOK = ["variant", "seed", "state", "epoch", "half"]
"""What names one look at a search."""


def first_gradients(settings: SearchProtocol) -> Tensor:
    """g of a search before its first step, on a batch of α: [cells, edges×operations]."""
    state = searched(settings)
    supernet = state.bilevel.supernet
    return cells(supernet, drawn(state.validation), copies(supernet, state.bilevel.alphas)).flatten(1)


def at_the_end(found: pd.DataFrame) -> pd.DataFrame:
    """Of what follows the last looks of each variant at the images of α, in the search and at rest."""
    found = found[found["half"] == "valid"]
    return found[found["epoch"] == found.groupby("variant")["epoch"].transform("max")]


@cache
def recorded_looks() -> tuple[pd.DataFrame, list[str]]:
    """The recorded rows, and the commands that make what they lack."""
    return secants.recorded_parts("predictions", predictions.WATCHES)


@cache
def recorded_wishes(of: str) -> pd.DataFrame:
    """What ``by_look``, ``by_edge`` or ``by_cell`` finds in the record, of each search once."""
    rows, _ = recorded_looks()
    rows = rows[rows["variant"] != predictions.OFTEN]
    return {"look": by_look, "edge": by_edge, "cell": by_cell}[of](rows)


def looked(variant: str, column: str, epoch: int, half: str = "valid", state: str = "search") -> pd.Series:
    """Of one look at the recorded searches of a variant a number per seed, the mean over its edges."""
    rows = recorded_wishes("edge" if column == "common" else "look")
    chosen = {"variant": variant, "epoch": epoch, "half": half, "state": state}
    return rows[(rows[[*chosen]] == chosen).all(axis=1)].groupby("seed")[column].mean()


def _deciders(variant: str) -> pd.DataFrame:
    found = recorded_wishes("cell")
    return found[
        (found["variant"] == variant)
        & (found["state"] == "search")
        & (found["half"] == "valid")
        & (found["epoch"] >= 10)
    ]


def deciding(variant: str) -> pd.DataFrame:
    """Of each cell the mean ``norm``, ``cosine`` and ``share`` in what α follows, from epoch 10 on."""
    return _deciders(variant).groupby("cell")[["norm", "cosine", "share"]].mean()


def differing(variant: str) -> float:
    """At how many of these looks the largest cosine belongs to another cell than the largest share."""
    found = _deciders(variant).reset_index(drop=True)
    looks = found.groupby(["seed", "epoch"])
    first, second = (found.loc[looks[name].idxmax(), "cell"].to_numpy() for name in ("cosine", "share"))
    return float((first != second).mean())


def speeds(variant: str) -> pd.DataFrame:
    """What :func:`foretold` says of the recorded searches of a variant."""
    rows, _ = recorded_looks()
    demo = protocol(method="darts")
    steps = searched(demo).steps
    return foretold(rows[rows["variant"] == variant], demo.alpha_lr, steps, demo.alpha_weight_decay)


def by_look(rows: pd.DataFrame) -> pd.DataFrame:
    """How far the cells agree at each look.

    Columns: Λ of single ``batches`` and of the ``mean`` gradients g; of these ``projected``; ``felt``, of
    f_l = J(p) g_l; ``by_edge``, the mean over the edges of Λ of f on one; ``cancelled``, 1 − ‖Σf_l‖²/Σ‖f_l‖²,
    which is 1 where α rests, 0 for orthogonal f_l; and ``largest``, the mean over the edges of the largest p.
    """
    found = []
    for look, g, p, part in _looks(rows):
        f, n = alignment.felt(g, p.unsqueeze(1)), p.shape[-1]
        lengths = f.square().sum((1, 2, 3))
        values = {
            "batches": part["batches"][:, 0, 0],
            "mean": alignment.layer_alignment(g.flatten(2)),
            "projected": alignment.projected_alignment(g.flatten(2), n),
            "felt": alignment.layer_alignment(f.flatten(2)),
            "by_edge": alignment.edge_alignment(g, p.unsqueeze(1).expand_as(g)),
            "cancelled": 1 - f.sum(1).square().sum((1, 2)) / lengths,
            "largest": p.amax(-1).mean(-1),
        }
        found.append(look.assign(**{name: value.numpy() for name, value in values.items()}))
    return pd.concat(found, ignore_index=True)


def by_cell(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each ``cell`` the ``norm`` of g_l, its ``cosine`` with the sum S, and its ``share`` π_l in F."""
    found = []
    for look, g, p, _ in _looks(rows):
        f = alignment.felt(g, p.unsqueeze(1)).flatten(2)
        total = f.sum(1, keepdim=True)
        # π_l = ⟨f_l, F⟩ / ‖F‖²
        shares = (f * total).sum(-1) / total.square().sum(-1)
        measures = alignment.cell_norms(g.flatten(2)), alignment.decision_scores(g.flatten(2)), shares
        for cell, values in enumerate(zip(*(x.unbind(1) for x in measures), strict=True)):
            named = zip(("norm", "cosine", "share"), values, strict=True)
            found.append(look.assign(cell=cell + 1, **{name: x.numpy() for name, x in named}))
    return pd.concat(found, ignore_index=True)


def by_edge(rows: pd.DataFrame) -> pd.DataFrame:
    """What the cells want of each ``edge``.

    Columns: the operation that is ``ahead``, with the lowest slope S, and its ``margin`` over all others;
    whether every cell has the same favourite (``common``); Λ of the ``felt`` gradients there, and of those of
    single ``batches``; the operation with the ``largest`` weight, and this weight ``p``.
    """
    found = []
    for look, g, p, part in _looks(rows):
        lowest, favourites = g.sum(1).topk(2, largest=False), g.argmin(-1)
        values = {
            "ahead": lowest.indices[..., 0],
            "margin": lowest.values[..., 1] - lowest.values[..., 0],
            "common": (favourites == favourites[:, :1]).all(1),
            "felt": alignment.edge_alignments(g, p.unsqueeze(1).expand_as(g)),
            "batches": part["batches_felt"][..., 0],
            "largest": p.argmax(-1),
            "p": p.amax(-1),
        }
        edges = range(p.shape[1])
        each = [look.assign(edge=e, **{name: x[:, e].numpy() for name, x in values.items()}) for e in edges]
        found.append(pd.concat(each))
    return pd.concat(found, ignore_index=True)


def foretold(rows: pd.DataFrame, rate: float, steps: int, decay: float) -> pd.DataFrame:
    """The saturation of each edge at the end of a search, and what the slopes along it foretell.

    With F = J(p) S of the mean gradient, plain descent moves α by −ηF in a step, and Adam, whose gradient has
    the noise of a batch, by −ηF/√E[F²] with the mean over the past. A row per search and ``edge``: of its
    ``largest`` weight at the end ``p``, what it would be ``by_descent`` and ``by_adam``; the smallest
    ``margin`` that this operation had over all others (negative if it was not always ahead), and
    ``at_least``, what a margin that persists guarantees under descent, 1 − n(n−1)/(n² + Σημ).

    Args:
        rate, decay: η and the weight decay of α.
        steps: of α in an epoch.
    """
    found = []
    searched = rows[(rows["state"] == "search") & (rows["half"] == "valid")]
    for _, search in searched.groupby(["variant", "seed"], sort=False):
        ((look, g, p, part),) = _looks(search)
        n, slope, square = p.shape[-1], g.sum(1), part["square"]
        logits = p.log() - p.log().mean(-1, keepdim=True)
        felt = alignment.felt(slope, p) + decay * logits
        lengths = steps * torch.tensor(look["epoch"].diff().to_numpy()[1:])[:, None, None]
        between = [(x[1:] + x[:-1]) / 2 for x in (felt, square)]
        past = (lengths * between[1]).cumsum(0) / lengths.cumsum(0)
        ends = {
            "by_descent": logits[0] - rate * (lengths * between[0]).sum(0),
            "by_adam": logits[0] - rate * (lengths * between[0] / past.sqrt().clamp_min(1e-12)).sum(0),
        }
        k = p[-1].argmax(-1, keepdim=True)
        own, others = _at(slope, k), slope.scatter(-1, k.expand(len(slope), *k.shape), float("inf"))
        margins = others.amin(-1) - own
        grown = rate * (lengths[..., 0] * (margins[1:] + margins[:-1]) / 2).sum(0)  # Σ ημ
        margin, least = margins.amin(0), 1 - n * (n - 1) / (n**2 + grown)
        values = {"p": _at(p[-1], k), **{name: _at(a.softmax(-1), k) for name, a in ends.items()}}
        values |= {"margin": margin, "at_least": least.where(margin > 0, 0.0), "largest": k[:, 0]}
        name = look[["variant", "seed"]].iloc[:1]
        found += [
            name.assign(edge=e, **{key: x[e].item() for key, x in values.items()}) for e in range(len(k))
        ]
    return pd.concat(found, ignore_index=True)


def _at(x: Tensor, k: Tensor) -> Tensor:
    """x of operation k on each edge: [..., edges, operations], [edges, 1] → [..., edges]."""
    return x.gather(-1, k.expand(*x.shape[:-2], *k.shape))[..., 0]


def _looks(rows: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, Tensor, Tensor, dict[str, Tensor]]]:
    """Of each variant its looks, g [looks, cells, edges, operations], and p and the rest without cells."""
    for _, part in rows.groupby("variant", sort=False):
        shape = [part[name].max() + 1 for name in ("edge", "operation")]
        held = {
            name: torch.tensor(part[name].to_numpy()).view(-1, *shape)
            for name in part
            if name not in (*LOOK, "edge", "operation") and part[name].notna().all()
        }
        g = torch.stack([held[name] for name in held if name.startswith("g_")], 1)
        yield part[LOOK].iloc[:: shape[0] * shape[1]], g, held["p"], held
