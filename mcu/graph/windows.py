"""Arithmetic of sliding windows: output sizes and TensorFlow Lite's two paddings."""

from __future__ import annotations

from typing import Any

Pair = tuple[int, int]
NO_PADDING: tuple[Pair, Pair] = ((0, 0), (0, 0))


def output_size(size: int, kernel: int, stride: int, dilation: int, padding: Pair) -> int:
    """Positions of a window along one axis (PyTorch's floor rule)."""
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> Pair:
    """Zeros before and after one axis that TensorFlow's ``SAME`` adds; an odd zero is added after."""
    positions = -(-size // stride)
    total = max((positions - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def reached_padding(size: int, kernel: int, stride: int, dilation: int, padding: Pair) -> Pair:
    """The part of ``padding`` that any window touches: trailing zeros may never be read."""
    positions = output_size(size, kernel, stride, dilation, padding)
    last = (positions - 1) * stride + (kernel - 1) * dilation + 1
    return padding[0], max(last - size - padding[0], 0)


def pair_of(value: Any, flat: bool = False, fill: int = 1) -> Pair:
    """``3 -> (3, 3)``; 1-D values apply to the height: ``(3,) -> (3, 1)``."""
    if isinstance(value, int):
        return (value, fill) if flat else (value, value)
    return (int(value[0]), int(value[1])) if len(value) == 2 else (int(value[0]), fill)


def own_padding(padding: Any, kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """What a convolution's ``padding`` adds: ``"same"``, ``"valid"``, or the same number of zeros on both sides."""
    if padding == "valid":
        return NO_PADDING
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return (totals[0] // 2, totals[0] - totals[0] // 2), (totals[1] // 2, totals[1] - totals[1] // 2)
    rows, columns = pair_of(padding, fill=0)
    return (rows, rows), (columns, columns)
