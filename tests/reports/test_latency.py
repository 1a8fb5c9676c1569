"""The latency of a trial in a report: measured with its origin, else estimated with its error."""

from __future__ import annotations

import pandas as pd
import pytest

from mcu.latency import Cycles, Latency
from reports.latency import bound_text, latency_of, latency_text
from reports.study import StudyInfo

BOARD = {"name": "stm32f446re", "core": "cortex-m4f", "clock_hz": 180_000_000, "cycles": Cycles(1.2, 1.08, 1.32, "s")}
MEASURED = Latency(21.0, 20.9, 21.2, "measured on /dev/ttyACM0 at 2026-11-28, 20 runs")
TRIAL = pd.Series({"number": 7, "instructions": 12_000_000})


def test_a_measured_latency_is_shown_even_where_no_firmware_was_run_and_only_for_its_device():
    study = StudyInfo("fast", latencies={(7, "stm32f446re"): MEASURED})
    for instructions in (12_000_000, float("nan")):
        trial = pd.Series({"number": 7, "instructions": instructions})
        assert latency_text(trial, BOARD, study) == f"21 ms ± 1 %, {MEASURED.origin}"
    elsewhere = latency_text(TRIAL, BOARD | {"name": "nrf52840"}, study)
    assert elsewhere.startswith("about 80 ms ± 10 %, estimated: 1.2 cycles an instruction")
    assert latency_text(TRIAL, None, study) == ""
    assert latency_of(TRIAL, BOARD | {"cycles": None}, StudyInfo("no core")) is None


def test_an_estimate_includes_the_front_end():
    study = StudyInfo("sound", front_end_instructions=lambda number: 6_000_000 if number == 7 else 0)
    found = latency_of(TRIAL, BOARD, study)
    assert found is not None
    assert found.middle == pytest.approx(120.0)


@pytest.mark.parametrize(
    ("runtime", "latencies", "bound", "said"),
    [
        ("firmware", {}, 120.0, "within the bound of 120 ms"),
        ("firmware", {}, 119.0, "over the bound of 119 ms"),
        ("tflm", {}, 80.0, "within the bound of 80 ms on the network alone"),
        ("tflm", {}, 79.0, "over the bound of 79 ms on the network alone"),
        ("firmware", {(7, "stm32f446re"): MEASURED}, 60.0, "over the bound of 60 ms"),  # 21 ms, 40 before it
        ("firmware", {(7, "stm32f446re"): MEASURED}, 61.0, "within the bound of 61 ms"),
    ],
)
def test_a_latency_is_compared_with_its_bound_and_the_front_end_where_it_counts(runtime, latencies, bound, said):
    study = StudyInfo(
        "sound",
        latencies=latencies,
        latency_bounds={"stm32f446re": bound},
        front_end_instructions=lambda number: 6_000_000,
    )
    trial = pd.Series({**TRIAL, "runtime": runtime})
    assert latency_text(trial, BOARD, study).endswith(f"; {said}")
    assert bound_text(trial, BOARD | {"name": "nrf52840"}, study) == ""
