"""What each size of a search changes of the defaults of its protocol."""

from __future__ import annotations

from typing import Any

from ldarts_lib.settings import SMALL_DROPOUTS, TEXT
from ldarts_lib.spaces.space import Macro

_NASBENCH201 = {
    "paper": {"depth": 5, "step_order": "weights-first"},
    "demo": {"channels": 4, "depth": 1, "reduction": "light", "epochs": 80},
}
_DARTS = {"paper": {"depth": 8}, "demo": {"channels": 4, "depth": 5, "epochs": 15}}
_SVHN = {"lambda_max": 0.25, "epsilon": 1e-3}
_DEMO = {"alpha_lr": 1e-2, "lambda_max": 1.0, "estimator": "exact"}
_SMALL = {"weight_lr": 5.0, "alpha_lr": 3e-2, "lambda_max": 0.05, **SMALL_DROPOUTS}
_PTB = {"units": 200, "cells": 2, "epochs": 50, "batch_size": 256, "dropout_words": 0.0, "weight_decay": 5e-7}
_SMALL_TEXTS: dict[str, dict[str, Any]] = {
    "demo": {"units": 32, "epochs": 16, "batch_size": 32, "bptt": 15, **_SMALL},
    "smoke": {"units": 16, "epochs": 2, "batch_size": 64, "bptt": 8, **_SMALL},
}


def preset(macro: Macro, dataset: str, size: str) -> dict[str, Any]:
    """The settings of a size that differ from the defaults of their model."""
    if macro == "recurrent":
        return _PTB | _SMALL_TEXTS.get(size, {}) | TEXT.get(dataset, {})
    family = _NASBENCH201 if macro == "stages" else _DARTS
    if size == "paper":
        return family["paper"] | (_SVHN if dataset == "svhn" else {})
    return family["paper"] | family["demo"] | _DEMO | ({"epochs": 2} if size == "smoke" else {})
