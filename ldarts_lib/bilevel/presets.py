"""What each size of a search changes of the defaults of its protocol.

Size ``official`` follows the scripts of dr-faustus/Lambda-DARTS, commit c7ac3ba; size ``paper`` the defaults
of its parsers, and on SVHN the λ and ε0 of the script for SVHN, though not its batch size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationInfo

from ldarts_lib.datasets.downloads import LISTS
from ldarts_lib.errors import ProtocolError
from ldarts_lib.runs.directory import Run
from ldarts_lib.settings import SMALL_DROPOUTS, TEXT

_NASBENCH201 = {
    "paper": {"depth": 5, "step_order": "weights-first"},
    "demo": {"channels": 4, "depth": 1, "reduction": "light", "epochs": 80},
}
_DARTS = {"paper": {"depth": 8}, "demo": {"channels": 4, "depth": 5, "epochs": 15}}
DEMO_STEPS, _LEAST_EPOCHS = 640, 8
"""Of a search at size demo: those of 80 epochs on 500 images in batches of 64."""
# NAS-Bench201: DARTS-V1.sh and .py, DARTS-V2.sh and .py, DARTS.config. DARTS family: run_search.sh, and for
# the sign form, which no script has, the λ of sota/cnn/train_search.py.
_OFFICIAL: dict[str, dict[str, Any]] = {
    "nasbench201": {"depth": 5, "step_order": "weights-first", "epochs": 100, "alpha_batches": "drawn"}
    | {"last_batch": "short", "clip_alpha": True},
    "darts": {"depth": 8, "batch_size": 96, "last_batch": "short", "epsilon": 1e-3},
}
_OFFICIAL_METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "nasbench201": {
        "darts": {},
        "darts-2nd": {"step_order": "alpha-first"},
        "lambda": {"alpha_lr": 1e-4, "lambda_max": 0.25},
    },
    "darts": {"darts": {}, "darts-2nd": {}, "lambda": {"lambda_max": 0.25}, "lambda-sign": {}},
}
_SVHN = {"lambda_max": 0.25, "epsilon": 1e-3}
_DEMO = {"alpha_lr": 1e-2, "lambda_max": 1.0, "estimator": "exact"}
_SMALL = {"weight_lr": 5.0, "alpha_lr": 3e-2, "alpha_beta": 0.5, "lambda_max": 0.05, **SMALL_DROPOUTS}
_PTB = {"units": 200, "cells": 2, "epochs": 50, "batch_size": 256, "dropout_words": 0.0, "weight_decay": 5e-7}
_PTB |= {"alpha_beta": 0.9}
_SMALL_TEXTS: dict[str, dict[str, Any]] = {
    "demo": {"units": 32, "epochs": 16, "batch_size": 32, "bptt": 15, **_SMALL},
    "smoke": {"units": 16, "epochs": 2, "batch_size": 64, "bptt": 8, **_SMALL},
}


def preset(names: Mapping[str, Any], facts: Mapping[str, Any], batches: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a size that differ from the defaults of their model.

    Args:
        names: of the ``space`` and the ``size``, and the ``definition`` of a space of one's own.
        facts: what is known of the data; the epochs on ``pictures`` of one's own follow from their number.
        batches: ``batch_size`` and ``split``, if they are not the usual ones.
    """
    own, size = names["definition"], names["size"]
    if names["space"] == "ptb":
        return _PTB | _SMALL_TEXTS.get(size, {}) | TEXT.get(facts["dataset"], {})
    stages = own["macro"] == "stages" if own else names["space"] == "nasbench201"
    if size == "official":
        return _official("nasbench201" if stages else "darts", names["method"], facts["dataset"])
    family = _NASBENCH201 if stages else _DARTS
    if size == "paper":
        return family["paper"] | (_SVHN if facts["dataset"] == "svhn" else {})
    epochs = own_epochs(facts["pictures"], batches) if facts.get("pictures") else {}
    return family["paper"] | family["demo"] | _DEMO | epochs | ({"epochs": 2} if size == "smoke" else {})


def _official(family: str, method: str, dataset: str) -> dict[str, Any]:
    if method not in (known := _OFFICIAL_METHODS[family]):
        few = ", ".join(known)
        raise ProtocolError(f"method = {method!r}: the official code has none here; choose one of {few}")
    halves = "listed" if family == "nasbench201" and dataset in LISTS else "stored"
    return {"halves": halves} | _OFFICIAL[family] | known[method]


def factors_of(given: Any, info: ValidationInfo) -> Any:
    """One for each epoch; of another search, if its run directory is given."""
    if isinstance(given, str | Path):
        given = [row.get("clip_factor") for row in Run(given).read_history()]
    if isinstance(given, list | tuple) and len(given) != (epochs := info.data.get("epochs")):
        raise ValueError(f"clip_factors has {len(given)} factors for {epochs} epochs")
    return given


def own_epochs(pictures: int, batches: Mapping[str, Any]) -> dict[str, int]:
    """The epochs of a search on so many pictures of one's own that it has as many steps as a demonstration.

    α moves by steps × learning rate, whatever a pass over the pictures is.
    """
    half = round(pictures * float(batches.get("split", 0.5)))
    steps = math.ceil(half / int(batches.get("batch_size", 64)))
    # E epochs of S steps, E S = 640: the fewest, but at least eight, with S no more than a pass has
    divisors = [e for e in range(_LEAST_EPOCHS, DEMO_STEPS + 1) if DEMO_STEPS % e == 0]
    epochs = next((e for e in divisors if e * steps >= DEMO_STEPS), DEMO_STEPS)
    return {"epochs": epochs, "epoch_steps": DEMO_STEPS // epochs}
