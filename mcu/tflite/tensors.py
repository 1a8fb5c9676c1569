"""The tensors of a .tflite file: type, shape, values and quantisation, refused where no int8 kernel takes them."""

from __future__ import annotations

from math import prod
from typing import NoReturn

import numpy as np

from mcu.errors import InputError
from mcu.int8.model import QTensor
from mcu.tflite import schema
from mcu.tflite.flatbuffer import FlatbufferError, TableView
from mcu.tflite.schema import ModelSlot, QuantizationSlot, SubGraphSlot, TensorSlot

_LARGEST_TENSOR = 1 << 28


class Tensors:
    """Tensors of one subgraph, by their numbers in the file.

    Attributes:
        source: the file's name, for messages.
        activations: the tensors of the model, in the order in which they were asked for.
        places: for the number of each of them, where in ``activations`` it is.
    """

    def __init__(self, root: TableView, graph: TableView, source: str) -> None:
        self.source = source
        self.views = graph.tables(SubGraphSlot.TENSORS)
        self.buffers = root.tables(ModelSlot.BUFFERS)
        self.activations: list[QTensor] = []
        self.places: dict[int, int] = {}

    def refuse(self, what: str) -> NoReturn:
        """Refuse the file.

        Raises:
            InputError: its name and what is wrong.
        """
        raise InputError(f"{self.source}: {what}")

    def _refuse_tensor(self, index: int, what: str) -> NoReturn:
        self.refuse(f"tensor '{self.name(index)}' {what}")

    def view(self, index: int) -> TableView:
        """The table of a tensor."""
        if not 0 <= index < len(self.views):
            self.refuse(f"tensor {index} is referred to; it has {len(self.views)}")
        return self.views[index]

    def name(self, index: int) -> str:
        """What messages call a tensor."""
        return self.view(index).text(TensorSlot.NAME) or f"tensor {index}"

    def shape(self, index: int) -> tuple[int, ...]:
        """Extents, all positive."""
        shape = tuple(self.view(index).integers(TensorSlot.SHAPE))
        if any(extent < 1 for extent in shape) or prod(shape) > _LARGEST_TENSOR:
            self._refuse_tensor(index, f"has shape {shape}; allowed are positive extents")
        return shape

    def type(self, index: int) -> int:
        """Element type, as the schema numbers them."""
        return self.view(index).integer(TensorSlot.TYPE, "<b")

    def _type_name(self, index: int) -> str:
        return schema.TYPE_NAMES.get(self.type(index), f"of type {self.type(index)}")

    def data(self, buffer: int) -> bytes:
        """Content of a buffer."""
        if not 0 <= buffer < len(self.buffers):
            raise FlatbufferError(f"buffer {buffer} is referred to; there are {len(self.buffers)}")
        numbers = self.buffers[buffer].numbers(0, "u1")
        return b"" if numbers is None else numbers.tobytes()

    def values(self, index: int) -> bytes:
        """The bytes of a constant; empty for a tensor that the model computes."""
        return self.data(self.view(index).integer(TensorSlot.BUFFER, "<I"))

    def constant(self, index: int, dtype: str) -> np.ndarray:
        """A constant's values in its shape; ``dtype`` is ``"<i4"`` or ``"i1"``."""
        wanted = {"<i4": schema.INT32, "i1": schema.INT8}[dtype]
        data, shape = self.values(index), self.shape(index)
        if self.type(index) != wanted:
            self._refuse_tensor(index, f"is {self._type_name(index)}; allowed here is {schema.TYPE_NAMES[wanted]}")
        if not data:
            self._refuse_tensor(index, "is computed by the model; allowed here is a constant")
        if len(data) != prod(shape) * np.dtype(dtype).itemsize:
            self._refuse_tensor(index, f"of shape {shape} holds {len(data)} bytes")
        return np.frombuffer(data, dtype).reshape(shape)

    def quantisation(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Scales and zero points: one of each, or one for each channel."""
        view = self.view(index).table(TensorSlot.QUANTIZATION)
        scale = view.numbers(QuantizationSlot.SCALE, "<f4") if view else None
        zero = view.numbers(QuantizationSlot.ZERO_POINT, "<i8") if view else None
        if scale is None or zero is None or not len(scale) or not len(zero):
            self._refuse_tensor(index, "is not quantised; allowed are fully int8 models")
        if not np.all(np.isfinite(scale) & (scale > 0)) or np.any(np.abs(zero) > 255):
            self._refuse_tensor(index, "has a scale that is not positive or a zero point out of range")
        return scale, zero

    def activation(self, index: int) -> int:
        """The place in ``activations`` of a tensor that the model is given or computes."""
        if index in self.places:
            return self.places[index]
        if self.type(index) != schema.INT8:
            self._refuse_tensor(index, f"is {self._type_name(index)}; allowed is int8 throughout")
        scale, zero = self.quantisation(index)
        if not -128 <= int(zero[0]) <= 127:
            self._refuse_tensor(index, f"has zero point {int(zero[0])}; allowed are -128 to 127")
        shape = self.shape(index)
        if not shape or shape[0] != 1:
            self._refuse_tensor(index, f"has shape {shape}; allowed is batch 1")
        name = self.view(index).text(TensorSlot.NAME)
        self.activations.append(QTensor(shape, float(scale[0]), int(zero[0]), name))
        self.places[index] = len(self.activations) - 1
        return self.places[index]
