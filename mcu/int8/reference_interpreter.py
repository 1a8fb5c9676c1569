"""The reference interpreter: int8 models on batches of inputs, bit-exact with TensorFlow Lite Micro's kernels.

Accumulators of convolutions are sums of integers that float32 (or, past 2**24, float64) holds exactly in any order, so
PyTorch's float convolutions compute them. Requantisation is a monotone step function of the accumulator; at
construction its fast float form is checked against the integer arithmetic at every step, and replaced by the integer
arithmetic where any step differs. Addition and ReLU go through tables of all code pairs and codes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from mcu.errors import InputError
from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.graph.layers import transposed
from mcu.graph.ports import only
from mcu.int8.fixed_point import (
    exp_on_negative_values,
    high_multiply,
    interpolation,
    quantise_multiplier,
    reciprocal,
    rescale,
    rounding_shift,
)
from mcu.int8.lookup import TABLES, table_of
from mcu.int8.model import Int8Model, QOp, QTensor, groups_of
from mcu.int8.requantiser import EXACT_FLOAT32, Requantiser

_BATCH_ELEMENTS = 1 << 20
"""Elements of the largest activation of one batch: a few of them stay in the third-level cache."""

Step = Callable[..., torch.Tensor]


def quantise_input(x: np.ndarray, tensor: QTensor) -> np.ndarray:
    """Real values as int8 codes of a tensor; any shape."""
    codes = np.rint(np.asarray(x, np.float64) / tensor.scale) + tensor.zero_point
    return np.clip(codes, -128, 127).astype(np.int8)


def dequantise(codes: np.ndarray, tensor: QTensor) -> np.ndarray:
    """Real values of a tensor's int8 codes, float32."""
    return ((codes.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)).astype(np.float32)


class ReferenceInterpreter:
    """Runs ``model``.

    Activations are held as ``code - zero point`` in float32, NCHW with channels last in memory.
    """

    def __init__(self, model: Int8Model) -> None:
        self.model = model
        self._steps = [_RULES[op.kind](model, op) for op in model.ops]
        last_use = {tensor: step for step, op in enumerate(model.ops) for tensor in op.inputs}
        last_use |= {port.tensor: len(model.ops) for port in model.outputs}
        self._free = [[t for t in set(op.inputs) if last_use[t] == step] for step, op in enumerate(model.ops)]
        largest = max(tensor.bytes for tensor in model.tensors)
        self._batch = int(np.clip(_BATCH_ELEMENTS // largest, 1, 1024))

    def run(self, x: np.ndarray) -> np.ndarray:
        """Outputs of a batch, of a model with one input and one output.

        Args:
            x: int8 ``(N, *input shape without batch)``.

        Returns:
            int8 ``(N, *output shape without batch)``.

        Raises:
            InputError: if ``x`` has another type or shape, or the model several inputs or outputs.
        """
        only(self.model.outputs, "outputs")
        return self.invoke((x,))[0]

    def invoke(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """``run`` for models with any number of inputs and outputs, in order."""
        ports = [self.model.tensors[port.tensor].shape[1:] for port in self.model.inputs]
        shapes = [(x.dtype, x.shape[1:]) for x in inputs]
        if shapes != [(np.int8, shape) for shape in ports] or len({len(x) for x in inputs}) != 1:
            given, allowed = (" and ".join(map(str, found)) for found in ([f"{t} {s}" for t, s in shapes], ports))
            raise InputError(f"int8 model: input {given}; allowed is int8 {allowed} for each example")
        count = len(inputs[0])
        outputs = tuple(
            np.empty((count, *self.model.tensors[port.tensor].shape[1:]), np.int8) for port in self.model.outputs
        )
        with torch.inference_mode():
            for start in range(0, count, self._batch):
                part = slice(start, start + self._batch)
                for output, found in zip(outputs, self._run_batch([x[part] for x in inputs]), strict=True):
                    output[part] = found
        return outputs

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Class with the highest logit for each example; int64 ``(N,)``. Arguments and errors as ``run``."""
        return self.run(x).reshape(len(x), -1).argmax(1)

    def _run_batch(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        tensors = self.model.tensors
        values = {
            port.tensor: _to_torch(x, tensors[port.tensor]) for port, x in zip(self.model.inputs, inputs, strict=True)
        }
        for op, step, free in zip(self.model.ops, self._steps, self._free, strict=True):
            values[op.output] = step(*(values[tensor] for tensor in op.inputs))
            for tensor in free:
                del values[tensor]
        return [_to_codes(values[port.tensor], tensors[port.tensor]) for port in self.model.outputs]


def _to_torch(x: np.ndarray, tensor: QTensor) -> torch.Tensor:
    values = torch.from_numpy(np.ascontiguousarray(x)).to(torch.float32).sub_(tensor.zero_point)
    return values.permute(0, 3, 1, 2) if values.ndim == 4 else values


def _to_codes(values: torch.Tensor, tensor: QTensor) -> np.ndarray:
    planes = values.permute(0, 2, 3, 1) if values.ndim == 4 else values
    return (planes.numpy() + tensor.zero_point).astype(np.int8).reshape(len(values), *tensor.shape[1:])


def _limits(op: QOp, output: QTensor) -> tuple[int, int]:
    """Least and greatest code minus zero point that the fused activation lets through."""
    low, high = -128, 127
    if op.activation is not Activation.NONE:
        low = max(low, output.zero_point)
    if op.activation is Activation.RELU6:
        six = np.float32(6.0) / np.float32(output.scale)
        high = min(high, output.zero_point + int(np.floor(six + np.float32(0.5))))
    return low - output.zero_point, high - output.zero_point


def _spread(tensor: QTensor) -> int:
    """Greatest ``|code - zero point|``."""
    return max(127 - tensor.zero_point, 128 + tensor.zero_point)


def _window_padding(x: torch.Tensor, op: QOp, value: float) -> torch.Tensor:
    (top, bottom), (left, right) = op.padding
    if not (top or bottom or left or right):
        return x
    return functional.pad(x, (left, right, top, bottom), value=value)


def _convolution(model: Int8Model, op: QOp) -> Step:
    assert op.weights is not None
    assert op.weight_scales is not None
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    depthwise = op.kind is Kind.DEPTHWISE
    weights = np.moveaxis(op.weights, 3, 0) if depthwise else np.moveaxis(op.weights, 3, 1)
    weights = weights.reshape(weights.shape[0], -1, *op.kernel) if depthwise else weights
    bias = np.zeros(weights.shape[0], np.int64) if op.bias is None else op.bias.astype(np.int64)
    bound = np.abs(weights.reshape(len(bias), -1).astype(np.int64)).sum(1) * _spread(source) + np.abs(bias)
    reals = np.float64(np.float32(source.scale)) * op.weight_scales.astype(np.float64) / np.float32(target.scale)
    requantise = Requantiser(reals.astype(np.float64), bound, *_limits(op, target))
    groups = source.shape[3] if depthwise else groups_of(model, op)
    (top, bottom), (left, right) = op.padding
    symmetric = (top, left) if (top, left) == (bottom, right) else (0, 0)
    parts = _exact_parts(weights, _spread(source)) if requantise.sums is torch.float64 and groups == 1 else []
    whole = None if parts else _to_kernel(weights, requantise.sums)
    kernels = [_to_kernel(weights[:, part], torch.float32) for part in parts]
    offset = torch.from_numpy(bias).to(requantise.sums)

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
    assert op.weight_scales is not None
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    weights = np.moveaxis(op.weights, 3, 1)
    bias = np.zeros(len(weights), np.int64) if op.bias is None else op.bias.astype(np.int64)
    bound = np.abs(weights.reshape(len(bias), -1).astype(np.int64)).sum(1) * _spread(source) + np.abs(bias)
    reals = np.float64(np.float32(source.scale)) * op.weight_scales.astype(np.float64) / np.float32(target.scale)
    requantise = Requantiser(reals, bound, *_limits(op, target))
    kernel, offset = _to_kernel(weights, requantise.sums), torch.from_numpy(bias).to(requantise.sums)
    begin, size = (op.padding[0][0], op.padding[1][0]), (target.shape[1], target.shape[2])
    return lambda x: requantise(transposed(x.to(requantise.sums), kernel, offset, op.stride, begin, size))


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
    """FULLY_CONNECTED. With one scale for all outputs its kernel multiplies the scales in float32."""
    assert op.weights is not None
    assert op.weight_scales is not None
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    bias = np.zeros(len(op.weights), np.int64) if op.bias is None else op.bias.astype(np.int64)
    bound = np.abs(op.weights.astype(np.int64)).sum(1) * _spread(source) + np.abs(bias)
    scales = op.weight_scales.astype(np.float32)
    if np.all(scales == scales[0]):
        products = (np.float32(source.scale) * scales).astype(np.float64)
    else:
        products = np.float64(np.float32(source.scale)) * scales.astype(np.float64)
    requantise = Requantiser(products / np.float64(np.float32(target.scale)), bound, *_limits(op, target))
    matrix = torch.from_numpy(op.weights.astype(np.float64)).to(requantise.sums)
    offset = torch.from_numpy(bias).to(requantise.sums)

    def step(x: torch.Tensor) -> torch.Tensor:
        flat = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
        sums = functional.linear(flat.reshape(len(x), -1).to(requantise.sums), matrix, offset)
        return _shaped(requantise(sums[:, :, None, None]).flatten(1), target)

    return step


def _shaped(values: torch.Tensor, tensor: QTensor) -> torch.Tensor:
    """NHWC values as the tensor's shape, in the reference's layout."""
    values = values.reshape(len(values), *tensor.shape[1:])
    return values.permute(0, 3, 1, 2) if values.ndim == 4 else values


def _add(model: Int8Model, op: QOp) -> Step:
    """A table of all 256 x 256 code pairs; TFLM scales both inputs to a common 20-bit grid first."""
    left, right, target = (model.tensors[i] for i in (*op.inputs, op.output))
    scales = [float(np.float32(t.scale)) for t in (left, right, target)]
    twice = 2.0 * max(scales[0], scales[1])
    parts = []
    for scale in scales[:2]:
        multiplier, shift = quantise_multiplier(scale / twice)
        codes = np.arange(-383, 384, dtype=np.int64)
        parts.append(rescale(codes << 20, multiplier, shift))
    multiplier, shift = quantise_multiplier(twice / ((1 << 20) * scales[2]))
    rows = parts[0][383 - 128 - left.zero_point :][:256]
    columns = parts[1][383 - 128 - right.zero_point :][:256]
    low, high = _limits(op, target)
    table = np.clip(rescale(rows[:, None] + columns, multiplier, shift), low, high).astype(np.float32)
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


def _relu(model: Int8Model, op: QOp) -> Step:
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    multiplier, shift = quantise_multiplier(float(np.float32(source.scale)) / float(np.float32(target.scale)))
    values = np.arange(-128, 128, dtype=np.int64) - source.zero_point
    table = np.clip(rescale(values, multiplier, shift), 0, 127 - target.zero_point)
    lookup = torch.from_numpy(table.astype(np.float32))
    return lambda x: _gather(lookup, (x + (128 + source.zero_point)).to(torch.int32))


def _enlarge(model: Int8Model, op: QOp) -> Step:
    return lambda x: x.repeat_interleave(op.kernel[0], 2).repeat_interleave(op.kernel[1], 3)


def _prelu(model: Int8Model, op: QOp) -> Step:
    """Values below zero times the slope of their channel, with a multiplier of their own."""
    assert op.weights is not None
    assert op.weight_scales is not None
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    ratio = float(np.float32(source.scale)) / float(np.float32(target.scale))
    product = float(np.float32(source.scale)) * float(op.weight_scales[0]) / float(np.float32(target.scale))
    above, below = quantise_multiplier(ratio), quantise_multiplier(product)
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


def _lookup(model: Int8Model, op: QOp) -> Step:
    """Any function of a code by itself."""
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    table = table_of(op.kind, source, target, op.alpha) - target.zero_point
    lookup = torch.from_numpy(table.astype(np.float32))
    return lambda x: _gather(lookup, (x + (128 + source.zero_point)).to(torch.int32))


def _multiply(model: Int8Model, op: QOp) -> Step:
    """A product, of equal shapes or of a map and one value for each of its channels; rescaled exactly."""
    left, right, target = (model.tensors[i] for i in (*op.inputs, op.output))
    real = float(np.float32(left.scale) * np.float32(right.scale) / np.float32(target.scale))
    multiplier, shift = quantise_multiplier(real)
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
    positions = source.shape[1] * source.shape[2]
    multiplier, shift = quantise_multiplier(float(np.float32(source.scale)) / float(np.float32(target.scale)))
    bits = min(63 - (64 - int(positions).bit_length()), 32, 31 + shift)
    multiplier, shift = (multiplier << bits) // positions, shift - bits

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
    return lambda x: _shaped(x.permute(0, 2, 3, 1) if x.ndim == 4 else x, target)


def _softmax(model: Int8Model, op: QOp) -> Step:
    """Softmax over the last axis in gemmlowp's fixed point; exponentials come from a table of code differences."""
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    multiplier, shift = quantise_multiplier(min(float(np.float32(source.scale)) * (1 << 26), (1 << 31) - 1.0))
    differences = np.arange(-255, 1, dtype=np.int64)
    least = -np.floor(((1 << 5) - 1) * (1 << 26) / float(1 << shift))
    exponentials = exp_on_negative_values(high_multiply(differences << shift, multiplier))
    exponentials = np.where(differences >= least, exponentials, -1)

    def step(x: torch.Tensor) -> torch.Tensor:
        codes = (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).numpy().astype(np.int64)
        raised = exponentials[codes - codes.max(-1, keepdims=True) + 255]
        total = np.where(raised >= 0, rounding_shift(raised, 12), 0).sum(-1, keepdims=True)
        scale, over = reciprocal(total)
        result = rounding_shift(high_multiply(scale, raised), over + 23) - 128
        result = np.where(raised >= 0, np.clip(result, -128, 127), -128) - target.zero_point
        return _shaped(torch.from_numpy(result.astype(np.float32)), target)

    return step


_RULES: dict[Kind, Callable[[Int8Model, QOp], Step]] = {
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
