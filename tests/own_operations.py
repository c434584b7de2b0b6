"""A module as users write one: it registers operations, and space files import it by name."""

from torch import nn

from ldarts_lib import register_operation


def gated(channels, stride, affine):
    """It has parameters, a BatchNorm of PyTorch's, and a strided 1×1 kernel, where oneDNN errs."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1, stride, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
        nn.GELU(),
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
    )


register_operation("gated", gated, cost=lambda channels, height, width: channels * height * width)
# names that begin or go on like those of built-in operations mean nothing
register_operation("sep_conv_1x1", lambda c, s, affine: nn.Sequential(nn.Conv2d(c, c, 1, s), nn.Tanh()))
register_operation("wide_pool", lambda c, s, affine: nn.AvgPool2d(5, s, 2))
register_operation("dropped", lambda c, s, affine: nn.Sequential(nn.AvgPool2d(s), nn.Dropout2d(0.5)))
