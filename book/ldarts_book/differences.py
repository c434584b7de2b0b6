"""What the finite difference of the regularizer computes, held against the exact gradient.

In a network of ReLUs the weight gradient of the loss is not continuous along the perturbation of the
architecture weights: where an activation switches on or off, it jumps. A finite difference divides these
jumps by the length of the perturbation; the exact gradient, which holds almost everywhere, has none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Tensor, nn

from ldarts_lib.bilevel.alignment import Form
from ldarts_lib.bilevel.gradients import flat, gradients
from ldarts_lib.bilevel.regularizers import Regularizer, perturbation, regularized_gradients
from ldarts_lib.bilevel.state import SearchState, make_supernet
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet, architecture_weights

EPSILONS = tuple(10.0**k for k in range(-7, 1))
_SMALLEST = 1e-12


def scene(state: SearchState, batch: Batch) -> tuple[Supernet, Batch, dict[str, Tensor]]:
    """The supernet of a search as a textbook network in float64, with a batch and architecture weights.

    Args:
        state: the search, at whatever epoch.
        batch: images and labels.
    """
    settings = state.protocol.model_copy(update={"supernet": "reference"})
    classes = state.bilevel.supernet.macro.head[-1].out_features
    net = make_supernet(
        settings, classes=classes, channels_in=batch.inputs.shape[1], generator=torch.Generator()
    )
    net.load_state_dict(state.bilevel.supernet.state_dict())
    alphas = {kind: alpha.detach().double() for kind, alpha in state.bilevel.alphas.items()}
    return net.double(), Batch(batch.inputs.double(), batch.targets), architecture_weights(alphas, net.layout)


def against_exact(
    supernet: Supernet,
    batch: Batch,
    weights: dict[str, Tensor],
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
        batch: images and labels.
        weights: of its cells.
        epsilons: values of ε0.
        form: of the regularizer.
        frozen: whether all passes use the activations that are on in the unperturbed network, so that
            nothing can switch.
    """
    loss, exact = regularized_gradients(
        supernet, batch, weights, Regularizer(form, "exact"), update_statistics=False
    )
    exact = flat(exact)
    length = flat(loss.weights).norm()
    rows = []
    with activations(supernet) as record:
        base = gradients(supernet, batch, weights)
        unperturbed = record.masks()
        direction, scale = perturbation(Regularizer(form), base.cells)
        for epsilon in epsilons:
            ends = {}
            for sign in (1, -1):
                record.replay(unperturbed if frozen else None)
                moved = {k: w.detach() + sign * epsilon * direction.get(k, 0.0) for k, w in weights.items()}
                found = gradients(supernet, batch, {k: w.requires_grad_() for k, w in moved.items()})
                ends[sign] = (flat(found.weights), record.masks())
            record.replay(None)
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


class Activations:
    """Which activations of the ReLUs of a network are on, pass by pass, and a way to hold them fixed."""

    def __init__(self) -> None:
        self._seen: dict[nn.Module, Tensor] = {}
        self._forced: dict[nn.Module, Tensor] | None = None

    def masks(self) -> dict[nn.Module, Tensor]:
        """Of each ReLU, where its input was positive in the last pass."""
        return dict(self._seen)

    def replay(self, masks: dict[nn.Module, Tensor] | None) -> None:
        """Let exactly these activations through from now on; None for those of a positive input."""
        self._forced = masks

    def __call__(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor | None:
        """A forward hook."""
        self._seen[module] = inputs[0] > 0
        return None if self._forced is None else inputs[0] * self._forced[module]


@contextmanager
def activations(network: nn.Module) -> Iterator[Activations]:
    """Within it, the ReLUs of a network are watched."""
    record = Activations()
    hooks = [m.register_forward_hook(record) for m in network.modules() if isinstance(m, nn.ReLU)]
    try:
        yield record
    finally:
        for hook in hooks:
            hook.remove()


def _flips(one: dict[nn.Module, Tensor], other: dict[nn.Module, Tensor]) -> dict[str, float]:
    """How many activations differ, and their share; NaN without any ReLU."""
    switched = sum((one[module] != other[module]).sum().item() for module in one)
    total = sum(mask.numel() for mask in one.values())
    return {"switched": switched, "flips": switched / total if total else float("nan")}


def _cosine(one: Tensor, other: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(one, other, dim=0).item()
