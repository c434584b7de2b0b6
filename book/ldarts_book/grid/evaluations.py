"""How good an architecture is: cells are trained by a recipe, or looked up in a table of accuracies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ldarts_lib.datasets.catalogue import own_folder
from ldarts_lib.errors import ProtocolError, RunError, require_known
from ldarts_lib.evaluation.evaluate import evaluate
from ldarts_lib.evaluation.protocols import LANGUAGE, training_protocol
from ldarts_lib.networks.sizes import Sizes, sizes
from ldarts_lib.runs.contents import CONFIG, IMAGES, METRICS
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.environment import environment
from ldarts_lib.runs.metrics import IDENTITY
from ldarts_lib.settings import Seed, Settings, Size, validated
from ldarts_lib.spaces import notations
from ldarts_lib.spaces.definition import as_space
from ldarts_lib.spaces.genotype import Genotype, GenotypeError
from ldarts_lib.tables.tables import looked_up

LOOKUP = "lookup"
FITTING = {
    "darts": ("cifar", "cifar-small", "choice", "imagenet"),
    "nasbench201": ("nasbench201", LOOKUP),
    "recurrent": (LANGUAGE,),
}
"""The recipes that a kind of genotype can be judged by, the usual one first."""
ALL_RECIPES: tuple[str, ...] = sum(FITTING.values(), ())


class Lookup(Settings):
    """All settings of a look-up, which trains nothing."""

    architecture: str
    genotype: str
    recipe: str = LOOKUP
    dataset: str
    size: Size
    seed: Seed


def judge(
    architecture: str,
    dataset: str,
    recipe: str,
    size: str,
    seed: int,
    out: str | Path,
    *,
    device: str = "auto",
    devices: int = 1,
    progress: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """Find out how good an architecture is; what was interrupted goes on, what is finished is read.

    Args:
        architecture: the run directory of a finished search, or what
            :func:`~ldarts_lib.spaces.notations.architecture` reads.
        dataset: images, or a text for the recipe ``ptb``.
        recipe: one of :data:`ALL_RECIPES`.
        size, seed: of the training.
        devices: how many share the training of a network of images.
        settings: single settings of the training protocol.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        ProtocolError, UnknownName: an unknown name or a bad value.
        GenotypeError: the architecture is unknown, or does not go with the recipe.
        RunError: a directory holds something else, or the search is not finished.
        Diverged: the loss is NaN or infinite.
    """
    name, genotype, searched = identify(architecture)
    require_fitting(genotype, recipe)
    if devices > 1 and recipe in (LANGUAGE, LOOKUP):
        raise ProtocolError(f"devices = {devices}: the recipe {recipe!r} runs on one device")
    if recipe != LOOKUP:
        more = {"seed": seed, "searched": searched, **_seen(architecture, dataset), **settings}
        chosen = training_protocol(name, genotype, dataset, recipe, size, **more)
        before, now = _searched_on(architecture).get("fingerprint"), chosen.model_dump().get("fingerprint")
        if before and now and before != now:
            print(f"the pictures of {dataset} (fingerprint {now}) are not those of the search ({before})")
        return evaluate(chosen, out, device=device, devices=devices, progress=progress)
    if settings:
        raise ProtocolError(f"the recipe {LOOKUP!r} trains nothing: drop {', '.join(settings)}")
    values = {"architecture": name, "genotype": str(genotype), "dataset": dataset}
    lookup = validated(Lookup, values | {"size": size, "seed": seed})
    found = looked_up(genotype, dataset)
    with Run.claim(out, lookup) as run:
        if not run.finished:
            run.write_environment(environment())
            outcome = {"stage": "evaluate", **lookup.model_dump(), "searched": searched, **found}
            run.write_outcome(genotype.as_json(), outcome)
        return run.read_json(METRICS)


def identify(architecture: str) -> tuple[str, Genotype, dict[str, Any] | None]:
    """The name of an architecture, its genotype, and what identifies the search that found it.

    Raises:
        GenotypeError: as :func:`~ldarts_lib.spaces.notations.architecture`.
        RunError: the search is not finished.
    """
    if not os.path.isdir(path := os.path.expanduser(architecture.strip())):
        return *notations.architecture(architecture), None
    run = Run(path)
    if not run.finished:
        raise RunError(f"{run.path} holds no finished search: there is no {METRICS}")
    found = run.read_json(METRICS)
    if found["stage"] != "search":
        raise RunError(f"{run.path} is a training, not a search")
    searched = {key: found[key] for key in IDENTITY} | {"changed": found.get("changed", "")}
    if definition := run.read_json(CONFIG).get("definition"):
        as_space(definition)  # its modules register the operations of its cell
    name = "{space}/{dataset}/{method}/seed{seed}".format(**searched)
    return name, notations.architecture(path)[1], searched


def usual_dataset(architecture: str, recipe: str) -> str:
    """Where an architecture is judged by default: on the pictures of its search, if that had its own."""
    return _searched_on(architecture).get("folder") or ("civics" if recipe == LANGUAGE else "noisy-digits")


def _searched_on(architecture: str) -> dict[str, Any]:
    """What the run directory of a search says of its images; empty for other architectures."""
    path = os.path.expanduser(architecture.strip())
    return Run(path).read_json(IMAGES) if os.path.isfile(os.path.join(path, IMAGES)) else {}


def _seen(architecture: str, dataset: str) -> dict[str, Any]:
    """How a search saw its pictures, if the architecture is to be trained on pictures, too."""
    if not (own_folder(dataset) and _searched_on(architecture).get("folder")):
        return {}
    config = Run(os.path.expanduser(architecture.strip())).read_json(CONFIG)
    names = ("pixels", "channels_in", "flip", "skip_unreadable")
    return {name: config[name] for name in names if config.get(name) is not None}


def require_fitting(genotype: Genotype, recipe: str) -> None:
    """Check that an architecture can be judged by a recipe.

    Raises:
        UnknownName: no such recipe.
        GenotypeError: it is for others.
    """
    require_known("recipe", recipe, ALL_RECIPES)
    if recipe not in (fitting := FITTING[genotype.kind]):
        raise GenotypeError(
            f"recipe {recipe!r} is not for an architecture like this; choose one of {', '.join(fitting)}"
        )


def sizes_by_recipe(
    name: str, genotype: Genotype, recipe: str | None = None, *, classes: int | None = None, **changes: int
) -> Sizes:
    """How large the network of a recipe is, without its auxiliary head.

    Args:
        recipe: by default the usual one.
        classes: by default 10, and 1000 for imagenet.
        changes: of channels, depth and resolution (by default 32, and 224 for imagenet).

    Raises:
        ProtocolError: a bad value, or a language model, whose size depends on its text.
        GenotypeError: the architecture does not go with the recipe.
    """
    if genotype.kind == "recurrent":
        raise ProtocolError(f"{name}: the size of a language model depends on its text; evaluate it")
    recipe = recipe or FITTING[genotype.kind][0]
    require_fitting(genotype, recipe)
    if classes is not None and classes < 1:
        raise ProtocolError(f"classes = {classes}: expected at least 1")
    usual_classes, usual_resolution = (1000, 224) if recipe == "imagenet" else (10, 32)
    changes = {"resolution": usual_resolution, **changes}
    chosen = training_protocol(name, genotype, recipe=recipe, size="paper", auxiliary=0, **changes)
    network = chosen.model_dump(include={"channels", "depth", "stem", "resolution"})
    return sizes(genotype, classes=classes or usual_classes, **network)
