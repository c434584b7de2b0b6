"""What the finite difference of the regularizer computes, held against the exact gradient.

In a network of ReLUs the weight gradient of the loss is not continuous along the perturbation of the
architecture weights: where an activation switches on or off, it jumps. A finite difference divides these
jumps by the length of the perturbation; the exact gradient, which holds almost everywhere, has none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor, nn

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
                moved = {k: w.detach() + sign * epsilon * direction.get(k, 0.0) for k, w in weights.items()}
                found = gradients(supernet, batch, {k: w.requires_grad_() for k, w in moved.items()})
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
