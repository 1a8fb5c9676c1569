"""The operators of a .tflite file: for each kind a rule that reads its options and constants, or refuses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NoReturn

import numpy as np

from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.graph.windows import Pair, same_padding
from mcu.int8.model import QOp, QTensor
from mcu.int8.operator_shape import output_shape
from mcu.tflite import schema
from mcu.tflite.flatbuffer import FlatbufferError, TableView
from mcu.tflite.schema import (
    ConvSlot,
    DepthwiseSlot,
    OperatorCodeSlot,
    OperatorSlot,
    PoolSlot,
    QuantizationSlot,
    ResizeSlot,
    TensorSlot,
)
from mcu.tflite.tensors import Tensors

_KIND_OF_CODE = {code: kind for kind, code in schema.KIND_CODE.items()}
_ACTIVATION_OF_CODE = {code: activation for activation, code in schema.ACTIVATION_CODE.items()}
_ADVICE = {
    "QUANTIZE": "convert with int8 input",
    "DEQUANTIZE": "convert with int8 output",
    "CUSTOM": "use builtin operators",
}
_COPYING = (
    Kind.CONCAT, Kind.PAD, Kind.PADV2, Kind.RESHAPE, Kind.MAX_POOL, Kind.AVG_POOL, Kind.RESIZE, Kind.SLICE, Kind.GATHER,
    Kind.BILINEAR,
)  # fmt: skip
_SCALE_TOLERANCE = 1e-6
"""As TensorFlow Lite Micro's kernels for pools have it."""

Fields = dict[str, Any]
"""Fields of a ``QOp``."""

WindowSlots = type[ConvSlot] | type[DepthwiseSlot] | type[PoolSlot]


def read_operator(view: TableView, codes: Sequence[TableView], tensors: Tensors) -> QOp:
    """An operator, whose tensors are numbered as the activations of ``tensors``.

    Args:
        view: its table.
        codes: the file's table of operator codes.
        tensors: those of the subgraph; get the ones that the operator is the first to name.

    Raises:
        InputError: if no int8 kernel computes it as the file says.
    """
    code = _code(view, codes)
    named = schema.OPERATOR_NAMES.get(code, f"number {code}")
    inputs, outputs = view.integers(OperatorSlot.INPUTS), view.integers(OperatorSlot.OUTPUTS)
    if len(outputs) != 1 or not inputs:
        tensors.refuse(f"operator {named} has {len(inputs)} inputs and {len(outputs)} outputs; allowed is 1 output")
    name = tensors.view(outputs[0]).text(TensorSlot.NAME) or named
    if code not in _KIND_OF_CODE:
        advice = _ADVICE.get(named, f"allowed are {', '.join(sorted(_NAMES))}")
        if named == "QUANTIZE" and tensors.type(inputs[0]) == schema.INT8:
            advice = "it rescales int8 to int8, as converters do where tensors of unequal scales are concatenated"
        tensors.refuse(f"operator {named} (output '{tensors.name(outputs[0])}') is not supported: {advice}")
    kind = _KIND_OF_CODE[code]
    operands = inputs if kind in (Kind.ADD, Kind.MUL, Kind.CONCAT) else inputs[:1]
    if kind is Kind.TRANSPOSE_CONV:  # the shape of the output comes first
        operands = inputs[2:3]
    read, written = tuple(tensors.activation(index) for index in operands), tensors.activation(outputs[0])
    told = view.integer(OperatorSlot.OPTIONS_TYPE, "<B") == schema.KIND_OPTIONS.get(kind)
    operator = _Operator(tensors, inputs, outputs[0], view.table(OperatorSlot.OPTIONS) if told else None)
    op = QOp(kind, read, written, name=name, **_RULES[kind](operator))
    _check_shape(op, tensors)
    return op


def _code(view: TableView, codes: Sequence[TableView]) -> int:
    number = view.integer(OperatorSlot.CODE_INDEX, "<I")
    if number >= len(codes):
        raise FlatbufferError(f"operator code {number} is referred to; there are {len(codes)}")
    table = codes[number]
    return max(table.integer(OperatorCodeSlot.DEPRECATED_CODE, "<b"), table.integer(OperatorCodeSlot.CODE))


@dataclass(frozen=True)
class _Operator:
    """An operator of the file: numbers of its tensors there, options if it has those of its kind."""

    tensors: Tensors
    inputs: list[int]
    output: int
    options: TableView | None

    def refuse(self, what: str) -> NoReturn:
        self.tensors.refuse(f"'{self.tensors.name(self.output)}' {what}")

    def refuse_input(self, role: str, place: int, what: str) -> NoReturn:
        self.tensors.refuse(f"{role} '{self.tensors.name(self.inputs[place])}' {what}")

    @property
    def source(self) -> tuple[int, ...]:
        """Shape of the first input."""
        return self.tensors.shape(self.inputs[0])

    @property
    def made(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.tensors.shape(self.output)

    @property
    def written(self) -> QTensor:
        return self.tensors.activations[self.tensors.places[self.output]]

    def integer(self, slot: int, form: str = "<i") -> int:
        return self.options.integer(slot, form) if self.options else 0

    def real(self, slot: int) -> float:
        return float(self.options.scalar(slot, "<f", 0.0)) if self.options else 0.0

    def constant(self, place: int, dtype: str = "<i4") -> np.ndarray:
        """A constant input; without values if the operator has none there."""
        index = self.inputs[place] if place < len(self.inputs) else -1
        return np.zeros(0, dtype) if index < 0 else self.tensors.constant(index, dtype)

    def listed(self, place: int) -> list[int]:
        """The values of a constant input."""
        return self.constant(place).ravel().tolist()

    def fused(self, slot: int) -> Fields:
        """The fused activation."""
        code = self.integer(slot, "<b")
        if code not in _ACTIVATION_OF_CODE:
            self.refuse(f"has fused activation {code}; allowed are none, RELU, RELU6")
        return {"activation": _ACTIVATION_OF_CODE[code]}


def _window(op: _Operator, kernel: Pair, slots: WindowSlots, dilation: Pair = (1, 1)) -> Fields:
    """A window on the first input, and the activation fused with it."""
    options = op.options
    if options is None:
        op.refuse_input("an operator on", 0, "has no options")
    shape = op.source
    if len(shape) != 4:
        op.refuse_input("tensor", 0, f"has shape {shape}; allowed is (1, height, width, channels) here")
    stride = options.integer(slots.STRIDE_H), options.integer(slots.STRIDE_W)
    if min(*stride, *kernel, *dilation) < 1:
        op.refuse_input("an operator on", 0, f"has stride {stride}, kernel {kernel}, dilation {dilation}")
    axes = zip(shape[1:3], kernel, stride, dilation, strict=True)
    same = options.integer(slots.PADDING, "<b") == schema.SAME
    padding = tuple(same_padding(*axis) if same else (0, 0) for axis in axes)
    window = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}
    return window | op.fused(slots.ACTIVATION)


def _weighted(op: _Operator, axis: int) -> Fields:
    """Weights, their scales along ``axis``, and the bias."""
    if len(op.inputs) < 2:
        op.refuse_input("an operator on", 0, "has no weights")
    weights = op.constant(1, "i1")
    scale, zero = op.tensors.quantisation(op.inputs[1])
    if np.any(zero):
        op.refuse_input("weights", 1, "have a zero point; allowed are symmetric weights")
    outer = weights.shape[axis] if weights.ndim else 0
    if len(scale) not in (1, outer):
        op.refuse_input("weights", 1, f"have {len(scale)} scales for {outer} channels")
    quantisation = op.tensors.view(op.inputs[1]).table(TensorSlot.QUANTIZATION)
    dimension = quantisation.integer(QuantizationSlot.DIMENSION) if quantisation else 0
    if len(scale) > 1 and dimension != axis % weights.ndim:
        op.refuse_input("weights", 1, f"have scales along axis {dimension}; allowed: outputs")
    bias = op.constant(2).reshape(-1)
    if bias.size not in (0, outer):
        op.refuse_input("bias", 2, f"has {bias.size} values for {outer} channels")
    scales = np.ascontiguousarray(np.broadcast_to(scale, (outer,)), np.float32)
    return {"weights": weights, "weight_scales": scales, "bias": bias if bias.size else None}


def _convolution(op: _Operator) -> Fields:
    given = _weighted(op, 0)
    return given | _convolution_window(op, given["weights"], ConvSlot)


def _depthwise(op: _Operator) -> Fields:
    given = _weighted(op, -1)
    window = _convolution_window(op, given["weights"], DepthwiseSlot)
    multiplier, channels, made = op.integer(DepthwiseSlot.MULTIPLIER), op.source[-1], given["weights"].shape[-1]
    if multiplier * channels != made:
        op.refuse(f"has depth_multiplier {multiplier}, but weights that make {made} channels of {channels}")
    return given | window


def _convolution_window(op: _Operator, weights: np.ndarray, slots: type[ConvSlot] | type[DepthwiseSlot]) -> Fields:
    if weights.ndim != 4 or op.options is None:
        op.refuse(f"is a convolution with weights of shape {weights.shape}")
    dilation = op.options.integer(slots.DILATION_H, default=1), op.options.integer(slots.DILATION_W, default=1)
    return _window(op, weights.shape[1:3], slots, dilation)


def _transposed(op: _Operator) -> Fields:
    if len(op.inputs) < 3 or op.options is None:
        op.refuse(f"is a TRANSPOSE_CONV with {len(op.inputs)} inputs; allowed are 3 and 4")
    given, made = _weighted(replace(op, inputs=[op.inputs[2], op.inputs[1], *op.inputs[3:]]), 0), op.made
    stride = op.integer(ConvSlot.STRIDE_H), op.integer(ConvSlot.STRIDE_W)
    if tuple(op.listed(0)) != made or len(made) != 4 or given["weights"].ndim != 4 or min(stride) < 1:
        op.refuse(
            f"is a TRANSPOSE_CONV of shape {op.listed(0)} with stride {stride}; "
            f"allowed is the shape of its output, {made}"
        )
    kernel, padding = given["weights"].shape[1:3], ((0, 0), (0, 0))
    if op.integer(ConvSlot.PADDING, "<b") == schema.SAME:
        rows, columns = (same_padding(*axis) for axis in zip(made[1:3], kernel, stride, strict=True))
        padding = (rows, columns) if rows[0] or columns[0] else padding
    return given | {"kernel": kernel, "stride": stride, "padding": padding} | op.fused(ConvSlot.ACTIVATION)


def _dense(op: _Operator) -> Fields:
    if op.integer(1, "<b"):
        op.refuse("has weights in a shuffled format; allowed is the default one")
    return _weighted(op, 0) | op.fused(0)


def _prelu(op: _Operator) -> Fields:
    slopes = op.constant(1, "i1")
    scale, zero = op.tensors.quantisation(op.inputs[1])
    if len(scale) != 1:
        op.refuse_input("slopes", 1, f"have {len(scale)} scales; allowed is 1")
    return {"weights": slopes, "weight_scales": np.array(scale, np.float32), "value": int(zero[0])}


def _pool(op: _Operator) -> Fields:
    return _window(op, (op.integer(PoolSlot.FILTER_H), op.integer(PoolSlot.FILTER_W)), PoolSlot)


def _mean(op: _Operator) -> Fields:
    source = op.source
    axes = sorted({axis % len(source) for axis in op.listed(1)})
    if len(source) != 4 or axes != [1, 2]:
        op.refuse(f"is a mean over axes {axes}; allowed are height and width (1, 2)")
    return {"kernel": source[1:3]}


def _concat(op: _Operator) -> Fields:
    axis = op.integer(0)
    if axis not in (len(op.made) - 1, -1):
        op.refuse(f"concatenates along axis {axis}; allowed is the last (channels)")
    return op.fused(1)


def _pad(op: _Operator) -> Fields:
    pads = op.constant(1)
    if pads.shape != (4, 2) or np.any(pads[[0, 3]]) or np.any(pads < 0):
        op.refuse(f"pads by {pads.tolist()}; allowed are height and width, 4 x 2 counts")
    return {"padding": tuple((int(low), int(high)) for low, high in pads[1:3])}


def _pad_value(op: _Operator) -> Fields:
    given, value = _pad(op), op.constant(2, "i1")
    if value.size != 1:
        op.refuse(f"pads with {value.size} values; allowed is 1")
    (scale, *_), (zero_point, *_) = op.tensors.quantisation(op.inputs[2])
    if (float(scale), int(zero_point)) != (op.written.scale, op.written.zero_point):
        op.refuse("pads with a value of unequal quantisation; allowed is the output's")
    return given | {"value": int(value.ravel()[0])}


def _resize(op: _Operator) -> Fields:
    source, made, wanted = op.source, op.made, op.listed(1)
    whole = len(source) == len(made) == 4 and not made[1] % source[1] and not made[2] % source[2]
    if not whole or op.integer(0, "<b") or op.integer(1, "<b") or wanted != list(made[1:3]):
        op.refuse(f"resizes {source} to {made}; allowed are whole factors, from the corner")
    return {"kernel": (made[1] // source[1], made[2] // source[2])}


def _bilinear(op: _Operator) -> Fields:
    source, made, wanted = op.source, op.made, op.listed(1)
    corners, centres = (bool(op.integer(slot, "<b")) for slot in ResizeSlot)
    if len(source) != 4 or len(made) != 4 or wanted != list(made[1:3]) or (corners and centres):
        op.refuse(f"resizes {source} to {made}, told {wanted}; allowed is one size")
    return {"sampling": Sampling.CORNERS if corners else Sampling.CENTRES if centres else Sampling.ORIGIN}


def _slice(op: _Operator) -> Fields:
    source, made = op.source, op.made
    begin, end, step = (op.listed(place) for place in (1, 2, 3))
    masked = any(op.integer(slot) for slot in range(5)) or op.integer(5, "<b")
    found: tuple[int, ...] = ()
    if len(source) == len(begin) == len(end) == len(step) == 4 and not masked and min(step) > 0 <= min(begin):
        axes = zip(begin, end, step, source, strict=True)
        found = tuple(len(range(first, min(last, size), each)) for first, last, each, size in axes)
    if not found or found != made or (begin[3], step[3]) != (0, 1) or made[3] != source[3]:
        op.refuse(
            f"is a STRIDED_SLICE of {source} to {made}; allowed are rows and columns from a first to a last one, "
            "without masks"
        )
    return {"begin": tuple(begin[1:3]), "stride": tuple(step[1:3])}


def _gather(op: _Operator) -> Fields:
    source, order = op.source, op.constant(1)
    axis = op.integer(0), op.integer(1)
    numbers = order.tolist() if order.ndim == 1 and len(source) == 4 and axis in ((3, 0), (-1, 0)) else []
    if not numbers or not 0 <= min(numbers) <= max(numbers) < source[-1]:
        op.refuse(f"gathers {order.tolist()} of axis {axis[0]} of {source}; allowed are channels")
    return {"order": tuple(numbers)}


def _softmax(op: _Operator) -> Fields:
    if op.real(0) != 1.0:
        op.refuse(f"is a SOFTMAX with beta {op.real(0):g}; allowed is 1")
    return _with_scale(op, "SOFTMAX", 1 / 256, -128)


def _with_scale(op: _Operator, named: str, scale: float, zero_point: int) -> Fields:
    """Kernels that write one quantisation whatever the file says."""
    tensor = op.written
    if (tensor.scale, tensor.zero_point) != (scale, zero_point):
        op.refuse(
            f"is a {named} with scale {tensor.scale:g}, zero point {tensor.zero_point}; "
            f"allowed are 1/{1 / scale:g} and {zero_point}"
        )
    return {}


def _nothing(op: _Operator) -> Fields:
    return {}


def _check_shape(op: QOp, tensors: Tensors) -> None:
    """The output shape must be what the operator makes of its inputs."""
    shapes = [tensors.activations[index].shape for index in op.inputs]
    output = tensors.activations[op.output].shape
    expected = output_shape(op, shapes, output)
    if expected is None:
        tensors.refuse(f"operator '{op.name}' {_misfit(op, shapes)}")
    if (expected != output and op.kind is not Kind.DENSE) or prod(expected) != prod(output):
        tensors.refuse(f"operator '{op.name}' states shape {output} for its output, which comes to {expected}")
    if op.kind in _COPYING:
        _check_copied(op, tensors)


def _check_copied(op: QOp, tensors: Tensors) -> None:
    """Kernels that copy codes do not look at what the codes mean: it must be the same on both sides."""
    target = tensors.activations[op.output]
    for source in (tensors.activations[index] for index in op.inputs):
        if abs(source.scale - target.scale) > _SCALE_TOLERANCE or source.zero_point != target.zero_point:
            tensors.refuse(
                f"operator '{op.name}' copies codes of scale {source.scale:g}, zero point {source.zero_point} to "
                f"scale {target.scale:g}, zero point {target.zero_point}: unequal quantisation; allowed is one"
            )


def _misfit(op: QOp, shapes: list[tuple[int, ...]]) -> str:
    """Why an operator cannot take its inputs."""
    given = " and ".join(map(str, shapes))
    if op.weights is None:
        return f"is a {op.kind} of {given}, which do not fit together"
    channels, wanted = shapes[0][-1], op.weights.shape[-1]
    if op.kind is Kind.CONV and channels % wanted == 0:
        made = op.weights.shape[0]
        return f"is a convolution in {channels // wanted} groups, which do not divide its {made} outputs"
    return f"has weights of shape {op.weights.shape}, which do not fit its input {given}"


_RULES: dict[Kind, Callable[[_Operator], Fields]] = {
    Kind.CONV: _convolution,
    Kind.DEPTHWISE: _depthwise,
    Kind.TRANSPOSE_CONV: _transposed,
    Kind.DENSE: _dense,
    Kind.PRELU: _prelu,
    Kind.MAX_POOL: _pool,
    Kind.AVG_POOL: _pool,
    Kind.MEAN: _mean,
    Kind.ADD: lambda op: op.fused(0),
    Kind.MUL: lambda op: op.fused(0),
    Kind.CONCAT: _concat,
    Kind.PAD: _pad,
    Kind.PADV2: _pad_value,
    Kind.RESIZE: _resize,
    Kind.BILINEAR: _bilinear,
    Kind.SLICE: _slice,
    Kind.GATHER: _gather,
    Kind.RESHAPE: _nothing,
    Kind.RELU: lambda op: {"activation": Activation.RELU},
    Kind.LEAKY_RELU: lambda op: {"alpha": op.real(0)},
    Kind.ELU: _nothing,
    Kind.HARD_SWISH: _nothing,
    Kind.SOFTMAX: _softmax,
    Kind.LOGISTIC: lambda op: _with_scale(op, "LOGISTIC", 1 / 256, -128),
    Kind.TANH: lambda op: _with_scale(op, "TANH", 1 / 128, 0),
}
_NAMES = {schema.OPERATOR_NAMES[code] for code in _KIND_OF_CODE}
