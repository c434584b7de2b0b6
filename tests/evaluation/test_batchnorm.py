"""BatchNorm over the batches of two processes, played by one that meets its double."""

import pytest
import torch
from torch import distributed, nn

from ldarts_lib.evaluation.batchnorm import SynchronizedNorm, synchronize_norms


@pytest.fixture
def double(monkeypatch):
    """Another process with the same images: a sum over both is twice ours."""
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor: tensor.mul_(2))


def pair():
    """A norm of ours and PyTorch's, with the same random weights and statistics."""
    ours, theirs = SynchronizedNorm(3).double(), nn.BatchNorm2d(3).double()
    with torch.no_grad():
        for tensor in (*theirs.parameters(), theirs.running_mean, theirs.running_var):
            tensor.copy_(1 + torch.rand(3))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def test_two_processes_normalize_as_one_with_both_batches(double):
    ours, theirs = pair()
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    both = torch.cat([x, x]).detach().requires_grad_()
    towards = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    found, expected = ours(x), theirs(both)
    torch.testing.assert_close(found, expected[:4])
    (found * towards).sum().backward()
    (expected * torch.cat([towards, towards])).sum().backward()
    torch.testing.assert_close(x.grad, both.grad[:4])
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(2 * one.grad, other.grad)  # DDP adds them up
    for one, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_half_precision_is_normalized_in_float32(double):
    ours, theirs = (norm.float() for norm in pair())
    x = (100 + torch.randn(4, 3, 5, 5)).bfloat16()
    found = ours(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, theirs(x.float()).bfloat16())


def test_every_batchnorm_of_a_network_is_synchronized():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)))
    for device, kind in (("cpu", SynchronizedNorm), ("cuda", nn.SyncBatchNorm)):
        again = nn.Sequential(*network)
        synchronize_norms(again, torch.device(device))
        assert [type(module) for module in again.modules() if "Norm" in type(module).__name__] == [kind] * 2
