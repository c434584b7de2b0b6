"""The studies, and what they search under which names, on which seeds.

A search that several studies compare is made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ldarts_book.studies.design import Settings, Study, StudyError
from ldarts_book.studies.judges import LookedUp, Retrained, Trained
from ldarts_lib.bilevel.remedies import described

METHODS: Mapping[str, str] = {
    "darts": "DARTS",
    "lambda": "Λ-DARTS",
    "darts-2nd": "DARTS, second order",
    "lambda-sign": "Λ-DARTS, sign form",
    "lambda-projected": "Λ-DARTS, projected",
    "lambda-edge": "Λ-DARTS, by edge",
    "lambda-random": "random direction",
    "lambda-noise": "noise of equal length",
    "lambda-blurred": "exact, blurred",
    "lambda-flipped": "random sign",
    **{name: label for name, (label, _) in described().items()},
}
"""What the search methods are called, in tables, in figures and as variants of a study."""

CHOOSING = range(10)
"""Seeds on which settings may be chosen."""
REPORTED = range(10, 30)
"""Seeds on which no setting was chosen."""
CONFIRMING = range(40, 60)
"""Seeds for a question that the reported ones have raised."""
FRESH = range(200, 240)
"""Seeds for the table of all methods."""

_VALUES = {"1/16": 1 / 16, "1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "1": 1.0, "2": 2.0}
_FORMS = {"Λ-DARTS": "lambda", "Λ-DARTS, sign form": "lambda-sign", "Λ-DARTS, projected": "lambda-projected"}
STRENGTHS: Mapping[tuple[str, float], str] = {
    (form, value): form if value == 1 else f"{form}, λ = {text}"
    for form in _FORMS
    for text, value in _VALUES.items()
    if form == "Λ-DARTS" or text in ("1/4", "1", "2")
}
"""The variants whose strength is varied, by their form and λ; λ = 1 goes without saying."""
CHOSEN = ("Λ-DARTS, λ = 1/2", "Λ-DARTS, sign form, λ = 2", "Λ-DARTS, projected, λ = 2")
"""The strength of each form that was best on the seeds for choosing (tested against the record)."""


def _difference(epsilon: float, **settings: Any) -> dict[str, Any]:
    return {"method": "lambda", "estimator": "central", "epsilon": epsilon} | settings


SHOWN = ("DARTS", "Λ-DARTS")
"""The variants that are shown epoch by epoch."""
_TWO = {"DARTS": {"method": "darts"}, "Λ-DARTS": {"method": "lambda"}}
_EPSILONS = {
    f"Λ-DARTS, ε0 = {text}": _difference(float(text))
    for text in ("1", "0.1", "0.01", "0.001", "0.0001", "0.00001")
}
_LENGTHS = {f"{name}, {n} epochs": own | {"epochs": n} for name, own in _TWO.items() for n in (10, 20, 40)}
_AS_NOISE = {
    f"{name}, ε0 = {text}": _difference(epsilon, **own, **changes)
    for text, epsilon, own in (("0.001", 1e-3, {}), ("0.0001, λ = 1/8", 1e-4, {"lambda_max": 1 / 8}))
    for name, changes in (
        ("exact, blurred as", {"method": "lambda-blurred"}),
        ("random sign", {"method": "lambda-flipped"}),
        ("two batches", {"regularizer_batch": "both"}),
    )
}

PUBLISHED: Mapping[str, tuple[str, float]] = {
    "darts-es": ("growth", 1 / 3),
    "r-darts": ("decay", 9.0),
    "sdarts-rs": ("radius", 0.3),
    "sdarts-adv": ("radius", 0.3),
    "darts-minus": ("skip", 1.0),
    "beta-darts": ("beta_decay", 50.0),
    "pc-darts": ("partial", 4),
    "gdas": ("tau_max", 10.0),
    "drnas": ("alpha_weight_decay", 1e-3),
    "fair-darts": ("zero_one", 10.0),
    "oles": ("threshold", 0.4),
}
"""Of each remedy its main strength, and the published default (tested against the remedy)."""


def _family(name: str, own: Settings, strength: str, default: float) -> dict[str, Settings]:
    """A method at its default, a quarter of it and four times as strong."""
    word = {"lambda_max": "λ"}.get(strength, strength)
    values = {"1/4" if value == 1 / 4 else f"{value:.3g}": value for value in (default / 4, default * 4)}
    return {name: own} | {f"{name}, {word} = {text}": {**own, strength: v} for text, v in values.items()}


_FORMS_OF_TABLE = {
    "Λ-DARTS": {"method": "lambda"},
    "Λ-DARTS, ε0 = 0.0001": _EPSILONS["Λ-DARTS, ε0 = 0.0001"],
    "Λ-DARTS, sign form": {"method": "lambda-sign"},
}
_REMEDIES = {METHODS[method]: {"method": method} for method in PUBLISHED}
_BY_EDGE = {
    f"Λ-DARTS, by edge{text}": {"method": "lambda-edge"} | own
    for text, own in (("", {}), (", λ = 0.1", {"lambda_max": 0.1}), (", λ = 0.3", {"lambda_max": 0.3}))
}
EDGE_CHOSEN = 0.3
"""The λ of the form by edge that was best on the seeds for choosing (tested against the record)."""
_EDGE_CENTRAL = f"Λ-DARTS, by edge, ε0 = 0.0001, λ = {EDGE_CHOSEN:g}"
FAMILIES: Mapping[str, Mapping[str, Settings]] = {
    **{name: _family(name, own, "lambda_max", 1.0) for name, own in _FORMS_OF_TABLE.items()},
    "Λ-DARTS, by edge": _BY_EDGE,
    **{name: _family(name, own, *PUBLISHED[own["method"]]) for name, own in _REMEDIES.items()},
}
"""The variants of each method that is compared with all others, the published default first."""
FAMILY_OF = {variant: family for family, variants in FAMILIES.items() for variant in variants}

VARIANTS: Mapping[str, Settings] = {
    **_TWO,
    **{name: own for family in FAMILIES.values() for name, own in family.items()},
    **{
        name: {"method": _FORMS[form]} | ({} if value == 1 else {"lambda_max": value})
        for (form, value), name in STRENGTHS.items()
    },
    **_EPSILONS,
    **_LENGTHS,
    "Λ-DARTS, ε0 = 0.0001, λ = 1/8": _difference(1e-4, lambda_max=1 / 8),
    "Λ-DARTS, ε0 = 0.0001, λ = 1/4": _difference(1e-4, lambda_max=1 / 4),
    "Λ-DARTS, sign form, ε0 = 0.0001, λ = 1/8": _difference(1e-4, method="lambda-sign", lambda_max=1 / 8),
    _EDGE_CENTRAL: _difference(1e-4, method="lambda-edge", lambda_max=EDGE_CHOSEN),
    "Λ-DARTS, float64": {"method": "lambda", "precision": "float64"},
    "Λ-DARTS, ε0 = 0.000001, float64": _difference(1e-6, precision="float64"),
    "random direction": {"method": "lambda-random"},
    "noise as long as Λ-DARTS": {"method": "lambda-noise"},
    "noise as long as ε0 = 0.001": _difference(1e-3, method="lambda-noise"),
    "noise as long as ε0 = 0.0001, λ = 1/8": _difference(1e-4, method="lambda-noise", lambda_max=1 / 8),
    "DARTS, GELU": {"method": "darts", "activation": "gelu"},
    "Λ-DARTS, GELU": {"method": "lambda", "activation": "gelu"},
    "Λ-DARTS, ε0 = 0.001, GELU": _difference(1e-3, activation="gelu"),
    **_AS_NOISE,
    "Λ-DARTS, constant λ": {"method": "lambda", "ramp": "constant"},
    "Λ-DARTS, Λ of the α batch": {"method": "lambda", "regularizer_batch": "validation"},
    "Λ-DARTS, α first": {"method": "lambda", "step_order": "alpha-first"},
    "DARTS, α first": {"method": "darts", "step_order": "alpha-first"},
}
"""What the preset is changed to, whose regularizer has λ = 1 and its exact gradient."""


def _study(name: str, seeds: Sequence[int], variants: Sequence[str], **more: Any) -> Study:
    return Study(name, {variant: VARIANTS[variant] for variant in variants}, seeds, **more)


_STRENGTHS_OF_ALL = [name for family in FAMILIES.values() for name in family]
_CHANGES = {"baseline": {}} | {
    f"{field}={value}": {field: value}
    for field, value in (
        ("alpha_lr", 3e-3), ("alpha_lr", 3e-2), ("epochs", 40), ("epochs", 160), ("depth", 2),
        ("dataset", "clean-digits"), ("dataset", "noisier-digits"),
    )
}  # fmt: skip
# The supernet of the paper's benchmark at proxy size. α can move as far as there, by steps × learning rate:
# 50·391·3e-4 ≈ 640·9e-3 ≈ 2520·2.3e-3 ≈ 3750·1.55e-3 ≈ 5.8.
_PROXIES = {
    f"C = {channels}, {epochs} epochs, batch {batch}": {
        "dataset": "cifar10-small", "reduction": "residual",
        "channels": channels, "epochs": epochs, "batch_size": batch, "alpha_lr": rate,
    }
    for channels, epochs, batch, rate in ((8, 20, 64, 9e-3), (4, 40, 32, 2.3e-3), (4, 30, 16, 1.55e-3))
}  # fmt: skip
PROXY = "C = 8, 20 epochs, batch 64"
"""The first of them with most collapsed searches of DARTS (tested against the record)."""
_TIMES = {f"α learning rate × {text}": float(Fraction(text)) for text in ("1/3", "1", "3")}
_RATES = {name: {"alpha_lr": 1e-2 * x} for name, x in _TIMES.items()}
_PROXY = _PROXIES[PROXY]
_PROXY_RATES = {f"proxy, {name}": _PROXY | {"alpha_lr": _PROXY["alpha_lr"] * x} for name, x in _TIMES.items()}
_NO_SKIP = ("none", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_SUPERNETS = {
    f"C = {channels}, depth {depth}": {"channels": channels, "depth": depth}
    for channels in (4, 8) for depth in (1, 2)
} | {"without skip_connect": {"space": {
    "name": "nasbench201-no-skip", "macro": "stages",
    "cells": {"normal": {"nodes": 3, "candidates": _NO_SKIP}},
}}}  # fmt: skip
_CLIPPED = {f"DARTS, clipped like {name}": name for name in ("Λ-DARTS", "Λ-DARTS, ε0 = 0.0001")}
_ALL = (
    _study("demonstration", REPORTED, (
        *SHOWN, "Λ-DARTS, sign form", *tuple(_EPSILONS)[1:5], "random direction",
    ), kept=None, asks="does Λ-DARTS help, by each form and estimator, and does a control?"),
    _study("differences", REPORTED, (
        *SHOWN, *_EPSILONS, "noise as long as Λ-DARTS", "noise as long as ε0 = 0.001", "Λ-DARTS, λ = 1/8",
        "Λ-DARTS, ε0 = 0.0001, λ = 1/8", "noise as long as ε0 = 0.0001, λ = 1/8",
        "DARTS, GELU", "Λ-DARTS, GELU", "Λ-DARTS, ε0 = 0.001, GELU",
    ), asks="what does the finite difference do? Lengths, noise, smooth activations"),
    _study("controls", range(240, 260), (
        *SHOWN, "Λ-DARTS, λ = 1/2", "Λ-DARTS, λ = 1/4", "Λ-DARTS, λ = 1/8", "Λ-DARTS, ε0 = 0.001",
        "Λ-DARTS, ε0 = 0.0001, λ = 1/8", *_AS_NOISE,
    ), asks="is the finite difference the exact gradient with noise?"),
    _study("precision", REPORTED[:10], (
        *SHOWN, "Λ-DARTS, float64", "Λ-DARTS, ε0 = 0.000001, float64",
    ), asks="does it hold in float64?"),
    _study("strengths", CHOOSING, ("DARTS", *STRENGTHS.values()), asks="which λ suits which form?"),
    _study("chosen", REPORTED, ("DARTS", *CHOSEN), asks="how good are these λ on fresh seeds?"),
    _study("lengths", (*CHOOSING, *CONFIRMING), (*SHOWN, *_LENGTHS), asks="how many epochs?"),
    _study("ablations", REPORTED, (
        *SHOWN, "Λ-DARTS, constant λ", "Λ-DARTS, Λ of the α batch", "Λ-DARTS, α first", "DARTS, α first",
    ), asks="what does one setting of Λ-DARTS change?"),
    _study("remedy-strengths", CHOOSING, ("DARTS", *_STRENGTHS_OF_ALL),
        asks="how strong should each remedy be?"),
    _study("remedies", FRESH, (
        "DARTS", "DARTS, 10 epochs", "DARTS, 20 epochs", *_STRENGTHS_OF_ALL, _EDGE_CENTRAL,
    ), own_seeds={name: FRESH[:20] for each in _REMEDIES for name in FAMILIES[each]} | {
        _EDGE_CENTRAL: FRESH[:20],
    },
        chosen_by="remedy-strengths", asks="every remedy on the same ground truth: which one helps?"),
    Study("perturbation", {"DARTS-PT": {"method": "darts"}}, FRESH[:20], kept=1, cost=60.0,
        judge=LookedUp(selection="perturbation"), asks="is the cell better that the supernet misses most?"),
    _study("stopping", FRESH, SHOWN, kept=None, asks="when should a search stop?"),
    # The table's networks have one cell per stage and learn from noisy-digits. For another depth or other
    # images its accuracy says how well the search chose; it is none of a network like the search's.
    _study("robustness", range(30, 40), SHOWN, settings=_CHANGES, asks="does it hold in other settings?"),
    _study("proxy-choosing", CHOOSING, ("DARTS",), settings=_PROXIES, kept=None, cost=145,
        judge=LookedUp("nasbench201"), asks="at which size of a proxy of NAS-Bench-201 does DARTS collapse?"),
    _study("proxy", REPORTED, (
        *SHOWN, "Λ-DARTS, ε0 = 0.0001, λ = 1/8", "Λ-DARTS, sign form", "DARTS, 10 epochs", "Λ-DARTS, λ = 1/8",
    ), judge=LookedUp("nasbench201"), settings={PROXY: _PROXIES[PROXY]}, kept=None, cost=190,
        asks="the paper's benchmark on two cores: does DARTS collapse, and where does Λ-DARTS end?"),
    _study("supernets", range(200, 210), SHOWN, settings=_SUPERNETS, cost=40.0,
        asks="does it hold in wider and deeper supernets, and without skip connections?"),
    _study("recipes", range(200, 220), (*SHOWN, "DrNAS", "DARTS, 10 epochs"), judge=Retrained(), kept=None,
        asks="does it survive another training recipe?"),
    _study("alpha-lr", range(240, 260), (
        "DARTS", "Λ-DARTS, ε0 = 0.0001, λ = 1/8", "Λ-DARTS, ε0 = 0.0001, λ = 1/4",
        "Λ-DARTS, sign form, ε0 = 0.0001, λ = 1/8",
    ), settings=_RATES, asks="is it λ, or the learning rate of α?"),
    _study("alpha-lr-proxy", range(240, 250), ("DARTS", "Λ-DARTS, ε0 = 0.0001, λ = 1/4"), cost=300.0,
        judge=LookedUp("nasbench201"), settings=_PROXY_RATES, asks="and so on pictures of CIFAR-10?"),
    Study("clipping", {name: VARIANTS[name] for name in (*SHOWN, "Λ-DARTS, ε0 = 0.0001")} | {
        name: {"method": "darts"} for name in _CLIPPED
    }, range(240, 260), clipped_like=_CLIPPED,
        asks="is it the regularizer, or the shorter steps of ω that it brings?"),
    # NAS-Bench-201 has one kind of cell, so its table cannot tell whether to align all kinds.
    Study("kinds", {
        "DARTS": {"space": "s2", "method": "darts"},
        "normal cells": {"space": "s2", "method": "lambda"},
        "all cells": {"space": "s2", "method": "lambda", "regularized_cells": "all"},
    }, range(10, 20), judge=Trained(), asks="normal cells or all of them, in S2?"),
)  # fmt: skip
STUDIES: Mapping[str, Study] = {study.name: study for study in _ALL}
"""All recorded studies."""


IN_PARTS = ("digits201", "costs", "secants", "predictions")
"""Studies without searches that are compared."""
COSTED = {
    name: own
    for name, own in (STUDIES["remedies"].variants | STUDIES["perturbation"].variants).items()
    if FAMILY_OF.get(name, name) == name
}
"""Methods whose searches are timed."""


def listing(names: Sequence[str] = ()) -> list[tuple[str, str, str, str]]:
    """Some studies (by default all), a row per variant, part, and setting of all variants.

    Each has the study's name, its seeds, the variant or setting, and what it changes of the preset.

    Raises:
        StudyError: an unknown name.
    """
    rows = []
    for name in names or (*STUDIES, *IN_PARTS):
        for what, (seeds, changes) in variants_of(name).items():
            text = ", ".join(f"{key}={value}" for key, value in changes.items())
            rows += [(name, f"{len(seeds)} from {min(seeds)}", what, text)] if what else []
    return rows


def variants_of(name: str) -> dict[str, tuple[Sequence[int], Settings]]:
    """What of a study can be made alone, and its settings: the seeds, and the changes of the preset.

    Raises:
        StudyError: an unknown name.
    """
    if name in STUDIES:
        study = STUDIES[name]
        return {what: (study.seeds, own) for what, own in {**study.variants, **study.settings}.items()}
    if name == "digits201":
        return {"": (range(3), {})}
    if name == "costs":
        return {what: (FRESH[:1], own) for what, own in COSTED.items()}
    if name == "secants":
        from ldarts_book.studies.secants import SCENES

        return {what: (scene.seeds, scene.settings) for what, scene in SCENES.items()}
    if name == "predictions":
        from ldarts_book.studies.predictions import WATCHES

        return {k: (range(w.first_seed, w.first_seed + w.seeds), w.settings) for k, w in WATCHES.items()}
    raise StudyError(f"unknown study {name!r}; choose from {', '.join((*STUDIES, *IN_PARTS))}")
