"""Small supernets and batches, and naive oracles that share no code with the library."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.spaces.space import SPACES, Space

DEPTHS = {"stages": 1, "chain": 5}  # three normal cells each
RELEASED = json.loads((Path(__file__).parent / "spaces" / "released.json").read_text())
"""Candidate operations and cells as the named code has them, in a file that only tests read."""
NODES = {"darts": 2, "darts8": 2, "s2": 2, "s3": 3, "s4": 2}  # s1, whose edges differ, and nasbench201 stay


def held(name: str) -> Path:
    """A file of data that does not ship; the test is skipped where it is not at hand."""
    folder = os.environ.get("LDARTS_TEST_DATA")
    if not folder:
        pytest.skip("needs LDARTS_TEST_DATA")
    return Path(folder) / name


def small_space(name: str) -> Space:
    """A search space with fewer nodes in its cells, but all candidate operations."""
    space = SPACES[name]
    cells = {
        kind: replace(cell, nodes=nodes, candidates=cell.candidates[: sum(range(2, 2 + nodes))])
        for kind, cell in space.cells.items()
        if (nodes := NODES.get(name))
    }
    return replace(space, cells=cells or space.cells)


def small_supernet(
    space: Space | str, dtype: torch.dtype = torch.float64, depth: int | None = None, **options: Any
) -> Supernet:
    """A supernet of two channels and three classes; all its parameters and statistics are random."""
    space = SPACES[space] if isinstance(space, str) else space
    sizes = {"channels": 2, "depth": depth or DEPTHS[space.macro], "classes": 3, "channels_in": 1}
    net = Supernet(space, **sizes, **options).to(dtype)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            noise = torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
            if name.endswith("running_var"):
                tensor.copy_(1 + noise.abs())
            elif tensor.dim() > 1:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
            elif tensor.dim():
                tensor.copy_(name.endswith("weight") + 0.3 * noise)  # of a BatchNorm, or an offset
    return net


def small_batch(seed: int = 0, dtype: torch.dtype = torch.float64, size: int = 6, pixels: int = 8) -> Batch:
    """Random images [size, 1, pixels, pixels] and labels of three classes."""
    draw = torch.Generator().manual_seed(1000 + seed)
    images = torch.randn(size, 1, pixels, pixels, generator=draw, dtype=torch.float64)
    return Batch(images.to(dtype), torch.randint(3, (size,), generator=draw))


def drawn_alphas(net: Supernet, seed: int = 3) -> dict[str, Tensor]:
    """α as large as at the end of a search, [edges, operations] per kind, in float64."""
    draw = torch.Generator().manual_seed(seed)
    return {
        kind: 0.7 * torch.randn(cell.shape, generator=draw, dtype=torch.float64)
        for kind, cell in net.space.cells.items()
    }


def random_weights(net: Supernet, seed: int = 0) -> dict[str, Tensor]:
    """Softmax weights that differ from cell to cell: leaves [cells, edges, operations] per kind."""
    draw = torch.Generator().manual_seed(2000 + seed)
    dtype = next(net.parameters()).dtype
    shapes = {kind: (net.layout.count(kind), *cell.shape) for kind, cell in net.space.cells.items()}
    drawn = {kind: torch.randn(s, generator=draw, dtype=torch.float64) for kind, s in shapes.items()}
    return {kind: alpha.softmax(-1).to(dtype).requires_grad_() for kind, alpha in drawn.items()}


def statistics(net: nn.Module) -> dict[str, Tensor]:
    """A copy of all buffers."""
    return {name: buffer.clone() for name, buffer in net.named_buffers()}


def error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Relative Euclidean distance of two lists of tensors."""
    difference = sum((a.cpu() - b).square().sum() for a, b in zip(found, expected, strict=True))
    return (difference / sum(b.square().sum() for b in expected)).sqrt().item()


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Within it, an operation that waits for the GPU fails. That torch calls this a prototype is no error."""

    def set_mode(mode: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.set_sync_debug_mode(mode)

    try:
        set_mode("error")
        yield
    finally:
        set_mode("default")


def naive_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    if norm.training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    else:
        mean, variance = norm.running_mean, norm.running_var
    y = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    return y if norm.weight is None else y * norm.weight[:, None, None] + norm.bias[:, None, None]


def naive_operation(name: str, module: nn.Module, x: Tensor, stride: int) -> Tensor:
    """One candidate operation, except ``noise``, from the kernels and norms that the module holds."""
    kernels = [m.weight for m in module.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    channels = x.shape[1]
    if name == "none":
        return 0 * x[..., ::stride, ::stride]
    if name == "skip_connect":
        return x if stride == 1 else naive_factorized_reduce(kernels, norms[0], x)
    if "pool" in name:
        if name == "max_pool_3x3":
            y = F.max_pool2d(x, 3, stride, 1)
        else:
            area = F.avg_pool2d(torch.ones_like(x), 3, stride, 1)
            y = F.avg_pool2d(x, 3, stride, 1) / area
        return naive_norm(y, norms[0]) if norms else y
    size = int(name[-1])
    if name.startswith("nor_conv"):
        return naive_norm(F.conv2d(x.relu(), kernels[0], None, stride, size // 2), norms[0])
    repeats, dilation = (2, 1) if name.startswith("sep") else (1, 2)
    for i in range(repeats):
        padding = dilation * (size - 1) // 2
        x = F.conv2d(x.relu(), kernels[2 * i], None, stride if i == 0 else 1, padding, dilation, channels)
        x = naive_norm(F.conv2d(x, kernels[2 * i + 1]), norms[i])
    return x


def naive_factorized_reduce(kernels: list[Tensor], norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    x = x.relu()
    halves = [F.conv2d(x, kernels[0])[..., ::2, ::2], F.conv2d(x, kernels[1])[..., 1::2, 1::2]]
    return naive_norm(torch.cat(halves, 1), norm)
