"""A trained network as a file that needs nothing of ours: ONNX, a program of torch.export, safetensors.

All hold the texts of :class:`~ldarts_lib.evaluation.trained.TrainedNetwork`, its ``metadata``: as
``metadata_props`` of ONNX, as extra files of a program, as metadata of safetensors.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ldarts_lib.errors import LdartsError, RunError, require_known
from ldarts_lib.evaluation.trained import TrainedNetwork, trained_network
from ldarts_lib.files import expanded, make_folder, write_atomically

TOLERANCE = 1e-5
"""Of the largest logit (at least 1): how far the file's logits may be from the network's."""
_TORCH = "2.7"
"""The oldest torch whose exporter of ONNX takes names of free axes."""
_INSTALL, _ALONE = 'pip install "ldarts-lib[export]"', "weights.safetensors holds the weights alone"
_Written = tuple[bytes, Callable[[Tensor], Tensor]]  # what a file holds, and the network as read from it


def export(path: str | Path, to: str | Path) -> Path:
    """Write the network of a finished training to a file, if what is read from it gives the same logits.

    Args:
        path: the run directory of the training.
        to: the file; its name ends in ``.onnx``, ``.pt2`` or ``.safetensors``. An older one is replaced.

    Raises:
        UnknownName: another ending.
        RunError: as :func:`~ldarts_lib.evaluation.trained.trained_network`; or the logits differ, or the file
            cannot be written: an older one is untouched.
        LdartsError: a package of the extra ``export`` is not installed or too old, or the format cannot hold
            what this network computes.
    """
    to = expanded(to)
    require_known("file format", to.suffix, _FORMATS)
    network = trained_network(path)
    if any(edge.operation == "noise" for cell in network.genotype.cells.values() for edge in cell.edges):
        raise RunError(f"{path}: the operation noise draws random numbers; such a network is not exported")
    shape = network.channels, network.size, network.size
    try:
        content, read = _FORMATS[to.suffix](network)
        with torch.no_grad():
            drawn = torch.rand(1, *shape), torch.rand(7, *shape)
            pairs = [(network(images), read(images)) for images in drawn]
    except ModuleNotFoundError as error:
        raise LdartsError(f"{error.name} is not installed: {_INSTALL}") from None
    except Exception as error:  # torch raises what it likes, of operations of one's own above all
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        old = torch.__version__ < _TORCH
        remedy = f"torch is {torch.__version__}, exporting needs {_TORCH}: {_INSTALL}" if old else _ALONE
        raise LdartsError(f"this network cannot be written as {to.suffix} ({said}); {remedy}") from error
    for expected, found in pairs:
        far = (expected - found).abs().max() / expected.abs().max().clamp(min=1)
        if not far <= TOLERANCE:
            raise RunError(f"{to} is not written: its logits differ by {far:.1g} of the largest from torch's")
    make_folder(to.parent)
    write_atomically(to, lambda file: file.write(content))
    return to


def _onnx(network: TrainedNetwork) -> _Written:
    import onnxruntime
    import onnxscript  # noqa: F401 (torch's exporter asks for it late, in words of its own)

    names = {"input_names": ["images"], "output_names": ["logits"], "dynamic_shapes": ({0: "batch"},)}
    made = torch.onnx.export(_traced(network), dynamo=True, verbose=False, **names)
    made.model.metadata_props.update(network.metadata)
    for node in made.model.graph:
        node.metadata_props.clear()  # the exporter's notes, as large as the weights
    content = made.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _program(network: TrainedNetwork) -> _Written:
    file = io.BytesIO()
    torch.export.save(_traced(network), file, extra_files=network.metadata)
    file.seek(0)
    return file.getvalue(), torch.export.load(file).module()


def _weights(network: TrainedNetwork) -> _Written:
    from safetensors.torch import load, save

    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    content = save(weights, {"format": "pt", **network.metadata})
    again = copy.deepcopy(network)
    again.load_state_dict(load(content))
    return content, again


_FORMATS = {".onnx": _onnx, ".pt2": _program, ".safetensors": _weights}


def _traced(network: TrainedNetwork) -> torch.export.ExportedProgram:
    """The network as a program whose batch is free."""
    example = torch.rand(2, network.channels, network.size, network.size)
    free = {0: torch.export.Dim("batch")}
    with contextlib.redirect_stderr(io.StringIO()):  # it prints its graph before it fails
        program = torch.export.export(network, (example,), dynamic_shapes=(free,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of files on this machine
    return program
