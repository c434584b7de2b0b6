"""The building blocks of the fast supernet against autograd and numerical differentiation."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from ldarts_lib.fast.convolutions import Geometry, by_both, by_input, by_kernel, convolution
from ldarts_lib.fast.execution import Execution
from ldarts_lib.fast.mixing import mix, moments, normalize
from ldarts_lib.fast.separable import separable
from ldarts_lib.fast.sources import Kernels, Source
from ldarts_lib.fast.twice import concatenate, convolve

LAYOUTS = pytest.mark.parametrize(
    "layout", [torch.channels_last, torch.contiguous_format], ids=["last", "first"]
)


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def norm_of(channels, training, seed=0):
    norm = nn.BatchNorm2d(channels, affine=False).double().train(training)
    norm.running_mean.copy_(draw(channels, seed=seed))
    norm.running_var.copy_(1 + draw(channels, seed=seed + 1).abs())
    return norm


def assert_differentiable_twice(function, *inputs):
    assert gradcheck(function, inputs) and gradgradcheck(function, inputs)


def batch_norm(z, norm):
    return F.batch_norm(z, norm.running_mean.clone(), norm.running_var.clone(), None, None, norm.training)


@LAYOUTS
@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_faces_of_a_convolution(layout, size, kernel, stride, dilation, groups):
    geometry = Geometry(stride, dilation * (kernel // 2), dilation, groups)
    x = draw(3, 4, size, size).contiguous(memory_format=layout).requires_grad_()
    w = draw(4, 4 // groups, kernel, kernel, seed=1).requires_grad_()
    y = F.conv2d(x, w, None, *geometry)
    g = draw(*y.shape, seed=2).contiguous(memory_format=layout)
    by_x, by_w = torch.autograd.grad(y, (x, w), g)
    x, w = x.detach(), w.detach()
    torch.testing.assert_close(convolution(x, w, geometry), y.detach())
    alone = by_input(g, w, x.shape, geometry), by_kernel(x, g, w, geometry)
    torch.testing.assert_close(alone, (by_x, by_w))
    torch.testing.assert_close(by_both(g, x, w, geometry), (by_x, by_w))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("stride", "kernel"), [(1, 3), (2, 3), (2, 1)])
def test_a_convolution_differentiates_twice(groups, stride, kernel):
    inputs = draw(2, 2, 4, 4).requires_grad_(), draw(2, 2 // groups, kernel, kernel).requires_grad_()
    geometry = Geometry(stride, kernel // 2, 1, groups)

    def function(x, w):
        return convolve(x, w, geometry, Execution())

    assert_differentiable_twice(function, *inputs)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("width", [1, 2], ids=["a scale per term", "a scale per channel"])
def test_a_mixture_equals_autograd_and_differentiates_twice(training, width):
    norms = norm_of(2, training), norm_of(2, training, seed=3)
    scales = draw(3, width).requires_grad_()
    tensors = [draw(3, 2, 2, 2, seed=seed).requires_grad_() for seed in range(3)]

    def function(scales, x, y, plain):
        return mix(scales, [x, y], moments([x, y], [[norm] for norm in norms], Execution()), [plain])

    x, y, plain = tensors
    s = scales.view(3, -1, 1, 1)
    expected = s[0] * batch_norm(x, norms[0]) + s[1] * batch_norm(y, norms[1]) + s[2] * plain
    torch.testing.assert_close(function(scales, *tensors), expected)
    assert_differentiable_twice(function, scales, *tensors)


def test_a_mixture_without_normalized_terms():
    scales, tensors = draw(2, 1).requires_grad_(), [draw(2, 2, 3, 3, seed=s).requires_grad_() for s in (1, 2)]

    def function(scales, *plain):
        return mix(scales, [], None, plain)

    torch.testing.assert_close(function(scales, *tensors), scales[0] * tensors[0] + scales[1] * tensors[1])
    assert_differentiable_twice(function, scales, *tensors)


@pytest.mark.parametrize("training", [True, False])
def test_normalization_by_several_norms_differentiates_twice(training):
    norms = norm_of(2, training), norm_of(2, training, seed=5)
    z, scale = draw(3, 4, 2, 2).requires_grad_(), draw(4, seed=1).requires_grad_()

    def function(z, scale):
        return normalize(z, scale, norms, Execution())

    expected = torch.cat([batch_norm(part, norm) for part, norm in zip(z.split(2, 1), norms, strict=True)], 1)
    torch.testing.assert_close(function(z, scale), expected * scale.view(1, -1, 1, 1))
    assert_differentiable_twice(function, z, scale)


@LAYOUTS
@pytest.mark.parametrize("normalized", [None, "train", "eval"])
@pytest.mark.parametrize("kinds", [1, 2])
def test_separable_convolutions_equal_autograd_once_and_twice(layout, normalized, kinds):
    """Also of the gradient by the input, along a direction: what the exact regularizer needs."""
    channels, run = 2, Execution()
    inputs = channels * (kinds if normalized else 1)
    norms = [norm_of(channels, normalized == "train", seed=s) for s in range(kinds)] if normalized else []
    geometries = [Geometry(1, 1, 1, channels), Geometry(1, 4, 2, channels)][:kinds]
    x = draw(3, inputs, 6, 6).contiguous(memory_format=layout).requires_grad_()
    depthwise = [draw(channels, 1, size, size, seed=size).requires_grad_() for size in (3, 5)[:kinds]]
    pointwise = draw(kinds * channels, channels, 1, 1, seed=9).requires_grad_()

    def ours():
        return separable(x, depthwise, pointwise, geometries, run, norms)

    def textbook():
        parts = [x] * kinds
        if norms:
            split = zip(x.split(channels, 1), norms, strict=True)
            parts = [batch_norm(part, norm).relu() for part, norm in split]
        rows = zip(parts, depthwise, geometries, strict=True)
        between = torch.cat([F.conv2d(part, w, None, *geometry) for part, w, geometry in rows], 1)
        return F.conv2d(between, pointwise, groups=kinds)

    wanted = (x, *depthwise, pointwise)
    g = draw(*ours().shape, seed=4).requires_grad_()
    torch.testing.assert_close(ours(), textbook())
    found, expected = (torch.autograd.grad(f(), wanted, g.detach()) for f in (ours, textbook))
    torch.testing.assert_close(found, expected)
    direction, second = draw(*x.shape, seed=6), []
    for function in (ours, textbook):
        y = function()
        with run.asking(parameters=False):
            (by_x,) = torch.autograd.grad(y, x, g, create_graph=True)
        second.append(torch.autograd.grad((by_x * direction).sum(), (*wanted, g), materialize_grads=True))
    torch.testing.assert_close(*second)


@LAYOUTS
@pytest.mark.parametrize("stride", [1, 2])
def test_average_pooling_is_pytorchs_in_either_layout(layout, stride):
    x, run = draw(2, 4, 6, 6).contiguous(memory_format=layout), Execution()
    found = Source(x, Kernels(run, []), run).apply(["avg_pool_3x3"], [[nn.Identity()]], stride)
    torch.testing.assert_close(found, F.avg_pool2d(x, 3, stride, 1, count_include_pad=False))


def test_concatenation():
    parts = [draw(2, c, 2, seed=c).requires_grad_() for c in (1, 3, 2)]
    torch.testing.assert_close(concatenate(parts, dim=1), torch.cat(parts, 1))
    assert_differentiable_twice(lambda *parts: concatenate(parts, dim=1), *parts)
