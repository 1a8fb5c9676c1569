"""The kernels of TensorFlow Lite Micro on batches, bit-exact: for every operator the step that computes it.

Values are ``code - zero point`` in float32, NCHW with channels last in memory. Accumulators of convolutions are sums of
integers that float32 (or, past 2**24, float64) holds exactly in any order, so PyTorch's float convolutions compute
them. Requantisation is a monotone step function of the accumulator; at construction its fast float form is checked
against the integer arithmetic at every step, and replaced by the integer arithmetic where any step differs. Addition
and ReLU go through tables of all code pairs and codes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from mcu.graph.kinds import Kind, Sampling
from mcu.graph.layers import transposed
from mcu.int8.fixed_point import high_multiply, interpolation, quantise_multiplier, reciprocal, rescale, rounding_shift
from mcu.int8.lookup import TABLES, table_of
from mcu.int8.model import Int8Model, QOp, QTensor, groups_of
from mcu.int8.requantiser import EXACT_FLOAT32, Requantiser
from mcu.int8.scaling import (
    ADD_BITS,
    activation_range,
    conv_multipliers,
    dense_multipliers,
    exponential_table,
    mean_multiplier,
    prelu_multipliers,
    product_multiplier,
    ratio,
    sum_multipliers,
)

Step = Callable[..., torch.Tensor]
"""Output of an operator for a batch of each of its inputs."""


def _limits(op: QOp, output: QTensor) -> tuple[int, int]:
    """Least and greatest code minus zero point that the fused activation lets through."""
    low, high = activation_range(op.activation, output)
    return low - output.zero_point, high - output.zero_point


def _spread(tensor: QTensor) -> int:
    """Greatest ``|code - zero point|``."""
    return max(127 - tensor.zero_point, 128 + tensor.zero_point)


def _window_padding(x: torch.Tensor, op: QOp, value: float) -> torch.Tensor:
    (top, bottom), (left, right) = op.padding
    if not (top or bottom or left or right):
        return x
    return functional.pad(x, (left, right, top, bottom), value=value)


def _requantiser(
    model: Int8Model, op: QOp, weights: np.ndarray, multipliers: list[tuple[int, int]]
) -> tuple[Requantiser, torch.Tensor]:
    """What follows sums of products with weights ``(out, ...)``, and the bias that they begin with."""
    bias = np.zeros(len(weights), np.int64) if op.bias is None else op.bias.astype(np.int64)
    spread = _spread(model.tensors[op.inputs[0]])
    bound = np.abs(weights.reshape(len(weights), -1).astype(np.int64)).sum(1) * spread + np.abs(bias)
    requantise = Requantiser(multipliers, bound, *_limits(op, model.tensors[op.output]))
    return requantise, torch.from_numpy(bias).to(requantise.sums)


def _convolution(model: Int8Model, op: QOp) -> Step:
    assert op.weights is not None
    source, depthwise = model.tensors[op.inputs[0]], op.kind is Kind.DEPTHWISE
    weights = np.moveaxis(op.weights, 3, 0) if depthwise else np.moveaxis(op.weights, 3, 1)
    weights = weights.reshape(weights.shape[0], -1, *op.kernel) if depthwise else weights
    requantise, offset = _requantiser(model, op, weights, conv_multipliers(model, op))
    groups = source.shape[3] if depthwise else groups_of(model, op)
    (top, bottom), (left, right) = op.padding
    symmetric = (top, left) if (top, left) == (bottom, right) else (0, 0)
    parts = _exact_parts(weights, _spread(source)) if requantise.sums is torch.float64 and groups == 1 else []
    whole = None if parts else _to_kernel(weights, requantise.sums)
    kernels = [_to_kernel(weights[:, part], torch.float32) for part in parts]

    def step(x: torch.Tensor) -> torch.Tensor:
        if symmetric == (0, 0):
            x = _window_padding(x, op, 0.0)
        if whole is not None:
            x = x.to(requantise.sums)
            return requantise(functional.conv2d(x, whole, offset, op.stride, symmetric, op.dilation, groups))
        sums = offset[:, None, None]
        for part, kernel in zip(parts, kernels, strict=True):
            sums = sums + functional.conv2d(x[:, part], kernel, None, op.stride, symmetric, op.dilation)
        return requantise(sums)

    return step


def _transposed(model: Int8Model, op: QOp) -> Step:
    """TRANSPOSE_CONV: every value times the weights, added up where windows overlap."""
    assert op.weights is not None
    weights, (_, height, width, _) = np.moveaxis(op.weights, 3, 1), model.tensors[op.output].shape
    requantise, offset = _requantiser(model, op, weights, conv_multipliers(model, op))
    kernel, begin = _to_kernel(weights, requantise.sums), (op.padding[0][0], op.padding[1][0])
    return lambda x: requantise(transposed(x.to(requantise.sums), kernel, offset, op.stride, begin, (height, width)))


def _to_kernel(weights: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """In memory of torch's own: oneDNN takes groups of a kernel of one column apart wrongly where NumPy laid it out."""
    kernel = torch.empty(weights.shape, dtype=dtype, memory_format=torch.channels_last)
    return kernel.copy_(torch.from_numpy(weights.astype(np.float64)))


def _exact_parts(weights: np.ndarray, spread: int) -> list[slice]:
    """Input channels in the fewest even runs that float32 has the exact sums of; none if single channels exceed it.

    Two convolutions in float32 take a third of the time of one in float64.
    """
    channels = weights.shape[1]
    by_channel = np.abs(weights.astype(np.int64)).sum((2, 3)) * spread
    for count in range(1, channels + 1):
        ends = np.linspace(0, channels, count + 1).astype(int).tolist()
        parts = [slice(start, end) for start, end in itertools.pairwise(ends)]
        if max(by_channel[:, part].sum(1).max() for part in parts) < EXACT_FLOAT32:
            return parts
    return []


def _dense(model: Int8Model, op: QOp) -> Step:
    """FULLY_CONNECTED."""
    assert op.weights is not None
    target = model.tensors[op.output]
    requantise, offset = _requantiser(model, op, op.weights, dense_multipliers(model, op))
    matrix = torch.from_numpy(op.weights.astype(np.float64)).to(requantise.sums)

    def step(x: torch.Tensor) -> torch.Tensor:
        sums = functional.linear(_as_stored(x).reshape(len(x), -1).to(requantise.sums), matrix, offset)
        return _shaped(requantise(sums[:, :, None, None]).flatten(1), target)

    return step


def _as_stored(x: torch.Tensor) -> torch.Tensor:
    """Values in NHWC."""
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x


def _shaped(values: torch.Tensor, tensor: QTensor) -> torch.Tensor:
    """NHWC values as the tensor's shape, in the reference's layout."""
    values = values.reshape(len(values), *tensor.shape[1:])
    return values.permute(0, 3, 1, 2) if values.ndim == 4 else values


def _add(model: Int8Model, op: QOp) -> Step:
    """A table of all 256 x 256 code pairs; both inputs are scaled to a common 20-bit grid first."""
    left, right, target = (model.tensors[i] for i in (*op.inputs, op.output))
    *inputs, whole = sum_multipliers(left, right, target)
    rows, columns = (
        rescale((np.arange(-128, 128, dtype=np.int64) - tensor.zero_point) << ADD_BITS, *multiplier)
        for tensor, multiplier in zip((left, right), inputs, strict=True)
    )
    table = np.clip(rescale(rows[:, None] + columns, *whole), *_limits(op, target)).astype(np.float32)
    lookup = torch.from_numpy(table.ravel())
    origin = (128 + left.zero_point) * 256 + 128 + right.zero_point

    def step(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        index = torch.add(b, a, alpha=256).add_(origin).to(torch.int32)
        return _gather(lookup, index)

    return step


def _gather(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """``table[index]`` in the memory layout of ``index``."""
    if index.ndim == 4:
        dense = index.permute(0, 2, 3, 1).contiguous()
        return table.index_select(0, dense.view(-1)).view(dense.shape).permute(0, 3, 1, 2)
    return table.index_select(0, index.reshape(-1)).view(index.shape)


def _by_code(source: QTensor, values: np.ndarray) -> Step:
    """A function of a code by itself, given its value, code minus zero point, for every input code from -128 on."""
    lookup = torch.from_numpy(values.astype(np.float32))
    return lambda x: _gather(lookup, (x + (128 + source.zero_point)).to(torch.int32))


def _lookup(model: Int8Model, op: QOp) -> Step:
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    return _by_code(source, table_of(op.kind, source, target, op.alpha) - target.zero_point)


def _relu(model: Int8Model, op: QOp) -> Step:
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    values = np.arange(-128, 128, dtype=np.int64) - source.zero_point
    rescaled = rescale(values, *quantise_multiplier(ratio(source, target)))
    return _by_code(source, np.clip(rescaled, 0, 127 - target.zero_point))


def _enlarge(model: Int8Model, op: QOp) -> Step:
    return lambda x: x.repeat_interleave(op.kernel[0], 2).repeat_interleave(op.kernel[1], 3)


def _prelu(model: Int8Model, op: QOp) -> Step:
    """Values below zero times the slope of their channel, with a multiplier of their own."""
    assert op.weights is not None
    target = model.tensors[op.output]
    above, below = prelu_multipliers(model, op)
    slopes = op.weights.astype(np.int64) - op.value
    slopes = slopes.reshape((1,) * (4 - slopes.ndim) + slopes.shape).transpose(0, 3, 1, 2)
    low, high = -128 - target.zero_point, 127 - target.zero_point

    def step(x: torch.Tensor) -> torch.Tensor:
        values = x.numpy().astype(np.int64)
        own = slopes if values.ndim == 4 else slopes.reshape(-1)
        codes = np.where(values >= 0, rescale(values, *above), rescale(values * own, *below))
        return torch.from_numpy(np.clip(codes, low, high).astype(np.float32))

    return step


def _bilinear(model: Int8Model, op: QOp) -> Step:
    """Rows and columns weighed in units of 1/1024; the mean of codes, ties away from zero."""
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    axes = [
        _samples(count, size, op.sampling) for count, size in zip(source.shape[1:3], target.shape[1:3], strict=True)
    ]
    (top, bottom, down), (left, right, across) = axes

    def step(x: torch.Tensor) -> torch.Tensor:
        codes = (x + source.zero_point).to(torch.float64)
        rows = codes[:, :, top] * (1024 - down)[:, None] + codes[:, :, bottom] * down[:, None]
        sums = rows[:, :, :, left] * (1024 - across) + rows[:, :, :, right] * across
        mean = torch.trunc((sums + torch.where(sums > 0, 1 << 19, -(1 << 19))) / (1 << 20))
        return mean.sub_(target.zero_point).to(torch.float32)

    return step


def _samples(count: int, size: int, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each of ``size`` values the two of ``count`` that it lies between, and the weight of the second in 1/1024."""
    scale, start = interpolation(count, size, sampling)
    at = torch.arange(size) * scale + start
    low = torch.trunc(at / 1024).to(torch.int64).clamp_min(0)
    high = torch.trunc((at + 1023) / 1024).to(torch.int64).clamp_max(count - 1)
    return low, high, (at - 1024 * low).to(torch.float64)


def _slice(model: Int8Model, op: QOp) -> Step:
    _, height, width, _ = model.tensors[op.output].shape
    rows, columns = (
        slice(first, first + (count - 1) * step + 1, step)
        for first, count, step in zip(op.begin, (height, width), op.stride, strict=True)
    )
    return lambda x: x[:, :, rows, columns]


def _gather_channels(model: Int8Model, op: QOp) -> Step:
    order = torch.tensor(op.order)
    return lambda x: x.index_select(1, order)


def _multiply(model: Int8Model, op: QOp) -> Step:
    """A product, of equal shapes or of a map and one value for each of its channels; rescaled exactly."""
    left, right, target = (model.tensors[i] for i in (*op.inputs, op.output))
    multiplier, shift = product_multiplier(left, right, target)
    low, high = _limits(op, target)

    def step(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        products = (a * b).numpy().astype(np.int64)  # below 2**16: exact in float32
        codes = np.clip(rescale(products, multiplier, shift), low, high)
        return torch.from_numpy(codes.astype(np.float32))

    return step


def _max_pool(model: Int8Model, op: QOp) -> Step:
    low, high = _limits(op, model.tensors[op.output])

    def step(x: torch.Tensor) -> torch.Tensor:
        padded = _window_padding(x, op, -1e9)
        return functional.max_pool2d(padded, op.kernel, op.stride).clamp_(low, high)

    return step


def _average_pool(model: Int8Model, op: QOp) -> Step:
    """Integer division of the sum of codes by the number of positions inside the image, ties away from zero."""
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    low, high = _limits(op, target)
    ones = _window_padding(torch.ones(1, 1, *source.shape[1:3], dtype=torch.float64), op, 0.0)
    count = functional.avg_pool2d(ones, op.kernel, op.stride, divisor_override=1)
    half = torch.floor(count / 2)

    def step(x: torch.Tensor) -> torch.Tensor:
        codes = _window_padding((x + source.zero_point).to(torch.float64), op, 0.0)
        sums = functional.avg_pool2d(codes, op.kernel, op.stride, divisor_override=1)
        mean = torch.trunc((sums + torch.copysign(half, sums)) / count)
        return mean.sub_(target.zero_point).clamp_(low, high).to(torch.float32)

    return step


def _mean(model: Int8Model, op: QOp) -> Step:
    """Sum of values, rescaled by input scale / output scale / positions, as TFLM's integer MEAN."""
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    multiplier, shift = mean_multiplier(source, target, source.shape[1] * source.shape[2])

    def step(x: torch.Tensor) -> torch.Tensor:
        sums = x.to(torch.float64).sum((2, 3)).numpy().astype(np.int64)
        codes = np.clip(rescale(sums, multiplier, shift) + target.zero_point, -128, 127) - target.zero_point
        return _shaped(torch.from_numpy(codes.astype(np.float32)), target)

    return step


def _concat(model: Int8Model, op: QOp) -> Step:
    return lambda *parts: torch.cat(parts, 1 if parts[0].ndim == 4 else -1)


def _pad(model: Int8Model, op: QOp) -> Step:
    value = op.value - model.tensors[op.output].zero_point if op.kind is Kind.PADV2 else 0
    return lambda x: _window_padding(x, op, float(value))


def _reshape(model: Int8Model, op: QOp) -> Step:
    target = model.tensors[op.output]
    return lambda x: _shaped(_as_stored(x), target)


def _softmax(model: Int8Model, op: QOp) -> Step:
    """Softmax over the last axis in gemmlowp's fixed point; exponentials come from a table of code differences."""
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    table = exponential_table(source.scale)
    exponentials = np.pad(table, (0, 256 - len(table)), constant_values=-1)  # too far below the largest code: zero

    def step(x: torch.Tensor) -> torch.Tensor:
        codes = _as_stored(x).numpy().astype(np.int64)
        raised = exponentials[codes.max(-1, keepdims=True) - codes]
        total = np.where(raised >= 0, rounding_shift(raised, 12), 0).sum(-1, keepdims=True)
        scale, over = reciprocal(total)
        result = rounding_shift(high_multiply(scale, raised), over + 23) - 128
        result = np.where(raised >= 0, np.clip(result, -128, 127), -128) - target.zero_point
        return _shaped(torch.from_numpy(result.astype(np.float32)), target)

    return step


KERNELS: dict[Kind, Callable[[Int8Model, QOp], Step]] = {
    Kind.CONV: _convolution,
    Kind.DEPTHWISE: _convolution,
    Kind.DENSE: _dense,
    Kind.ADD: _add,
    Kind.CONCAT: _concat,
    Kind.MAX_POOL: _max_pool,
    Kind.AVG_POOL: _average_pool,
    Kind.MEAN: _mean,
    Kind.PAD: _pad,
    Kind.PADV2: _pad,
    Kind.RESHAPE: _reshape,
    Kind.RELU: _relu,
    Kind.SOFTMAX: _softmax,
    Kind.MUL: _multiply,
    Kind.RESIZE: _enlarge,
    Kind.BILINEAR: _bilinear,
    Kind.PRELU: _prelu,
    Kind.TRANSPOSE_CONV: _transposed,
    Kind.SLICE: _slice,
    Kind.GATHER: _gather_channels,
    **dict.fromkeys(TABLES, _lookup),
}
