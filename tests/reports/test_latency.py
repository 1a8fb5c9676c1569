"""The latency of a trial in a report: measured with its origin, else estimated with its error."""

from __future__ import annotations

import pandas as pd
import pytest

from mcu.latency import Cycles, Latency
from reports.latency import latency_of, latency_text
from reports.study import StudyInfo

BOARD = {"name": "stm32f446re", "core": "cortex-m4f", "clock_hz": 180_000_000, "cycles": Cycles(1.2, 1.08, 1.32, "s")}
MEASURED = Latency(21.0, 20.9, 21.2, "measured on /dev/ttyACM0 at 2026-11-28, 20 runs")
TRIAL = pd.Series({"number": 7, "instructions": 12_000_000})


def test_a_measured_latency_is_shown_even_where_no_firmware_was_run_and_only_for_its_device():
    study = StudyInfo("fast", latencies={(7, "stm32f446re"): MEASURED})
    for instructions in (12_000_000, float("nan")):
        trial = pd.Series({"number": 7, "instructions": instructions})
        assert latency_text(latency_of(trial, BOARD, study)) == f"21 ms ± 1 %, {MEASURED.origin}"
    elsewhere = latency_of(TRIAL, BOARD | {"name": "nrf52840"}, study)
    assert latency_text(elsewhere).startswith("about 80 ms ± 10 %, estimated: 1.2 cycles an instruction")
    assert latency_text(latency_of(TRIAL, None, study)) == ""
    assert latency_of(TRIAL, BOARD | {"cycles": None}, StudyInfo("no core")) is None


def test_an_estimate_includes_the_front_end():
    study = StudyInfo("sound", front_end_instructions=lambda number: 6_000_000 if number == 7 else 0)
    found = latency_of(TRIAL, BOARD, study)
    assert found is not None
    assert found.middle == pytest.approx(120.0)
