"""BatchNorm whose statistics are those of the batches of all processes together."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn


class _SumOfProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(_: object, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:
        return _SumOfProcesses.forward(_, gradient)


class SynchronizedNorm(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes, on any device; PyTorch's own needs a GPU.

    Every process must have as many images.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, height, width] → the same, normalized."""
        if not self.training:
            return super().forward(x)
        kind, x = x.dtype, x if x.dtype == torch.float64 else x.float()
        world = distributed.get_world_size()
        # μ = (1/W) Σ_w m(x_w) and σ² = (1/W) Σ_w m((x_w − μ)²), m the mean over the batch of process w
        mean = _SumOfProcesses.apply(x.mean((0, 2, 3)) / world)
        centered = x - mean[:, None, None]
        variance = _SumOfProcesses.apply(centered.square().mean((0, 2, 3)) / world)
        count = world * x.numel() // x.shape[1]
        self.num_batches_tracked += 1
        # μ̄ ← (1 − a) μ̄ + a μ, and σ̄² likewise with the unbiased variance n/(n − 1) σ²
        self.running_mean.lerp_(mean.detach(), self.momentum)
        self.running_var.lerp_(variance.detach() * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(kind)


def synchronize_norms(network: nn.Module, device: torch.device) -> None:
    """Let all BatchNorms of a network see the batches of all processes; in place."""
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SynchronizedNorm
