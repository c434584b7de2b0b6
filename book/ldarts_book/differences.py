"""What the finite difference of the regularizer computes, held against the exact gradient.

In a network of ReLUs the weight gradient of the loss is not continuous along the perturbation of the
architecture weights: where an activation switches on or off, it jumps. A finite difference divides these
jumps by the length of the perturbation; the exact gradient, which holds almost everywhere, has none of them.
In the mean over batches the record of :mod:`~ldarts_book.studies.secants` compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from ldarts_book.studies.secants import SLOPE, STEPS, moved
from ldarts_book.studies.theory import copies, drawn, searched
from ldarts_lib.bilevel.alignment import Form
from ldarts_lib.bilevel.gradients import flat, gradients
from ldarts_lib.bilevel.protocols import SearchProtocol
from ldarts_lib.bilevel.regularizers import Regularizer, perturbation, regularized_gradients
from ldarts_lib.bilevel.state import make_supernet
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet

EPSILONS = tuple(10.0**k for k in range(-7, 1))
_SMALLEST = 1e-12


def scene(settings: SearchProtocol, epochs: int) -> tuple[Supernet, Batch, dict[str, Tensor]]:
    """The supernet of a search after some epochs, as a textbook network in float64, a batch, and its p."""
    state = searched(settings, epochs)
    batch, supernet = drawn(state.training), state.bilevel.supernet
    net = make_supernet(
        settings.model_copy(update={"supernet": "reference"}),
        classes=supernet.macro.head[-1].out_features,
        channels_in=batch.inputs.shape[1],
        generator=torch.Generator(),
    )
    net.load_state_dict(supernet.state_dict())
    alphas = {kind: alpha.detach().double() for kind, alpha in state.bilevel.alphas.items()}
    return net.double(), Batch(batch.inputs.double(), batch.targets), copies(net, alphas)


def against_exact(
    supernet: Supernet,
    batch: Batch,
    weights: Mapping[str, Tensor],
    epsilons: Sequence[float] = EPSILONS,
    *,
    form: Form = "cosine",
    frozen: bool = False,
) -> pd.DataFrame:
    """The central difference at several lengths ε0 beside the exact gradient of the regularizer.

    Columns: ``cosine`` with the exact gradient and ``ratio`` of the lengths; ``error``, the relative error;
    ``halves``, the cosine of the forward and the backward half, which agree where the gradient is smooth;
    ``switched`` and ``flips``, the number and the share of activations that are on at one end of the
    perturbation and off at the other; and ``of the loss``, the length in units of that of the loss gradient.

    Args:
        supernet: a reference supernet in training mode, best in float64.
        epsilons: values of ε0.
        frozen: whether all passes use the activations that are on in the unperturbed network, so that
            nothing can switch.
    """
    loss, exact = regularized_gradients(
        supernet, batch, weights, Regularizer(form, "exact"), update_statistics=False
    )
    exact = flat(exact)
    length = flat(loss.weights).norm()
    rows, record = [], _Activations()
    with ExitStack() as watched:
        for relu in (module for module in supernet.modules() if isinstance(module, nn.ReLU)):
            watched.enter_context(relu.register_forward_hook(record))
        base = gradients(supernet, batch, weights)
        record.forced = dict(record.on) if frozen else None
        direction, scale = perturbation(Regularizer(form), base.cells)
        for epsilon in epsilons:
            ends = {}
            for sign in (1, -1):
                found = gradients(supernet, batch, moved(weights, direction, sign * epsilon))
                ends[sign] = (flat(found.weights), dict(record.on))
            forward = (ends[1][0] - flat(base.weights)) * scale / epsilon
            backward = (flat(base.weights) - ends[-1][0]) * scale / epsilon
            central = (forward + backward) / 2
            rows.append(
                {
                    "epsilon": epsilon,
                    "cosine": _cosine(central, exact),
                    "ratio": (central.norm() / exact.norm()).item(),
                    "error": ((central - exact).norm() / exact.norm()).item(),
                    "halves": _cosine(forward, backward),
                    **_flips(ends[1][1], ends[-1][1]),
                    "of the loss": (central.norm() / length).item(),
                }
            )
    return pd.DataFrame(rows).set_index("epsilon")


def jumps(
    supernet: Supernet, batch: Batch, weights: Mapping[str, Tensor], epsilon: float, pieces: int = 16
) -> tuple[Tensor, Tensor, Tensor]:
    """Find all jumps on the way p + t d, −ε0 ≤ t ≤ ε0, by halving, and integrate between them.

    Switches there and back within one of the first pieces are not seen.

    Returns:
        where activations switch (of a supernet as in :func:`against_exact`); the jumps of the weight gradient
        there, [places, entries]; and the mean of its derivative in between. The central difference by a unit
        vector d is this mean and the sum of the jumps by the length 2 ε0 of the way.
    """
    direction, _ = perturbation(Regularizer(), gradients(supernet, batch, weights).cells)
    record = _Activations()

    def derivative(t: float) -> Tensor:
        leaves = moved(weights, direction, t)
        loss = batch.losses(supernet(batch.inputs, leaves, update_statistics=False))
        found = torch.autograd.grad(loss, tuple(leaves.values()), create_graph=True, materialize_grads=True)
        along = sum((g * direction[k]).sum() for k, g in zip(leaves, found, strict=True) if k in direction)
        return flat(torch.autograd.grad(along, tuple(supernet.parameters()), materialize_grads=True))

    def pattern(t: float) -> Tensor:
        supernet(batch.inputs, moved(weights, direction, t), update_statistics=False)
        return torch.cat([on.flatten() for on in record.on.values()])

    def halved(low: float, high: float, at_low: Tensor, at_high: Tensor) -> list[tuple[float, float]]:
        if torch.equal(at_low, at_high):
            return []
        if high - low < 1e-6 * epsilon:
            return [(low, high)]
        middle = (low + high) / 2
        between = pattern(middle)
        return halved(low, middle, at_low, between) + halved(middle, high, between, at_high)

    with ExitStack() as watched, torch.no_grad():
        for relu in (module for module in supernet.modules() if isinstance(module, nn.ReLU)):
            watched.enter_context(relu.register_forward_hook(record))
        cuts = torch.linspace(-epsilon, epsilon, pieces + 1).double().tolist()
        patterns = [pattern(t) for t in cuts]
        ends = [end for i in range(pieces) for end in halved(*cuts[i : i + 2], *patterns[i : i + 2])]
    places = [-epsilon, *(t for end in ends for t in end), epsilon]
    h = torch.stack([flat(gradients(supernet, batch, moved(weights, direction, t)).weights) for t in places])
    smooth = torch.zeros_like(h[0])
    for low, high in zip(places[::2], places[1::2], strict=True):
        middle, reach = (low + high) / 2, (high - low) / 12**0.5  # Gauss's rule with two points
        smooth += (derivative(middle - reach) + derivative(middle + reach)) * (high - low) / (4 * epsilon)
    at = torch.tensor([low for low, _ in ends], dtype=torch.float64)
    return at, h[2::2] - h[1:-1:2], smooth


def panels(tables: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, tuple[pd.Index, pd.Series]]]:
    """What :func:`~ldarts_book.figures.theory.lines` shows of tables of :func:`against_exact`, over ε0.

    An error of zero stands at the lower edge, switches where there are any. A guide falls from the largest
    error with the slope −1/2.
    """
    errors = next(iter(tables.values()))["error"]
    start = errors.idxmax()
    guide = errors.loc[start : 1e3 * start].index
    flips = {name: table["flips"][table["flips"] > 0] for name, table in tables.items()}
    return {
        "cosine with the exact gradient": {name: (t.index, t["cosine"]) for name, t in tables.items()},
        "relative error": {
            name: (table.index, table["error"].clip(lower=_SMALLEST)) for name, table in tables.items()
        }
        | {"slope −1/2": (guide, errors[start] * (guide / start) ** -0.5)},
        "share of activations that switch": {name: (some.index, some) for name, some in flips.items()},
    }


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean of each vector beside Ē, the mean exact gradient; a row per scene and vector.

    Columns: ``cosine`` of the two; ``projection`` on Ē in units of its length, and its standard ``error``
    over the seeds; ``bias``, the length of x̄ − Ē, and ``single``, of one x_i, in the same units; ``batches``,
    of whose mean the noise is as long as Ē. Where the estimate of a square is negative, there is NaN.
    """
    wide = _wide(rows)
    unit = wide.xs("exact", level="vector")["square"].reindex(wide.index.droplevel("vector"))
    keys, unit = ["scene", "vector"], unit.set_axis(wide.index)
    summed = wide[["inner", "square", "single"]].groupby(level=keys).sum(min_count=1)
    inner, square, single = (summed[name] / unit.groupby(level=keys).sum() for name in summed)
    # of a ratio of means ȳ / x̄ = q: that of the mean of y − q x, by x̄
    left = wide["inner"] - inner.reindex(wide.index.droplevel("seed")).set_axis(wide.index) * unit
    return pd.DataFrame(
        {
            "cosine": inner / square.clip(lower=0).replace(0, float("nan")) ** 0.5,
            "projection": inner,
            "error": left.groupby(level=keys).sem() / unit.groupby(level=keys).mean(),
            "bias": (square - 2 * inner + 1).where(lambda x: x >= 0) ** 0.5,
            "single": single**0.5,
            "batches": single - square,
        }
    )


MEANS = {
    "projection": "projection on the exact mean",
    "cosine": "cosine of the means",
    "single": "length of a single difference",
}
"""Columns of :func:`means` that are drawn, and the titles of their panels."""


def panels_of_means(found: pd.DataFrame, scenes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """:data:`MEANS` of the differences over ε0, a line per scene."""
    lengths = found.drop(["control", "exact"], level="vector", errors="ignore").reset_index()
    lengths = lengths.assign(length=lengths["vector"].astype(float)).sort_values("length")
    by_scene = dict(list(lengths.groupby("scene")))
    return {
        title: {name: (by_scene[name]["length"], by_scene[name][column].clip(-2, 999)) for name in scenes}
        for column, title in MEANS.items()
    }


def panels_of_climbs(found: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The mean rise of Λ over the length of the step, a line per direction, of a scene of :func:`climbs`."""
    mean, titles = found.groupby(level="vector").mean(), {"mean": "a mean", "single": "one"}
    return {
        f"Λ of other batches, step along {title}": {
            f"ε0 = {vector}" if vector[0] == "0" else vector: (list(STEPS), row.tolist())
            for vector, row in mean[[f"{kind} {step:g}" for step in STEPS]].iterrows()
        }
        for kind, title in titles.items()
    }


def climbs(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each seed the rise of Λ by step, and its ``slope``: measured, and foretold by the second halves."""
    wide = _wide(rows)
    wide = wide[[name for name in wide if name.split()[0] in ("mean", "single", "slope") and " " in name]]
    slope = (wide[f"mean {SLOPE:g}"] - wide[f"mean {-SLOPE:g}"]) / (2 * SLOPE)
    return wide.assign(slope=slope).dropna(how="all")


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    named = rows.assign(scene=rows["scene"].str.replace(r", seed \d+", "", regex=True))
    return named.pivot(index=["scene", "seed", "vector"], columns="measure", values="value")


@dataclass
class _Activations:
    """Which activations of the ReLUs were on in the last pass, and those that alone are let through."""

    on: dict[nn.Module, Tensor] = field(default_factory=dict)
    forced: dict[nn.Module, Tensor] | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Tensor], _: Tensor) -> Tensor | None:
        self.on[module] = inputs[0] > 0
        return None if self.forced is None else inputs[0] * self.forced[module]


def _flips(one: Mapping[nn.Module, Tensor], other: Mapping[nn.Module, Tensor]) -> dict[str, float]:
    """How many activations differ, and their share; NaN without any ReLU."""
    switched = sum((one[module] != other[module]).sum().item() for module in one)
    total = sum(mask.numel() for mask in one.values())
    return {"switched": switched, "flips": switched / total if total else float("nan")}


def _cosine(one: Tensor, other: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(one, other, dim=0).item()
