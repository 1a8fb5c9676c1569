"""Read an int8 .tflite file, ours or foreign, into an ``Int8Model``."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod
from typing import Any, NoReturn

import numpy as np

from mcu.errors import InputError
from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.graph.ports import Port
from mcu.graph.windows import same_padding
from mcu.int8.model import Int8Model, QOp, QTensor
from mcu.int8.operator_shape import output_shape
from mcu.tflite import schema
from mcu.tflite.flatbuffer import FlatbufferError, TableView
from mcu.tflite.schema import (
    ConvSlot,
    DepthwiseSlot,
    ModelSlot,
    OperatorCodeSlot,
    OperatorSlot,
    PoolSlot,
    QuantizationSlot,
    ResizeSlot,
    SignatureSlot,
    SubGraphSlot,
    TensorSlot,
)

_KIND_OF_CODE = {code: kind for kind, code in schema.KIND_CODE.items()}
_ACTIVATION_OF_CODE = {code: activation for activation, code in schema.ACTIVATION_CODE.items()}
_ADVICE = {
    "QUANTIZE": "convert with int8 input",
    "DEQUANTIZE": "convert with int8 output",
    "CUSTOM": "use builtin operators",
}
_LARGEST_TENSOR = 1 << 28
_COPYING = (
    Kind.CONCAT, Kind.PAD, Kind.PADV2, Kind.RESHAPE, Kind.MAX_POOL, Kind.AVG_POOL, Kind.RESIZE, Kind.SLICE, Kind.GATHER,
    Kind.BILINEAR,
)  # fmt: skip
_SCALE_TOLERANCE = 1e-6
"""As TensorFlow Lite Micro's kernels for pools have it."""


def read_tflite(data: bytes, source: str = "model") -> Int8Model:
    """Read a model.

    Args:
        data: the file's bytes.
        source: its name, for messages.

    Raises:
        InputError: one line, if the bytes are damaged or hold something mcusweep has no int8 kernel for.
    """
    try:
        return _Reader(data, source).model()
    except InputError:
        raise
    except (FlatbufferError, ValueError, IndexError, OverflowError) as error:
        raise InputError(f"{source}: not a readable .tflite file ({error})") from error


def read_arena_plan(data: bytes, source: str = "model") -> dict[int, int] | None:
    """Arena offsets that the file carries for its interpreter, by tensor of the model ``read_tflite`` gives.

    Returns:
        None where the file leaves planning to the interpreter; tensors it leaves out are missing.

    Raises:
        InputError: as ``read_tflite``, or if the plan does not fit the file's tensors.
    """
    reader = _Reader(data, source)
    reader.model()
    return reader.plan()


class _Reader:
    """One pass over the first subgraph; ``activations`` maps the file's tensor numbers to ours."""

    def __init__(self, data: bytes, source: str) -> None:
        self.source = source
        self.root = TableView.root(data, schema.IDENTIFIER)
        graphs = self.root.tables(ModelSlot.SUBGRAPHS)
        if len(graphs) != 1:
            self._refuse(f"it has {len(graphs)} subgraphs; allowed is 1")
        self.graph = graphs[0]
        self.buffers = self.root.tables(ModelSlot.BUFFERS)
        self.codes = self.root.tables(ModelSlot.OPERATOR_CODES)
        self.views = self.graph.tables(SubGraphSlot.TENSORS)
        self.activations: dict[int, int] = {}
        self.tensors: list[QTensor] = []

    def _refuse(self, what: str) -> NoReturn:
        raise InputError(f"{self.source}: {what}")

    def model(self) -> Int8Model:
        inputs = self._ports(SubGraphSlot.INPUTS, SignatureSlot.INPUTS)
        written = {port.tensor for port in inputs}
        if len(written) < len(inputs):
            self._refuse("two of its inputs are one tensor; allowed is a tensor for each")
        ops = []
        for view in self.graph.tables(SubGraphSlot.OPERATORS):
            op = self._operator(view)
            self._check_order(op, written)
            written.add(op.output)
            ops.append(op)
        outputs = self._ports(SubGraphSlot.OUTPUTS, SignatureSlot.OUTPUTS)
        self.plan()
        if not ops or not {port.tensor for port in outputs} <= written:
            self._refuse("no operator writes its output")
        return Int8Model(tuple(self.tensors), tuple(ops), inputs, outputs, self._metadata())

    def _ports(self, slot: SubGraphSlot, signature_slot: SignatureSlot) -> tuple[Port, ...]:
        """Inputs or outputs in the file's order, named as in its signature, or else as their tensors.

        In a signature a tensor that is returned twice has two names, one after the other.
        """
        indices = self._indices(self.graph, slot)
        if not indices:
            self._refuse(f"it has no {slot.name.lower()}; allowed are 1 or more")
        named: dict[int, list[str]] = {}
        for signature in self.root.tables(ModelSlot.SIGNATURES)[:1]:
            for entry in signature.tables(signature_slot):
                named.setdefault(entry.integer(1, "<I"), []).append(entry.text(0))
        ports = []
        for index in indices:
            name = named[index].pop(0) if named.get(index) else self._view(index).text(TensorSlot.NAME)
            ports.append(Port(self._activation(index), name))
        return tuple(ports)

    def _check_order(self, op: QOp, written: set[int]) -> None:
        """Operators read what an input or an operator before them gave, and each writes a tensor of its own."""
        numbers = {ours: theirs for theirs, ours in self.activations.items()}
        if op.output in written:
            self._refuse(f"operator '{op.name}' writes tensor '{self._name(numbers[op.output])}', which has its values")
        for tensor in op.inputs:
            if tensor in written:
                continue
            name = self._name(numbers[tensor])
            if self._data(self._view(numbers[tensor]).integer(TensorSlot.BUFFER, "<I")):
                self._refuse(
                    f"operator '{op.name}' takes the constant '{name}': allowed are tensors that the model computes"
                )
            self._refuse(f"operator '{op.name}' reads tensor '{name}' before an operator writes it")

    def _metadata(self) -> dict[str, str]:
        raw = self._metadata_buffer(schema.METADATA_NAME)
        try:
            found = json.loads(raw) if raw else {}
        except ValueError:
            self._refuse("its mcusweep metadata is damaged")
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    def _metadata_buffer(self, name: str) -> bytes | None:
        for entry in self.root.tables(ModelSlot.METADATA):
            if entry.text(0) == name:
                return self._data(entry.integer(1, "<I"))
        return None

    def plan(self) -> dict[int, int] | None:
        raw = self._metadata_buffer(schema.OFFLINE_PLAN_NAME)
        if raw is None:
            return None
        words = np.frombuffer(raw[: len(raw) // 4 * 4], "<i4")
        if len(words) != 3 + len(self.views) or words[2] != len(self.views) or np.any(words[3:] < -1):
            self._refuse(
                f"its {schema.OFFLINE_PLAN_NAME} does not give one offset for each of {len(self.views)} tensors"
            )
        offsets = {self.activations[index]: int(words[3 + index]) for index in self.activations}
        return {tensor: offset for tensor, offset in offsets.items() if offset >= 0}

    # --- tensors -------------------------------------------------------------------------------------------

    def _indices(self, view: TableView, slot: int) -> list[int]:
        numbers = view.numbers(slot, "<i4")
        return [] if numbers is None else [int(number) for number in numbers]

    def _view(self, index: int) -> TableView:
        if not 0 <= index < len(self.views):
            self._refuse(f"tensor {index} is referred to; it has {len(self.views)}")
        return self.views[index]

    def _name(self, index: int) -> str:
        return self._view(index).text(TensorSlot.NAME) or f"tensor {index}"

    def _shape(self, index: int) -> tuple[int, ...]:
        numbers = self._view(index).numbers(TensorSlot.SHAPE, "<i4")
        shape = () if numbers is None else tuple(int(extent) for extent in numbers)
        if any(extent < 1 for extent in shape) or prod(shape) > _LARGEST_TENSOR:
            self._refuse(f"tensor '{self._name(index)}' has shape {shape}; allowed are positive extents")
        return shape

    def _type(self, index: int) -> int:
        return self._view(index).integer(TensorSlot.TYPE, "<b")

    def _type_name(self, index: int) -> str:
        return schema.TYPE_NAMES.get(self._type(index), f"of type {self._type(index)}")

    def _data(self, buffer: int) -> bytes:
        if not 0 <= buffer < len(self.buffers):
            raise FlatbufferError(f"buffer {buffer} is referred to; there are {len(self.buffers)}")
        numbers = self.buffers[buffer].numbers(0, "u1")
        return b"" if numbers is None else numbers.tobytes()

    def _constant(self, index: int, dtype: str) -> np.ndarray:
        """A constant tensor's values in its shape."""
        wanted = {"<i4": schema.INT32, "i1": schema.INT8}[dtype]
        data, shape = self._data(self._view(index).integer(TensorSlot.BUFFER, "<I")), self._shape(index)
        if self._type(index) != wanted:
            self._refuse(
                f"tensor '{self._name(index)}' is {self._type_name(index)}; allowed here is {schema.TYPE_NAMES[wanted]}"
            )
        if not data:
            self._refuse(f"tensor '{self._name(index)}' is computed by the model; allowed here is a constant")
        if len(data) != prod(shape) * np.dtype(dtype).itemsize:
            self._refuse(f"tensor '{self._name(index)}' of shape {shape} holds {len(data)} bytes")
        return np.frombuffer(data, dtype).reshape(shape)

    def _quantisation(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        view = self._view(index).table(TensorSlot.QUANTIZATION)
        scale = view.numbers(QuantizationSlot.SCALE, "<f4") if view else None
        zero = view.numbers(QuantizationSlot.ZERO_POINT, "<i8") if view else None
        if scale is None or zero is None or not len(scale) or not len(zero):
            self._refuse(f"tensor '{self._name(index)}' is not quantised; allowed are fully int8 models")
        if not np.all(np.isfinite(scale) & (scale > 0)) or np.any(np.abs(zero) > 255):
            self._refuse(f"tensor '{self._name(index)}' has a scale that is not positive or a zero point out of range")
        return scale, zero

    def _activation(self, index: int) -> int:
        if index in self.activations:
            return self.activations[index]
        if self._type(index) != schema.INT8:
            self._refuse(f"tensor '{self._name(index)}' is {self._type_name(index)}; allowed is int8 throughout")
        scale, zero = self._quantisation(index)
        if not -128 <= int(zero[0]) <= 127:
            self._refuse(f"tensor '{self._name(index)}' has zero point {int(zero[0])}; allowed are -128 to 127")
        name = self._view(index).text(TensorSlot.NAME)
        shape = self._shape(index)
        if not shape or shape[0] != 1:
            self._refuse(f"tensor '{self._name(index)}' has shape {shape}; allowed is batch 1")
        self.tensors.append(QTensor(shape, float(scale[0]), int(zero[0]), name))
        self.activations[index] = len(self.tensors) - 1
        return self.activations[index]

    # --- operators -----------------------------------------------------------------------------------------

    def _operator(self, view: TableView) -> QOp:
        number = view.integer(OperatorSlot.CODE_INDEX, "<I")
        if number >= len(self.codes):
            raise FlatbufferError(f"operator code {number} is referred to; there are {len(self.codes)}")
        table = self.codes[number]
        code = max(table.integer(OperatorCodeSlot.DEPRECATED_CODE, "<b"), table.integer(OperatorCodeSlot.CODE))
        inputs, outputs = (self._indices(view, slot) for slot in (OperatorSlot.INPUTS, OperatorSlot.OUTPUTS))
        named = schema.OPERATOR_NAMES.get(code, f"number {code}")
        if len(outputs) != 1 or not inputs:
            self._refuse(f"operator {named} has {len(inputs)} inputs and {len(outputs)} outputs; allowed is 1 output")
        name = self._view(outputs[0]).text(TensorSlot.NAME) or named
        if code not in _KIND_OF_CODE:
            advice = _ADVICE.get(named, f"allowed are {', '.join(sorted(_NAMES))}")
            if named == "QUANTIZE" and self._type(inputs[0]) == schema.INT8:
                advice = "it rescales int8 to int8, as converters do where tensors of unequal scales are concatenated"
            self._refuse(f"operator {named} (output '{self._name(outputs[0])}') is not supported: {advice}")
        kind = _KIND_OF_CODE[code]
        given: dict[str, Any] = {"kind": kind, "name": name}
        operands = inputs if kind in (Kind.ADD, Kind.MUL, Kind.CONCAT) else inputs[:1]
        if kind is Kind.TRANSPOSE_CONV:  # the shape of the output comes first
            operands = inputs[2:3]
        given["inputs"] = tuple(self._activation(index) for index in operands)
        given["output"] = self._activation(outputs[0])
        told = view.integer(OperatorSlot.OPTIONS_TYPE, "<B") == schema.KIND_OPTIONS.get(kind)
        options = view.table(OperatorSlot.OPTIONS) if told else None
        given |= _RULES[kind](self, inputs, outputs[0], options)
        op = QOp(**given)
        self._check(op)
        return op

    def _fused(self, options: TableView | None, slot: int, output: int) -> Activation:
        code = options.integer(slot, "<b") if options else 0
        if code not in _ACTIVATION_OF_CODE:
            self._refuse(f"'{self._name(output)}' has fused activation {code}; allowed are none, RELU, RELU6")
        return _ACTIVATION_OF_CODE[code]

    def _window(
        self, x: int, kernel: tuple[int, int], options: TableView | None, slots: tuple[int, int, int], dilation: Any
    ) -> dict[str, Any]:
        if options is None:
            self._refuse(f"an operator on '{self._name(x)}' has no options")
        shape = self._shape(x)
        if len(shape) != 4:
            self._refuse(f"tensor '{self._name(x)}' has shape {shape}; allowed is (1, height, width, channels) here")
        padding_slot, width_slot, height_slot = slots
        stride = options.integer(height_slot), options.integer(width_slot)
        if min(*stride, *kernel, *dilation) < 1:
            self._refuse(f"an operator on '{self._name(x)}' has stride {stride}, kernel {kernel}, dilation {dilation}")
        axes = zip(shape[1:3], kernel, stride, dilation, strict=True)
        same = options.integer(padding_slot, "<b") == schema.SAME
        padding = tuple(same_padding(*axis) if same else (0, 0) for axis in axes)
        return {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}

    def _weighted(self, inputs: list[int], axis: int) -> dict[str, Any]:
        if len(inputs) < 2:
            self._refuse(f"an operator on '{self._name(inputs[0])}' has no weights")
        weights = self._constant(inputs[1], "i1")
        scale, zero = self._quantisation(inputs[1])
        if np.any(zero):
            self._refuse(f"weights '{self._name(inputs[1])}' have a zero point; allowed are symmetric weights")
        outer = weights.shape[axis] if weights.ndim else 0
        if len(scale) not in (1, outer):
            self._refuse(f"weights '{self._name(inputs[1])}' have {len(scale)} scales for {outer} channels")
        quantisation = self._view(inputs[1]).table(TensorSlot.QUANTIZATION)
        dimension = quantisation.integer(QuantizationSlot.DIMENSION) if quantisation else 0
        if len(scale) > 1 and dimension != axis % weights.ndim:
            self._refuse(f"weights '{self._name(inputs[1])}' have scales along axis {dimension}; allowed: outputs")
        bias = self._constant(inputs[2], "<i4") if len(inputs) > 2 and inputs[2] >= 0 else None
        if bias is not None and bias.size != outer:
            self._refuse(f"bias '{self._name(inputs[2])}' has {bias.size} values for {outer} channels")
        scales = np.ascontiguousarray(np.broadcast_to(scale, (outer,)), np.float32)
        return {"weights": weights, "weight_scales": scales, "bias": None if bias is None else bias.reshape(-1)}

    def convolution(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        given = self._weighted(inputs, 0)
        return given | self._convolution_window(inputs, output, given["weights"], options, ConvSlot)

    def depthwise(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        given = self._weighted(inputs, -1)
        window = self._convolution_window(inputs, output, given["weights"], options, DepthwiseSlot)
        multiplier = options.integer(DepthwiseSlot.MULTIPLIER) if options else 0
        channels, made = self._shape(inputs[0])[-1], given["weights"].shape[-1]
        if multiplier * channels != made:
            self._refuse(
                f"'{self._name(output)}' has depth_multiplier {multiplier}, "
                f"but weights that make {made} channels of {channels}"
            )
        return given | window

    def _convolution_window(
        self, inputs: list[int], output: int, weights: np.ndarray, options: TableView | None, slots: Any
    ) -> dict[str, Any]:
        if weights.ndim != 4 or options is None:
            self._refuse(f"'{self._name(output)}' is a convolution with weights of shape {weights.shape}")
        dilation = options.integer(slots.DILATION_H, default=1), options.integer(slots.DILATION_W, default=1)
        places = (slots.PADDING, slots.STRIDE_W, slots.STRIDE_H)
        window = self._window(inputs[0], weights.shape[1:3], options, places, dilation)
        return window | {"activation": self._fused(options, slots.ACTIVATION, output)}

    def transposed(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        if len(inputs) < 3 or options is None:
            self._refuse(f"'{self._name(output)}' is a TRANSPOSE_CONV with {len(inputs)} inputs; allowed are 3 and 4")
        given, made = self._weighted([inputs[2], inputs[1], *inputs[3:]], 0), self._shape(output)
        stride = options.integer(ConvSlot.STRIDE_H), options.integer(ConvSlot.STRIDE_W)
        if tuple(self._listed(inputs[0])) != made or len(made) != 4 or given["weights"].ndim != 4 or min(stride) < 1:
            self._refuse(
                f"'{self._name(output)}' is a TRANSPOSE_CONV of shape {self._listed(inputs[0])} with stride {stride}; "
                f"allowed is the shape of its output, {made}"
            )
        kernel, padding = given["weights"].shape[1:3], ((0, 0), (0, 0))
        if options.integer(ConvSlot.PADDING, "<b") == schema.SAME:
            rows, columns = (same_padding(*axis) for axis in zip(made[1:3], kernel, stride, strict=True))
            padding = (rows, columns) if rows[0] or columns[0] else padding
        fused = self._fused(options, ConvSlot.ACTIVATION, output)
        return given | {"kernel": kernel, "stride": stride, "padding": padding, "activation": fused}

    def prelu(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        slopes = self._constant(inputs[1], "i1") if len(inputs) > 1 else np.zeros(0, np.int8)
        scale, zero = self._quantisation(inputs[1])
        if len(scale) != 1:
            self._refuse(f"slopes '{self._name(inputs[1])}' have {len(scale)} scales; allowed is 1")
        return {"weights": slopes, "weight_scales": np.array(scale, np.float32), "value": int(zero[0])}

    def bilinear(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        source, made = self._shape(inputs[0]), self._shape(output)
        wanted = self._listed(inputs[1]) if len(inputs) > 1 else []
        corners, centres = (options is not None and bool(options.integer(slot, "<b")) for slot in ResizeSlot)
        if len(source) != 4 or len(made) != 4 or wanted != list(made[1:3]) or (corners and centres):
            self._refuse(f"'{self._name(output)}' resizes {source} to {made}, told {wanted}; allowed is one size")
        sampling = Sampling.CORNERS if corners else Sampling.CENTRES if centres else Sampling.ORIGIN
        return {"sampling": sampling}

    def dense(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        if options and options.integer(1, "<b"):
            self._refuse(f"'{self._name(output)}' has weights in a shuffled format; allowed is the default one")
        return self._weighted(inputs, 0) | {"activation": self._fused(options, 0, output)}

    def pool(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        kernel = (options.integer(PoolSlot.FILTER_H), options.integer(PoolSlot.FILTER_W)) if options else (0, 0)
        places = (PoolSlot.PADDING, PoolSlot.STRIDE_W, PoolSlot.STRIDE_H)
        window = self._window(inputs[0], kernel, options, places, (1, 1))
        return window | {"activation": self._fused(options, PoolSlot.ACTIVATION, output)}

    def add(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        return {"activation": self._fused(options, 0, output)}

    def concat(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        axis = options.integer(0) if options else 0
        rank = len(self._shape(output))
        if axis not in (rank - 1, -1):
            self._refuse(f"'{self._name(output)}' concatenates along axis {axis}; allowed is the last (channels)")
        return {"activation": self._fused(options, 1, output)}

    def pad(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        pads = self._constant(inputs[1], "<i4") if len(inputs) > 1 else np.zeros(0)
        if pads.shape != (4, 2) or np.any(pads[[0, 3]]) or np.any(pads < 0):
            self._refuse(f"'{self._name(output)}' pads by {pads.tolist()}; allowed are height and width, 4 x 2 counts")
        return {"padding": tuple((int(low), int(high)) for low, high in pads[1:3])}

    def pad_value(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        given = self.pad(inputs, output, options)
        value = self._constant(inputs[2], "i1") if len(inputs) > 2 else np.zeros(0)
        if value.size != 1:
            self._refuse(f"'{self._name(output)}' pads with {value.size} values; allowed is 1")
        own, tensor = self._quantisation(inputs[2]), self.tensors[self._activation(output)]
        if (float(own[0][0]), int(own[1][0])) != (tensor.scale, tensor.zero_point):
            self._refuse(f"'{self._name(output)}' pads with a value of unequal quantisation; allowed is the output's")
        return given | {"value": int(value.ravel()[0])}

    def mean(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        rank = len(self._shape(inputs[0]))
        axes = sorted({int(a) % rank for a in self._constant(inputs[1], "<i4").ravel()}) if len(inputs) > 1 else []
        if rank != 4 or axes != [1, 2]:
            self._refuse(f"'{self._name(output)}' is a mean over axes {axes}; allowed are height and width (1, 2)")
        return {"kernel": self._shape(inputs[0])[1:3]}

    def relu(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        return {"activation": Activation.RELU}

    def softmax(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        beta = float(options.scalar(0, "<f", 0.0)) if options else 0.0
        if beta != 1.0:
            self._refuse(f"'{self._name(output)}' is a SOFTMAX with beta {beta:g}; allowed is 1")
        return self._with_scale("SOFTMAX", output, 1 / 256, -128)

    def resize(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        source, made = self._shape(inputs[0]), self._shape(output)
        wanted = self._constant(inputs[1], "<i4").ravel().tolist() if len(inputs) > 1 else []
        whole = len(source) == len(made) == 4 and not made[1] % source[1] and not made[2] % source[2]
        told = options is not None and (options.integer(0, "<b") or options.integer(1, "<b"))
        if not whole or told or wanted != list(made[1:3]):
            self._refuse(
                f"'{self._name(output)}' resizes {source} to {made}; allowed are whole factors, from the corner"
            )
        return {"kernel": (made[1] // source[1], made[2] // source[2])}

    def slice(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        source, made = self._shape(inputs[0]), self._shape(output)
        begin, end, step = ([] if index < 0 else self._listed(index) for index in (*inputs[1:4], -1, -1, -1)[:3])
        masked = options is not None and (any(options.integer(slot) for slot in range(5)) or options.integer(5, "<b"))
        found: tuple[int, ...] = ()
        if len(source) == len(begin) == len(end) == len(step) == 4 and not masked and min(step) > 0 <= min(begin):
            axes = zip(begin, end, step, source, strict=True)
            found = tuple(len(range(first, min(last, size), each)) for first, last, each, size in axes)
        if not found or found != made or (begin[3], step[3]) != (0, 1) or made[3] != source[3]:
            self._refuse(
                f"'{self._name(output)}' is a STRIDED_SLICE of {source} to {made}; allowed are rows and columns from a "
                "first to a last one, without masks"
            )
        return {"begin": tuple(begin[1:3]), "stride": tuple(step[1:3])}

    def gather(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        source = self._shape(inputs[0])
        axis = (options.integer(0), options.integer(1)) if options else (0, 0)
        order = self._constant(inputs[1], "<i4") if len(inputs) > 1 else np.zeros(0, np.int32)
        numbers = order.tolist() if order.ndim == 1 and len(source) == 4 and axis in ((3, 0), (-1, 0)) else []
        if not numbers or not 0 <= min(numbers) <= max(numbers) < source[-1]:
            self._refuse(
                f"'{self._name(output)}' gathers {order.tolist()} of axis {axis[0]} of {source}; allowed are channels"
            )
        return {"order": tuple(numbers)}

    def _listed(self, index: int) -> list[int]:
        return [int(value) for value in self._constant(index, "<i4").ravel()]

    def leaky(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        return {"alpha": float(options.scalar(0, "<f", 0.0)) if options else 0.0}

    def logistic(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        return self._with_scale("LOGISTIC", output, 1 / 256, -128)

    def tanh(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        return self._with_scale("TANH", output, 1 / 128, 0)

    def _with_scale(self, named: str, output: int, scale: float, zero_point: int) -> dict[str, Any]:
        """Kernels that write one quantisation whatever the file says."""
        tensor = self.tensors[self._activation(output)]
        if (tensor.scale, tensor.zero_point) != (scale, zero_point):
            self._refuse(
                f"'{self._name(output)}' is a {named} with scale {tensor.scale:g}, zero point {tensor.zero_point}; "
                f"allowed are 1/{1 / scale:g} and {zero_point}"
            )
        return {}

    def nothing(self, inputs: list[int], output: int, options: TableView | None) -> dict[str, Any]:
        return {}

    # --- shapes --------------------------------------------------------------------------------------------

    def _check(self, op: QOp) -> None:
        """The output shape must be what the operator makes of its inputs."""
        shapes = [self.tensors[index].shape for index in op.inputs]
        output = self.tensors[op.output].shape
        expected = output_shape(op, shapes, output)
        if expected is None:
            self._refuse(f"operator '{op.name}' {self._misfit(op, shapes)}")
        if (expected != output and op.kind is not Kind.DENSE) or prod(expected) != prod(output):
            self._refuse(f"operator '{op.name}' states shape {output} for its output, which comes to {expected}")
        if op.kind in _COPYING:
            self._check_copied(op)

    def _check_copied(self, op: QOp) -> None:
        """Kernels that copy codes do not look at what the codes mean: it must be the same on both sides."""
        target = self.tensors[op.output]
        for source in (self.tensors[index] for index in op.inputs):
            if abs(source.scale - target.scale) > _SCALE_TOLERANCE or source.zero_point != target.zero_point:
                self._refuse(
                    f"operator '{op.name}' copies codes of scale {source.scale:g}, zero point {source.zero_point} to "
                    f"scale {target.scale:g}, zero point {target.zero_point}: unequal quantisation; allowed is one"
                )

    def _misfit(self, op: QOp, shapes: list[tuple[int, ...]]) -> str:
        """Why an operator cannot take its inputs."""
        given = " and ".join(map(str, shapes))
        if op.weights is None:
            return f"is a {op.kind} of {given}, which do not fit together"
        channels, wanted = shapes[0][-1], op.weights.shape[-1]
        if op.kind is Kind.CONV and channels % wanted == 0:
            made = op.weights.shape[0]
            return f"is a convolution in {channels // wanted} groups, which do not divide its {made} outputs"
        return f"has weights of shape {op.weights.shape}, which do not fit its input {given}"


_RULES: dict[Kind, Callable[[_Reader, list[int], int, TableView | None], dict[str, Any]]] = {
    Kind.CONV: _Reader.convolution,
    Kind.DEPTHWISE: _Reader.depthwise,
    Kind.DENSE: _Reader.dense,
    Kind.MAX_POOL: _Reader.pool,
    Kind.AVG_POOL: _Reader.pool,
    Kind.ADD: _Reader.add,
    Kind.CONCAT: _Reader.concat,
    Kind.PAD: _Reader.pad,
    Kind.PADV2: _Reader.pad_value,
    Kind.MEAN: _Reader.mean,
    Kind.RELU: _Reader.relu,
    Kind.RESHAPE: _Reader.nothing,
    Kind.SOFTMAX: _Reader.softmax,
    Kind.LOGISTIC: _Reader.logistic,
    Kind.TANH: _Reader.tanh,
    Kind.HARD_SWISH: _Reader.nothing,
    Kind.ELU: _Reader.nothing,
    Kind.LEAKY_RELU: _Reader.leaky,
    Kind.MUL: _Reader.add,
    Kind.RESIZE: _Reader.resize,
    Kind.SLICE: _Reader.slice,
    Kind.GATHER: _Reader.gather,
    Kind.PRELU: _Reader.prelu,
    Kind.TRANSPOSE_CONV: _Reader.transposed,
    Kind.BILINEAR: _Reader.bilinear,
}
_NAMES = {schema.OPERATOR_NAMES[code] for code in _KIND_OF_CODE}
