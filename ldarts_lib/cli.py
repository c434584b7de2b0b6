"""The command line ``ldarts``: search, protocol, discretize, query, data, info, bench, and so on."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from ldarts_lib import bench as benchmarks
from ldarts_lib import datasets, experiments, notebooks
from ldarts_lib.benchmarks import nasbench201
from ldarts_lib.benchmarks.computation import decode
from ldarts_lib.benchmarks.descriptions import describe
from ldarts_lib.benchmarks.errors import BenchmarkCorrupt, BenchmarkMissing
from ldarts_lib.benchmarks.tables import BENCHMARKS, open_benchmark
from ldarts_lib.cli_architectures import Pairs, UsageError, evaluate, info
from ldarts_lib.environment import DeviceUnavailable, device_report, resolve_device
from ldarts_lib.genotype import GenotypeError, parse
from ldarts_lib.precision import precision_effects
from ldarts_lib.protocols import Method, Protocol, ProtocolError, Size, protocol
from ldarts_lib.regularizers import ImpreciseDifference
from ldarts_lib.runs import RunDirectory, RunError, write_json
from ldarts_lib.search import SearchDiverged
from ldarts_lib.search import search as run_search
from ldarts_lib.spaces import SPACES
from ldarts_lib.throughput import throughput
from ldarts_lib.training import TrainingDiverged

SpaceName = Literal[tuple(SPACES)]
DatasetName = Literal[datasets.DATASETS]
DataName = Literal[(*datasets.DATASETS, "nasbench201")]
BenchmarkName = Literal[BENCHMARKS]


EXPECTED_ERRORS = (
    BenchmarkCorrupt,
    BenchmarkMissing,
    benchmarks.BenchmarkError,
    DeviceUnavailable,
    GenotypeError,
    ImpreciseDifference,
    ProtocolError,
    RunError,
    SearchDiverged,
    TrainingDiverged,
    UsageError,
    datasets.DatasetMissing,
    datasets.DatasetCorrupt,
    notebooks.NotebookError,
    notebooks.NotebookFailed,
    notebooks.ParameterError,
)

DESCRIPTION = """Λ-DARTS: search a network's cell by gradient descent, with cells that agree.

  ldarts search                                   Λ-DARTS on images that ship, a minute of CPU
  ldarts search --method darts --seed 3           plain DARTS
  ldarts search --space s2 --dataset cifar10 --size paper --device cuda
  ldarts search --method darts --seed 3 --resume  go on after an interruption
  ldarts discretize RUN --draw cell.png           the cell that a search derives
  ldarts evaluate RUN                             train that cell from scratch with a paper's recipe
  ldarts evaluate DARTS_V2 --recipe cifar --dataset cifar10 --size paper --device cuda
  ldarts info --arch DARTS_V2 --channels 36 --cells 20 --classes 10    how large a network is
  ldarts query 333133                             how good that cell of NAS-Bench-201 is, looked up
  ldarts data nasbench201 --from FILE             make the table for ldarts query --benchmark nasbench201
  ldarts protocol --space s2 --size paper         all settings of a preset, and what they mean
  ldarts info                                     versions, device, data sets
  ldarts bench --quick                            how fast a search step is here
  ldarts study --seeds 10                         every variant, many seeds, with confidence intervals
  ldarts kinds                                    align normal cells or all of them, in S2
  ldarts robustness                               the same with one setting changed at a time
  ldarts digits201                                make the table Digits-201 again (CPU hours)
  ldarts run-notebook book/quickstart.ipynb -p size demo -p seeds 5

Every command has a --help of its own."""

app = tyro.extras.SubcommandApp()


@app.command
def search(
    space: SpaceName = "nasbench201",
    dataset: DatasetName = "noisy-digits",
    method: Method = "lambda",
    size: Size = "demo",
    epochs: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    device: str = "auto",
    settings: Annotated[
        Pairs, tyro.conf.arg(name="set", metavar="NAME VALUE", help_behavior_hint="(repeatable)")
    ] = (),
) -> None:
    """Search a cell, and record the whole search in a run directory.

    Args:
        space: Search space: NAS-Bench-201's, that of DARTS (darts8: with the operation none), or S1 to S4.
        dataset: Images to search on; `ldarts info` says which are present.
        method: darts (first order), darts-2nd (unrolled), lambda (cosine alignment), lambda-sign,
            lambda-projected (without the offset that α cannot feel), or a control, lambda-random or
            lambda-noise; `ldarts protocol` says more.
        size: Preset: smoke (seconds), demo (a minute of CPU), paper (the official settings; needs a GPU).
        epochs: Number of epochs; by default the preset's.
        seed: Seed of weights, architecture parameters and batches.
        out: Run directory; by default runs/SPACE-DATASET-METHOD-SIZE-seedN.
        resume: Continue an interrupted search in the same directory.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1, ...
        settings: Override one setting, for instance --set estimator central --set epsilon 1e-3;
            `ldarts protocol` lists them all.
    """
    overrides = dict(settings) | ({} if epochs is None else {"epochs": epochs})
    chosen = protocol(space, dataset, method, size, seed=seed, **overrides)
    out = out or Path("runs") / f"{space}-{dataset}-{method}-{size}-seed{seed}"
    where = resolve_device(device)
    print(device_report(where))
    result = run_search(chosen, out, resume=resume, device=where)
    last = result.history[-1]
    print(f"cell       {result.genotype}")
    print(f"supernet   validation loss {last['valid_loss']:.3f}, accuracy {last['valid_accuracy']:.3f}")
    print(f"alignment  Λ = {last['valid_alignment']:+.3f} on the batches of α")
    print(f"skips      {last['skips']}")
    print(f"run        {result.path}")


@app.command(name="protocol")
def show_protocol(
    space: SpaceName = "nasbench201",
    dataset: DatasetName = "noisy-digits",
    method: Method = "lambda",
    size: Size = "demo",
) -> None:
    """Print every setting of a preset, with its meaning.

    Args:
        space: Search space.
        dataset: Data set.
        method: Search method.
        size: Preset.
    """
    table = Table("setting", "value", "meaning")
    for name, value in protocol(space, dataset, method, size):
        table.add_row(name, str(value), Protocol.model_fields[name].description)
    Console().print(table)


@app.command
def discretize(
    run: tyro.conf.Positional[Path],
    epoch: int | None = None,
    draw: Path | None = None,
) -> None:
    """Print the genotype that a search derives, finished or not, in the notation of its field.

    Args:
        run: Run directory.
        epoch: The cell after this epoch (counted from 0); by default after the last finished one.
        draw: Also draw the cell to this file (.png, .svg, .pdf).
    """
    if not run.is_dir():
        raise RunError(f"there is no run directory {run}")
    rows = RunDirectory(run).read_history()
    if not rows:
        raise RunError(f"{run} has no finished epoch")
    if epoch is not None and not 0 <= epoch < len(rows):
        raise RunError(f"epoch {epoch} is not in the run; it has the epochs 0 to {len(rows) - 1}")
    genotype = parse(rows[-1 if epoch is None else epoch]["genotype"])
    print(genotype)
    if draw:
        from ldarts_lib.plots import draw_genotype

        draw_genotype(genotype).savefig(draw)


@app.command
def query(
    arch: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ARCH")],
    benchmark: BenchmarkName = "digits-201",
) -> None:
    """Look up how good a cell of NAS-Bench-201 is; nothing is trained.

    Args:
        arch: The cell as ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`` (in quotes), NAS-Bench-201's notation, or
            as six digits, the operations of the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2: 0 none,
            1 skip_connect, 2 nor_conv_1x1, 3 nor_conv_3x3, 4 avg_pool_3x3.
        benchmark: digits-201 ships; nasbench201 is made by `ldarts data nasbench201 --from FILE`.
    """
    genotype = decode(arch) if arch.isdigit() else parse(arch)
    SPACES["nasbench201"].validate(genotype)
    for name, text in describe(open_benchmark(benchmark), genotype).items():
        print(f"{name:<16}{text}")


@app.command
def data(
    name: tyro.conf.Positional[DataName],
    source: Annotated[Path | None, tyro.conf.arg(name="from", metavar="FILE")] = None,
) -> None:
    """Download a data set (if it is not there) and verify its checksums, or make the table of NAS-Bench-201.

    The folder is ~/.cache/ldarts, or the environment variable LDARTS_DATA.

    Args:
        name: The data set, or nasbench201.
        source: Only for nasbench201, which is downloaded by hand: NAS-Bench-201-v1_0-e61699.pth,
            NAS-Bench-201-v1_1-096897.pth, or NATS-tss-v1_0-3ffb9-simple.tar or its unpacked folder (minutes,
            little memory). Without it a table that is there is checked; if none is, you are told what to get.
    """
    if name == "nasbench201":
        table = nasbench201.read() if source is None else nasbench201.convert(source)
        print(f"{name}: {nasbench201.location()}")
        print(f"{len(table):,} cells")
        for fact in nasbench201.known_facts(table):
            print(fact)
        return
    if source is not None:
        raise UsageError(f"--from {source}: {name} is not made from a file, only nasbench201 is")
    record = datasets.fetch(name)
    print(f"{record.name}: {record.location}")


@app.command
def bench(
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    spaces: tuple[SpaceName, ...] = benchmarks.SPACES,
    rounds: int | None = None,
    threads: int = 1,
    device: str = "cpu",
    json: Path | None = None,
    precision: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    together: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Measure the search step: reference against fast and batched supernet, for each regularizer.

    Seconds are the median of the measured steps, ratios that of the rounds; in each, all take turns.

    Args:
        quick: Small networks (C = 8, 5 cells or one per stage, 16x16 images, batch 32), under a minute; two
            processes side by side on a CPU.
        spaces: Search spaces.
        rounds: Measured steps of each candidate; by default 3, and 1 with --quick.
        threads: CPU threads; by default one, as each of several searches side by side has.
        device: cpu, cuda, cuda:1, ...
        json: Also write the rows to this file.
        precision: Measure instead what lower precision does to Λ and to the gradients.
        together: Measure instead how many small searches end in a given time, one by one and packed.
    """
    where = resolve_device(device)
    if threads < 1:
        raise benchmarks.BenchmarkError(f"threads = {threads}: expected at least 1")
    torch.set_num_threads(threads)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
    print(device_report(where))
    if precision:
        names = ("space", "precision", "Λ", "Λ in float64", "cells", "loss", "regularizer")
        table = Table(
            *names, box=None, title="One batch: Λ, and relative errors of gradients against float64"
        )
        _show_plainly(table, precision_effects(spaces, device=where), json, ".2g")
        return
    if together:
        names = ("method", "together", "searches", "epochs", "seconds", "ratio")
        table = Table(*names, box=None, title="Searches of the demonstration, in processes of one thread")
        _show_plainly(table, throughput(device=where), json, ".2f")
        return
    rows = benchmarks.benchmark(
        scale=benchmarks.QUICK if quick else benchmarks.OFFICIAL,
        spaces=spaces,
        rounds=(1 if quick else 3) if rounds is None else rounds,
        checkpoints=not quick,
        workers=2 if quick and threads == 1 and where.type == "cpu" and (os.cpu_count() or 1) > 1 else 1,
        device=where,
    )
    columns = ("space", "supernet", "regularizer", "seconds", "n", "ratio", "MiB", "calls")
    table = Table(*columns, box=None, title="One search step; ratio: reference / this one")
    for row in rows:
        name = f"{row.implementation}, checkpoints" if row.checkpoint else row.implementation
        numbers = (f"{row.seconds:.3f}", str(row.n), f"{row.ratio:.2f}", f"{row.peak_memory_mb:.0f}")
        table.add_row(row.space, name, row.regularizer, *numbers, f"{row.operator_calls:,}")
    _show(table, [asdict(row) for row in rows], json)


def _show_plainly(table: Table, rows: Sequence[Any], json: Path | None, digits: str) -> None:
    records = [asdict(row) for row in rows]
    for record in records:
        table.add_row(*(f"{v:{digits}}" if isinstance(v, float) else str(v) for v in record.values()))
    _show(table, records, json)


def _show(table: Table, records: list[dict[str, Any]], json: Path | None) -> None:
    Console().print(table)
    if json is not None:
        write_json(json, records)
        print(f"rows: {json}")


@app.command(name="run-notebook")
def run_notebook(
    notebook: tyro.conf.Positional[Path],
    parameters: Annotated[Pairs, tyro.conf.arg(name="parameter", aliases=["-p"], metavar="NAME VALUE")] = (),
    out: Path = Path("runs/notebook"),
) -> None:
    """Execute a notebook of the book with other parameters; unknown names and bad values are refused.

    Args:
        notebook: The notebook.
        parameters: A parameter and its value; repeatable. An unknown name lists those that exist.
        out: Directory of the executed notebook.
    """
    executed = notebooks.run_notebook(notebook, dict(parameters), out)
    print(f"executed notebook: {executed}")


app.command(evaluate)
app.command(info)
app.command(experiments.study)
app.command(experiments.kinds)
app.command(experiments.robustness)
app.command(experiments.digits201)


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit code 2."""
    try:
        app.cli(prog="ldarts", description=DESCRIPTION)
    except EXPECTED_ERRORS as error:
        print(f"ldarts: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
