"""Latency estimated from executed instructions; the assumption is stated wherever the number is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def latency_ms(instructions: float | None, device: Mapping[str, Any] | None) -> float | None:
    """``instructions * cycles_per_instruction / clock_hz`` in milliseconds; None if one of them is unknown.

    An estimate: caches and flash wait states are not in it.

    Args:
        device: its ``clock_hz`` and the assumed ``cycles_per_instruction`` of its core.
    """
    if device is None or instructions is None or not np.isfinite(instructions) or instructions <= 0:
        return None
    cycles, clock = device.get("cycles_per_instruction"), device.get("clock_hz")
    return 1000.0 * instructions * cycles / clock if cycles and clock else None


def milliseconds(value: float) -> str:
    """``21.4 ms``, ``1.24 s``."""
    return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.3g} ms"


def latency_text(instructions: float | None, device: Mapping[str, Any] | None) -> str:
    """``about 21.4 ms at 168 MHz, assuming 1.2 cycles an instruction``; empty if unknown."""
    estimate = latency_ms(instructions, device)
    if estimate is None or device is None:
        return ""
    clock = f"{device['clock_hz'] / 1e6:g} MHz"
    assumed = f"assuming {device['cycles_per_instruction']:g} cycles an instruction"
    return f"about {milliseconds(estimate)} at {clock}, {assumed}"
