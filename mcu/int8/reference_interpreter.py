"""The reference interpreter: int8 models on batches of inputs, bit-exact with TensorFlow Lite Micro's kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mcu.errors import InputError
from mcu.graph.ports import only
from mcu.int8.kernels import KERNELS
from mcu.int8.model import Int8Model, QTensor

_BATCH_ELEMENTS = 1 << 20
"""Elements of the largest activation of one batch: a few of them stay in the third-level cache."""


def quantise_input(x: np.ndarray, tensor: QTensor) -> np.ndarray:
    """Real values as int8 codes of a tensor; any shape.

    Raises:
        InputError: for NaN, which no code stands for.
    """
    codes = np.rint(np.asarray(x, np.float64) / tensor.scale) + tensor.zero_point
    if np.isnan(codes).any():
        raise InputError("inputs have NaN; allowed are numbers")
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
        self._steps = [KERNELS[op.kind](model, op) for op in model.ops]
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
