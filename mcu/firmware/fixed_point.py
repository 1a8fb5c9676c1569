"""TEMPORARY."""
from __future__ import annotations
import math
from typing import NamedTuple
import numpy as np
from mcu.int8_model import Activation


class Multiplier(NamedTuple):
    value: int
    shift: int


def fixed_point(real: float) -> Multiplier:
    if real == 0:
        return Multiplier(0, 0)
    m, e = math.frexp(real)
    q = int(math.floor(m * (1 << 31) + 0.5))
    if q == 1 << 31:
        q //= 2
        e += 1
    if e < -31:
        q = e = 0
    return Multiplier(q, e)


def activation_range(activation: Activation, scale: float, zero_point: int, standalone: bool = False) -> tuple[int, int]:
    low, high = -128, 127
    if activation is not Activation.NONE or standalone:
        low = max(low, zero_point)
    if activation is Activation.RELU6:
        high = min(high, zero_point + int(math.floor(float(np.float32(6.0) / np.float32(scale)) + 0.5)))
    return low, high
