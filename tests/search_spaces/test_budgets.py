import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcu.budget import Budget
from mcu.devices import find_device
from mcu.errors import InputError
from mcu.firmware import CORES
from search_spaces.budgets import BudgetsSection, sobol_points


def section(**table):
    return BudgetsSection.model_validate(table)


RANGES = {"flash": ["16KB", "256KB"], "sram": ["8KB", "64KB"], "macs": ["500k", "5M"]}


def test_devices_bring_their_budgets_and_names():
    (budget,) = section(devices=["NUCLEO-F446RE"]).planned(seed=0)
    assert (budget.label, budget.device) == ("stm32f446re", "stm32f446re")
    assert budget == find_device("stm32f446re").budget()


def test_a_list_is_taken_as_it_stands():
    entries = [{"flash": "64KB", "sram": "16KB", "macs": "4M"}, {"sram": "12kB"}, {"flash": 999, "name": "mine"}]
    budgets = section(list=entries).planned(seed=0)
    assert [budget.label for budget in budgets] == ["64KB flash, 16KB SRAM, 4M MACs", "12,000 B SRAM", "mine"]
    assert budgets == (Budget(65_536, 16_384, 4_000_000), Budget(sram=12_000), Budget(999))


def test_sampled_budgets_cover_the_ranges_evenly_in_the_logarithm():
    budgets = section(**RANGES, count=64).planned(seed=3)
    assert len(budgets) == 64
    for resource, (low, high) in section(**RANGES).ranges().items():
        values = np.array([getattr(budget, resource) for budget in budgets])
        assert low <= values.min()
        assert values.max() <= high
        octiles = np.histogram(np.log(values / low) / np.log(high / low), bins=8, range=(0, 1))[0]
        assert octiles.min() >= 6


def test_the_seed_decides_the_sample():
    assert section(**RANGES).planned(seed=1) == section(**RANGES).planned(seed=1)
    assert section(**RANGES).planned(seed=1) != section(**RANGES).planned(seed=2)


def test_a_grid_holds_the_corners():
    budgets = section(flash=["16KB", "64KB"], sram=["8KB", "32KB"], plan="grid", count=9).planned(seed=0)
    assert len(budgets) == 9
    corners = (("16KB", "8KB"), ("64KB", "32KB"), ("32KB", "16KB"), ("16KB", "32KB"))
    assert set(budgets) >= {Budget(*corner) for corner in corners}


def test_a_range_of_one_point_is_one_budget():
    assert section(flash=["16KB", "16KB"]).planned(seed=0) == (Budget(16_384),)


@given(st.integers(1, 200), st.integers(1, 3), st.integers(0, 9))
def test_there_are_as_many_points_as_asked_for_in_the_unit_cube(count, axes, seed):
    points = sobol_points(count, axes, seed)
    assert points.shape == (count, axes)
    assert points.min() >= 0
    assert points.max() < 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "no form of budgets"),
        ({"devices": ["rp2040"], "list": [{"flash": 1000}]}, "more than one form"),
        ({"devices": []}, "at least 1 item"),
        ({"devices": ["rp2o40"]}, "did you mean rp2040"),
        ({"devices": ["rp2040", "raspberry-pi-pico"]}, "'rp2040' is given twice"),
        ({"devices": ["rp2040"], "count": 4}, "count = 4: only ranges"),
        ({"list": [{}]}, "bounds nothing"),
        ({"list": [{"flash": "-64KB"}]}, "negative"),
        ({"list": [{"flash": 0}]}, "must be more than 0"),
        ({"list": [{"flash": "64QB"}]}, "unknown unit"),
        ({"list": [{"flash": "64KB"}, {"flash": 65_536}]}, "'64KB flash' is given twice"),
        ({"list": [{"flash": "64KB", "ram": "16KB"}]}, "ram: is an unknown key: did you mean sram"),
        (
            {"list": [{"flash": "64KB", "device": "rp2040"}]},
            "device: is an unknown key: allowed are name, flash",
        ),
        ({"list": [{"flash": "64KB", "name": 3}]}, "is not a budget"),
        ({"list": ["64KB"]}, "'64KB' is not a budget"),
        ({"flash": ["64KB", "16KB"]}, r"must be \[lowest, highest\]"),
        ({"flash": ["64KB"]}, "at least 2"),
        ({"list": [{"flash": "64KB"}], "plan": "adaptive"}, "plan = 'adaptive': only ranges are planned"),
        (RANGES | {"count": 0}, "greater than or equal to 1"),
    ],
)
def test_nonsense_is_refused(table, message):
    with pytest.raises(ValidationError, match=message):
        section(**table)


def test_latency_bounds_the_multiply_accumulates_of_each_device():
    fast, slow = section(devices=["stm32f446re", "stm32l053r8"], latency="50ms").planned(seed=0)
    core = CORES["cortex-m4f"]
    # 180 MHz for 0.05 s, 1.2 cycles an instruction, 3.5 instructions a multiply-accumulate
    assert fast.macs == int(180e6 * 0.05 / (core.cycles.bound * core.instructions_per_mac))
    assert slow.macs < fast.macs / 10
    assert fast.flash == find_device("stm32f446re").budget().flash


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"devices": ["rp2040"], "latency": 50}, "a duration is a number with us, ms, s, min or h"),
        ({"devices": ["rp2040"], "latency": "0ms"}, "must be more than 0"),
        ({"list": [{"flash": 1000}], "latency": "5ms"}, "allowed with devices"),
        ({"devices": ["esp32-s3"], "latency": "5ms"}, "Cortex-M"),
    ],
)
def test_a_latency_that_cannot_be_held_is_refused(table, message):
    with pytest.raises((InputError, ValidationError), match=message):
        section(**table)


def test_a_stored_latency_reads_back():
    first = section(devices=["rp2040"], latency="20ms")
    assert section(**first.model_dump(mode="json")) == first
    assert "latency" not in section(devices=["rp2040"]).model_dump()
