"""What the studies compare: protocols under names, the groups that a chapter shows together, and their seeds.

A search that several groups compare is made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ldarts_lib.bilevel.protocols import SearchProtocol, protocol

Group = Literal["demonstration", "differences", "precision", "strengths", "chosen", "lengths", "ablations"]

CHOOSING = range(10)
"""Seeds on which settings may be chosen."""
REPORTED = range(10, 30)
"""Seeds on which no setting was chosen."""
CONFIRMING = range(40, 60)
"""Seeds for a question that the reported ones have raised."""

_STRENGTHS = {"1/16": 1 / 16, "1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "1": 1.0, "2": 2.0}
_FEW = ("1/4", "1", "2")
FORMS: Mapping[str, tuple[str, Sequence[str]]] = {
    "Λ-DARTS": ("lambda", tuple(_STRENGTHS)),
    "Λ-DARTS, sign form": ("lambda-sign", _FEW),
    "Λ-DARTS, projected": ("lambda-projected", _FEW),
}
"""The methods whose strength is varied, and the strengths."""
CHOSEN: Mapping[str, str] = {"Λ-DARTS": "1/2", "Λ-DARTS, sign form": "2", "Λ-DARTS, projected": "2"}
"""The strength of each form that was best on the seeds for choosing (tested against the record)."""


def at(form: str, strength: str) -> str:
    """The name of a form at a strength; the demonstration's strength goes without saying."""
    return form if strength == "1" else f"{form}, λ = {strength}"


def value(strength: str) -> float:
    """The λ of a strength."""
    return _STRENGTHS[strength]


def _of_length(epsilon: str, **settings: Any) -> dict[str, Any]:
    return {"method": "lambda", "estimator": "central", "epsilon": float(epsilon)} | settings


VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "DARTS": {"method": "darts"},
    **{
        at(form, strength): {"method": method} | ({} if strength == "1" else {"lambda_max": value(strength)})
        for form, (method, strengths) in FORMS.items()
        for strength in strengths
    },
    **{
        f"{name}, {epochs} epochs": {"method": method, "epochs": epochs}
        for name, method in (("DARTS", "darts"), ("Λ-DARTS", "lambda"))
        for epochs in (10, 20, 40)
    },
    **{f"Λ-DARTS, ε0 = {length}": _of_length(length) for length in ("1", "0.1", "0.01", "0.001", "0.0001")},
    "Λ-DARTS, ε0 = 0.00001": _of_length("1e-5"),
    "Λ-DARTS, ε0 = 0.0001, λ = 1/8": _of_length("1e-4", lambda_max=1 / 8),
    "Λ-DARTS, float64": {"method": "lambda", "precision": "float64"},
    "Λ-DARTS, ε0 = 0.000001, float64": _of_length("1e-6", precision="float64"),
    "random direction": {"method": "lambda-random"},
    "noise as long as Λ-DARTS": {"method": "lambda-noise"},
    "noise as long as ε0 = 0.001": _of_length("1e-3", method="lambda-noise"),
    "noise as long as ε0 = 0.0001, λ = 1/8": _of_length("1e-4", method="lambda-noise", lambda_max=1 / 8),
    "DARTS, GELU": {"method": "darts", "activation": "gelu"},
    "Λ-DARTS, GELU": {"method": "lambda", "activation": "gelu"},
    "Λ-DARTS, ε0 = 0.001, GELU": _of_length("1e-3", activation="gelu"),
    "Λ-DARTS, constant λ": {"method": "lambda", "ramp": "constant"},
    "Λ-DARTS, Λ of the α batch": {"method": "lambda", "regularizer_batch": "validation"},
    "Λ-DARTS, α first": {"method": "lambda", "step_order": "alpha-first"},
    "DARTS, α first": {"method": "darts", "step_order": "alpha-first"},
}
"""Every variant: what of the protocol differs from the preset, whose regularizer has λ = 1 and its exact
gradient."""

GROUPS: Mapping[Group, tuple[str, ...]] = {
    "demonstration": (
        "DARTS",
        "Λ-DARTS",
        "Λ-DARTS, sign form",
        "Λ-DARTS, ε0 = 0.1",
        "Λ-DARTS, ε0 = 0.01",
        "Λ-DARTS, ε0 = 0.001",
        "Λ-DARTS, ε0 = 0.0001",
        "random direction",
    ),
    "differences": (
        "DARTS",
        "Λ-DARTS",
        "Λ-DARTS, ε0 = 1",
        "Λ-DARTS, ε0 = 0.1",
        "Λ-DARTS, ε0 = 0.01",
        "Λ-DARTS, ε0 = 0.001",
        "Λ-DARTS, ε0 = 0.0001",
        "Λ-DARTS, ε0 = 0.00001",
        "noise as long as Λ-DARTS",
        "noise as long as ε0 = 0.001",
        "Λ-DARTS, λ = 1/8",
        "Λ-DARTS, ε0 = 0.0001, λ = 1/8",
        "noise as long as ε0 = 0.0001, λ = 1/8",
        "DARTS, GELU",
        "Λ-DARTS, GELU",
        "Λ-DARTS, ε0 = 0.001, GELU",
    ),
    "precision": ("DARTS", "Λ-DARTS", "Λ-DARTS, float64", "Λ-DARTS, ε0 = 0.000001, float64"),
    "strengths": (
        "DARTS",
        *(at(form, strength) for form, (_, strengths) in FORMS.items() for strength in strengths),
    ),
    "chosen": ("DARTS", *(at(form, strength) for form, strength in CHOSEN.items())),
    "lengths": (
        "DARTS",
        "Λ-DARTS",
        *(f"{name}, {epochs} epochs" for name in ("DARTS", "Λ-DARTS") for epochs in (10, 20, 40)),
    ),
    "ablations": (
        "DARTS",
        "Λ-DARTS",
        "Λ-DARTS, constant λ",
        "Λ-DARTS, Λ of the α batch",
        "Λ-DARTS, α first",
        "DARTS, α first",
    ),
}
"""The variants of each study; the first is what the others are compared with."""
SEEDS: Mapping[Group, tuple[int, ...]] = {
    "demonstration": tuple(REPORTED),
    "differences": tuple(REPORTED),
    "precision": tuple(REPORTED[:10]),
    "strengths": tuple(CHOOSING),
    "chosen": tuple(REPORTED),
    "lengths": (*CHOOSING, *CONFIRMING),
    "ablations": tuple(REPORTED),
}
"""The seeds of each study."""


def variants(
    group: Group = "demonstration", size: str = "demo", **overrides: Any
) -> dict[str, SearchProtocol]:
    """The protocols of a group at a size, with single settings overridden in all of them."""
    return {name: protocol(size=size, **(VARIANTS[name] | overrides)) for name in GROUPS[group]}
