"""The command line ``ldarts``: search, protocol, discretize, query, data, info, bench, and so on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from ldarts_lib.runs.threads import ThreadsError, prepare

prepare()  # before torch is loaded
# isort: split
from ldarts_book import notebook as notebooks
from ldarts_book.grid import commands as grid_commands
from ldarts_book.grid import stages as jobs
from ldarts_book.speed import BenchmarkError
from ldarts_book.studies.study import StudyError
from ldarts_lib import datasets
from ldarts_lib.bilevel.protocols import Method, protocol
from ldarts_lib.bilevel.regularizers import ImpreciseDifference
from ldarts_lib.bilevel.search import search as run_search
from ldarts_lib.cli_architectures import ImagesOrText, Pairs, UsageError, evaluate, info
from ldarts_lib.cli_bench import bench
from ldarts_lib.errors import ProtocolError, RunError
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.environment import DeviceUnavailable, device_report, resolve_device
from ldarts_lib.runs.processes import ProcessFailed
from ldarts_lib.runs.record import Diverged
from ldarts_lib.settings import Size
from ldarts_lib.spaces.genotype import GenotypeError, parse
from ldarts_lib.spaces.space import SPACES
from ldarts_lib.tables.computation import decode
from ldarts_lib.tables.descriptions import describe
from ldarts_lib.tables.tables import BENCHMARKS, open_benchmark

SearchableName = Literal[(*SPACES, jobs.LANGUAGE)]
DataName = Literal[tuple(datasets.DATASETS)]
BenchmarkName = Literal[BENCHMARKS]


EXPECTED_ERRORS = (
    BenchmarkError,
    DeviceUnavailable,
    GenotypeError,
    ImpreciseDifference,
    ProtocolError,
    RunError,
    Diverged,
    ProcessFailed,
    ThreadsError,
    UsageError,
    datasets.DatasetMissing,
    datasets.DatasetCorrupt,
    notebooks.NotebookError,
    notebooks.NotebookFailed,
    notebooks.ParameterError,
    *grid_commands.EXPECTED_ERRORS,
    StudyError,
)

DESCRIPTION = """Λ-DARTS: search a network's cell by gradient descent, with cells that agree.

  ldarts search                                   Λ-DARTS on images that ship, a minute of CPU
  ldarts search --method darts --seed 3           plain DARTS
  ldarts search --space s2 --dataset cifar10 --size paper --device cuda
  ldarts search --space ptb                       a recurrent cell, on a text that ships
  ldarts search --method darts --seed 3           once more: goes on after an interruption
  ldarts discretize RUN --draw cell.png           the cell that a search derives
  ldarts evaluate RUN                             train that cell from scratch with a paper's recipe
  ldarts evaluate DARTS_V2 --recipe cifar --dataset cifar10 --size paper --device cuda
  ldarts info --arch DARTS_V2 --channels 36 --cells 20 --classes 10    how large a network is
  ldarts query 333133                             how good that cell of NAS-Bench-201 is, looked up
  ldarts protocol --space s2 --size paper         all settings of a preset, and what they mean
  ldarts info                                     versions, device, data sets
  ldarts bench --quick                            how fast a search step is here
  ldarts study --seeds 10                         every variant, many seeds, with confidence intervals
  ldarts study digits201                          make the table Digits-201 again (CPU hours)
  ldarts run-notebook book/quickstart.ipynb -p size demo -p seeds 5
  ldarts plan workflow/grids/paper.yaml           what the paper's tables cost, and what is missing
  ldarts sweep workflow/grids/demo.yaml           search and evaluate a whole grid, side by side, resumable
  ldarts collect runs/grid                        its results

Every command has a --help of its own."""

app = tyro.extras.SubcommandApp()


@app.command
def search(
    space: SearchableName = "nasbench201",
    dataset: ImagesOrText = None,
    method: Method = "lambda",
    size: Size = "demo",
    epochs: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    settings: Annotated[
        Pairs, tyro.conf.arg(name="set", metavar="NAME VALUE", help_behavior_hint="(repeatable)")
    ] = (),
) -> None:
    """Search a cell, and record the whole search in a run directory; an interrupted one goes on.

    Args:
        space: Search space: NAS-Bench-201's, that of DARTS (darts8: with the operation none), S1 to S4, or
            ptb, the recurrent cell of a language model.
        dataset: Images to search on, by default noisy-digits; `ldarts info` says which are present. A text
            for ptb: civics (the default), ptb, or a folder with train.txt, valid.txt and test.txt.
        method: darts (first order), darts-2nd (unrolled), lambda (cosine alignment), lambda-sign,
            lambda-projected (without the offset that α cannot feel), or a control, lambda-random or
            lambda-noise; `ldarts protocol` says more.
        size: Preset: smoke (seconds), demo (a minute of CPU), paper (the official settings; needs a GPU).
        epochs: Number of epochs; by default the preset's.
        seed: Seed of weights, architecture parameters and batches.
        out: Run directory; by default runs/SPACE-DATASET-METHOD-SIZE-seedN.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1, ...
        threads: CPU threads; by default one, and all cores at size paper.
        settings: Override one setting, for instance --set estimator central --set epsilon 1e-3;
            `ldarts protocol` lists them all.
    """
    prepare(size, threads)
    overrides = dict(settings) | ({} if epochs is None else {"epochs": epochs})
    chosen = protocol(space, dataset, method, size, seed=seed, **overrides)
    label = Path(chosen.dataset).name
    out = out or Path("runs") / f"{space}-{label}-{method}-{size}-seed{seed}"
    where = resolve_device(device)
    print(device_report(where))
    result = run_search(chosen, out, device=where)
    last = result.history[-1]
    print(f"cell       {result.genotype}")
    print(f"supernet   validation loss {last['valid_loss']:.3f}, accuracy {last['valid_accuracy']:.3f}")
    print(f"alignment  Λ = {last['valid_alignment']:+.3f} on the batches of α")
    print(f"skips      {last['skips']}")
    print(f"run        {result.path}")


@app.command(name="protocol")
def show_protocol(
    space: SearchableName = "nasbench201",
    dataset: ImagesOrText = None,
    method: Method = "lambda",
    size: Size = "demo",
) -> None:
    """Print every setting of a preset, with its meaning.

    Args:
        space: Search space.
        dataset: Images, by default noisy-digits; or a text for ptb, by default civics.
        method: Search method.
        size: Preset.
    """
    table = Table("setting", "value", "meaning")
    chosen = protocol(space, dataset, method, size)
    for name, value in chosen:
        table.add_row(name, str(value), type(chosen).model_fields[name].description)
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
    rows = Run(run).read_history()
    if not rows:
        raise RunError(f"{run} has no finished epoch")
    if epoch is not None and not 0 <= epoch < len(rows):
        raise RunError(f"epoch {epoch} is not in the run; it has the epochs 0 to {len(rows) - 1}")
    genotype = parse(rows[-1 if epoch is None else epoch]["genotype"])
    print(genotype)
    if draw:
        from ldarts_book.figures import draw_genotype

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
        benchmark: digits-201 (accuracies on small digits) or nasbench201 (CIFAR and ImageNet16-120).
    """
    genotype = decode(arch) if arch.isdigit() else parse(arch)
    SPACES["nasbench201"].validate(genotype)
    for name, text in describe(open_benchmark(benchmark), genotype).items():
        print(f"{name:<16}{text}")


@app.command
def data(name: tyro.conf.Positional[DataName]) -> None:
    """Download a data set (if it is not there) and verify its checksums.

    The folder is ~/.cache/ldarts, or the environment variable LDARTS_DATA.

    Args:
        name: The data set.
    """
    record = datasets.fetch(name)
    print(f"{record.name}: {record.location}")


@app.command(name="run-notebook")
def run_notebook(
    notebook: tyro.conf.Positional[Path],
    parameters: Annotated[Pairs, tyro.conf.arg(name="parameter", aliases=["-p"], metavar="NAME VALUE")] = (),
    out: Path = Path("runs/notebook"),
    threads: int | None = None,
) -> None:
    """Execute a notebook of the book with other parameters; unknown names and bad values are refused.

    Args:
        notebook: The notebook.
        parameters: A parameter and its value; repeatable. An unknown name lists those that exist.
        out: Directory of the executed notebook.
        threads: CPU threads; by default one at its sizes smoke and demo, else all cores.
    """
    prepare(threads=threads)
    executed = notebooks.run_notebook(notebook, dict(parameters), out)
    print(f"executed notebook: {executed}")


@app.command
def study(
    names: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")]] = (),
    out: Path = Path("runs/study"),
    first_seed: int | None = None,
    seeds: int | None = None,
    size: Size = "demo",
    workers: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Search with every variant of some studies and many seeds, and print how the variants compare.

    Safe to kill: a second call goes on. A search that several studies compare is made once.

    Args:
        names: demonstration (DARTS, Λ-DARTS, finite differences, a control), differences (what the finite
            difference does: lengths, noise, smooth activations), precision (the same in float64), strengths
            (λ of each form, on the seeds for choosing), chosen (the best of these on fresh seeds), lengths
            (number of epochs), ablations (one setting of Λ-DARTS changed at a time), robustness (one setting
            of both changed at a time), kinds (align normal cells or all of them: S2, trained from scratch);
            by default all of these. And digits201: train every cell, for the table that judges the others.
        out: Parent of the run directories; OUT/NAME has the record of each study.
        first_seed: The smallest seed; by default each study has its own seeds, most of them 10 to 29.
        seeds: Number of seeds; by default all of the study.
        size: Preset of the searches: smoke, demo or paper.
        workers: Processes at a time; by default one per core.
        device: cpu, cuda, cuda:1, ...
        threads: CPU threads of each process; by default one.
    """
    prepare(threads=threads)
    from ldarts_book import studies

    how = {"first_seed": first_seed, "seeds": seeds, "size": size, "workers": workers, "device": device}
    studies.record(names, out, **how)


app.command(bench)
app.command(evaluate)
app.command(info)
app.command(grid_commands.sweep)
app.command(grid_commands.plan)
app.command(grid_commands.collect)


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit code 2."""
    try:
        app.cli(prog="ldarts", description=DESCRIPTION)
    except EXPECTED_ERRORS as error:
        print(f"ldarts: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
