import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu.errors import InputError
from mcu.units import format_bytes, format_count, format_duration, parse_bytes, parse_count


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64KB", 65_536), ("64kB", 64_000), ("64KiB", 65_536), ("1MB", 1_048_576), ("63.6kB", 63_600), ("512", 512),
        ("512 B", 512), (" 1.5 KB ", 1536), ("12.6KB", 12_902), ("65,537 B", 65_537), ("2_000", 2000), (65_536, 65_536),
        (65_536.0, 65_536), ("0", 0), ("1e3", 1000), ("0.1KB", 102),
    ],
)  # fmt: skip
def test_sizes_follow_their_unit(text, value):
    assert parse_bytes(text) == value


@pytest.mark.parametrize(("text", "value"), [("4.4M", 4_400_000), ("500k", 500_000), ("1G", 10**9), (12, 12)])
def test_counts_follow_their_unit(text, value):
    assert parse_count(text) == value


@pytest.mark.parametrize(
    "nonsense",
    ["", "KB", "64QB", "64kb", "64Kb", "64 KB KB", "-5KB", -1, "1.5", 1.5, True, None, [64], "nan", float("nan"),
     float("inf"), "1e99999KB", "9e99KB", "٣KB", "0x10", "6,5KB", "64KB\n64KB"],
)  # fmt: skip
def test_what_is_no_size_is_refused_in_one_line(nonsense):
    with pytest.raises(InputError) as caught:
        parse_bytes(nonsense)
    assert "\n" not in str(caught.value)
    assert "KB (1024)" in str(caught.value)


def test_an_unknown_unit_is_named():
    with pytest.raises(InputError, match="unknown unit 'MB'"):
        parse_count("4MB")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (65_536, "64KB"),
        (65_537, "65,537 B"),
        (2 * 1024**2, "2MB"),
        (0, "0 B"),
        (64_000, "62.5KB"),
        (1536 * 1024, "1.5MB"),
        (12_902, "12,902 B"),
        (256, "256 B"),
    ],
)
def test_sizes_print_short_when_even(value, text):
    assert format_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(4_400_000, "4.4M"), (500_000, "500k"), (12_501_632, "12,501,632"), (999, "999"), (0, "0")]
)
def test_counts_print_short_when_round(value, text):
    assert format_count(value) == text


def test_rounded_amounts_have_one_unit_and_fixed_decimals():
    assert [format_bytes(value, rounded=True) for value in (0, 63_580, 2 * 1024**2)] == [
        "0.0 KB",
        "62.1 KB",
        "2,048.0 KB",
    ]
    assert [format_count(value, rounded=True) for value in (99_900, 4_400_000)] == ["99.9 k", "4.40 M"]


def test_durations_are_whole_in_their_two_largest_units():
    assert [format_duration(s) for s in (0, 12.2, 59.6, 200, 7500, 100 * 3600)] == [
        "0 s", "12 s", "1 min 00 s", "3 min 20 s", "2 h 05 min", "100 h 00 min",
    ]  # fmt: skip


@given(st.integers(0, 2**62))
def test_what_is_printed_reads_back(value):
    assert parse_bytes(format_bytes(value)) == value
    assert parse_count(format_count(value)) == value


@given(st.one_of(st.text(max_size=12), st.floats(), st.integers(), st.booleans(), st.none()))
def test_anything_is_a_size_or_an_input_error(value):
    refusal = ""
    try:
        assert 0 <= parse_bytes(value) < 2**63
    except InputError as error:
        refusal = str(error)
    assert "\n" not in refusal
