"""Element-wise int8 operators as lookup tables of 256 codes, with TensorFlow Lite Micro's arithmetic.

One function per kind, after the reference kernels (gemmlowp's fixed point for LOGISTIC and TANH, 16-bit fixed point
for HARD_SWISH, single precision for ELU). The reference interpreter and the firmware both look values up in the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mcu.graph.kinds import Kind
from mcu.int8.fixed_point import (
    exp_on_negative_values,
    high_multiply,
    quantise_multiplier,
    rescale,
    rounding_shift,
)
from mcu.int8.model import QTensor
from mcu.int8.scaling import float32, ratio

Int64 = np.ndarray
_CODES = np.arange(-128, 128, dtype=np.int64)
_INTEGER_BITS = 4
_ONE = (1 << 31) - 1


def table_of(kind: Kind, source: QTensor, target: QTensor, alpha: float = 0.0) -> np.ndarray:
    """The output code of every input code -128 .. 127; int64 ``(256,)``.

    Args:
        kind: one of ``TABLES``.
        source, target: quantisation of input and output.
        alpha: slope below zero of LEAKY_RELU.
    """
    return np.clip(TABLES[kind](source, target, alpha), -128, 127)


def _sigmoid(source: QTensor, target: QTensor, alpha: float) -> Int64:
    values, radius = _q4(source)
    exponential = exp_on_negative_values(-np.abs(values), _INTEGER_BITS)
    positive = np.minimum(_newton(exponential) << 1, _ONE)
    result = np.where(values > 0, positive, np.where(values == 0, 1 << 30, _ONE - positive))
    codes = rounding_shift(result, 23) - 128
    return _saturated(source, radius, codes)


def _tanh(source: QTensor, target: QTensor, alpha: float) -> Int64:
    values, radius = _q4(source)
    exponential = exp_on_negative_values(-np.abs(values), _INTEGER_BITS + 1)  # of twice the value
    tanh = np.minimum((_newton(exponential) - (1 << 29)) << 2, _ONE)
    codes = rounding_shift(np.where(values < 0, -tanh, np.where(values == 0, 0, tanh)), 24)
    return _saturated(source, radius, codes)


def _q4(source: QTensor) -> tuple[Int64, int]:
    """Every code's value in Q4.27, and the distance from the zero point from which the function is flat."""
    scale = float32(source.scale) * (1 << (31 - _INTEGER_BITS))
    multiplier, shift = quantise_multiplier(scale)
    radius = math.floor(((1 << _INTEGER_BITS) - 1) * (1 << (31 - _INTEGER_BITS)) / float(1 << shift))
    inside = np.clip(_CODES - source.zero_point, 1 - radius, radius - 1)
    return rescale(inside, multiplier, shift), radius


def _saturated(source: QTensor, radius: int, codes: Int64) -> Int64:
    distance = _CODES - source.zero_point
    return np.where(distance <= -radius, -128, np.where(distance >= radius, 127, codes))


def _newton(x: Int64) -> Int64:
    """2 / (1 + x) for x in [0, 1), Q0.31, as Q2.29: Newton-Raphson with gemmlowp's constants."""
    half = (x + _ONE + 1) >> 1
    y = 1515870810 + high_multiply(half, -1010580540)  # 48/17 - 32/17 d
    for _ in range(3):
        y = y + (high_multiply(y, (1 << 29) - high_multiply(half, y)) << 2)
    return y


def _hard_swish(source: QTensor, target: QTensor, alpha: float) -> Int64:
    fine = np.float32(1.0 / 128.0) * np.float32(source.scale)
    out_multiplier, out_exponent = _multiplier16(float(fine / np.float32(target.scale)))
    gate_multiplier, gate_exponent = _multiplier16(float(fine / np.float32(3.0 / 32768.0)))
    values = (_CODES - source.zero_point) << 7
    gate = values
    if gate_exponent > 0:
        gate = _int16(gate << (gate_exponent - 1))
    gate = _high_multiply16(gate, gate_multiplier)
    if gate_exponent > 0:
        gate = _int16(gate << 1)
    if gate_exponent < 0:
        gate = rounding_shift(gate, -gate_exponent)
    gate = (gate + (1 << 15)) >> 1
    product = gate * _high_multiply16(values, out_multiplier)
    return rounding_shift(_truncated(product, 15), -out_exponent) + target.zero_point


def _multiplier16(real: float) -> tuple[int, int]:
    multiplier, exponent = quantise_multiplier(real)
    return ((1 << 15) - 1 if multiplier >= _ONE - (1 << 15) else (multiplier + (1 << 15)) >> 16), exponent


def _high_multiply16(values: Int64, multiplier: int) -> Int64:
    product = values * multiplier
    return _truncated(product + np.where(product >= 0, 1 << 14, 1 - (1 << 14)), 15)


def _truncated(values: Int64, bits: int) -> Int64:
    return np.where(values >= 0, values >> bits, -(-values >> bits))


def _int16(values: Int64) -> Int64:
    return np.clip(values, -(1 << 15), (1 << 15) - 1)


def _leaky_relu(source: QTensor, target: QTensor, alpha: float) -> Int64:
    whole = ratio(source, target)
    above, below = quantise_multiplier(whole), quantise_multiplier(whole * float32(alpha))
    values = _CODES - source.zero_point
    return np.where(values >= 0, rescale(values, *above), rescale(values, *below)) + target.zero_point


def _elu(source: QTensor, target: QTensor, alpha: float) -> Int64:
    values = np.float32(source.scale) * (_CODES - source.zero_point).astype(np.float32)
    below = np.exp(np.minimum(values, 0).astype(np.float64)).astype(np.float32) - np.float32(1)  # rounded as expf
    scaled = np.where(values < 0, below, values) * (np.float32(1) / np.float32(target.scale))
    return _half_away(scaled) + target.zero_point


def _half_away(values: np.ndarray) -> Int64:
    """``std::round``."""
    return np.trunc(values.astype(np.float64) + np.copysign(0.5, values)).astype(np.int64)


TABLES: dict[Kind, Callable[[QTensor, QTensor, float], Int64]] = {
    Kind.LOGISTIC: _sigmoid,
    Kind.TANH: _tanh,
    Kind.HARD_SWISH: _hard_swish,
    Kind.LEAKY_RELU: _leaky_relu,
    Kind.ELU: _elu,
}
"""Kinds that are a table."""

FIXED_RANGES = {Kind.LOGISTIC: (0.0, 255 / 256), Kind.TANH: (-1.0, 127 / 128)}
"""Ranges that the kernels ask of an output: scales 1/256 and 1/128."""
