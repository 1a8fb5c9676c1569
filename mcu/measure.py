"""Cost of a .tflite file: measured where the interpreter is installed, predicted elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcu.cost.arena import Plan, lifetimes, live_memory, plan_around, predict_arena
from mcu.errors import InputError
from mcu.graph.kinds import Kind
from mcu.int8.model import Int8Model, QOp, QTensor, op_macs
from mcu.int8.reference_interpreter import ReferenceInterpreter, quantise_input
from mcu.tflite import apart, tflm
from mcu.tflite.reader import read_arena_plan, read_tflite

SAMPLED_INPUTS = 16
"""Inputs on which the reference interpreter is compared with the interpreter."""


@dataclass(frozen=True)
class Layer:
    """One row of the per-layer table.

    Attributes:
        weights: bytes of weights, biases excluded.
        constants: bytes of weights, biases and scales.
        live: bytes of all activations alive while it runs, unaligned.
    """

    name: str
    kind: Kind
    output_shape: tuple[int, ...]
    weights: int
    constants: int
    macs: int
    live: int


@dataclass(frozen=True)
class Measurement:
    """Bytes and operations of one model.

    Attributes:
        flash: bytes of the file.
        sram: bytes of the TFLM arena: activations and persistent structures.
        sram_activations: the activation part alone.
        macs: multiply-accumulates of convolution, depthwise and dense operators per inference.
        measured: whether ``sram`` was measured by the interpreter or predicted.
        layers: per operator, in execution order.
    """

    flash: int
    sram: int
    sram_activations: int
    macs: int
    measured: bool
    layers: tuple[Layer, ...]


def measure_model(data: bytes, source: str = "model") -> Measurement:
    """Measure a .tflite file.

    Args:
        data: its bytes.
        source: its name, for messages.

    Raises:
        InputError: if the file is damaged, not int8 throughout, or refused by the interpreter.
    """
    model = read_tflite(data, source)
    measured = tflm.available()
    arena = apart.measure_arena(data, source) if measured else predict_arena(model, _plan_in_file(data, model))
    live = live_memory(model)
    layers = tuple(_layer(model, op, at) for op, at in zip(model.ops, live, strict=True))
    return Measurement(len(data), arena.total, arena.activations, model.macs(), measured, layers)


def measure_file(model: str | Path | bytes) -> Measurement:
    """Measure a .tflite file by its path or its bytes.

    Raises:
        InputError: as ``measure_model``, or if it cannot be read.
    """
    if isinstance(model, bytes):
        return measure_model(model)
    try:
        return measure_model(Path(model).read_bytes(), str(model))
    except OSError as error:
        raise InputError(f"{model}: cannot be read: {error.strerror}") from None


def _plan_in_file(data: bytes, model: Int8Model) -> Plan | None:
    offsets = read_arena_plan(data)
    return None if offsets is None else plan_around(lifetimes(model), offsets)


def _layer(model: Int8Model, op: QOp, live: int) -> Layer:
    weights = 0 if op.weights is None else op.weights.nbytes
    constants = weights + sum(part.nbytes for part in (op.bias, op.weight_scales) if part is not None)
    name = op.name or model.tensors[op.output].name or f"{op.kind} {op.output}"
    return Layer(name, op.kind, model.tensors[op.output].shape, weights, constants, op_macs(model, op), live)


def evaluate(data: bytes, x: np.ndarray, y: np.ndarray, source: str = "model") -> float:
    """Top-1 accuracy of a .tflite file, run by the reference interpreter, partly checked against TFLM.

    Args:
        data: the file's bytes.
        x: real values ``(N, C, H, W)`` or ``(N, C, L)`` normalised as in training, or int8 codes in the model's
            own layout ``(N, H, W, C)``.
        y: int64 ``(N,)`` class numbers.
        source: the file's name, for messages.

    Raises:
        InputError: if the file cannot be read or the inputs do not fit it.
        ReferenceMismatchError: if reference and interpreter differ on any output of the sample.
    """
    model = read_tflite(data, source)
    reference = ReferenceInterpreter(model)
    codes = x if x.dtype == np.int8 else model_input(model, x)
    if len(codes) != len(y) or not len(y):
        raise InputError(f"{source}: {len(codes)} inputs with {len(y)} labels; allowed are equal numbers, at least 1")
    check_against_interpreter(data, reference, (codes[:SAMPLED_INPUTS],))
    return float(np.mean(reference.predict(codes) == y))


def model_input(model: Int8Model, x: np.ndarray) -> np.ndarray:
    """Real values ``(N, C, H, W)``, ``(N, C, L)`` or ``(N, C)`` as the int8 input ``(N, H, W, C)`` of a model."""
    return input_codes(x, model.tensors[model.input])


def model_inputs(model: Int8Model, x: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """``model_input`` for every input of a model, in order.

    Raises:
        InputError: also if there are more or fewer than the model has.
    """
    if len(x) != len(model.inputs):
        raise InputError(f"{len(x)} inputs; the model has {len(model.inputs)}")
    return tuple(input_codes(given, model.tensors[port.tensor]) for given, port in zip(x, model.inputs, strict=True))


def input_codes(x: np.ndarray, tensor: QTensor) -> np.ndarray:
    """Real values ``(N, C, H, W)``, ``(N, C, L)`` or ``(N, C)`` as codes ``(N, H, W, C)`` of an input."""
    if not 2 <= x.ndim <= 4:
        raise InputError(f"inputs have shape {x.shape}; allowed are (N, C, H, W), (N, C, L) and (N, C)")
    planes = x.reshape(*x.shape, *(1,) * (4 - x.ndim))
    wanted = (tensor.shape[-1], *tensor.shape[-3:-1])
    if planes.shape[1:] != wanted:
        sizes = ", ".join(map(str, wanted)).removesuffix(", 1").removesuffix(", 1")
        raise InputError(f"inputs have shape {x.shape}; the model takes (N, {sizes})")
    return quantise_input(planes.transpose(0, 2, 3, 1), tensor)


class ReferenceMismatchError(RuntimeError):
    """The reference interpreter and TFLM disagree: a defect in mcusweep, never a property of a model."""


def check_against_interpreter(data: bytes, reference: ReferenceInterpreter, codes: Sequence[np.ndarray]) -> None:
    """Compare every output of the reference interpreter with TFLM's; does nothing where that is not installed.

    Args:
        data: the .tflite file the reference's model was written to.
        reference: the reference interpreter.
        codes: int8 inputs ``(N, H, W, C)``, in order.

    Raises:
        ReferenceMismatchError: if any output differs.
    """
    if not tflm.available() or not len(codes[0]):
        return
    theirs, ours = apart.invoke(data, codes), reference.invoke(codes)
    wrong = sum(np.count_nonzero(a.ravel() != b.ravel()) for a, b in zip(theirs, ours, strict=True))
    if wrong:
        raise ReferenceMismatchError(
            f"reference interpreter and TensorFlow Lite Micro differ in {wrong} of {sum(a.size for a in ours)} outputs"
        )
