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
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ldarts_lib import __version__
from ldarts_lib.errors import LdartsError
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
        name: ``auto`` (a CUDA GPU, else the CPU), ``cpu``, ``cuda`` (the current GPU) or
            ``cuda:<index>``.

    Raises:
        DeviceUnavailable: no such name, or no such device here; the message says what there is.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
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
            return torch.device("cuda", index)
    raise DeviceUnavailable(
        f"device {name!r}: this torch ({torch.__version__}, built for CUDA: "
        f"{torch.version.cuda or torch.version.hip or 'no'}) sees {gpus} CUDA GPU(s), with "
        f"CUDA_VISIBLE_DEVICES {os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}; "
        "use the device cpu, or install a build for your GPU "
        "(https://pytorch.org/get-started/locally) and check that nvidia-smi lists it, with a recent driver"
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
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
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
    """Within it, float32 convolutions and products on a GPU use TF32 if precision is ``tf32``, else never."""
    tf32 = precision == "tf32"
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


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
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()
