"""Latency of a trial on a device: as a board measured it, else estimated from executed instructions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mcu.latency import Latency, against_bound, estimate
from mcu.terms import RuntimeName
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
    if measured is not None or not (np.isfinite(instructions) and instructions > 0):
        return measured
    return _estimated(float(instructions) + study.front_end_instructions(number), device)


def _estimated(instructions: float, device: Mapping[str, Any]) -> Latency | None:
    cycles, clock = device.get("cycles"), device.get("clock_hz")
    return estimate(instructions, cycles, clock) if cycles and clock else None


def latency_text(trial: pd.Series, device: Mapping[str, Any] | None, study: StudyInfo) -> str:
    """``about 21.4 ms ± 15 %, estimated: ...; within the bound of 50 ms``, ``20.9 ms, measured on ...``; or empty."""
    latency, bound = latency_of(trial, device, study), bound_text(trial, device, study)
    if latency is None:
        return ""
    return f"{latency.told()}, {latency.origin}" + (bound and f"; {bound}")


def bound_text(trial: pd.Series, device: Mapping[str, Any] | None, study: StudyInfo) -> str:
    """Whether the latency is within the study's bound; empty if there is no bound, or no latency.

    Args as ``latency_of``; of the trial also its ``runtime``.
    """
    latency = latency_of(trial, device, study)
    bound = None if device is None else study.latency_bounds.get(str(device.get("name")))
    if latency is None or device is None or bound is None:
        return ""
    number = int(trial["number"])
    before = _estimated(study.front_end_instructions(number), device)
    front_end = 0.0 if before is None else before.middle
    network = latency.middle - (0.0 if (number, str(device.get("name"))) in study.latencies else front_end)
    return against_bound(network, front_end, bound, counts=trial["runtime"] == RuntimeName.FIRMWARE)
