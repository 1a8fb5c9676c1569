"""Modules and functions that a canonical network uses besides torch's own layers; none has sizes fixed in it.

Every value is an image ``(N, C, H, W)`` or, behind a dense layer, a row ``(N, C)``. No function takes a number of
channels as an argument, so that all of them stay valid when channels are removed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mcu.graph.windows import Pair

FAST_KERNEL = 3
FAST_SIZE = 3
"""A depthwise convolution in bfloat16 has fast gradients up to this kernel and from this size of map on."""


class Convolution(nn.Conv2d):
    """A convolution computed in float32 where its bfloat16 gradients would be slow on a CPU, or never end.

    On torch 2.13's oneDNN the gradients of a depthwise convolution with stride 2, a kernel above 3x3 or a map of two
    pixels take 10 to 80 times as long in bfloat16 as in float32 (96 channels, 28 x 28, stride 2: 149 ms and 26 ms), and
    those of a 1 x 16 kernel do not end. The check is part of the arithmetic function, because gates call that and not
    the layer.

    Attributes:
        depthwise: whether each input channel has its own outputs; else ``groups`` are groups of equal size.
    """

    def __init__(self, *sizes: Any, **settings: Any) -> None:
        super().__init__(*sizes, **settings)
        self.depthwise = 1 < self.groups == self.in_channels

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if self.groups == 1 or x.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or self._is_fast(x):
            return super()._conv_forward(x, weight, bias)
        with torch.autocast("cpu", enabled=False):
            return super()._conv_forward(x.float(), weight.float(), None if bias is None else bias.float())

    def _is_fast(self, x: torch.Tensor) -> bool:
        return max(self.stride) == 1 and max(self.kernel_size) <= FAST_KERNEL and min(x.shape[-2:]) >= FAST_SIZE


class TransposedConvolution(nn.Module):
    """A transposed convolution whose weights are ``(out, in, kh, kw)``, as those of every other layer are.

    Attributes:
        padding: rows and columns that are cut off all around.
        output_padding: rows and columns below and on the right that are kept, or that no window reaches.
    """

    groups, depthwise, dilation = 1, False, (1, 1)

    def __init__(self, weight: nn.Parameter, stride: Pair, padding: Pair, output_padding: Pair) -> None:
        super().__init__()
        self.out_channels, self.in_channels = weight.shape[:2]
        self.kernel_size: Pair = (weight.shape[2], weight.shape[3])
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.weight = weight
        self.bias: nn.Parameter | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Spread ``(N, C, H, W)``."""
        return self._conv_forward(x, self.weight, self.bias)

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        turned = weight.transpose(0, 1)
        return F.conv_transpose2d(x, turned, bias, self.stride, self.padding, self.output_padding)


def transposed(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: Pair, begin: Pair, size: Pair
) -> torch.Tensor:
    """``size`` rows and columns of a transposed convolution from ``begin`` on; weights ``(out, in, kh, kw)``."""
    axes = list(zip(size, x.shape[2:], stride, weight.shape[2:], begin, strict=True))
    more = [rows - ((count - 1) * step + kernel - 2 * first) for rows, count, step, kernel, first in axes]
    turned = weight.transpose(0, 1)
    if all(0 <= rest < step for rest, step in zip(more, stride, strict=True)):
        return F.conv_transpose2d(x, turned, bias, stride, begin, (more[0], more[1]))
    whole = F.conv_transpose2d(x, turned, None, stride)
    below, right = (more[k] - begin[k] for k in (0, 1))
    return F.pad(whole, (-begin[1], right, -begin[0], below)) + bias[:, None, None]


class PReLU(nn.Module):
    """Values below zero times a slope, one for all channels or one for each."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight, self.bias = weight, None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rectify ``(N, C, ...)``."""
        return F.prelu(x, self.weight.to(x.dtype))


class Affine(nn.BatchNorm2d):
    """``x * weight + bias`` by channel: constants that a network multiplies by and adds.

    A batch normalisation whose statistics stay at 0 and 1, so that surgery on its channels applies to these, too.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter) -> None:
        super().__init__(len(weight), eps=0.0, affine=False, device=weight.device, dtype=weight.dtype)
        self.affine, self.weight, self.bias = True, weight, bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale and shift ``(N, C, ...)``."""
        shape = (-1, *(1,) * (x.ndim - 2))
        return x * self.weight.view(shape) + self.bias.view(shape)


def limited(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Values clamped to ``low`` .. ``high``, which contains zero."""
    return x.clamp(low, high)


def as_image(x: torch.Tensor) -> torch.Tensor:
    """``(N, C)`` or ``(N, C, L)`` as ``(N, C, L, 1)``."""
    return x.reshape(*x.shape, *(1,) * (4 - x.ndim))


def as_row(x: torch.Tensor) -> torch.Tensor:
    """``(N, C, H, W)`` as ``(N, C * H * W)``."""
    return x.flatten(1)


def pad(x: torch.Tensor, padding: tuple[Pair, Pair], value: float = 0.0) -> torch.Tensor:
    """Zeros, or another value, around ``(N, C, H, W)``: ``((top, bottom), (left, right))``."""
    return _padded(x, padding, value)


def max_pool(x: torch.Tensor, kernel: Pair, stride: Pair, padding: tuple[Pair, Pair]) -> torch.Tensor:
    """Max pool; values outside the image are ignored."""
    return F.max_pool2d(_padded(x, padding, -torch.inf), kernel, stride)


def average_pool(x: torch.Tensor, kernel: Pair, stride: Pair, padding: tuple[Pair, Pair]) -> torch.Tensor:
    """Average pool; values outside the image are not counted."""
    if not any(padding[0] + padding[1]):
        return F.avg_pool2d(x, kernel, stride)
    inside = F.avg_pool2d(_padded(torch.ones_like(x[:1, :1]), padding, 0.0), kernel, stride, divisor_override=1)
    return F.avg_pool2d(_padded(x, padding, 0.0), kernel, stride, divisor_override=1) / inside


def global_max_pool(x: torch.Tensor) -> torch.Tensor:
    """The largest value of each map; ``(N, C, 1, 1)``."""
    return x.amax((2, 3), keepdim=True)


def global_average_pool(x: torch.Tensor) -> torch.Tensor:
    """The mean of each map; ``(N, C, 1, 1)``."""
    return x.mean((2, 3), keepdim=True)


def enlarge(x: torch.Tensor, factors: Pair) -> torch.Tensor:
    """Nearest-neighbour upsampling by whole ``factors`` (height, width)."""
    return F.interpolate(x, scale_factor=(float(factors[0]), float(factors[1])), mode="nearest")


def interpolate(x: torch.Tensor, size: Pair, corners: bool) -> torch.Tensor:
    """Bilinear interpolation to ``size`` (height, width)."""
    return F.interpolate(x, size, mode="bilinear", align_corners=corners)


def cut(x: torch.Tensor, begin: Pair, count: Pair, step: Pair) -> torch.Tensor:
    """``count`` rows and columns, from ``begin`` on, ``step`` apart."""
    rows, columns = (
        slice(first, first + (number - 1) * each + 1, each)
        for first, number, each in zip(begin, count, step, strict=True)
    )
    return x[:, :, rows, columns]


def gather(x: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """The channels of ``(N, C, ...)`` that ``order`` names."""
    first = order[0]
    if order == tuple(range(first, first + len(order))):
        return x[:, first : first + len(order)]
    return x.index_select(1, torch.tensor(order, device=x.device))


class Gather(nn.Module):
    """Some of the channels, in an order of their own; the numbers follow when channels go.

    Attributes:
        order: for each output channel the input channel that it is.
    """

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Gather ``(N, C, ...)``."""
        return gather(x, self.order)


def concatenate(parts: Any) -> torch.Tensor:
    """Channels side by side."""
    return torch.cat(list(parts), 1)


def _padded(x: torch.Tensor, padding: tuple[Pair, Pair], value: float) -> torch.Tensor:
    (top, bottom), (left, right) = padding
    return F.pad(x, (left, right, top, bottom), value=value) if top or bottom or left or right else x
