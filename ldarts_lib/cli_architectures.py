"""The commands that deal with one architecture: ``evaluate`` and ``info``."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from ldarts_book.grid import stages as jobs
from ldarts_lib import datasets
from ldarts_lib.datasets import corpus
from ldarts_lib.datasets.imagenet import IMAGENET
from ldarts_lib.errors import LdartsError
from ldarts_lib.evaluation.protocols import Recipe, preset, require_pixels
from ldarts_lib.networks.macro import Stem
from ldarts_lib.networks.sizes import sizes
from ldarts_lib.runs.environment import device_report, resolve_device, versions
from ldarts_lib.runs.threads import prepare
from ldarts_lib.settings import Size
from ldarts_lib.spaces.published import published, published_record

RecipeName = Literal[jobs.ALL_RECIPES]
ImagesOrText = Annotated[
    str | None, tyro.conf.arg(metavar=f"{{{','.join((*datasets.DATASETS, IMAGENET))}}}|TEXT")
]
"""A data set, or a text for the recurrent cell."""
Pairs = tyro.conf.UseAppendAction[tuple[tuple[str, str], ...]]


class UsageError(LdartsError, ValueError):
    """Options that do not go together."""


def evaluate(
    architecture: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ARCH")],
    recipe: RecipeName | None = None,
    dataset: ImagesOrText = None,
    size: Size = "demo",
    epochs: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
    devices: int = 1,
    threads: int | None = None,
    compile: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    settings: Annotated[
        Pairs, tyro.conf.arg(name="set", metavar="NAME VALUE", help_behavior_hint="(repeatable)")
    ] = (),
) -> None:
    """Train an architecture from scratch with a paper's recipe and test it; goes on where it was interrupted.

    Args:
        architecture: A published name (`ldarts info --published` lists them), the run directory of a search,
            or a genotype in quotes.
        recipe: cifar (36 channels, 20 cells, 600 epochs), cifar-small (16 and 8), imagenet (48 and 14, 250
            epochs), nasbench201 (200 epochs), ptb (a language model), or lookup (a table of NAS-Bench-201,
            nothing is trained). By default cifar, nasbench201 or ptb, as fits the architecture.
        dataset: Images to train and test on, by default noisy-digits; or a text for ptb, by default civics.
        size: smoke (seconds), demo (a minute or two of CPU), paper (the published settings; needs a GPU).
        epochs: Number of epochs; by default the recipe's.
        seed: Seed of weights, batches, augmentation and drop path.
        out: Run directory; by default runs/NAME-RECIPE-DATASET-SIZE-seedN.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1, ...
        devices: Devices that share each batch.
        threads: CPU threads; by default one, and all cores at size paper.
        compile: Compile the network with torch.compile.
        settings: Override one setting, for instance --set precision bf16-mixed --set batch_size 192.
    """
    prepare(size, threads)
    name, genotype, _ = jobs.identify(architecture)
    recipe = recipe or jobs.fitting_recipes(genotype)[0]
    dataset = dataset or ("civics" if recipe == jobs.LANGUAGE else "noisy-digits")
    overrides = dict(settings) | ({} if epochs is None else {"epochs": epochs})
    overrides |= {"compile": True} if compile else {}
    label = name.replace("/", "-") if len(name) < 80 else "architecture"
    out = out or Path("runs") / f"{label}-{recipe}-{Path(dataset).name}-{size}-seed{seed}"
    print(device_report(resolve_device(device)))
    found = jobs.evaluate(
        architecture, dataset, recipe, size, seed, out, device=device, devices=devices, **overrides
    )
    for key in ("test_accuracy", "best_test_accuracy", "test_perplexity", "parameters", "multiply_adds"):
        if key in found:
            value = found[key]
            print(
                f"{key.replace('_', ' '):<20}{value:,}"
                if isinstance(value, int)
                else f"{key.replace('_', ' '):<20}{value:.4f}"
            )
    print(f"{'run':<20}{out}")


def info(
    arch: str | None = None,
    recipe: Recipe | None = None,
    channels: int | None = None,
    cells: int | None = None,
    classes: int | None = None,
    resolution: int | None = None,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    published_names: Annotated[bool, tyro.conf.arg(name="published"), tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Print versions, the device and the data sets; or with --arch how large an architecture is.

    Parameters and multiply-adds (of convolutions and products, for one image) are those of the network
    without its auxiliary head.

    Args:
        arch: A published name, the run directory of a search, or a genotype in quotes.
        recipe: Network whose size is asked for: cifar, cifar-small, imagenet or nasbench201, as published.
        channels: C, channels of the first cells; by default the recipe's.
        cells: Cells of the network (per stage for NAS-Bench-201); by default the recipe's.
        classes: Number of classes; by default 10, and 1000 for imagenet.
        resolution: Height and width of the images; by default 32, and 224 for imagenet.
        json: Print the keys parameters and multiply_adds as JSON.
        published_names: List the published architectures with their sources instead.
    """
    if published_names:
        _show_published()
    elif arch is not None:
        _show_size(arch, recipe, channels, cells, classes, resolution, json)
    elif json or any(value is not None for value in (recipe, channels, cells, classes, resolution)):
        raise UsageError("--recipe, --channels, --cells, --classes, --resolution and --json go with --arch")
    else:
        _show_machine()


def _show_size(
    arch: str,
    recipe: Recipe | None,
    channels: int | None,
    cells: int | None,
    classes: int | None,
    resolution: int | None,
    json: bool,
) -> None:
    _, genotype, _ = jobs.identify(arch)
    fitting = jobs.fitting_recipes(genotype)
    recipe = recipe or fitting[0]
    if jobs.LANGUAGE in fitting:
        raise UsageError(
            f"--arch {arch}: the size of a language model depends on its text; `ldarts evaluate` prints it"
        )
    if recipe not in fitting:
        raise UsageError(f"--recipe {recipe}: {arch} is no architecture of such a network")
    for name, value in {"channels": channels, "cells": cells, "classes": classes}.items():
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value}: expected at least 1")
    settings = {"channels": 36, "depth": 20} | preset(recipe, "paper")
    stem: Stem = settings.get("stem", "small")
    pixels = resolution if resolution is not None else (224 if recipe == "imagenet" else 32)
    try:
        require_pixels(pixels, stem, auxiliary=False)
    except ValueError as error:
        raise UsageError(f"--resolution {pixels}: {error}") from None
    found = sizes(
        genotype,
        channels=channels or settings["channels"],
        depth=cells or settings["depth"],
        classes=classes or (1000 if recipe == "imagenet" else 10),
        resolution=pixels,
        stem=stem,
    )
    if json:
        print(json_text.dumps({"parameters": found.parameters, "multiply_adds": found.multiply_adds}))
        return
    print(f"architecture     {genotype}")
    print(f"parameters       {found.parameters:,}")
    print(f"multiply-adds    {found.multiply_adds:,}")


def _show_published() -> None:
    table = Table("name", "space", "searched on", "source", box=None)
    for name in published():
        record = published_record(name)
        table.add_row(name, record.space or "none of ours", record.dataset, record.source)
    Console().print(table)


def _show_machine() -> None:
    console = Console()
    console.print(device_report(resolve_device("auto")), highlight=False)
    table = Table("package", "version")
    for name, version in versions().items():
        table.add_row(name, version)
    console.print(table)
    table = Table("data set", "present", "size (MB)", "where, or how to get it")
    for record in (*datasets.status(), *corpus.status()):
        present = "yes" if record.present else "no"
        where = str(record.location) if record.present else record.how
        table.add_row(record.name, present, f"{record.megabytes:.0f}", where)
    console.print(table)
