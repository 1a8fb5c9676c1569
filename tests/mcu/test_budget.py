from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu.budget import Budget
from mcu.errors import InputError

BOUNDS = st.none() | st.integers(1, 2**40)


def test_bounds_are_numbers_or_texts_with_units():
    assert Budget(flash="64KB", sram="63.6kB", macs="4.4M") == Budget(65_536, 63_600, 4_400_000)
    assert Budget(np.int64(65_536), np.float64(1024.0)) == Budget("64KB", "1KB")
    assert Budget(flash="64KB").flash == 65_536


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"flash": "64QB"}, "flash: '64QB' has the unknown unit 'QB'"),
        ({"sram": 0}, "sram = 0: must be more than 0"),
        ({"macs": "-1M"}, "macs: '-1M' is negative"),
        ({"macs": "4MB"}, "macs: '4MB' has the unknown unit 'MB'"),
        ({"flash": float("nan")}, "flash: nan is not a number"),
        ({"flash": True}, "flash: True is not a number"),
        ({"flash": 1000.5}, "flash: 1000.5 is not a whole number"),
    ],
)
def test_a_bound_that_cannot_be_held_is_refused_by_name(bounds, message):
    with pytest.raises(InputError, match=message):
        Budget(**bounds)


def test_budgets_are_equal_when_their_bounds_are():
    assert Budget(1000, name="mine") == Budget(1000, device="rp2040")
    assert hash(Budget(1000, name="mine")) == hash(Budget(1000))
    assert Budget(1000) != Budget(sram=1000)


def test_the_label_is_the_name_then_the_device_then_the_bounds():
    budget = Budget("64KB", macs=4_400_000)
    assert budget.label == str(budget) == "64KB flash, 4.4M MACs"
    assert replace(budget, device="rp2040").label == "rp2040"
    assert replace(budget, device="rp2040", name="mine").label == "mine"
    assert str(Budget()) == "no bound"


@given(BOUNDS, BOUNDS, BOUNDS)
def test_what_is_printed_reads_back(flash, sram, macs):
    budget = Budget(flash, sram, macs)
    words = [] if str(budget) == "no bound" else str(budget).split(", ")
    keys = {"flash": "flash", "SRAM": "sram", "MACs": "macs"}
    parts = dict(reversed(word.rsplit(" ", 1)) for word in words)
    assert Budget(**{keys[title]: text for title, text in parts.items()}) == budget
