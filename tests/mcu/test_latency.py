"""Latencies: every core has a figure with its error, made from the public measurements in the repository."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import cycles as benchmark
import pytest

from mcu.firmware import CORES
from mcu.latency import Cycles, Latency, cycles_of, estimate


def test_every_core_has_a_figure_or_an_interval_and_says_what_it_rests_on():
    for core in CORES:
        found = cycles_of(core)
        assert 0 < found.low <= found.middle <= found.high < 10
        assert found.source
        assert found.bound == (found.high if found.value is None else found.value)
    assert cycles_of("cortex-m55").value is None, "nobody has published one whose instructions can be counted"


def test_the_table_and_the_page_are_what_the_measurements_give():
    data = tomllib.loads(benchmark.DATA.read_text("utf-8"))
    found = benchmark.measurements(data)
    fitted = benchmark.fits(found)
    assert benchmark.TABLE.read_text("utf-8") == benchmark.table_text(fitted)
    assert benchmark.PAGE.read_text("utf-8") == benchmark.page_text(data, found, fitted)
    assert {board["source"] for board in data["boards"]} == set(data["sources"])


def test_an_error_is_that_of_boards_the_figure_was_made_without():
    one = benchmark.Measured("a", "cortex-m3", "p", 1.0, 100, 100_000)  # 1 cycle an instruction
    found = benchmark.fit([one, replace(one, board="b"), replace(one, board="c", milliseconds=8.0)])
    assert found.value == pytest.approx(2.0)  # geometric mean of 1, 1 and 8: no board counts twice
    assert benchmark.fit([one, replace(one, program="q"), replace(one, board="b", milliseconds=4.0)]).value == 2.0
    assert found.low == pytest.approx(2.0 / 8**0.5)  # 1 against the mean of 1 and 8
    assert found.high > 4 * found.value
    assert benchmark.fit([one, replace(one, program="q", milliseconds=2.0)]).high > 1.5


@pytest.mark.parametrize(
    ("cycles", "text"),
    [
        (Cycles(1.5, 1.2, 1.8, "s"), "15 ms ± 20 %"),
        (Cycles(1.5, 1.0, 2.5, "s"), "15 ms (10 to 25)"),
        (Cycles(None, 0.8, 2.2, "s"), "8 to 22 ms"),
        (Cycles(1.0, 1.0, 1.0, "s"), "10 ms"),
        (Cycles(150.0, 120.0, 180.0, "s"), "1.5 s ± 20 %"),
    ],
)
def test_a_latency_is_shown_with_its_error(cycles, text):
    found = estimate(1_000_000, cycles, 100_000_000)
    assert found.text() == text
    assert isinstance(found, Latency)
    assert found.origin.endswith("(s) at 100 MHz")
