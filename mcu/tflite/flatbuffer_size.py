"""Bytes of the .tflite file ``write_tflite`` would make, without writing it.

The file is header + vtables + tables + vectors, all padded to 4 bytes, except 64-bit zero points, which may need 4
bytes of padding in front. The writer shares parts by structure only, so the size is a closed formula of operators
and shapes; weight values never matter. Light enough for the pruning loop: well under a millisecond for 20 operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod

from mcu.graph.kinds import Kind
from mcu.int8.model import Int8Model
from mcu.int8.structure import CONVOLUTIONS, OpForm, Structure, structure_of
from mcu.tflite.flatbuffer import HEADER_BYTES, form_of_table, padded, padded_vtable, table_bytes
from mcu.tflite.schema import METADATA_NAME, OFFLINE_PLAN_NAME, SIGNATURE_KEY, ModelSlot
from mcu.tflite.writer import in_file_order, metadata_json, operator_codes, options_key, options_table

Form = tuple[tuple[int, ...], tuple[int, ...]]

_MODEL = (0, 1, 2, 4)
_OPERATOR_CODE: Form = (2, 3), (0,)
_SUBGRAPH: Form = (0, 1, 2, 3), ()
_ACTIVATION: Form = (0, 4), (1,)
_CONSTANT: Form = (0, 2), (1,)
_WEIGHTS: Form = (0, 2, 4), (1,)
_BUFFER: Form = (0,), ()
_EMPTY: Form = (), ()
_QUANTISATION: Form = (2, 3), ()
_QUANTISATION_WITH_AXIS: Form = (2, 3, 6), ()
_METADATA: Form = (0, 1), ()
_SIGNATURE: Form = (0, 1, 2), ()
_SIGNED_PORT: Form = (0, 1), ()
_SCALE = 8  # a vector of one scale


def predict_flash(
    model: Structure | Int8Model, metadata: Mapping[str, str] | None = None, offline_plan: bool = False
) -> int:
    """Exact size in bytes of the file the writer would make.

    Args:
        model: a structure, assumed quantised by mcusweep's own rules (values that only ReLUs produce have zero
            point -128), or a finished model, whose own metadata is then counted when ``metadata`` is None.
        metadata: what the model's metadata will be.
        offline_plan: whether our arena plan is written into the file.
    """
    if isinstance(model, Int8Model):
        structure = structure_of(model)
        own, shared = _model_quantisations(model, structure)
        metadata = model.metadata if metadata is None else metadata
    else:
        structure = model
        roots, rectified = structure.quantisation_classes
        distinct = set(roots)
        shared = len(distinct & rectified)
        own = len(distinct) - shared
    return _Size(structure, own, shared).total(metadata_json(metadata or {}), offline_plan)


def metadata_bytes(structure: Structure, metadata: Mapping[str, str]) -> int:
    """What the metadata adds to the file."""
    return predict_flash(structure, metadata) - predict_flash(structure)


def _model_quantisations(model: Int8Model, structure: Structure) -> tuple[int, int]:
    roots, rectified = structure.quantisation_classes
    keys = {(r, t.scale, t.zero_point) for r, t in zip(roots, model.tensors, strict=True)}
    shared = sum(root in rectified and zero_point == -128 for root, _, zero_point in keys)
    return len(keys) - shared, shared


class _Size:
    """Adds up one file. ``own`` and ``shared`` count quantisations with a zero point of their own and with -128."""

    def __init__(self, structure: Structure, own: int, shared: int) -> None:
        self.structure, self.own, self.shared = structure, own, shared
        self.vectors: set[tuple[int, ...]] = set(structure.shapes)
        self.vectors |= {tuple(port.tensor for port in ports) for ports in (structure.inputs, structure.outputs)}
        self.forms: Counter[Form] = Counter({_SUBGRAPH: 1, _EMPTY: 1, _ACTIVATION: len(structure.shapes)})
        self.tensors = len(structure.shapes)
        self.constants: dict[object, int] = {}
        self.options: set[tuple[int, ...]] = set()
        self.channel_counts: set[int] = set()
        self.weight_quantisations: Counter[Form] = Counter()
        self.buffers = 0
        self.data = 0
        self.codes = operator_codes([op.kind for op in structure.ops])
        self.forms[_OPERATOR_CODE] += len(self.codes)
        for op in structure.ops:
            self._operator(op)

    def _constant(self, shape: tuple[int, ...], size: int, form: Form = _CONSTANT) -> int:
        self.vectors.add(shape)
        self.forms[form] += 1
        self._buffer(size)
        self.tensors += 1
        return self.tensors - 1

    def _buffer(self, size: int) -> None:
        self.forms[_BUFFER] += 1
        self.buffers += 1
        self.data += padded(4 + size)

    def _operator(self, op: OpForm) -> None:
        inputs = list(op.inputs)
        if op.kind in CONVOLUTIONS or op.kind is Kind.PRELU:
            inputs += self._weights(op)
        if op.kind is Kind.GATHER:
            channels = self.structure.shapes[op.output][-1]
            inputs.append(self._constant((channels,), 4 * channels))
        for constant in self.structure.constants(op):
            if constant not in self.constants:
                self.constants[constant] = self._constant(constant[0], 4 * len(constant[1]))
            inputs.append(self.constants[constant])
        if op.kind is Kind.PADV2:
            inputs.append(self._constant((1,), 1, _WEIGHTS))
        self.vectors.add(in_file_order(op.kind, inputs))
        self.vectors.add((op.output,))
        key = options_key(self.structure, op)
        words = (1, 2, 4) if key else (1, 2)
        self.forms[words if op.kind is self.codes[0] else (0, *words), (3,) if key else ()] += 1
        if key and key not in self.options:
            self.options.add(key)
            self.forms[form_of_table(options_table(op.kind, key))] += 1

    def _weights(self, op: OpForm) -> list[int]:
        shape = self.structure.weight_shape(op)
        outer = self.structure.shapes[op.output][-1]
        self.weight_quantisations[_QUANTISATION_WITH_AXIS if op.kind is Kind.DEPTHWISE else _QUANTISATION] += 1
        scales = 1 if op.kind is Kind.PRELU else outer
        self.channel_counts.add(scales)
        self.data += 4 + 4 * scales
        inputs = [self._constant(shape, prod(shape), _WEIGHTS)]
        if op.bias and op.kind in CONVOLUTIONS:
            inputs.append(self._constant((outer,), 4 * outer))
        return inputs

    def total(self, metadata: bytes, offline_plan: bool) -> int:
        entries = [(len(METADATA_NAME), len(metadata))] if metadata else []
        if offline_plan:
            entries.append((len(OFFLINE_PLAN_NAME), 4 * (3 + self.tensors)))
        lists = 4 * 4 + 4 * (len(self.codes) + 1 + self.tensors + len(self.structure.ops))
        if entries:
            lists += 4 + 4 * len(entries) + sum(padded(4 + name + 1) for name, _ in entries)
            self.forms[_METADATA] += len(entries)
            for _, size in entries:
                self._buffer(size)
        model = (*_MODEL, *[ModelSlot.METADATA] * bool(entries), *[ModelSlot.SIGNATURES] * self.structure.is_named)
        self.forms[model, ()] += 1
        if self.structure.is_named:
            names = [port.name for port in (*self.structure.inputs, *self.structure.outputs)]
            self.forms[_SIGNATURE] += 1
            self.forms[_SIGNED_PORT] += len(names)
            lists += 8 + 4 * 2 + 4 * len(names) + sum(padded(4 + len(n.encode()) + 1) for n in (*names, SIGNATURE_KEY))
        lists += 4 + 4 * (self.buffers + 1)
        start = HEADER_BYTES + lists + sum(_form_bytes(form) * count for form, count in self.forms.items())
        return self._end(start + sum(len(layout) for layout in self._vtables()))

    def _vtables(self) -> set[bytes]:
        forms = {*self.forms, *self.weight_quantisations}
        if self.own + self.shared:
            forms.add(_QUANTISATION)
        return {padded_vtable(*form) for form in forms}

    def _end(self, place: int) -> int:
        """Where the file ends when its quantisations start at ``place``."""
        if self.own:
            place += place % 8 + 32 * self.own  # table, zero point, scale
        place += (_form_bytes(_QUANTISATION) + _SCALE) * self.shared
        place += sum(_form_bytes(form) * count for form, count in self.weight_quantisations.items())
        fours = sum(len(vector) == 4 for vector in self.vectors)
        counts = [1] * bool(self.shared) + list(self.channel_counts)
        for index, count in enumerate(counts):  # each zero point vector but the last few is followed by a four
            place += (4 - place) % 8 + 4 + 8 * count + (20 if index < fours else 0)
        place += sum(4 + 4 * len(vector) for vector in self.vectors) - 20 * min(fours, len(counts))
        return place + self.data


def _form_bytes(form: Form) -> int:
    return table_bytes(len(form[0]), len(form[1]))
