"""What each recipe and size changes of the defaults of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldarts_lib.settings import SMALL_DROPOUTS, TEXT

LANGUAGE = "ptb"
"""The recipe of texts."""
_PLAIN = {"cutout": 0, "drop_path": 0.0}
_PAPER: dict[str, dict[str, Any]] = {
    "cifar": {},
    "cifar-small": {"channels": 16, "depth": 8},
    "choice": {"channels": 16, "depth": 8, "epochs": 100, "held_out": 0.5},
    "imagenet": {"channels": 48, "depth": 14, "stem": "imagenet"}
    | {"epochs": 250, "batch_size": 1024, "learning_rate": 0.5, "schedule": "linear", "warm_up": 5}
    | {"weight_decay": 3e-5, "label_smoothing": 0.1, "auxiliary": 0.0, **_PLAIN},
    "nasbench201": {"channels": 16, "depth": 5, "auxiliary": 0.0}
    | {"epochs": 200, "batch_size": 256, "learning_rate": 0.1, "nesterov": True, "clip": None}
    | {"weight_decay": 5e-4, **_PLAIN},
}
_SMALL: dict[str, dict[str, Any]] = {
    "cifar": {"channels": 6, "depth": 6, "resolution": 32},
    "cifar-small": {"channels": 4, "depth": 5, "resolution": 32},
    "choice": {"channels": 4, "depth": 5, "resolution": 32},
    "imagenet": {"channels": 8, "depth": 5, "resolution": 224, "warm_up": 1, "learning_rate": 0.1}
    | {"auxiliary": 0.4},  # so that the head on these images is tried
    "nasbench201": {"channels": 4, "depth": 1, "reduction": "light", "learning_rate": 0.05},
}
_EPOCHS = {
    "smoke": {"epochs": 2, "batch_size": 32, "images": 128},
    "demo": {"epochs": 20, "batch_size": 64, "images": 1000, "test_every": 5},
}

_LANGUAGE = {"units": 850, "cells": 1}  # as in DARTS; the Λ-DARTS code stacks two
_LANGUAGE |= {"epochs": 8000, "batch_size": 64, "dropout_words": 0.1, "weight_decay": 8e-7}
_SMALL_LANGUAGE: dict[str, dict[str, Any]] = {
    "demo": {"units": 100, "epochs": 80, "batch_size": 16, **SMALL_DROPOUTS},
    "smoke": {"units": 32, "epochs": 8, "batch_size": 16, **SMALL_DROPOUTS},
}


def recipe_preset(recipe: str, size: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe and size that differ from the defaults; ``facts`` is known of the data."""
    if recipe == LANGUAGE:
        return _LANGUAGE | _SMALL_LANGUAGE.get(size, {}) | TEXT.get(facts["dataset"], {})
    settings = dict(_PAPER.get(recipe, {}))
    if size in _EPOCHS:
        settings |= _SMALL.get(recipe, {}) | _EPOCHS[size]
        if facts.get("fingerprint") is not None:  # as large as they are decoded, and at size demo all of them
            settings |= {"images": None} if size == "demo" else {}
            settings |= {"resolution": None} if recipe != "imagenet" else {}
    return settings
