"""Exponentials of the quantised softmax, in the fixed-point arithmetic of gemmlowp that TensorFlow Lite Micro uses."""

from __future__ import annotations

import math

import numpy as np

from mcu.firmware.fixed_point import fixed_point

ONE = 2**31 - 1
INPUT_BITS = 5  # integer bits of the exponent's Q5.26
FRACTION_BITS = 31 - INPUT_BITS
QUARTER = 1 << (FRACTION_BITS - 2)
EXP_MINUS_EIGHTH = 1895147668
THIRD = 715827883
BARREL = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-2^k) in Q0.31 for k = -2 ... 4."""


def exponential_table(scale: float) -> np.ndarray:
    """``exp(-i * scale)`` in Q0.31 for the differences i = 0, 1, ... of int8 codes that count at all.

    Args:
        scale: of the softmax's input (its beta is 1).
    """
    multiplier = fixed_point(min(scale * 2.0**FRACTION_BITS, 2.0**31 - 1.0))
    radius = math.floor((2**INPUT_BITS - 1) * 2.0**FRACTION_BITS / 2.0**multiplier.shift)
    count = min(radius, 255) + 1
    scaled = [_high_product(-i << multiplier.shift, multiplier.value) for i in range(count)]
    return np.array([_exp_of_negative(value) for value in scaled], np.int64)


def _exp_of_negative(a: int) -> int:
    """exp(a), a <= 0 in Q5.26: a polynomial within the last quarter, then factors for the bits above."""
    if a == 0:
        return ONE
    remainder_quarter = (a & (QUARTER - 1)) - QUARTER
    result = _exp_within_quarter(remainder_quarter << INPUT_BITS)
    rest = remainder_quarter - a
    for bit, factor in enumerate(BARREL):
        if rest >> (FRACTION_BITS - 2 + bit) & 1:
            result = _high_product(result, factor)
    return result


def _exp_within_quarter(a: int) -> int:
    """exp(a) for -1/4 <= a < 0, Q0.31: Taylor's polynomial around -1/8."""
    x = a + (1 << 28)
    x2 = _high_product(x, x)
    x3 = _high_product(x2, x)
    x4_quarter = _divide_by_power(_high_product(x2, x2), 2)
    tail = _divide_by_power(_high_product(x4_quarter + x3, THIRD) + x2, 1)
    return EXP_MINUS_EIGHTH + _high_product(EXP_MINUS_EIGHTH, x + tail)


def _high_product(a: int, b: int) -> int:
    return (a * b + (1 << 30)) >> 31


def _divide_by_power(value: int, exponent: int) -> int:
    half = (1 << exponent) >> 1
    return (value + half - (1 if value < 0 else 0)) >> exponent
