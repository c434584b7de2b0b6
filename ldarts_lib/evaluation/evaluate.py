"""Train an architecture from scratch by its protocol, test it, and record everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ldarts_lib.datasets.corpus import Corpus, load_text
from ldarts_lib.datasets.images import ImageDataset
from ldarts_lib.errors import ProtocolError
from ldarts_lib.evaluation.devices import launch, require_devices
from ldarts_lib.evaluation.images import training_images
from ldarts_lib.evaluation.language import LanguageTraining
from ldarts_lib.evaluation.protocols import LanguageTrainingProtocol, TrainingProtocol
from ldarts_lib.evaluation.training import has_dead_ends, train_images
from ldarts_lib.runs.contents import METRICS
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.environment import refuse_emulated, resolve_device, tuned_convolutions
from ldarts_lib.runs.record import begun, record


def evaluate(
    protocol: TrainingProtocol | LanguageTrainingProtocol,
    out: str | Path,
    *,
    device: torch.device | str = "auto",
    devices: int = 1,
    dataset: ImageDataset | Corpus | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train an architecture, test it, and record everything in a run directory.

    An interrupted training goes on, a finished one is read. The columns of its history are told by
    :class:`~ldarts_lib.evaluation.training.ImageTraining` and
    :class:`~ldarts_lib.evaluation.language.LanguageTraining`.

    Examples:
        >>> import tempfile
        >>> from ldarts_lib import parse
        >>> from ldarts_lib.evaluation.protocols import training_protocol
        >>> cell = parse("|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|")
        >>> tiny = training_protocol("mine", cell, size="smoke", epochs=1, images=32, batch_size=16)
        >>> found = evaluate(tiny, tempfile.mkdtemp(), device="cpu", progress=False)
        >>> found["parameters"], found["changed"]
        (846, 'images = 32, epochs = 1, batch_size = 16')

    Args:
        device: auto, cpu, cuda, cuda:1, ...
        devices: how many share each batch of images, one process each; on the CPU as many processes.
        dataset: the images or the text, if they are loaded already.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        ProtocolError: the images or the text do not go with the protocol, or the devices are not there.
        DatasetMissing, DatasetCorrupt: the images or the text cannot be read.
        RunError: the directory cannot be used or written.
        Diverged: the loss is NaN or infinite (ProcessFailed with the same text on several devices).
    """
    if isinstance(dataset, ImageDataset):
        protocol = protocol.on(dataset.facts)
    where, run = resolve_device(str(device)), Run(out)
    if isinstance(protocol, LanguageTrainingProtocol):
        if devices != 1:
            raise ProtocolError(f"devices = {devices}: a language model is trained on one device")

        def begin() -> LanguageTraining:
            text = dataset or load_text(protocol.dataset, min_count=protocol.min_count)
            return LanguageTraining(protocol, text, where)

        record(out, protocol, begin, device=where, progress=progress)
        return run.read_json(METRICS)
    require_devices(where, devices, named=":" in str(device))
    if not run.finished_with(protocol):
        training_images(protocol, torch.device("cpu"), part=(0, devices), dataset=dataset)  # refused early
        refuse_emulated(protocol.precision, where)
        with tuned_convolutions(where), begun(out, protocol, where, devices=devices):
            launch(
                train_images,
                run,
                protocol,
                dataset.to("cpu") if dataset and devices > 1 else dataset,
                progress,
                device=where,
                devices=devices,
                precision=protocol.precision,
                dead_ends=has_dead_ends(protocol.parsed),
            )
    return run.read_json(METRICS)
