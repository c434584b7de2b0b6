"""How good an architecture is: cells are trained by a recipe, or looked up in a table of accuracies.

Every evaluation continues what was interrupted, and returns at once if it is finished.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldarts_lib.errors import ProtocolError, RunError
from ldarts_lib.evaluation.evaluate import evaluate as train
from ldarts_lib.evaluation.protocols import LANGUAGE, RECIPES, training_protocol
from ldarts_lib.networks.sizes import Sizes, sizes
from ldarts_lib.runs.directory import GENOTYPE, METRICS, Run
from ldarts_lib.runs.environment import environment
from ldarts_lib.settings import Seed, Settings, Size, validated
from ldarts_lib.spaces.genotype import Genotype, GenotypeError, parse
from ldarts_lib.spaces.published import published
from ldarts_lib.spaces.space import SPACES
from ldarts_lib.tables.tables import open_table

LOOKUP = "lookup"
ALL_RECIPES = (*RECIPES, LANGUAGE, LOOKUP)
"""Ways to find out how good an architecture is."""

IDENTITY = ("space", "dataset", "method", "size", "seed")
"""What identifies a search."""

TABLES = {
    "noisy-digits": ("digits-201", None, "accuracy", 1.0),
    "cifar10": ("nasbench201", "cifar10_valid", "cifar10_test", 100.0),
    "cifar100": ("nasbench201", "cifar100_valid", "cifar100_test", 100.0),
    "imagenet16-120": ("nasbench201", "imagenet16_valid", "imagenet16_test", 100.0),
}
"""Per data set the benchmark, its columns of validation and test accuracies, and what 1 is in them."""


class Lookup(Settings):
    """All settings of a look-up, which trains nothing."""

    architecture: str
    genotype: str
    recipe: str = LOOKUP
    dataset: str
    size: Size
    seed: Seed


def evaluate(
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
    """Find out how good an architecture is.

    Args:
        architecture: a published name, the run directory of a finished search, or a genotype.
        dataset: images, or a text for the recipe ``ptb``.
        recipe: one of :data:`ALL_RECIPES`.
        size, seed: of the training: smoke, demo or paper.
        out: the run directory.
        device: auto, cpu, cuda, cuda:1, ...
        devices: how many devices share the training of a network of images.
        progress: whether to show a progress bar.
        settings: single settings of the training protocol.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        ProtocolError: an unknown name or a bad value.
        GenotypeError: the architecture is unknown, or does not go with the recipe.
        RunError: a directory holds something else, or the search is not finished.
        Diverged: the loss is NaN or infinite.
    """
    name, genotype, searched = identify(architecture)
    require_fitting(genotype, recipe)
    if devices > 1 and recipe in (LANGUAGE, LOOKUP):
        raise ProtocolError(f"devices = {devices}: the recipe {recipe!r} runs on one device")
    if recipe == LOOKUP:
        if settings:
            raise ProtocolError(f"the recipe {LOOKUP!r} trains nothing: drop {', '.join(settings)}")
        values = {"architecture": name, "genotype": str(genotype), "dataset": dataset}
        return _look_up(validated(Lookup, values | {"size": size, "seed": seed}), searched, out)
    chosen = training_protocol(
        name, genotype, dataset, recipe, size, seed=seed, searched=searched, **settings
    )
    return train(chosen, out, device=device, devices=devices, progress=progress)


def identify(architecture: str) -> tuple[str, Genotype, dict[str, Any] | None]:
    """The name of an architecture, its genotype, and what identifies the search that found it.

    Raises:
        GenotypeError: it is no published name, run directory of a search, or genotype.
        RunError: the search is not finished.
    """
    architecture = architecture.strip()
    if architecture in published():
        return architecture, published(architecture), None
    if architecture.startswith(("|", "Genotype(")):
        return architecture, parse(architecture), None
    if not Path(architecture).is_dir():
        raise GenotypeError(
            f"unknown architecture {architecture!r}: expected the run directory of a search, a genotype in "
            f"quotes, or one of {', '.join(published())}"
        )
    run = Run(architecture)
    if not run.finished:
        raise RunError(f"{run.path} holds no finished search: there is no {METRICS}")
    found = run.read_json(METRICS)
    missing = [key for key in IDENTITY if key not in found]
    if missing:
        raise RunError(f"{run.path / METRICS} is not that of a search: it has no {', '.join(missing)}")
    searched = {key: found[key] for key in IDENTITY} | {"changed": found.get("changed", "")}
    name = "{space}/{dataset}/{method}/seed{seed}".format(**searched)
    return name, parse(run.read_json(GENOTYPE)["genotype"]), searched


def require_fitting(genotype: Genotype, recipe: str) -> None:
    """Check that an architecture can be judged by a recipe.

    Raises:
        ProtocolError: no such recipe.
        GenotypeError: it is for others.
    """
    if recipe not in ALL_RECIPES:
        raise ProtocolError(f"unknown recipe {recipe!r}; choose one of {', '.join(ALL_RECIPES)}")
    fitting = fitting_recipes(genotype)
    if recipe not in fitting:
        raise GenotypeError(
            f"recipe {recipe!r} is not for an architecture like this; choose one of {', '.join(fitting)}"
        )


def fitting_recipes(genotype: Genotype) -> tuple[str, ...]:
    """The recipes that an architecture can be judged by, the usual one first."""
    return {
        "darts": ("cifar", "cifar-small", "imagenet"),
        "nasbench201": ("nasbench201", LOOKUP),
        "recurrent": (LANGUAGE,),
    }[genotype.kind]


def network_sizes(
    name: str, genotype: Genotype, recipe: str | None = None, *, classes: int | None = None, **changes: int
) -> Sizes:
    """How large the network of a recipe is, without its auxiliary head.

    Args:
        name, genotype: the architecture.
        recipe: by default the usual one.
        classes: by default 10, and 1000 for imagenet.
        changes: of the settings channels, depth and resolution (by default 32, and 224 for imagenet).

    Raises:
        ProtocolError: a bad value, or a language model, whose size depends on its text.
        GenotypeError: the architecture does not go with the recipe.
    """
    if genotype.kind == "recurrent":
        raise ProtocolError(f"{name}: the size of a language model depends on its text; evaluate it")
    recipe = recipe or fitting_recipes(genotype)[0]
    require_fitting(genotype, recipe)
    if classes is not None and classes < 1:
        raise ProtocolError(f"classes = {classes}: expected at least 1")
    chosen = training_protocol(name, genotype, recipe=recipe, size="paper", auxiliary=0, **changes)
    usual_classes, usual_resolution = (1000, 224) if recipe == "imagenet" else (10, 32)
    return sizes(
        genotype,
        channels=chosen.channels,
        depth=chosen.depth,
        classes=classes or usual_classes,
        resolution=chosen.resolution or usual_resolution,
        stem=chosen.stem,
    )


def _look_up(settings: Lookup, searched: Mapping[str, Any] | None, out: str | Path) -> dict[str, Any]:
    if settings.dataset not in TABLES:
        raise ProtocolError(
            f"no table has accuracies on {settings.dataset!r}; choose one of {', '.join(TABLES)}"
        )
    benchmark, valid, test, one = TABLES[settings.dataset]
    genotype = parse(settings.genotype)
    SPACES["nasbench201"].validate(genotype)
    row = open_table(benchmark).query(genotype)
    with Run.claim(out, settings) as run:
        if not run.finished:
            run.write_environment(environment())
            found = {
                "stage": "evaluate",
                **settings.model_dump(),
                "searched": dict(searched) if searched else None,
                "benchmark": benchmark,
                "test_accuracy": float(row[test]) / one,
            }
            if valid:
                found["valid_accuracy"] = float(row[valid]) / one
            run.write_outcome(genotype.as_json(), found)
        return run.read_json(METRICS)
