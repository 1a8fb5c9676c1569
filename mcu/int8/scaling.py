"""Multipliers, clamping limits and tables the kernels are given, computed as TensorFlow Lite Micro prepares them."""

from __future__ import annotations

import math

import numpy as np

from mcu.graph.kinds import Activation
from mcu.int8.fixed_point import exp_on_negative_values, high_multiply, quantise_multiplier
from mcu.int8.model import Int8Model, QOp, QTensor

SOFTMAX_FRACTION_BITS = 26  # the exponent is a Q5.26
ADD_BITS = 20  # what both inputs of an addition are shifted by before they are brought to one scale

Multiplier = tuple[int, int]
"""Multiplier and shift, as ``quantise_multiplier`` gives them."""


def float32(value: float) -> float:
    """A scale as the file stores it."""
    return float(np.float32(value))


def ratio(source: QTensor, target: QTensor) -> float:
    """What a value of one tensor is in units of another's scale."""
    return float32(source.scale) / float32(target.scale)


def activation_range(activation: Activation, tensor: QTensor) -> tuple[int, int]:
    """Codes that a fused activation lets through."""
    low, high = -128, 127
    if activation is not Activation.NONE:
        low = max(low, tensor.zero_point)
    if activation is Activation.RELU6:
        six = np.float32(6.0) / np.float32(tensor.scale)
        high = min(high, tensor.zero_point + int(np.floor(six + np.float32(0.5))))
    return low, high


def conv_multipliers(model: Int8Model, op: QOp) -> list[Multiplier]:
    """Multiplier and shift of every output channel of a convolution."""
    source, target = float32(model.tensors[op.inputs[0]].scale), float32(model.tensors[op.output].scale)
    channels = model.tensors[op.output].shape[-1]
    return [quantise_multiplier(source * float(scale) / target) for scale in _scales(op, channels)]


def dense_multipliers(model: Int8Model, op: QOp) -> list[Multiplier]:
    """The same of a dense layer, which with one scale for all outputs multiplies the scales in float32."""
    source, target = np.float32(model.tensors[op.inputs[0]].scale), float32(model.tensors[op.output].scale)
    scales = _scales(op, model.tensors[op.output].shape[-1])
    if bool(np.all(scales == scales[0])):
        return [quantise_multiplier(float(source * scale) / target) for scale in scales]
    return [quantise_multiplier(float(source) * float(scale) / target) for scale in scales]


def sum_multipliers(left: QTensor, right: QTensor, target: QTensor) -> tuple[Multiplier, Multiplier, Multiplier]:
    """Those of both inputs of an addition, to twice the larger scale, and that of the sum."""
    twice = 2.0 * max(float32(left.scale), float32(right.scale))
    first, second = (quantise_multiplier(float32(tensor.scale) / twice) for tensor in (left, right))
    return first, second, quantise_multiplier(twice / ((1 << ADD_BITS) * float32(target.scale)))


def product_multiplier(left: QTensor, right: QTensor, target: QTensor) -> Multiplier:
    """That of a product of two maps, whose scales are multiplied in float32."""
    return quantise_multiplier(float(np.float32(left.scale) * np.float32(right.scale) / np.float32(target.scale)))


def prelu_multipliers(model: Int8Model, op: QOp) -> tuple[Multiplier, Multiplier]:
    """Those of a PRELU: of values above zero, and of products of those below with a slope."""
    source, target = model.tensors[op.inputs[0]], model.tensors[op.output]
    slope = float32(source.scale) * float(_scales(op, 1)[0])
    return quantise_multiplier(ratio(source, target)), quantise_multiplier(slope / float32(target.scale))


def mean_multiplier(source: QTensor, target: QTensor, positions: int) -> Multiplier:
    """Multiplier and shift of a mean: the division by the number of positions joins the multiplier."""
    multiplier, shift = quantise_multiplier(ratio(source, target))
    bits = min(positions.bit_length() - 1, 32, 31 + shift)
    return (multiplier << bits) // positions, shift - bits


def exponential_table(scale: float) -> np.ndarray:
    """``exp(-i * scale)`` in Q0.31 for the differences i = 0, 1, ... of int8 codes with a non-zero result; int64."""
    one = 1 << SOFTMAX_FRACTION_BITS
    multiplier, shift = quantise_multiplier(min(float32(scale) * one, (1 << 31) - 1.0))
    radius = math.floor(31 * one / float(1 << shift))
    differences = -np.arange(min(radius, 255) + 1, dtype=np.int64)
    return exp_on_negative_values(high_multiply(differences << shift, multiplier))


def _scales(op: QOp, channels: int) -> np.ndarray:
    scales = np.asarray(op.weight_scales, np.float32).reshape(-1)
    return np.repeat(scales, channels) if len(scales) == 1 else scales
