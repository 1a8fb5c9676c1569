"""Output shapes of int8 operators, to check files from other tools."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mcu.graph.kinds import Kind
from mcu.graph.windows import output_size
from mcu.int8.lookup import TABLES
from mcu.int8.model import QOp

Shape = tuple[int, ...]


def _divides(weights: Shape, channels: int) -> bool:
    """Whether a convolution's weights fit this many input channels, in as many groups as that takes."""
    groups, rest = divmod(channels, weights[3]) if weights[3] else (0, 1)
    return rest == 0 and groups > 0 and weights[0] % groups == 0


def broadcast(shapes: Sequence[Shape]) -> Shape | None:
    """The broadcast shape of two operands, of which one may be ``(1, 1, 1, C)``."""
    if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]):
        return None
    small, large = sorted(shapes, key=prod)
    vector = (*(1,) * (len(large) - 1), large[-1])
    return large if small in (large, vector) else None


def _repeats(slopes: Shape, shape: Shape) -> bool:
    """Whether slopes are one, or the last dimensions of a shape as they lie in memory."""
    first = next((dim for dim, size in enumerate(slopes) if size > 1), len(slopes))
    return slopes[first:] == shape[len(shape) - (len(slopes) - first) :]


def _lies_within(op: QOp, source: Shape, output: Shape) -> bool:
    """Whether a slice has the rows and columns that it reads."""
    if len(source) != 4 or len(output) != 4 or (output[0], output[3]) != (source[0], source[3]):
        return False
    axes = zip(op.begin, output[1:3], op.stride, source[1:3], strict=True)
    return all(count > 0 and first + (count - 1) * step < size for first, count, step, size in axes)


def output_shape(op: QOp, shapes: Sequence[Shape], output: Shape) -> Shape | None:
    """The output shape of an operator for its inputs.

    Args:
        op: the operator, with its weights.
        shapes: shapes of its inputs.
        output: shape of its output as the file states it, which decides what the operator leaves open.

    Returns:
        None where no operator of this kind takes such inputs.
    """
    first = shapes[0]
    if op.kind in (Kind.CONV, Kind.DEPTHWISE, Kind.MAX_POOL, Kind.AVG_POOL):
        channels = first[3]
        if op.weights is not None:
            channels = op.weights.shape[0] if op.kind is Kind.CONV else op.weights.shape[3]
            fits = _divides(op.weights.shape, first[3]) if op.kind is Kind.CONV else channels % first[3] == 0
            if not fits or (op.kind is Kind.DEPTHWISE and op.weights.shape[0] != 1):
                return None
        axes = zip(first[1:3], op.kernel, op.stride, op.dilation, op.padding, strict=True)
        return (1, *(output_size(*axis) for axis in axes), channels)
    if op.kind is Kind.DENSE:
        assert op.weights is not None
        if op.weights.ndim != 2 or prod(first) != op.weights.shape[1]:
            return None
        return (1, op.weights.shape[0])
    if op.kind is Kind.TRANSPOSE_CONV:
        assert op.weights is not None
        fits = len(first) == len(output) == 4 and op.weights.shape[3] == first[3]
        return (1, *output[1:3], op.weights.shape[0]) if fits else None
    if op.kind is Kind.PRELU:
        assert op.weights is not None
        return first if _repeats(op.weights.shape, first) else None
    if op.kind is Kind.BILINEAR:
        return (1, *output[1:3], first[3]) if len(first) == len(output) == 4 else None
    if op.kind is Kind.ADD:
        return first if len(shapes) == 2 and shapes[0] == shapes[1] else None
    if op.kind is Kind.RESIZE:
        return (1, first[1] * op.kernel[0], first[2] * op.kernel[1], first[3]) if len(first) == 4 else None
    if op.kind is Kind.GATHER:
        return (*first[:-1], len(op.order)) if op.order and max(op.order) < first[-1] else None
    if op.kind is Kind.SLICE:
        return output if _lies_within(op, first, output) else None
    if op.kind is Kind.MUL:
        return broadcast(shapes)
    if op.kind in TABLES:
        return first
    if op.kind is Kind.CONCAT:
        if any(shape[:-1] != first[:-1] for shape in shapes):
            return None
        return (*first[:-1], sum(shape[-1] for shape in shapes))
    if op.kind in (Kind.PAD, Kind.PADV2):
        (top, bottom), (left, right) = op.padding
        return (1, first[1] + top + bottom, first[2] + left + right, first[3]) if len(first) == 4 else None
    if op.kind is Kind.MEAN:
        return (1, 1, 1, first[3]) if len(output) == 4 else (1, first[3])
    return output if prod(first) == prod(output) else None
