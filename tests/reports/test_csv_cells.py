from __future__ import annotations

import pytest

from orchestrator.tables import Format, encode_rows
from reports.csv_cells import safe_cell


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1", "-1", "\t=1", "\r=1"])
def test_text_that_a_spreadsheet_would_compute_stays_text(text):
    assert safe_cell(text).startswith("'")


@pytest.mark.parametrize("value", [-1, -0.5, None, True, "plain", "a=b", ""])
def test_numbers_and_plain_text_are_left_alone(value):
    assert safe_cell(value) == value


def test_control_characters_are_written_out():
    content = encode_rows(["a\x1b", "b"], [{"a\x1b": "x\x1b[31m", "b": -3}], Format.CSV)
    assert content == b"a\\x1b,b\nx\\x1b[31m,-3\n"
