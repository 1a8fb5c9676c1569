"""Arithmetic of sliding windows: output sizes and TensorFlow Lite's two paddings."""

from __future__ import annotations

Pair = tuple[int, int]


def output_size(size: int, kernel: int, stride: int, dilation: int, padding: Pair) -> int:
    """Positions of a window along one axis (PyTorch's floor rule)."""
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> Pair:
    """Zeros before and after one axis that TensorFlow's ``SAME`` adds; the odd one goes behind."""
    positions = -(-size // stride)
    total = max((positions - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def reached_padding(size: int, kernel: int, stride: int, dilation: int, padding: Pair) -> Pair:
    """The part of ``padding`` that any window touches: trailing zeros may never be read."""
    positions = output_size(size, kernel, stride, dilation, padding)
    last = (positions - 1) * stride + (kernel - 1) * dilation + 1
    return padding[0], max(last - size - padding[0], 0)
