"""Labels of axes say where their ticks are."""

import pytest

from reports.figures.scales import PercentTicks


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([0.7, 0.8, 0.9], ["70 %", "80 %", "90 %"]),
        ([0.725, 0.75, 0.775], ["72.5 %", "75.0 %", "77.5 %"]),
        ([0.9125, 0.915], ["91.25 %", "91.50 %"]),
    ],
)
def test_percent_ticks_have_the_decimals_they_need(ticks, labels):
    assert PercentTicks().format_ticks(ticks) == labels
