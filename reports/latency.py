"""Latency of a trial on a device: as a board measured it, else estimated from executed instructions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mcu.latency import Latency, estimate
from reports.study import StudyInfo


def latency_of(trial: pd.Series, device: Mapping[str, Any] | None, study: StudyInfo) -> Latency | None:
    """The best figure there is; None if neither is known. An estimate includes the front end of sound.

    Args:
        trial: its ``number``, and the ``instructions`` of an inference on the core of the device.
        device: its ``name``, its ``clock_hz`` and the ``cycles`` of its instructions.
    """
    if device is None:
        return None
    number, instructions = int(trial["number"]), trial["instructions"]
    measured = study.latencies.get((number, str(device.get("name"))))
    cycles, clock = device.get("cycles"), device.get("clock_hz")
    if measured is not None or not (cycles and clock and np.isfinite(instructions) and instructions > 0):
        return measured
    return estimate(float(instructions) + study.front_end_instructions(number), cycles, clock)


def latency_text(latency: Latency | None) -> str:
    """``about 21.4 ms ± 15 %, estimated: ...``, ``20.9 ms, measured on ...``; empty if unknown."""
    if latency is None:
        return ""
    return f"{latency.told()}, {latency.origin}"
