"""What a training left, in use: the trained network, and what it says of pictures."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ldarts_lib.datasets.catalogue import IMAGENET
from ldarts_lib.datasets.decoded import read_picture
from ldarts_lib.datasets.imagenet import PictureFiles, central_crop, in_unit_scale
from ldarts_lib.errors import DatasetCorrupt, RunError
from ldarts_lib.evaluation.images import TEST_BATCH_OF_FILES, resized, training_images
from ldarts_lib.evaluation.protocols import RECIPES, TrainingProtocol
from ldarts_lib.evaluation.training import network_of
from ldarts_lib.files import make_folder, write_atomically
from ldarts_lib.progress import Bar
from ldarts_lib.runs.contents import CONFIG, ENVIRONMENT, IMAGES
from ldarts_lib.runs.directory import CHECKPOINT, Run
from ldarts_lib.runs.environment import arithmetic
from ldarts_lib.settings import validated

_FACTS = "class_names", "channels", "size", "mean", "std"
_KEPT = {"architecture", "genotype", "recipe", "channels", "depth", "reduction", "stem", "resolution"}


class TrainedNetwork(nn.Module):
    """The network of a finished training: images [batch, channels, size, size], float32 in 0..1 → logits
    [batch, classes]. What its training did to the images before (normalization, resizing) it does itself.

    Attributes:
        class_names: of the logits, in their order.
        channels, size: of the images; the height and the width are the same.
        metadata: these facts, the architecture and the settings of the network as texts, for other programs.
    """

    def __init__(self, network: nn.Module, protocol: TrainingProtocol, images: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self.genotype = network, protocol.parsed
        self.class_names, self.channels, self.size = (images[n] for n in ("class_names", "channels", "size"))
        self.dataset, self.pixels = protocol.dataset, protocol.resolution or self.size
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(images[name]).view(1, -1, 1, 1))
        facts = {name: images[name] for name in _FACTS}
        facts["network"] = protocol.model_dump(mode="json", include=_KEPT)
        self.metadata = {name: json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()}
        shape = f"[batch, {self.channels}, {self.size}, {self.size}]"
        self.metadata |= {"input": f"images {shape}, float32 in 0..1", "output": "logits [batch, classes]"}

    def forward(self, images: Tensor) -> Tensor:
        """Images [batch, channels, size, size] in 0..1 → logits [batch, classes]."""
        return self.network(resized((images - self.mean) / self.std, self.pixels))


def trained_network(path: str | Path) -> TrainedNetwork:
    """The network of a finished training of images, on the CPU, in evaluation mode: no path is dropped, and
    the auxiliary head is gone.

    Examples:
        >>> import tempfile
        >>> from ldarts_lib import evaluate, published
        >>> from ldarts_lib.evaluation.protocols import training_protocol
        >>> tiny = {"size": "smoke", "epochs": 1, "images": 32, "channels": 2, "depth": 2}
        >>> run = tempfile.mkdtemp()
        >>> protocol = training_protocol("V2", published("DARTS_V2"), recipe="cifar-small", **tiny)
        >>> _ = evaluate(protocol, run, device="cpu", progress=False)
        >>> network = trained_network(run)
        >>> network(torch.rand(3, network.channels, network.size, network.size)).shape
        torch.Size([3, 10])

    Args:
        path: the run directory of :func:`~ldarts_lib.evaluation.evaluate.evaluate` or ``ldarts evaluate``.

    Raises:
        RunError: it holds no finished training of images; the message says what to do instead.
        DatasetMissing: the run is older than ``images.json``, and its data set is not here any more.
    """
    run = Run(path)
    kept = run.read_json(IMAGES) if (run.path / IMAGES).exists() else {}  # in an older run
    protocol = _protocol(run, kept.get("folder"))
    images = kept or training_images(protocol, torch.device("cpu")).facts
    saved = run.read_checkpoint() or {}
    if "network" not in saved:
        raise RunError(f"{run.path} has no {CHECKPOINT} of a training: its weights were not kept")
    shape = SimpleNamespace(classes=len(images["class_names"]), channels=images["channels"])
    network = network_of(protocol, shape)
    try:
        network.load_state_dict(saved["network"])
    except (RuntimeError, TypeError) as error:
        raise RunError(f"{run.path}: {CHECKPOINT} is not of the network in {CONFIG} ({error})") from None
    network.auxiliary = None
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise RunError(f"{run.path} diverged, its weights are no numbers; train with a smaller learning_rate")
    return TrainedNetwork(network, protocol, images).eval()


def _protocol(run: Run, folder: str | None) -> TrainingProtocol:
    """The settings of a finished training of images; anything else is refused with what to do."""
    path = shlex.quote(str(run.path))
    if not (run.path / CONFIG).exists():
        raise RunError(f"{path} is no run directory: expected that of a finished `ldarts evaluate`")
    config = run.read_json(CONFIG)
    if "recipe" not in config and "bptt" not in config:
        command = f"ldarts evaluate {path} --dataset {shlex.quote(folder or config['dataset'])}"
        raise RunError(f"{path} is a search, its cell is not trained yet: `{command}` trains it")
    if config.get("recipe") not in RECIPES:
        what = "a language model" if "bptt" in config else "a look-up, which trains nothing"
        raise RunError(f"{path} is of {what}; expected a training of images by `ldarts evaluate`")
    if not run.finished:
        program, *arguments = run.read_json(ENVIRONMENT)["command"]
        again = shlex.join(["ldarts", *arguments]) if Path(program).stem == "ldarts" else "its command"
        raise RunError(
            f"{path} has {run.epochs} of {config['epochs']} epochs: repeat `{again}` to finish it; or, if "
            "the loss was no longer a number, begin in another directory with a smaller learning_rate"
        )
    return validated(TrainingProtocol, config)


@torch.no_grad()
def predict(
    network: TrainedNetwork, pictures: Sequence[Path], *, progress: bool = True
) -> tuple[list[tuple[Path, str, float]], dict[Path, str]]:
    """The class of each picture and its probability, and what is wrong with those that cannot be read."""
    found, bad, device = [], {}, network.mean.device
    for start in Bar(range(0, len(pictures), TEST_BATCH_OF_FILES), disable=not progress, unit="batch"):
        read = {}
        for path in pictures[start : start + TEST_BATCH_OF_FILES]:
            picture = _decoded(path, network)
            (bad if isinstance(picture, str) else read)[path] = picture
        if read:
            with arithmetic("float32"):
                shares, best = network(torch.stack([*read.values()]).to(device)).softmax(-1).max(-1)
            names = [network.class_names[index] for index in best]
            found += zip(read, names, shares.tolist(), strict=True)
    return found, bad


def write_predictions(path: Path, found: Sequence[tuple[Path, str, float]]) -> None:
    """A table with the columns picture, class, probability."""
    import pandas as pd  # which a network alone does not need

    make_folder(path.parent)
    table = pd.DataFrame(found, columns=["picture", "class", "probability"])
    how = {"index": False, "lineterminator": "\n", "errors": "backslashreplace"}  # names that are no Unicode
    write_atomically(path, lambda file: table.to_csv(file, **how))


def _decoded(path: Path, network: TrainedNetwork) -> Tensor | str:
    """A picture as those of the training's test, [channels, size, size] in 0..1, or why it cannot be read."""
    if network.dataset != IMAGENET:
        _, picture = read_picture(path, network.size, network.channels)
        return picture if isinstance(picture, str) else torch.tensor(picture) / 255
    try:
        return in_unit_scale(PictureFiles([(path, 0)], [], central_crop(network.size))[0][0])
    except DatasetCorrupt as error:
        return str(error)
