"""Strided 1×1 convolutions of few channels in the layout channels_last, on a CPU: oneDNN's own crash.

The shapes are tried by a child process, this file itself, for a crash must not end the tests.
"""

import copy
import itertools
import os
import subprocess
import sys
from functools import partial

import torch

from ldarts_lib.fast.execution import Execution
from ldarts_lib.fast.mixing import Norm
from ldarts_lib.fast.packed import packed_layers
from ldarts_lib.fast.twice import Convolution
from ldarts_lib.networks.operations import TEXTBOOK, FactorizedReduce, Layers, relu_conv_norm
from ldarts_lib.runs.processes import ending

CHANNELS, PIXELS = (2, 4, 8, 12), (8, 40)
RUN = Execution("separate")
FAST = Layers(partial(Convolution, run=RUN), partial(Norm, run=RUN))
BUILD = {
    "reduction": lambda c, layers: FactorizedReduce(c, c, True, layers),
    "convolution": lambda c, layers: relu_conv_norm(c, c, 1, stride=2, affine=True, layers=layers),
}


def test_few_channels_neither_crash_nor_give_other_gradients():
    command, patient = [sys.executable, __file__], {"OMP_WAIT_POLICY": "PASSIVE"}
    child = subprocess.run(command, env=os.environ | patient, capture_output=True, text=True, check=False)
    assert child.returncode == 0, f"{ending(child.returncode)}\n{child.stdout}{child.stderr}"


def derivatives(module, x):
    """The output, its derivatives, and the second derivatives by the input that exact regularizers need."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(x)
    g = torch.arange(y.numel(), dtype=torch.float64).square().cos().view_as(y).to(y.dtype)
    first = torch.autograd.grad(y, [x, *module.parameters()], g, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), x)
    return [tensor.detach() for tensor in (y, *first, *second)]


def try_all():
    variants = {"reference": (TEXTBOOK, 1), "fast": (FAST, 1), "packed": (packed_layers(2, FAST), 2)}
    for name, channels, pixels, variant in itertools.product(BUILD, CHANNELS, PIXELS, variants):
        layers, copies = variants[variant]
        module = BUILD[name](channels, layers)
        x = torch.randn(2, copies * channels, pixels, pixels)
        exact = derivatives(copy.deepcopy(module).double(), x.double())
        module = module.to(memory_format=torch.channels_last)
        found = derivatives(module, x.to(memory_format=torch.channels_last))
        for one, other in zip(found, exact, strict=True):
            error = (one - other).norm() / other.norm()
            assert error < 1e-3, f"{variant} {name} of {channels} channels, {pixels} pixels: {error}"
        if name != "convolution":
            assert found[0].is_contiguous(memory_format=torch.channels_last), (variant, name)


if __name__ == "__main__":
    torch.manual_seed(0)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try_all()
