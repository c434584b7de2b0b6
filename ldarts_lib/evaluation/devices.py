"""One computation on one device or several, one process each (Lightning Fabric)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from ldarts_lib.errors import ProtocolError
from ldarts_lib.runs.processes import ProcessFailed, ending, process_pool

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def require_devices(device: torch.device, devices: int, *, named: bool = False) -> None:
    """Check that so many devices are there (``named``: by an index); the CPU counts as any number.

    Raises:
        ProtocolError: there are fewer, less than one is asked for, or several beside one that was named.
    """
    if devices > 1 and named:
        raise ProtocolError(f"devices = {devices} does not go with the device {device}; use cuda or cpu")
    if devices < 1:
        raise ProtocolError(f"devices = {devices}: expected at least 1")
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise ProtocolError(f"devices = {devices}, but torch sees {torch.cuda.device_count()} GPU(s)")


def make_fabric(device: torch.device, devices: int, precision: str, *, dead_ends: bool = False) -> Fabric:
    """Fabric for one device, or for the first so many of its kind, which share each batch, one process each.

    Args:
        precision: of a training protocol; that of ``tf32`` is switched on by
            :func:`~ldarts_lib.runs.environment.arithmetic`.
        dead_ends: whether the loss does not depend on some parameters.
    """
    from lightning_fabric import Fabric  # takes longer to import than all the rest
    from lightning_fabric.plugins.environments import LightningEnvironment
    from lightning_fabric.strategies import DDPStrategy

    one = devices == 1
    return Fabric(
        accelerator=device.type,
        devices=[device.index] if one and device.type == "cuda" else devices,
        strategy="auto" if one else DDPStrategy(start_method="spawn", find_unused_parameters=dead_ends),
        precision="32-true" if precision == "tf32" else precision,
        plugins=[LightningEnvironment()],  # the processes are ours, also within a job of a cluster
    )


def launch(function: Callable[..., None], *arguments: Any, devices: int, **options: Any) -> None:
    """Call ``function(fabric, *arguments)`` in every process; the options are those of :func:`make_fabric`.

    Several processes are started by one of their own: a notebook's may not start them, and may hold a GPU.
    They share this one's threads.

    Raises:
        ProcessFailed: several processes, and one raised an error (with its name and text) or was killed. A
            single process raises its error itself.
    """
    run = partial(_run, function, arguments, devices=devices, **options)
    if devices == 1:
        run()
        return
    with process_pool(1, "cpu", threads=max(torch.get_num_threads() // devices, 1)) as pool:
        pool.submit(run).result()


def _run(function: Callable[..., None], arguments: tuple[Any, ...], **options: Any) -> None:
    try:
        make_fabric(**options).launch(function, *arguments)
    except ProcessExitedException as error:
        raise ProcessFailed(f"process {error.error_index} {ending(error.exit_code)}") from None
    except ProcessRaisedException as error:
        raise ProcessFailed(str(error).strip().splitlines()[-1]) from None
