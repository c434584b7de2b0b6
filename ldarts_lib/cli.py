"""The command line ``ldarts``: a command imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import atexit
import os
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial, wraps
from inspect import signature
from io import TextIOWrapper
from json import dumps
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Any, Literal, NoReturn

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from ldarts_lib.bilevel.remedies import described
from ldarts_lib.errors import LdartsError
from ldarts_lib.runs.signals import Terminated, ended_by_signals
from ldarts_lib.runs.threads import prepare

DESCRIPTION = """Λ-DARTS: search a network's cell by gradient descent, with cells that agree.

  ldarts search --seed 3                          Λ-DARTS on images that ship, a minute of CPU
  ldarts search --space s2 --dataset cifar10 --size paper --device cuda
  ldarts search --dataset FOLDER --pixels 32      on your own pictures, one folder per class
  ldarts search --space ptb                       a recurrent cell, on a text that ships
  ldarts protocol --space s2 --size paper         all settings of a preset, and what they mean
  ldarts discretize RUN --draw cell.png           the cell that a search derives, also by perturbation
  ldarts evaluate RUN                             train that cell from scratch with a paper's recipe
  ldarts predict RUN pictures/                    what such a trained network says of pictures
  ldarts export RUN --to model.onnx               that network as a file that needs nothing of ours
  ldarts size DARTS_V2 --channels 36 --cells 20   how large a network is
  ldarts query DARTS_V2                           how good a cell is, looked up or estimated
  ldarts data cifar10                             download a data set and verify it
  ldarts info                                     versions, device, data sets
  ldarts bench --quick                            how fast a search step is here
  ldarts study demonstration --seeds 10           every variant, many seeds, with confidence intervals
  ldarts run-notebook book/quickstart.ipynb -p size demo -p seeds 5
  ldarts plan paper                               what the paper's tables cost, and what is missing
  ldarts sweep demo --jobs 2                      search and evaluate a whole grid, side by side
  ldarts collect runs/grid                        its results

What was interrupted goes on when its command is repeated, and what is finished returns at once.
Every command has a --help of its own."""

OPTIONS = {
    "ARCH": "A published name (`ldarts size` lists them), the run directory of a search, a file (FILE:NAME "
    "if it holds several), nb201:NUMBER, or a cell in any notation, in quotes.",
    "TRAINING": "The run directory of a finished `ldarts evaluate`, also of a published cell.",
    "SPACE": "nasbench201, darts (darts8: with the operation none), s1, s2, s3, s4, or ptb, the recurrent "
    "cell of a language model; or the TOML or YAML file of a space of one's own.",
    "METHOD": "darts (first order), darts-2nd (unrolled), lambda (cosine alignment), lambda-sign, "
    "lambda-projected, lambda-edge (edge by edge), controls: lambda-random, lambda-noise, lambda-blurred, "
    "lambda-flipped, and, some also as lambda+NAME, what others do:\n"
    + "\n".join(f"{name}: {what}" for name, (_, what) in described().items()),
    "SIZE": "Preset: smoke (seconds), demo (minutes of CPU), paper (a GPU), official (as released; a GPU).",
    "DATA": "Images, by default noisy-digits; `ldarts info` lists them and says which are present. Or a "
    "folder with one folder of pictures per class, or with such folders in train and test. For ptb a text: "
    "civics (the default), ptb, or a folder with train.txt, valid.txt and test.txt.",
    "PIXELS": "Height and width of the pictures of a folder, by default 32; a multiple of 4.",
    "RECIPE": "cifar (36 channels, 20 cells, 600 epochs), cifar-small (16 and 8), choice (on half of the "
    "images), imagenet (48 and 14, 250 epochs), nasbench201 (200 epochs), ptb (a language model), lookup (a "
    "table, nothing is trained). By default cifar, nasbench201 or ptb, as fits the architecture.",
    "EPOCHS": "Number of epochs; by default the preset's.",
    "DEVICE": "auto (a GPU if there is one), cpu, cuda, cuda:1, ...; mps is refused, as untested.",
    "WORKERS": "Processes at a time; by default one per core, or one per GPU.",
    "THREADS": "CPU threads (of each process); by default one, and all cores at sizes above demo.",
    "SETTING VALUE": "Override one setting, for instance --set epsilon 1e-3; `ldarts protocol` lists them.",
    "GRID": "A YAML file, or the name of a grid that ships: smoke, demo or paper.",
    "PART ...": "Only these parts of the grid.",
    "RUNS": "Parent of all run directories.",
}


def _option(metavar: str, **more: Any) -> Any:
    return arg(metavar=metavar, help=OPTIONS.get(metavar), **more)


Space = Annotated[str, _option("SPACE")]
Method = Annotated[str, _option("METHOD")]
Size = Annotated[str, _option("SIZE")]
Data = Annotated[str | None, _option("DATA", help_behavior_hint="")]
Recipe = Annotated[str | None, _option("RECIPE", help_behavior_hint="")]
Pixels = Annotated[int | None, _option("PIXELS", help_behavior_hint="")]
Skip = Annotated[bool, arg(help="Leave out pictures of the folder that cannot be read, with a warning.")]
Epochs = Annotated[int | None, _option("EPOCHS", help_behavior_hint="")]
Number = Annotated[int | None, _option("NUMBER", help_behavior_hint="")]
Folder = Annotated[Path | None, _option("FOLDER", help_behavior_hint="")]
Device = Annotated[str, _option("DEVICE")]
Threads = Annotated[int | None, _option("THREADS", help_behavior_hint="")]
Workers = Annotated[int | None, _option("WORKERS", help_behavior_hint="")]
GridFile = Annotated[Positional[Path], _option("GRID")]
Parts = Annotated[tuple[str, ...], _option("PART ...", help_behavior_hint="")]
Runs = Annotated[Path, _option("RUNS")]
Pairs = UseAppendAction[tuple[tuple[str, str], ...]]
Settings = Annotated[Pairs, _option("SETTING VALUE", name="set", help_behavior_hint="(repeatable)")]


BOUNDS = {
    **dict.fromkeys(("seed", "first_seed"), (0, 2**32 - 1)),
    **dict.fromkeys(("epochs", "rounds", "classes"), (1, 10**6)),
    **dict.fromkeys(("workers", "threads", "jobs", "devices"), (1, 1024)),
    "gpus": (0, 1024),
    "seeds": (1, 1000),
    **dict.fromkeys(("channels", "resolution"), (1, 2**14)),
    **dict.fromkeys(("cells", "batch"), (1, 2**16)),
}
"""Of numbers that a command takes, whatever it does; more would only fail later, or never end."""
NOT_SET = ("space", "dataset", "method", "size", "seed", "recipe", "architecture", "genotype", "searched")
NOT_SET += ("definition", "imports", "folder", "fingerprint", "pictures")
"""Settings that follow from options of their own, or from what they name."""

app = tyro.extras.SubcommandApp()


def _command(function: Callable[..., None] | None = None, *, name: str | None = None) -> Any:
    """A command whose numbers are checked before it does anything."""
    if function is None:
        return partial(_command, name=name)

    @wraps(function)
    def checked(*args: Any, **options: Any) -> None:
        for option, value in signature(function).bind(*args, **options).arguments.items():
            if value == "" and signature(function).parameters[option].default != "":
                raise LdartsError(f"{option}: expected a text that is not empty")
            low, high = BOUNDS.get(option, (0, 0)) if isinstance(value, int) else (0, 0)
            if high and not low <= value <= high:
                raise LdartsError(f"{option} = {value}: expected {low} to {high:,}")
            for setting, _ in value if option == "settings" else ():
                if setting in NOT_SET:
                    raise LdartsError(f"--set {setting}: give it by its own option or argument instead")
        function(*args, **options)

    app.command(checked, name=name)
    return function


@_command
def search(
    space: Space = "nasbench201",
    dataset: Data = None,
    method: Method = "lambda",
    size: Size = "demo",
    pixels: Pixels = None,
    skip_unreadable: Skip = False,
    epochs: Epochs = None,
    seed: int = 0,
    out: Folder = None,
    device: Device = "auto",
    threads: Threads = None,
    settings: Settings = (),
) -> None:
    """Search a cell, and record the whole search in a run directory.

    Args:
        seed: Seed of weights, architecture parameters and batches.
        out: Run directory; by default runs/SPACE-DATASET-METHOD-SIZE-seedN, SPACE being the space's name.
    """
    prepare(size, threads)
    from ldarts_lib.bilevel.protocols import protocol
    from ldarts_lib.bilevel.search import search as run

    given = _given(epochs=epochs, pixels=pixels, skip_unreadable=skip_unreadable)
    chosen = protocol(space, dataset, method, size, seed=seed, **dict(settings) | given)
    out = out or Path("runs") / f"{chosen.space}-{Path(chosen.dataset).name}-{method}-{size}-seed{seed}"
    result = run(chosen, out, device=_resolved(device))
    last = result.history[-1]
    print(f"cell       {result.genotype}")
    print(f"supernet   validation loss {last['valid_loss']:.3f}, accuracy {last['valid_accuracy']:.3f}")
    print(f"alignment  Λ = {last['valid_alignment']:+.3f} on the batches of α")
    print(f"skips      {last['skips']}\nrun        {result.path}")


def _resolved(device: str) -> Any:
    from ldarts_lib.runs.environment import device_report, resolve_device

    where = resolve_device(device)
    print(device_report(where))
    return where


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None and value is not False}


@_command(name="protocol")
def show_protocol(
    space: Space = "nasbench201",
    dataset: Data = None,
    method: Method = "lambda",
    size: Size = "demo",
    pixels: Pixels = None,
    skip_unreadable: Skip = False,
) -> None:
    """Print every setting of a preset, with its meaning."""
    from ldarts_lib.bilevel.protocols import protocol
    from ldarts_lib.settings import PictureSettings

    chosen = protocol(space, dataset, method, size, **_given(pixels=pixels, skip_unreadable=skip_unreadable))
    fields = type(chosen).model_fields | type(chosen.new_remedy()).model_fields
    own = {"remedy"} if chosen.fingerprint else {"remedy", *PictureSettings.model_fields}
    values = dict(chosen) | (chosen.remedy or {})
    rows = [(n, str(value), fields[n].description) for n, value in values.items() if n not in own]
    _print_table(("setting", "value", "meaning"), rows)


def _print_table(columns: tuple[str, ...], rows: list[Any], title: str | None = None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, box=None)
    for row in rows:
        table.add_row(*row)
    Console(markup=False).print(table)  # [/red] is a text


@_command
def discretize(
    run: Annotated[Positional[Path], arg(metavar="RUN")],
    epoch: Number = None,
    selection: Literal["weights", "perturbation"] = "weights",
    draw: Folder = None,
    device: Device = "auto",
) -> None:
    """Print the genotype that a search derives, finished or not, in the notation of its field.

    Args:
        run: Run directory.
        epoch: The cell after this epoch (counted from 0); by default after the last finished one.
        selection: By the weights of the operations, or (of a finished search on images) by how much the
            supernet misses each one, with some tuning in between; that is written beside the run's own.
        draw: Also draw the cell to this file (.png, .svg, .pdf).
    """
    from ldarts_lib import Run, parse
    from ldarts_lib.files import require_place, write_atomically

    if draw and (draw.suffix not in (".png", ".svg", ".pdf") or not draw.absolute().parent.is_dir()):
        raise LdartsError(f"--draw {draw}: expected a .png, .svg or .pdf in a folder that exists")
    if draw:
        require_place(draw)
    rows = Run(run).read_history()
    if not rows:
        raise LdartsError(f"{run} holds no search with a finished epoch")
    if epoch is not None and not 0 <= epoch < len(rows):
        raise LdartsError(f"epoch {epoch} is not in the run; it has the epochs 0 to {len(rows) - 1}")
    if "genotype" not in rows[0]:
        raise LdartsError(f"{run} is a training, not a search")
    if selection == "perturbation":
        from ldarts_lib.bilevel.perturbation import select_by_perturbation
        from ldarts_lib.runs.environment import resolve_device

        if epoch is not None:
            raise LdartsError("--selection perturbation reads the last epoch only; leave --epoch out")
        genotype = select_by_perturbation(run, device=resolve_device(device))
    else:
        genotype = parse(rows[-1 if epoch is None else epoch]["genotype"])
    print(genotype)
    if draw:
        from ldarts_book.figures import draw_genotype

        figure, kind = draw_genotype(genotype), draw.suffix[1:]
        write_atomically(draw, lambda file: figure.savefig(file, format=kind))


@_command
def evaluate(
    architecture: Annotated[Positional[str], _option("ARCH")],
    recipe: Recipe = None,
    dataset: Data = None,
    size: Size = "demo",
    pixels: Pixels = None,
    skip_unreadable: Skip = False,
    epochs: Epochs = None,
    seed: int = 0,
    out: Folder = None,
    device: Device = "auto",
    devices: int = 1,
    threads: Threads = None,
    compile: bool = False,
    settings: Settings = (),
) -> None:
    """Train an architecture from scratch with a paper's recipe and test it.

    Args:
        seed: Seed of weights, batches, augmentation and drop path.
        out: Run directory; by default runs/NAME-RECIPE-DATASET-SIZE-seedN.
        devices: Devices that share each batch.
        compile: Compile the network with torch.compile.
    """
    prepare(size, threads)
    from ldarts_book.grid import evaluations
    from ldarts_lib.datasets.catalogue import recorded_name

    name, genotype, _ = evaluations.identify(architecture)
    recipe = recipe or evaluations.FITTING[genotype.kind][0]
    dataset = dataset or evaluations.usual_dataset(architecture, recipe)
    given = _given(pixels=pixels, skip_unreadable=skip_unreadable, epochs=epochs, compile=compile)
    overrides = dict(settings) | given
    label = name.replace("/", "-") if len(name) < 80 else "architecture"
    out = out or Path("runs") / f"{label}-{recipe}-{recorded_name(dataset)}-{size}-seed{seed}"
    _resolved(device)
    found = evaluations.judge(
        architecture, dataset, recipe, size, seed, out, device=device, devices=devices, **overrides
    )
    for key in ("test_accuracy", "best_test_accuracy", "test_perplexity", "parameters", "multiply_adds"):
        if key in found:
            form = "," if isinstance(found[key], int) else ".4f"
            print(f"{key.replace('_', ' '):<20}{found[key]:{form}}")
    print(f"{'run':<20}{out}")


@_command
def predict(
    run: Annotated[Positional[Path], _option("TRAINING")],
    pictures: Annotated[Positional[tuple[Path, ...]], arg(metavar="PICTURE ...", help_behavior_hint="")],
    csv: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Print the class that a trained network sees in each picture, and its probability.

    Args:
        pictures: Files, or folders: all pictures in them. They are decoded, resized and cropped as those of
            the training were. What cannot be read is named at the end.
        csv: Also write a table with the columns picture, class, probability.
    """
    prepare(threads=threads)
    from ldarts_lib.datasets.folders import listed, pictures_in
    from ldarts_lib.evaluation.trained import predict, trained_network, write_predictions
    from ldarts_lib.files import require_place

    if csv:
        require_place(csv)
    network = trained_network(run)
    chosen = [file for path in pictures for file in (pictures_in(path) if path.is_dir() else [path])]
    if not chosen:
        raise LdartsError(f"there are no pictures in {listed(map(str, pictures))}")
    found, bad = predict(network.to(_resolved(device)), chosen)
    for picture, name, probability in found:
        print(f"{probability:7.1%}  {name}  {picture}")
    if csv:
        write_predictions(csv, found)
    if bad:
        named = listed(f"{path} ({problem})" for path, problem in bad.items())
        raise LdartsError(f"{len(bad)} of {len(chosen)} pictures cannot be read: {named}")


@_command
def export(
    run: Annotated[Positional[Path], _option("TRAINING")],
    to: Annotated[Path, arg(metavar="FILE.onnx|.pt2|.safetensors", help_behavior_hint="")],
) -> None:
    """Write a trained network to a file that needs nothing of ours, checked against the network before.

    Input: images, float32 in 0..1, [batch, channels, height, width] of any batch size; normalization is
    inside. Output: logits [batch, classes]. Class names, pixels and settings stand in the file's metadata.

    Args:
        to: model.onnx (ONNX), model.pt2 (a program of torch.export; its extra files hold the metadata), or
            weights.safetensors (weights and settings only). Needs pip install "ldarts-lib[export]".
    """
    prepare()
    from ldarts_lib.evaluation.export import export
    from ldarts_lib.files import require_place

    require_place(to)
    print(f"exporting {run} and checking the file: a large network takes minutes", flush=True)
    print(f"written: {export(run, to)}")


@_command
def size(
    arch: Annotated[Positional[str | None], _option("ARCH", help_behavior_hint="")] = None,
    recipe: Recipe = None,
    channels: Number = None,
    cells: Number = None,
    classes: Number = None,
    resolution: Number = None,
    json: bool = False,
) -> None:
    """Print how large the network of an architecture is; without one, list the published architectures.

    Parameters and multiply-adds (of convolutions and products, for one image) are those of the network
    without its auxiliary head.

    Args:
        channels: C, channels of the first cells; by default the recipe's.
        cells: Cells of the network (per stage for NAS-Bench-201); by default the recipe's.
        classes: Number of classes; by default 10, and 1000 for imagenet.
        resolution: Height and width of the images; by default 32, and 224 for imagenet.
        json: Print the keys parameters and multiply_adds as JSON.
    """
    from ldarts_book.grid.evaluations import identify, sizes_by_recipe
    from ldarts_lib.spaces.published import published, published_record

    changes = _given(channels=channels, depth=cells, resolution=resolution, classes=classes)
    if arch is None:
        if json or recipe or changes:
            raise LdartsError("the options of `ldarts size` go with an architecture")
        records = [published_record(name) for name in published()]
        rows = [(r.name, r.space or "none of ours", r.dataset, r.source) for r in records]
        return _print_table(("name", "space", "searched on", "source"), rows)
    name, genotype, _ = identify(arch)
    found = sizes_by_recipe(name, genotype, recipe, **changes)
    if json:
        return print(dumps(vars(found)))
    print(f"architecture     {genotype}\nparameters       {found.parameters:,}")
    print(f"multiply-adds    {found.multiply_adds:,}")


@_command
def query(arch: Annotated[Positional[str], arg(metavar="ARCH")]) -> None:
    """Print how good a cell is, looked up (NAS-Bench-201) or estimated (DARTS); nothing is trained.

    A cell of NAS-Bench-201 is looked up in two tables, Digits-201 (accuracies on small digits) and
    NAS-Bench-201 (CIFAR and ImageNet16-120). A cell of the DARTS space gets an estimate with an error bar: it
    finds a collapsed cell, but does not rank the newest methods.

    Args:
        arch: As for `ldarts size`, or six digits, the operations of the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1,
            3<-2: 0 none, 1 skip_connect, 2 nor_conv_1x1, 3 nor_conv_3x3, 4 avg_pool_3x3.
    """
    from ldarts_lib.spaces.notations import architecture
    from ldarts_lib.tables.answers import answer

    for name, first, *second in answer(architecture(arch)[1]):
        print(f"{name:<16}{first:<40}{''.join(second)}".rstrip())


@_command
def data(name: Annotated[Positional[str], arg(metavar="NAME")]) -> None:
    """Download a data set (if it is not there) and verify its checksums.

    The folder is ~/.cache/ldarts, or the environment variable LDARTS_DATA.

    Args:
        name: The data set; `ldarts info` lists them.
    """
    from ldarts_lib.datasets.catalogue import fetch

    record = fetch(name)
    print(f"{record.name}: {record.location}")


@_command
def info() -> None:
    """Print versions, the device and the data sets."""
    from ldarts_lib.datasets.catalogue import status
    from ldarts_lib.runs.environment import versions

    _resolved("auto")
    _print_table(("package", "version"), list(versions().items()))
    rows = [
        (r.name, "yes" if r.present else "no", f"{r.megabytes:.0f}", str(r.location) if r.present else r.how)
        for r in status()
    ]
    _print_table(("data set", "present", "size (MB)", "where, or how to get it"), rows)


@_command
def bench(
    quick: bool = False,
    spaces: Annotated[tuple[str, ...], arg(metavar="SPACE ...")] = (),
    batch: Number = None,
    rounds: Number = None,
    threads: Threads = None,
    device: Device = "cpu",
    json: Folder = None,
) -> None:
    """Measure the search step: reference against fast and batched supernet, for each regularizer.

    Seconds are CPU time of the process (on a GPU between events of the device). All take turns; a round gives
    a ratio. Rounds go on until the 95 % interval of the mean ratio is within ±5 %, for at most 25 minutes.

    Args:
        quick: Small networks (C = 8, 5 cells or one per stage, 16x16 images, batch 16), without forward
            difference and, on a CPU, batched supernet; under a minute on two cores, in two processes.
        spaces: Search spaces; by default darts, s2 and nasbench201, with --quick the last two.
        batch: Images of a batch; by default 64, and 16 with --quick.
        rounds: Exactly so many measured steps of each candidate, however long they take.
        json: Also write the rows to this file.
    """
    prepare(threads=threads)
    from ldarts_book.studies import bench as benches
    from ldarts_lib.bilevel.protocols import protocol
    from ldarts_lib.files import make_folder, require_place, write_json

    if "ptb" in spaces:
        raise LdartsError("--spaces ptb: only the search of images is measured")
    for name in spaces:
        protocol(name)
    if json:
        require_place(json)
    rows = benches.measured(spaces, rounds, quick=quick, batch=batch, device=_resolved(device))
    _print_table(benches.COLUMNS, [row.cells for row in rows], "One search step; ratio: reference / this one")
    print(benches.unsettled(rows))
    if json:
        make_folder(json.parent)
        write_json(json, [asdict(row) for row in rows])
        print(f"rows: {json}")


@_command
def study(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...", help_behavior_hint="")] = (),
    size: Size = "demo",
    variants: Annotated[tuple[str, ...] | None, arg(metavar="VARIANT ...", help_behavior_hint="")] = None,
    seeds: Number = None,
    first_seed: Number = None,
    out: Path = Path("runs/study"),
    record: Folder = None,
    workers: Workers = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Compare variants of the search over many seeds, in one study or several.

    Safe to kill: a second call goes on. A search that several studies compare is made once.

    Args:
        names: Studies, or all that search; without a name they are listed: what each asks and costs.
        variants: Make only these; a record is made in parts, which are added to what it holds. Without a
            name it makes nothing and lists them: what each changes of the preset.
        seeds: Number of seeds; by default the study's own.
        first_seed: The smallest seed; by default the study's own seeds.
        out: Parent of the run directories.
        record: RECORD/NAME has the rows and provenance.json of each study; by default OUT.
    """
    prepare(threads=threads)
    from ldarts_book import studies
    from ldarts_lib.files import require_place

    if variants == ():
        return _print_table(("study", "seeds", "variant or setting", "changes"), studies.listing(names))
    if not names:
        title = "ldarts study NAME ... makes studies; ldarts study all makes all that search"
        return _print_table(("study", "asks", "searches", "core hours"), studies.overview(), title)
    for place in (out, record or out):
        require_place(place / "rows.csv")
    part = {"variants": variants or (), "first_seed": first_seed, "seeds": seeds, "record": record}
    studies.make_records(names, out, **part, size=size, workers=workers, device=device)


@_command
def sweep(
    grid: GridFile,
    out: Runs = Path("runs/grid"),
    parts: Parts = (),
    jobs: Number = None,
    gpus: Number = None,
    device: Device = "auto",
    threads: Threads = None,
    profile: Annotated[str, arg(metavar="PROFILE")] = "local",
    config: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...", help_behavior_hint="")] = (),
    snakemake: Annotated[str, arg(metavar="OPTIONS", help_behavior_hint="")] = "",
    dry_run: bool = False,
) -> None:
    """Run all searches and evaluations of a grid by Snakemake; what is finished is skipped.

    Safe to stop or to lose: a second call goes on where the first was. A failed job does not stop the others;
    its notebook stays, with the traceback, and the next call tries it again.

    Args:
        jobs: Jobs at a time; by default one per core.
        gpus: GPUs of this machine, each for one job at a time; by default all.
        profile: local, or slurm: a cluster.
        config: More settings of the workflow; workflow/Snakefile lists them.
        snakemake: Options of Snakemake itself, in quotes.
        dry_run: Print the plan only.
    """
    prepare(threads=threads)
    from ldarts_book.grid.sweep import show_plan
    from ldarts_book.grid.sweep import sweep as run

    try:
        options = shlex.split(snakemake)
    except ValueError as error:
        raise LdartsError(f"--snakemake {snakemake}: {error}") from None
    show_plan(grid, out, parts, missing=dry_run)
    if not dry_run:
        how = {"profile": profile, "config": config, "options": options}
        run(grid, out, parts=parts, jobs=jobs, gpus=gpus, device=device, **how)
        collect(out)


@_command
def plan(
    grid: GridFile,
    out: Runs = Path("runs/grid"),
    parts: Parts = (),
    check: bool = False,
    cluster: bool = False,
) -> None:
    """Print the jobs of a grid, what is done, what it costs (size paper) and what is missing for it here.

    Args:
        check: End with an error if something is missing.
        cluster: The jobs run on the nodes of a cluster: no GPU is needed here.
    """
    from ldarts_book.grid.sweep import show_plan

    show_plan(grid, out, parts, check=check, gpu_here=not cluster)


@_command
def collect(
    source: Annotated[Positional[Path], arg(metavar="FOLDER")], target: Folder = None, overwrite: bool = False
) -> None:
    """Print the results below a folder, and copy what is worth keeping of them.

    Args:
        source: Parent of run directories.
        target: Where to copy metrics, configurations, environments, cells and histories; by default nowhere.
        overwrite: Replace runs that are there with other outcomes.
    """
    from ldarts_book.published import results

    found = (
        results.read_results(source)
        if target is None
        else results.collect(source, target, overwrite=overwrite)
    )
    print(f"{len(found.rows)} runs below {source}")
    print(results.as_text(found), end="")


@_command(name="run-notebook")
def run_notebook(
    notebook: Annotated[Positional[Path], arg(metavar="NOTEBOOK")],
    parameters: Annotated[Pairs, arg(name="parameter", aliases=["-p"], metavar="NAME VALUE")] = (),
    out: Path = Path("runs/notebook"),
    threads: Threads = None,
) -> None:
    """Execute a notebook of the book with other parameters; unknown names and bad values are refused.

    Args:
        parameters: A parameter and its value; repeatable. An unknown name lists those that exist.
        out: Directory of the executed notebook.
    """
    prepare(threads=threads)
    from ldarts_book import execution

    print(f"executed notebook: {execution.run_notebook(notebook, dict(parameters), out)}")


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit code 2."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it was closed, as by >&-; the next file would take its number
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # a name that is no Unicode is shown escaped
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = shlex.join(["ldarts", *sys.argv[1:]])
    try:
        prepare()  # before torch is loaded
        with ended_by_signals():
            _run()
    except LdartsError as error:
        _end(2, f"error: {error}")
    except Terminated:
        _end(143, f"ended; what is finished is kept; to go on: {words}")
    except KeyboardInterrupt:
        _end(130, f"interrupted; what is finished is kept; to go on: {words}")
    except BrokenPipeError:  # the reader has gone, as in `ldarts --help | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:  # a disk that is full, a name that is too long, a folder that has gone
        where = " → ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        _end(2, f"error: {f'{where}: ' if where else ''}{error.strerror or error}")
    except MemoryError:
        _end(2, "error: out of memory")


def _run() -> None:
    if get_terminal_size().columns < 20:
        os.environ["COLUMNS"] = "20"  # into less, help and tables never fit
    home = os.path.expanduser("~")  # which a shell does not read in quotes, nor after =
    sys.argv[1:] = [re.sub(r"^(|[\w-]+=)~(?=/|$)", lambda m: m[1] + home, word) for word in sys.argv[1:]]
    if bad := [word for word in sys.argv[1:] if "\0" in word or len(word) > 2**17]:
        raise LdartsError(f"an argument with a zero byte, or longer than 128 KB: {bad[0][:60]!r}")
    try:
        app.cli(prog="ldarts", description=DESCRIPTION, config=(FlagCreatePairsOff,))
    finally:
        sys.stdout.flush()


def _end(code: int, message: str) -> NoReturn:
    for word in sys.argv[1:]:  # a name with a line feed makes no second line, and a long one no page
        if len(word) > 300 or "\n" in word:
            short = repr(word[:200])[1:-1] + "…" * (len(word) > 200)
            message = message.replace(word.rstrip("/") or word, short)
    message = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in message)
    try:
        sys.stdout.flush()
    except OSError:  # it is full, or nobody reads it; Python would try once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        print(f"ldarts: {message}", file=sys.stderr, flush=True)
    if code > 128 and getattr(sys.modules["__main__"], "main", None) is main:  # it is the program itself
        atexit._run_exitfuncs()
        os._exit(code)  # Python would take down torch object by object, for a second or more
    raise SystemExit(code) from None
