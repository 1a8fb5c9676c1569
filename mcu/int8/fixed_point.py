"""The fixed-point arithmetic of TensorFlow Lite's int8 kernels, vectorised over int64 arrays.

Two roundings, as in gemmlowp and TFLM's reference kernels: a saturating rounding doubling high multiply (ties towards
plus infinity), then a rounding shift (ties away from zero).
"""

from __future__ import annotations

import math

import numpy as np

from mcu.graph.kinds import Sampling

Int64 = np.ndarray


def quantise_multiplier(real: float) -> tuple[int, int]:
    """A positive real number as ``multiplier / 2**31 * 2**shift`` with a 31-bit multiplier."""
    if real == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    multiplier = math.floor(mantissa * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        return 1 << 30, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def high_multiply(values: Int64, multiplier: Int64 | int) -> Int64:
    """SaturatingRoundingDoublingHighMul: ``values * multiplier / 2**31``, rounded."""
    return (values * multiplier + (1 << 30)) >> 31


def rounding_shift(values: Int64, exponent: Int64 | int) -> Int64:
    """RoundingDivideByPOT: ``values / 2**exponent``, rounded, ties away from zero."""
    mask = (np.int64(1) << np.asarray(exponent, np.int64)) - 1
    threshold = (mask >> 1) + (values < 0)
    return (values >> np.asarray(exponent, np.int64)) + ((values & mask) > threshold)


def rescale(values: Int64, multiplier: Int64 | int, shift: Int64 | int) -> Int64:
    """MultiplyByQuantizedMultiplier: ``values * multiplier / 2**31 * 2**shift``."""
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    return rounding_shift(high_multiply(np.asarray(values, np.int64) << left, multiplier), right)


def interpolation(count: int, size: int, sampling: Sampling) -> tuple[int, int]:
    """Distance and start, in 1/1024, of ``size`` values laid over ``count`` (ResizeBilinearInteger)."""
    scale = (1024 * count + size // 2) // size
    if sampling is Sampling.CORNERS and size > 1:
        scale = (1024 * (count - 1) + (size - 1) // 2) // (size - 1)
    return scale, scale // 2 - 512 if sampling is Sampling.CENTRES else 0


def _exp_on_quarter_interval(x: Int64) -> Int64:
    """exp(x) for x in [-1/4, 0), Q0.31: Taylor polynomial around -1/8."""
    x = x + (1 << 28)
    x2 = high_multiply(x, x)
    x3 = high_multiply(x2, x)
    x4 = rounding_shift(high_multiply(x2, x2), 2)
    poly = rounding_shift(high_multiply(x4 + x3, 715827883) + x2, 1)
    return 1895147668 + high_multiply(x + poly, 1895147668)


_EXP_CONSTANTS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)


def exp_on_negative_values(x: Int64, integer_bits: int = 5) -> Int64:
    """exp(x) for non-positive x in Q5.26, or another number of ``integer_bits``, as Q0.31 (gemmlowp)."""
    fraction = 31 - integer_bits
    quarter = 1 << (fraction - 2)
    remainder = (x & (quarter - 1)) - quarter
    result = _exp_on_quarter_interval(remainder << integer_bits)
    rest = remainder - x
    for position, constant in enumerate(_EXP_CONSTANTS[: integer_bits + 2]):
        result = np.where(rest & (1 << (fraction - 2 + position)), high_multiply(result, constant), result)
    return np.where(x == 0, (1 << 31) - 1, result)


def reciprocal(x: Int64) -> tuple[Int64, Int64]:
    """1/x for positive x in Q12.19: a Q0.31 mantissa and the bits over unity (GetReciprocal)."""
    zeros = 31 - np.floor(np.log2(x)).astype(np.int64)
    half = (x << zeros) - (1 << 31)
    denominator = (half + (1 << 31) - 1 + 1) >> 1  # rounding half sum of x and 1, Q0.31
    y = 1515870810 + high_multiply(denominator, -1010580540)  # 48/17 - 32/17 d, Q2.29
    for _ in range(3):
        error = (1 << 29) - high_multiply(denominator, y)
        y = y + (high_multiply(y, error) << 2)
    return np.minimum(y << 1, (1 << 31) - 1), 12 - zeros
