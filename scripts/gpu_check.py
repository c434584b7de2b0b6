"""What only a GPU can tell, in eight parts of a few minutes at most: ``make gpu-check``.

Each part runs in a process of its own, which is ended at its limit; whatever happens, the next part follows.
The results are a table with the card's name, also written to a file. Without a GPU each part says so; with
``--device cpu`` all parts run in a small form, which tests this script and measures nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from ldarts_lib.bilevel.cuda_graph import WARM_UP_STEPS, GraphedBilevel
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.regularizers import Regularizer, regularized_gradients
from ldarts_lib.bilevel.search import search
from ldarts_lib.bilevel.state import SearchState, floating_type, make_supernet
from ldarts_lib.evaluation.evaluate import evaluate
from ldarts_lib.evaluation.protocols import training_protocol
from ldarts_lib.evaluation.training import Objective, network_of
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import architecture_weights, initial_alphas
from ldarts_lib.runs.environment import arithmetic, device_report, resolve_device
from ldarts_lib.spaces.published import published

COLUMNS = ("card", "torch", "part", "what", "found", "as expected")
ROOT = Path(__file__).parents[1]
Row = tuple[str, Any, bool | None]
"""What was looked at, what was found, and whether it is as it must be; None for a measurement."""


def kernels(device: torch.device, gpu: bool) -> Iterator[Row]:
    """The build of torch and the card fit together."""
    if gpu:
        yield "built for", " ".join(torch.cuda.get_arch_list()), None
        yield "capability", torch.cuda.get_device_capability(device), None
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    difference = distance([torch.conv2d(x.to(device), x.to(device)).cpu()], [torch.conv2d(x, x)])
    yield "a convolution and the CPU's, relative", difference, difference < 1e-12
    yield command("ldarts", "info")


def gpu_tests(_: torch.device, gpu: bool) -> Iterator[Row]:
    """The tests that are marked ``gpu``, in one process."""
    which = ("-m", "gpu", "tests") if gpu else ("tests/runs/test_environment.py", "-k", "kernels")
    yield command("pytest", "-q", "--tb=line", "-p", "no:cacheprovider", *which)


def graphs(device: torch.device, gpu: bool) -> Iterator[Row]:
    """A graph gives the α of eager steps while λ and the learning rate change; memory does not grow."""
    methods = {"exact": "lambda", "central": "lambda", "forward": "darts-2nd"}
    for space, (estimator, method) in product(("s2", "darts") if gpu else ("nasbench201",), methods.items()):
        ends, used = [], []
        for graphed in (False, True):
            settings = {"method": method, "estimator": estimator, "epochs": 6, "precision": "float64"}
            problem = small_problem(space, device, **settings)
            run = GraphedBilevel(problem) if graphed and gpu else problem
            for epoch in range(6 if gpu else 2):
                run.start_epoch(epoch)
                for step in range(WARM_UP_STEPS + 2):
                    run.step(*two_batches(device, 10 * epoch + step, torch.float64))
                used.append(torch.cuda.memory_allocated(device) // 2**20 if gpu else 0)
                if epoch == 1:
                    ends.append([alpha.detach().cpu() for alpha in problem.alphas.values()])
        name, difference = f"{space}, {method}, {estimator}", distance(*ends)
        yield f"{name}: α of graph and eager, relative", difference, difference < 1e-9
        yield f"{name}: MiB after each epoch", used, used[-1] <= 1.1 * used[-2] + 1


def step_times(device: torch.device, gpu: bool) -> Iterator[Row]:
    """A step of the official size: reference, fast, batched, graphed, in each space."""
    few = ("--rounds", "5") if gpu else ("--quick", "--rounds", "1", "--spaces", "nasbench201")
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        yield command("ldarts", "bench", "--device", str(device), *few, "--json", str(rows))
        for row in json.loads(rows.read_text()):
            name = "{space}, {implementation}, {regularizer}, checkpoints {checkpoint}".format(**row)
            yield f"{name}: ms, MiB", "{:.1f} {peak_memory_mb:.0f}".format(1000 * row["seconds"], **row), None


def training_steps(device: torch.device, gpu: bool) -> Iterator[Row]:
    """Layouts and precisions of a training step on CIFAR; memory of 128 images of ImageNet on one GPU."""
    yield from pointwise(device, gpu)
    layouts, types = (torch.channels_last, torch.contiguous_format), (None, torch.float16, torch.bfloat16)
    cases = [("cifar", *case) for case in product(layouts, types if gpu else types[::2])]
    for recipe, layout, precision in [*cases, ("imagenet", layouts[0], None)]:
        chosen = training_protocol("DARTS_V2", published("DARTS_V2"), "cifar10", recipe, "paper")
        count, pixels = {"cifar": (96, 32), "imagenet": (128, 224)}[recipe] if gpu else (2, 64)
        chosen = chosen if gpu else chosen.model_copy(update={"channels": 8, "depth": 3})
        network = network_of(chosen, SimpleNamespace(classes=10, channels=3))
        objective = Objective(network.to(device, memory_format=layout).train(), chosen)
        images = torch.randn(count, 3, pixels, pixels, device=device).to(memory_format=layout)
        labels = torch.zeros(count, dtype=torch.int64, device=device)
        if gpu:
            torch.cuda.reset_peak_memory_stats(device)
        with arithmetic("float32" if precision is None else "bf16-mixed"):
            ms = milliseconds(partial(mixed_loss, objective, images, labels, precision), gpu)
        most = torch.cuda.max_memory_allocated(device) // 2**20 if gpu else 0
        yield f"{recipe}, {layout}, {precision or torch.float32}: ms, MiB", f"{ms:.1f} {most}", None


def pointwise(device: torch.device, gpu: bool) -> Iterator[Row]:
    """The 1×1 convolutions of a cell's edges in one call: of groups, and as products of matrices."""
    groups, channels, count, pixels = (14, 16, 64, 32) if gpu else (2, 4, 2, 8)
    x = torch.randn(count, groups, channels, pixels, pixels, device=device, requires_grad=True)
    w = torch.randn(groups, channels, channels, device=device, requires_grad=True)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "groups": lambda: torch.conv2d(x.flatten(1, 2), w.view(-1, channels, 1, 1), groups=groups).view_as(x),
        "matrices": lambda: torch.einsum("ngihw,goi->ngohw", x, w),
    }
    with arithmetic("float32"):
        for name, way in ways.items():
            ms = milliseconds(lambda way=way: way().square().sum(), gpu)
            yield f"pointwise, {name}: ms", f"{ms:.2f}", None
        difference = distance([ways["groups"]()], [ways["matrices"]()])
    yield "pointwise, groups and matrices, relative", difference, difference < 1e-5


def searches(device: torch.device, gpu: bool) -> Iterator[Row]:
    """Whole searches; one that is interrupted goes on here, and on the CPU."""
    kinds = [("nasbench201", "lambda", {"cuda_graph": gpu}), ("s4", "lambda", {}), ("ptb", "lambda", {})]
    with tempfile.TemporaryDirectory() as folder:
        for space, method, settings in [*kinds, ("nasbench201", "lambda-noise", {})]:
            chosen = protocol(space, method=method, size="smoke", **settings)
            found = search(chosen, Path(folder) / f"{space}-{method}", device=device, progress=False)
            yield f"search: {space}, {method}, {settings}", found.genotype, len(found.history) == 2
        original, chosen = SearchState.run_epoch, protocol(size="smoke")
        for where in (device, torch.device("cpu")):
            out = Path(folder) / where.type
            once = patch.object(SearchState, "run_epoch", lambda *a: {0: original}[a[1]](*a))
            with once, suppress(KeyError):  # in the second epoch
                search(chosen, out, device=device, progress=False)
            found = search(chosen, out, device=where, progress=False)
            yield f"begun on {device}, continued on {where}", found.genotype, len(found.history) == 2


def differences(device: torch.device, gpu: bool) -> Iterator[Row]:
    """One batch ten times in float32: the spread of central differences, and their distance from exact."""
    size = {"channels": 16, "depth": 8} if gpu else {}
    problem = small_problem("s2" if gpu else "nasbench201", device, **size)
    net, (batch, _) = problem.supernet, two_batches(device, 0, torch.float32)
    weights = architecture_weights(problem.alphas, net.layout)

    def penalty(estimator: str, precision: str = "float32") -> list[torch.Tensor]:
        with arithmetic(precision):
            how = Regularizer("cosine", estimator)
            _, found = regularized_gradients(net, batch, weights, how, update_statistics=False)
        return [part.double().cpu() for part in found]

    exact, central = penalty("exact"), [penalty("central") for _ in range(10)]
    yield "spread of central differences", max(distance(one, central[0]) for one in central), None
    yield "central and exact, relative", distance(central[0], exact), None
    yield "exact twice, relative", distance(penalty("exact"), exact), None
    yield "exact in TF32 and in float32, relative", distance(penalty("exact", "tf32"), exact), None


def trainings(device: torch.device, gpu: bool) -> Iterator[Row]:
    """In mixed precision, in TF32, compiled; with several GPUs, a shared batch, and graphs on the second."""
    variants = [{"precision": name} for name in ("bf16-mixed", "16-mixed", "tf32")] + [{"compile": True}]
    several = gpu and torch.cuda.device_count() > 1
    for settings, devices in [*((v, 1) for v in variants[: 4 if gpu else 1]), *[({}, 2)] * several]:
        small = {"images": 64, "batch_size": 32, "epochs": 1, **settings}
        chosen = training_protocol("DARTS_V2", published("DARTS_V2"), "digits", size="smoke", **small)
        with tempfile.TemporaryDirectory() as folder:
            where = str(device) if devices == 1 else device.type
            found = evaluate(chosen, folder, device=where, devices=devices, progress=False)
        yield f"{devices} device(s), {settings}: test accuracy", found["test_accuracy"], True
    if several:
        yield from graphs(torch.device("cuda", 1), gpu)


PARTS: Sequence[tuple[int, Callable[[torch.device, bool], Iterator[Row]]]] = (
    (60, kernels), (180, gpu_tests), (150, graphs), (300, step_times),
    (120, training_steps), (120, searches), (90, differences), (150, trainings),
)  # fmt: skip
"""The limit in seconds, imports included, and what is done within it."""


def small_problem(space: str, device: torch.device, **settings: Any) -> Bilevel:
    size = {"channels": 4, "depth": 1 if space == "nasbench201" else 5}
    chosen = protocol(space, "cifar10", size="paper", **{"method": "lambda"} | size | settings)
    own, dtype = torch.Generator(device).manual_seed(0), floating_type(chosen)
    torch.manual_seed(0)
    net = make_supernet(chosen, classes=10, channels_in=3, generator=own).to(device, dtype).train()
    draw = torch.Generator().manual_seed(0)
    alphas = initial_alphas(chosen.search_space, generator=draw, device=device, dtype=dtype)
    return Bilevel(net, alphas, chosen)


def two_batches(device: torch.device, seed: int, dtype: torch.dtype) -> list[Batch]:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 8, 3, 8, 8, generator=draw, dtype=dtype).to(device)
    labels = torch.randint(10, (2, 8), generator=draw).to(device)
    return [Batch(*pair) for pair in zip(images, labels, strict=True)]


def mixed_loss(
    objective: Objective, images: torch.Tensor, labels: torch.Tensor, precision: torch.dtype | None
) -> torch.Tensor:
    """Of a training step, in mixed precision unless that is None."""
    with torch.autocast(images.device.type, precision, enabled=precision is not None):
        return objective(images, labels, None)[0]


def milliseconds(loss: Callable[[], torch.Tensor], gpu: bool) -> float:
    """A loss and its gradients, the mean of ten (on a CPU: one), after one that warms up."""
    for times in (1, 10 if gpu else 1):
        begin = time.perf_counter()
        for _ in range(times):
            found = loss()
            found.backward()
        found.item()  # waits
    return 1000 * (time.perf_counter() - begin) / times


def command(name: str, *arguments: str) -> Row:
    """Whether a command ends well, and its last line."""
    start = {"ldarts": ["-c", "from ldarts_lib.cli import main; main()"], "pytest": ["-m", "pytest"]}[name]
    done = subprocess.run([sys.executable, *start, *arguments], cwd=ROOT, capture_output=True, text=True)
    lines = (done.stdout if name == "pytest" or not done.returncode else done.stderr).strip().splitlines()
    return " ".join([name, *arguments[:3]]), lines[-1] if lines else "", done.returncode == 0


def distance(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Relative, of all tensors together."""
    square = sum((a - b).square().sum() for a, b in zip(found, expected, strict=True))
    return float((square / sum(b.square().sum() for b in expected)).sqrt())


def in_time(number: int, device: str, limit: float) -> list[Row]:
    """The rows of a part, and one that says what ended it if it did not end well."""
    call = [sys.executable, __file__, "--device", device, "--child", str(number)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            why = subprocess.run(call, cwd=ROOT, stdout=out, stderr=err, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            why = f"more than {limit} s"
        for file in (out, err):
            file.seek(0)
        rows = [tuple(json.loads(line)) for line in out if line.startswith("[")]
        last = (err.read().strip().splitlines() or [""])[-1]
    return [*rows, (f"ended by {why}", last, False)] if why else rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; returns 1 if something is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu: all parts in a small form")
    parser.add_argument("--parts", type=int, nargs="+", default=range(1, 9), metavar="N")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu_check.csv", metavar="FILE")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        device = resolve_device(given.device)
        for row in PARTS[given.child - 1][1](device, device.type == "cuda"):
            print(json.dumps(row, default=str), flush=True)
        return 0
    there, table = given.device == "cpu" or torch.cuda.is_available(), [COLUMNS]
    card = device_report(resolve_device(given.device)) if there else "none"
    for number in given.parts:
        limit, part = PARTS[number - 1]
        print(f"{number} {part.__name__} (at most {limit} s)", flush=True)
        limit *= 1 if given.device != "cpu" else 30  # a busy computer is no fault
        rows = in_time(number, given.device, limit) if there else [(part.__name__, "no CUDA device", None)]
        for what, found, good in rows:
            judged = {True: "yes", False: "NO", None: ""}[good]
            print(f"  {judged:<4}{what}: {found}", flush=True)
            table.append((card, torch.__version__, number, what, found, judged))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(table)
    wrong = sum(row[-1] == "NO" for row in table)
    print(f"{card}: {wrong} of {len(table) - 1} not as expected; {given.out}")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
