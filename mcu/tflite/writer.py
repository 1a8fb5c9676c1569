"""Write an ``Int8Model`` as a slim .tflite file.

What makes it slim, with outputs unchanged: no tensor names, no quantisation on biases (int32 accumulator units are
implied), one shared copy of equal shapes, index lists, options, zero points and quantisations, one vtable per table
layout. Sharing depends on the structure alone, never on weight values, so
``predict_flash`` knows the size of a file that was never written. Constants are aligned to 4 bytes.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from mcu.graph.kinds import Kind, Sampling
from mcu.int8.model import Int8Model, QOp
from mcu.int8.structure import OpForm, Structure, form_of, structure_of
from mcu.tflite import schema
from mcu.tflite.flatbuffer import Node, References, Table, Vector, serialise
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


def write_tflite(model: Int8Model, offsets: Mapping[int, int] | None = None) -> bytes:
    """The .tflite file of a model.

    Args:
        model: its ``metadata`` becomes one compact JSON metadata buffer (``metadata_bytes`` tells the cost).
        offsets: byte offset in the arena for each activation tensor; written as TensorFlow Lite Micro's
            ``OfflineMemoryAllocation`` so that its planner uses this plan instead of its own.
    """
    return _Writer(model).file(offsets)


def operator_codes(kinds: Iterable[Kind]) -> tuple[Kind, ...]:
    """Kinds in operator-code order: most frequent first (code 0 costs no field), then by first appearance."""
    return tuple(kind for kind, _ in Counter(kinds).most_common())


def metadata_json(metadata: Mapping[str, str]) -> bytes:
    """The metadata buffer's content."""
    return json.dumps(dict(metadata), separators=(",", ":"), ensure_ascii=False).encode() if metadata else b""


def options_key(structure: Structure, op: OpForm) -> tuple[int, ...]:
    """Everything an operator's options table holds, first its union member; empty where no table is written."""
    padding = schema.SAME if op.padded else schema.VALID
    activation = schema.ACTIVATION_CODE[op.activation]
    dilation = () if op.dilation == (1, 1) else op.dilation
    if op.kind is Kind.CONV:
        return (schema.KIND_OPTIONS[op.kind], padding, activation, *op.stride, 1, *dilation)
    if op.kind is Kind.DEPTHWISE:
        multiplier = structure.shapes[op.output][-1] // structure.shapes[op.inputs[0]][-1]
        return (schema.KIND_OPTIONS[op.kind], padding, activation, *op.stride, multiplier, *dilation)
    if op.kind in (Kind.MAX_POOL, Kind.AVG_POOL):
        return (schema.KIND_OPTIONS[op.kind], padding, activation, *op.stride, *op.kernel)
    if op.kind is Kind.TRANSPOSE_CONV:
        return (schema.KIND_OPTIONS[op.kind], padding, activation, *op.stride)
    if op.kind is Kind.BILINEAR:
        return (schema.KIND_OPTIONS[op.kind], op.sampling is Sampling.CORNERS, op.sampling is Sampling.CENTRES)
    if op.kind is Kind.LEAKY_RELU:
        return (schema.KIND_OPTIONS[op.kind], schema.float_bits(op.alpha))
    if op.kind in (Kind.ADD, Kind.MUL, Kind.DENSE, Kind.CONCAT, Kind.SOFTMAX):
        return (schema.KIND_OPTIONS[op.kind], activation)
    if op.kind is Kind.SLICE:
        return (schema.KIND_OPTIONS[op.kind], 0)
    if op.kind is Kind.GATHER:
        return (schema.KIND_OPTIONS[op.kind], len(structure.shapes[op.output]) - 1)
    if op.kind is Kind.MEAN:
        keep = len(structure.shapes[op.output]) == len(structure.shapes[op.inputs[0]])
        return (schema.KIND_OPTIONS[op.kind], int(keep))
    return ()


def options_table(kind: Kind, key: tuple[int, ...]) -> Table:
    """The options table of an operator from its ``options_key``."""
    activation = key[2] if len(key) > 2 else key[1]  # of MEAN: whether it keeps the reduced dimensions
    if kind in (Kind.CONV, Kind.DEPTHWISE):
        slots = ConvSlot if kind is Kind.CONV else DepthwiseSlot
        words: list[tuple[int, int | Node]] = [(slots.STRIDE_W, key[4]), (slots.STRIDE_H, key[3])]
        if kind is Kind.DEPTHWISE:
            words.append((DepthwiseSlot.MULTIPLIER, key[5]))
        if len(key) > 6:
            words += [(slots.DILATION_W, key[7]), (slots.DILATION_H, key[6])]
        return Table(tuple(words), ((slots.PADDING, key[1]), (slots.ACTIVATION, activation)))
    if kind is Kind.TRANSPOSE_CONV:  # the slots of a convolution without dilation
        words = [(ConvSlot.STRIDE_W, key[4]), (ConvSlot.STRIDE_H, key[3])]
        return Table(tuple(words), ((ConvSlot.PADDING, key[1]), (ConvSlot.ACTIVATION, activation)))
    if kind is Kind.BILINEAR:
        return Table((), ((ResizeSlot.CORNERS, key[1]), (ResizeSlot.CENTRES, key[2])))
    if kind in (Kind.MAX_POOL, Kind.AVG_POOL):
        words = [(PoolSlot.STRIDE_W, key[4]), (PoolSlot.STRIDE_H, key[3])]
        words += [(PoolSlot.FILTER_W, key[6]), (PoolSlot.FILTER_H, key[5])]
        return Table(tuple(words), ((PoolSlot.PADDING, key[1]), (PoolSlot.ACTIVATION, activation)))
    if kind is Kind.SOFTMAX:
        return Table(((0, schema.float_bits(1.0)),))  # beta
    if kind is Kind.LEAKY_RELU:
        return Table(((0, key[1]),))  # alpha
    if kind is Kind.GATHER:
        return Table(((0, key[1]),))  # axis
    if kind is Kind.SLICE:
        return Table()  # no masks
    if kind is Kind.CONCAT:
        return Table(((0, -1),), ((1, activation),))  # the last axis: channels
    return Table((), ((0, activation),))


def in_file_order(kind: Kind, inputs: list[int]) -> tuple[int, ...]:
    """Inputs of an operator as the file lists them: of TRANSPOSE_CONV the shape first, then weights, values, bias."""
    if kind is Kind.TRANSPOSE_CONV:
        values, weights, *rest = inputs
        return (rest[-1], weights, values, *rest[:-1])
    return tuple(inputs)


@dataclass
class _Writer:
    """Gathers the nodes of one file, then lays them out."""

    model: Int8Model
    tensors: list[Table] = field(default_factory=list)
    buffers: list[Table] = field(default_factory=lambda: [Table()])
    payloads: list[Vector] = field(default_factory=list)
    quantisations: list[Node] = field(default_factory=list)
    activation_quantisations: list[Table] = field(default_factory=list)
    tails: list[Node] = field(default_factory=list)
    vectors: dict[tuple[int, ...], Vector] = field(default_factory=dict)
    options: dict[tuple[int, ...], Table] = field(default_factory=dict)
    constants: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = field(default_factory=dict)
    zero_points: dict[tuple[int, int], Vector] = field(default_factory=dict)

    def file(self, offsets: Mapping[int, int] | None) -> bytes:
        structure = structure_of(self.model)
        self._activations(structure)
        codes = operator_codes(op.kind for op in structure.ops)
        operators = [self._operator(structure, op, codes) for op in self.model.ops]
        codes_tables = [_operator_code(kind) for kind in codes]
        lists = [References(tuple(codes_tables)), References(tuple(self.tensors)), References(tuple(operators))]
        ends = [self._ints(tuple(port.tensor for port in ports)) for ports in (self.model.inputs, self.model.outputs)]
        metadata, signature = self._metadata(offsets), self._signature(structure)
        graph = Table(
            (
                (SubGraphSlot.TENSORS, lists[1]),
                (SubGraphSlot.INPUTS, ends[0]),
                (SubGraphSlot.OUTPUTS, ends[1]),
                (SubGraphSlot.OPERATORS, lists[2]),
            )
        )
        graphs, buffers = References((graph,)), References(tuple(self.buffers))
        words: list[tuple[int, int | Node]] = [
            (ModelSlot.VERSION, schema.SCHEMA_VERSION),
            (ModelSlot.OPERATOR_CODES, lists[0]),
            (ModelSlot.SUBGRAPHS, graphs),
            (ModelSlot.BUFFERS, buffers),
        ]
        if metadata:
            words.append((ModelSlot.METADATA, metadata[0]))
        if signature:
            words.append((ModelSlot.SIGNATURES, signature[0]))
        root = Table(tuple(words))
        nodes: list[Node] = [root, graphs, graph, *lists, buffers, *metadata, *signature, *codes_tables, *self.tensors]
        nodes += [*operators, *self.buffers, *self.options.values(), *self.quantisations, *self.tails]
        nodes += [*self._vectors_in_order(), *self.payloads]
        return serialise(root, nodes, schema.IDENTIFIER)

    def _ints(self, values: tuple[int, ...]) -> Vector:
        if values not in self.vectors:
            self.vectors[values] = Vector(np.array(values, "<i4").tobytes(), len(values))
        return self.vectors[values]

    def _zero_point(self, value: int, count: int) -> Vector:
        """A shared vector of ``count`` equal zero points: LiteRT wants one per channel."""
        if (value, count) not in self.zero_points:
            self.zero_points[value, count] = Vector(struct.pack("<q", value) * count, count, 8)
        return self.zero_points[value, count]

    def _vectors_in_order(self) -> list[Node]:
        """64-bit zero points, each followed by a vector of four 32-bit numbers, so that no padding is needed."""
        fours = [vector for vector in self.vectors.values() if vector.count == 4]
        mixed: list[Node] = []
        for index, zero_point in enumerate(self.zero_points.values()):
            mixed += [zero_point, *fours[index : index + 1]]
        placed = set(map(id, mixed))
        return mixed + [vector for vector in self.vectors.values() if id(vector) not in placed]

    def _buffer(self, data: bytes) -> int:
        payload = Vector(data, len(data))
        self.payloads.append(payload)
        self.buffers.append(Table(((0, payload),)))
        return len(self.buffers) - 1

    def _activations(self, structure: Structure) -> None:
        """Activation tensors come first; tensors of one quantisation class share one quantisation table."""
        roots, rectified = structure.quantisation_classes
        tables: dict[tuple[int, float, int], Table] = {}
        for tensor, root in zip(self.model.tensors, roots, strict=True):
            key = (root, tensor.scale, tensor.zero_point)
            if key not in tables:
                shared = root in rectified and tensor.zero_point == -128
                zero = self._zero_point(-128, 1) if shared else Vector(struct.pack("<q", tensor.zero_point), 1, 8)
                scale = Vector(struct.pack("<f", tensor.scale), 1)
                tables[key] = _quantisation(scale, zero)
                if shared:
                    self.tails += [tables[key], scale]
                else:
                    self.quantisations += [tables[key], zero, scale]  # 32 bytes that keep 8-byte alignment
            self.activation_quantisations.append(tables[key])
            shape = self._ints(tensor.shape)
            words = ((TensorSlot.SHAPE, shape), (TensorSlot.QUANTIZATION, tables[key]))
            self.tensors.append(Table(words, ((TensorSlot.TYPE, schema.INT8),)))

    def _constant(self, shape: tuple[int, ...], data: bytes, kind: int, quantisation: Table | None = None) -> int:
        words: list[tuple[int, int | Node]] = [(TensorSlot.SHAPE, self._ints(shape))]
        words.append((TensorSlot.BUFFER, self._buffer(data)))
        if quantisation is not None:
            words.append((TensorSlot.QUANTIZATION, quantisation))
        self.tensors.append(Table(tuple(words), ((TensorSlot.TYPE, kind),)))
        return len(self.tensors) - 1

    def _operator(self, structure: Structure, op: QOp, codes: tuple[Kind, ...]) -> Table:
        form = form_of(op)
        inputs = list(op.inputs)
        if op.weights is not None:
            inputs.append(self._weights(op))
            if op.bias is not None:
                bias = np.ascontiguousarray(op.bias, "<i4")
                inputs.append(self._constant(bias.shape, bias.tobytes(), schema.INT32))
        if op.order:  # never shared: how many of them are equal depends on what was pruned
            inputs.append(self._constant((len(op.order),), np.array(op.order, "<i4").tobytes(), schema.INT32))
        for constant in structure.constants(form):
            if constant not in self.constants:
                data = np.array(constant[1], "<i4").tobytes()
                self.constants[constant] = self._constant(constant[0], data, schema.INT32)
            inputs.append(self.constants[constant])
        if op.kind is Kind.PADV2:
            data = np.array([op.value], np.int8).tobytes()
            inputs.append(self._constant((1,), data, schema.INT8, self.activation_quantisations[op.output]))
        words: list[tuple[int, int | Node]] = []
        if codes.index(op.kind):
            words.append((OperatorSlot.CODE_INDEX, codes.index(op.kind)))
        words.append((OperatorSlot.INPUTS, self._ints(in_file_order(op.kind, inputs))))
        words.append((OperatorSlot.OUTPUTS, self._ints((op.output,))))
        key = options_key(structure, form)
        if not key:
            return Table(tuple(words))
        if key not in self.options:
            self.options[key] = options_table(op.kind, key)
        words.append((OperatorSlot.OPTIONS, self.options[key]))
        return Table(tuple(words), ((OperatorSlot.OPTIONS_TYPE, key[0]),))

    def _weights(self, op: QOp) -> int:
        assert op.weights is not None
        assert op.weight_scales is not None
        scales = np.ascontiguousarray(op.weight_scales, "<f4")
        scale = Vector(scales.tobytes(), len(scales))
        self.payloads.append(scale)
        zero = self._zero_point(op.value, len(scales))  # of slopes in files from other tools
        quantisation = _quantisation(scale, zero, 3 if op.kind is Kind.DEPTHWISE else 0)
        self.tails.append(quantisation)
        data = np.ascontiguousarray(op.weights, np.int8).tobytes()
        return self._constant(op.weights.shape, data, schema.INT8, quantisation)

    def _signature(self, structure: Structure) -> list[Node]:
        """The names of several ports, which LiteRT's signature runner takes."""
        if not structure.is_named:
            return []
        text = [_text(port.name) for port in (*self.model.inputs, *self.model.outputs)]
        entries = [
            Table(((0, name), (1, port.tensor)))
            for name, port in zip(text, (*self.model.inputs, *self.model.outputs), strict=True)
        ]
        count, key = len(self.model.inputs), _text(schema.SIGNATURE_KEY)
        ends = References(tuple(entries[:count])), References(tuple(entries[count:]))
        signature = Table(((SignatureSlot.INPUTS, ends[0]), (SignatureSlot.OUTPUTS, ends[1]), (SignatureSlot.KEY, key)))
        return [References((signature,)), signature, *ends, *entries, *text, key]

    def _metadata(self, offsets: Mapping[int, int] | None) -> list[Node]:
        """The metadata list and its tables and names, none when there is nothing to say."""
        entries: list[tuple[str, bytes]] = []
        if self.model.metadata:
            entries.append((schema.METADATA_NAME, metadata_json(self.model.metadata)))
        if offsets is not None:
            plan = [1, 0, len(self.tensors)] + [offsets.get(index, -1) for index in range(len(self.tensors))]
            entries.append((schema.OFFLINE_PLAN_NAME, np.array(plan, "<i4").tobytes()))
        names = [_text(name) for name, _ in entries]
        buffers = [self._buffer(data) for _, data in entries]
        tables = [Table(((0, name), (1, buffer))) for name, buffer in zip(names, buffers, strict=True)]
        return [References(tuple(tables)), *tables, *names] if entries else []


def _text(text: str) -> Vector:
    data = text.encode()
    return Vector(data + b"\0", len(data))


def _quantisation(scale: Vector, zero: Vector, dimension: int = 0) -> Table:
    words: list[tuple[int, int | Node]] = [(QuantizationSlot.SCALE, scale), (QuantizationSlot.ZERO_POINT, zero)]
    if dimension:
        words.append((QuantizationSlot.DIMENSION, dimension))
    return Table(tuple(words))


def _operator_code(kind: Kind) -> Table:
    code = schema.KIND_CODE[kind]
    words = ((OperatorCodeSlot.VERSION, schema.KIND_VERSION[kind]), (OperatorCodeSlot.CODE, code))
    return Table(words, ((OperatorCodeSlot.DEPRECATED_CODE, code),))
