"""Which C kernel runs a layer, from its form alone, and which kernels a program has."""

from __future__ import annotations

from collections.abc import Sequence

from mcu.int8.model import QOp
from mcu.int8.structure import OpForm

ONE_RUN = frozenset({"pointwise", "narrow"})
"""Kernels to which a window is one run of values."""

NARROW_CHANNELS = 4  # more input channels make rows of taps that are long enough as they are
COLUMN = 80  # values of a window that are copied together, of pointwise.c


def convolution_kernel(op: QOp | OpForm, in_channels: int) -> str:
    """The kernel that runs a convolution that is not in groups, for one with no others beside it."""
    if op.kernel == (1, 1) and op.padding == ((0, 0), (0, 0)):
        return "pointwise"
    few = in_channels <= NARROW_CHANNELS and op.kernel[0] * op.kernel[1] * in_channels <= COLUMN
    return "narrow" if few and op.dilation == (1, 1) else "convolution"


def depthwise_kernel(op: QOp | OpForm, in_channels: int, out_channels: int) -> str:
    """The kernel that runs a depthwise layer of these channel counts."""
    if in_channels == out_channels:
        return "depthwise"
    return convolution_kernel(op, 1) if in_channels == 1 else "depthwise_multiplied"


def program_kernels(kernels: Sequence[str]) -> list[str]:
    """The kernels of a program, for those that its operators would have each on their own.

    Where there are convolutions of larger windows but no depthwise ones, 1x1 and narrow layers are few: the code of
    kernels of their own, more than a kilobyte, costs more than it saves, and the kernel for any window runs them.
    """
    separable = any(kernel.startswith("depthwise") for kernel in kernels)
    if separable or "convolution" not in kernels:
        return list(kernels)
    return ["convolution" if kernel in ONE_RUN else kernel for kernel in kernels]
