"""Read an int8 .tflite file, ours or foreign, into an ``Int8Model``."""

from __future__ import annotations

import json

import numpy as np

from mcu.errors import InputError
from mcu.graph.ports import Port
from mcu.int8.model import Int8Model, QOp
from mcu.tflite import schema
from mcu.tflite.flatbuffer import FlatbufferError, TableView
from mcu.tflite.operators import read_operator
from mcu.tflite.schema import ModelSlot, SignatureSlot, SubGraphSlot, TensorSlot
from mcu.tflite.tensors import Tensors


def read_tflite(data: bytes, source: str = "model") -> Int8Model:
    """Read a model.

    Args:
        data: the file's bytes.
        source: its name, for messages.

    Raises:
        InputError: one line, if the bytes are damaged or hold something mcusweep has no int8 kernel for.
    """
    return _read(data, source)[0]


def read_arena_plan(data: bytes, source: str = "model") -> dict[int, int] | None:
    """Arena offsets that the file carries for its interpreter, by tensor of the model ``read_tflite`` gives.

    Returns:
        None where the file leaves planning to the interpreter; tensors it leaves out are missing.

    Raises:
        InputError: as ``read_tflite``, or if the plan does not fit the file's tensors.
    """
    return _read(data, source)[1]


def _read(data: bytes, source: str) -> tuple[Int8Model, dict[int, int] | None]:
    try:
        reader = _Reader(data, source)
        return reader.model(), reader.plan()
    except InputError:
        raise
    except (FlatbufferError, ValueError, IndexError, OverflowError) as error:
        raise InputError(f"{source}: not a readable .tflite file ({error})") from error


class _Reader:
    """One pass over the only subgraph."""

    def __init__(self, data: bytes, source: str) -> None:
        self.root = TableView.root(data, schema.IDENTIFIER)
        graphs = self.root.tables(ModelSlot.SUBGRAPHS)
        if len(graphs) != 1:
            raise InputError(f"{source}: it has {len(graphs)} subgraphs; allowed is 1")
        self.graph = graphs[0]
        self.tensors = Tensors(self.root, self.graph, source)

    def model(self) -> Int8Model:
        inputs = self._ports(SubGraphSlot.INPUTS, SignatureSlot.INPUTS)
        written = {port.tensor for port in inputs}
        if len(written) < len(inputs):
            self.tensors.refuse("two of its inputs are one tensor; allowed is a tensor for each")
        codes, ops = self.root.tables(ModelSlot.OPERATOR_CODES), []
        for view in self.graph.tables(SubGraphSlot.OPERATORS):
            op = read_operator(view, codes, self.tensors)
            self._check_order(op, written)
            written.add(op.output)
            ops.append(op)
        outputs = self._ports(SubGraphSlot.OUTPUTS, SignatureSlot.OUTPUTS)
        if not ops or not {port.tensor for port in outputs} <= written:
            self.tensors.refuse("no operator writes its output")
        return Int8Model(tuple(self.tensors.activations), tuple(ops), inputs, outputs, self._metadata())

    def _ports(self, slot: SubGraphSlot, signature_slot: SignatureSlot) -> tuple[Port, ...]:
        """Inputs or outputs in the file's order, named as in its signature, or else as their tensors.

        In a signature a tensor that is returned twice has two names, one after the other.
        """
        indices = self.graph.integers(slot)
        if not indices:
            self.tensors.refuse(f"it has no {slot.name.lower()}; allowed are 1 or more")
        named: dict[int, list[str]] = {}
        for signature in self.root.tables(ModelSlot.SIGNATURES)[:1]:
            for entry in signature.tables(signature_slot):
                named.setdefault(entry.integer(1, "<I"), []).append(entry.text(0))
        ports = []
        for index in indices:
            name = named[index].pop(0) if named.get(index) else self.tensors.view(index).text(TensorSlot.NAME)
            ports.append(Port(self.tensors.activation(index), name))
        return tuple(ports)

    def _check_order(self, op: QOp, written: set[int]) -> None:
        """Operators read what an input or an operator before them gave, and each writes a tensor of its own."""
        tensors, numbers = self.tensors, {ours: theirs for theirs, ours in self.tensors.places.items()}
        if op.output in written:
            name = tensors.name(numbers[op.output])
            tensors.refuse(f"operator '{op.name}' writes tensor '{name}', which has its values")
        for tensor in op.inputs:
            if tensor in written:
                continue
            name = tensors.name(numbers[tensor])
            if tensors.values(numbers[tensor]):
                tensors.refuse(
                    f"operator '{op.name}' takes the constant '{name}': allowed are tensors that the model computes"
                )
            tensors.refuse(f"operator '{op.name}' reads tensor '{name}' before an operator writes it")

    def _metadata(self) -> dict[str, str]:
        raw = self._metadata_buffer(schema.METADATA_NAME)
        try:
            found = json.loads(raw) if raw else {}
        except ValueError:
            self.tensors.refuse("its mcusweep metadata is damaged")
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    def _metadata_buffer(self, name: str) -> bytes | None:
        for entry in self.root.tables(ModelSlot.METADATA):
            if entry.text(0) == name:
                return self.tensors.data(entry.integer(1, "<I"))
        return None

    def plan(self) -> dict[int, int] | None:
        raw = self._metadata_buffer(schema.OFFLINE_PLAN_NAME)
        if raw is None:
            return None
        words, count = np.frombuffer(raw[: len(raw) // 4 * 4], "<i4"), len(self.tensors.views)
        if len(words) != 3 + count or words[2] != count or np.any(words[3:] < -1):
            self.tensors.refuse(f"its {schema.OFFLINE_PLAN_NAME} does not give one offset for each of {count} tensors")
        offsets = {place: int(words[3 + index]) for index, place in self.tensors.places.items()}
        return {tensor: offset for tensor, offset in offsets.items() if offset >= 0}
