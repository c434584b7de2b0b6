"""What a run ran on: versions, devices, source tree, and the global seeds.

Nothing happens at import; every function looks when it is called.
"""

from __future__ import annotations

import os
import platform
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ldarts_lib import __version__
from ldarts_lib.errors import LdartsError, ProtocolError, RunError
from ldarts_lib.runs.threads import cores

_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "scikit-learn", "mlxtend", "matplotlib", "pydantic")
_PACKAGES += ("papermill", "ipykernel", "jupyter-book")
_VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "OMP_WAIT_POLICY", "PYTHONHASHSEED")


class DeviceUnavailable(LdartsError, ValueError):
    """There is no such device, or this machine or this build of torch does not offer it."""


def versions() -> dict[str, str]:
    """Versions of Python, the platform, this library and the packages around it.

    Nothing is imported for it; torch's names its build. What is absent is ``not installed``.
    """
    where = platform.platform() + ("" if sys.platform == "linux" else " (untested)")
    found = {"python": platform.python_version(), "platform": where, "ldarts_lib": __version__}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found | {"torch": str(torch.__version__)}


def resolve_device(name: str) -> torch.device:
    """The device of that name; GPUs always carry their index, so that devices compare equal.

    Args:
        name: ``auto`` (a CUDA GPU that this torch has kernels for, else the CPU), ``cpu``, ``cuda`` (the
            current GPU) or ``cuda:<index>``.

    Raises:
        DeviceUnavailable: no such name, or no such device here; the message says what there is.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        lacking = _lacking_kernels(torch.cuda.current_device()) if gpus else ""
        if lacking:
            warnings.warn(f"the CPU is used: {lacking}", stacklevel=2)
        name = "cuda" if gpus and not lacking else "cpu"
    if re.fullmatch(r"mps(:0)?", name):
        raise DeviceUnavailable(
            f"device {name!r}: Apple's GPU is untested, and has no float64, in which a search measures; "
            "use the device cpu"
        )
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise DeviceUnavailable(f"unknown device {name!r}; allowed are auto, cpu, cuda, cuda:<index>")
    if name == "cpu":
        return torch.device("cpu")
    if gpus:
        index = int(name[5:] or torch.cuda.current_device())
        if index < gpus:
            if lacking := _lacking_kernels(index):
                raise DeviceUnavailable(f"device {name!r}: {lacking}; or use the device cpu")
            return torch.device("cuda", index)
    raise DeviceUnavailable(
        f"device {name!r}: this torch ({torch.__version__}, built for CUDA: "
        f"{torch.version.cuda or torch.version.hip or 'no'}) sees {gpus} CUDA GPU(s), with "
        f"CUDA_VISIBLE_DEVICES {os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}; "
        "use the device cpu, or install a build for your GPU "
        "(https://pytorch.org/get-started/locally) and check that nvidia-smi lists it, with a recent driver"
    )


def _lacking_kernels(index: int) -> str:
    """What to say of a GPU whose kernels this build of torch does not have; nothing if it has them."""
    own, built = torch.cuda.get_device_capability(index), torch.cuda.get_arch_list()
    known = [re.match(r"(sm|compute)_(\d+)(\d)", name) for name in built]
    for kind, major, minor in (match.groups() for match in known if match):
        # machine code runs on later minor versions, code that the driver compiles on all later ones
        there = int(major), int(minor)
        if there <= own and (kind == "compute" or there[0] == own[0]):
            return ""
    if not any(known):  # ROCm has names of its own
        return ""
    return (
        f"torch {torch.__version__} has no kernels for the {torch.cuda.get_device_name(index)} "
        f"(sm_{own[0]}{own[1]}; it has {', '.join(built)}); install a build that has them, for Maxwell, "
        "Pascal and Volta one for CUDA 12.6 (https://pytorch.org/get-started/previous-versions)"
    )


def refuse_emulated(precision: str, device: torch.device) -> None:
    """Refuse a type that a GPU only imitates, which takes longer than float32.

    Raises:
        ProtocolError: bfloat16 on a GPU before Ampere.
    """
    if precision in ("bfloat16", "bf16-mixed") and device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                raise ProtocolError(
                    f"precision {precision!r}: {device_report(device)} has no bfloat16, and imitates it more "
                    "slowly than it computes in float32"
                )


def restore_generator(generator: torch.Generator, state: torch.Tensor, *, draws: bool) -> None:
    """Let a generator go on from an earlier state.

    Args:
        draws: whether anything is drawn from it. If not, its state may be that of a device of another kind,
            whose random numbers cannot go on here.

    Raises:
        RunError: it is, and something is drawn.
    """
    if len(state) == len(generator.get_state()):
        generator.set_state(state)
    elif draws:
        raise RunError(
            "this run draws random numbers on its device, and was begun on a device of another kind: "
            "go on there, or begin in another directory"
        )


def device_report(device: torch.device) -> str:
    """One line for readers: the CPU's model and threads, or the GPU's name and memory in GiB."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB of memory"
    return f"cpu: {cpu_model()}, {torch.get_num_threads()} of {cores()} threads"


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """What a run depends on besides its configuration, ready for JSON.

    Returns:
        ``versions``, ``device`` (its report, or None), ``cpu``, ``threads``, ``source`` (see
        :func:`source_state`), ``command`` (the command line) and ``determinism`` (torch's flags and
        the environment variables that bear on it).
    """
    return {
        "versions": versions(),
        "device": None if device is None else device_report(device),
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "source": source_state(Path(__file__).parent),
        "command": list(sys.argv),
        "determinism": {
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            **allows_tf32(),
            **{name: os.environ.get(name) for name in _VARIABLES},
        },
    }


def source_state(folder: Path) -> dict[str, Any] | None:
    """The git commit of a package's folder, and whether files in it differ from that commit.

    None for an installed package: without git, outside a repository, or where the repository around
    the folder does not track it (a virtual environment inside somebody's project).
    """
    git = ("git", "-C", str(folder))
    commit, tracked = _output(*git, "rev-parse", "HEAD"), _output(*git, "ls-files", "--", "__init__.py")
    if not commit or not tracked:
        return None
    return {"commit": commit, "dirty": bool(_output(*git, "status", "--porcelain", "--", "."))}


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Within it, float32 convolutions and products on a GPU use TF32 if the precision is ``tf32`` or one of
    Fabric's mixed ones, else never."""
    tf32 = precision in ("tf32", "16-mixed", "bf16-mixed")
    with ExitStack() as stack:
        for place, name, off, on in [*_convolution_flags(), *_product_flags()]:
            stack.callback(setattr, place, name, getattr(place, name))
            setattr(place, name, on if tf32 else off)
        yield


def allows_tf32() -> dict[str, Any]:
    """Whether a GPU's float32 convolutions may use TF32, and torch's name for the precision of products."""
    (cudnn, flag, _, on), *_ = _convolution_flags()
    ((products, name, *_),) = _product_flags()
    return {"allow_tf32": getattr(cudnn, flag) == on, "float32_matmul_precision": getattr(products, name)}


# torch has old and new flags of the same, refuses to read the old ones once the new ones say something else,
# and lets what nobody set follow torch.backends.fp32_precision. Each function: (object, attribute, off, on).
def _convolution_flags() -> list[tuple[Any, str, Any, Any]]:
    cudnn = torch.backends.cudnn
    above = [getattr(place, "fp32_precision", "none") for place in (torch.backends, cudnn)]
    try:
        if above == ["none", "none"] and cudnn.allow_tf32 is not None:
            return [(cudnn, "allow_tf32", False, True)]
    except RuntimeError:
        pass
    return [(place, "fp32_precision", "ieee", "tf32") for place in (cudnn.conv, cudnn.rnn)]


def _product_flags() -> list[tuple[Any, str, Any, Any]]:
    try:
        torch.get_float32_matmul_precision()
    except RuntimeError:
        return [(torch.backends.cuda.matmul, "fp32_precision", "ieee", "tf32")]
    return [(_Products(), "precision", "highest", "high")]


class _Products:
    precision = property(
        lambda _: torch.get_float32_matmul_precision(),
        lambda _, value: torch.set_float32_matmul_precision(value),
    )


@contextmanager
def tuned_convolutions(device: torch.device) -> Iterator[None]:
    """Within it, cuDNN tries its kernels for each shape, on a GPU; for batches that all have one shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def cpu_model() -> str:
    """The CPU's name as the system gives it, or its architecture."""
    model = platform.processor()
    if sys.platform == "linux":
        (model, *_) = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M) or [""]
    if sys.platform == "darwin":
        model = _output("sysctl", "-n", "machdep.cpu.brand_string")
    return model or platform.machine()


def _output(*command: str) -> str:
    """What a command prints, stripped; empty if it is missing, fails or takes over ten seconds."""
    try:
        limits = {"timeout": 10, "check": True}
        result = subprocess.run(command, capture_output=True, text=True, **limits)  # noqa: S603 -- our words
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()
