"""Sizes and counts as people write them: ``64KB`` is 65,536 bytes, ``64kB`` is 64,000, ``4.4M`` is 4,400,000."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from numbers import Real

from mcu.errors import InputError

BYTE_UNITS = {"": 1, "B": 1, "kB": 1000, "KB": 1024, "KiB": 1024, "MB": 1024**2, "MiB": 1024**2}
DURATION_UNITS = {"us": 1, "ms": 1000, "s": 1000**2}
COUNT_UNITS = {"": 1, "k": 1000, "K": 1000, "M": 1000**2, "G": 1000**3}

_NUMBER_AND_UNIT = re.compile(
    r"\s*([+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)\s*([A-Za-z]*)\s*"
)
_BYTES_ALLOWED = "a size is a whole number of bytes or a number with B, kB (1000), KB (1024) or MB (1024 KB)"
_DURATION_ALLOWED = "a duration is a number with us, ms or s"
_COUNT_ALLOWED = "a count is a whole number or a number with k, M or G (1000, 1000^2, 1000^3)"


def parse_bytes(value: str | int | float) -> int:
    """Bytes from ``"64KB"``, ``"63.6kB"``, ``"1MB"`` or a plain number; fractions of a byte are cut off.

    Raises:
        InputError: for anything else, negative numbers included.
    """
    return _parse(value, BYTE_UNITS, _BYTES_ALLOWED)


def parse_count(value: str | int | float) -> int:
    """A count from ``"4.4M"``, ``"500k"`` or a plain number; fractions are cut off.

    Raises:
        InputError: for anything else, negative numbers included.
    """
    return _parse(value, COUNT_UNITS, _COUNT_ALLOWED)


def parse_duration(value: str | int | float) -> int:
    """Microseconds from ``"50ms"``, ``"0.1s"`` or ``"800us"``; fractions of a microsecond are cut off.

    Raises:
        InputError: for anything else, numbers without a unit included.
    """
    return _parse(value, DURATION_UNITS, _DURATION_ALLOWED)


def format_bytes(value: int) -> str:
    """``65536`` as ``64KB``, ``1572864`` as ``1.5MB``; what is no whole quarter of a unit in full: ``65,537 B``."""
    for unit in ("MB", "KB"):
        size = BYTE_UNITS[unit]
        if value >= size and value % (size // 4) == 0:
            return f"{value / size:,.2f}".rstrip("0").rstrip(".") + unit
    return f"{value:,} B"


def format_count(value: int) -> str:
    """``4400000`` as ``4.4M``, ``500000`` as ``500k``, anything that needs more than two decimals in full."""
    for unit in ("G", "M", "k"):
        size = COUNT_UNITS[unit]
        if abs(value) >= size:
            if value % (size // 100):
                break
            text = f"{Decimal(value) / size:f}"
            return (text.rstrip("0").rstrip(".") if "." in text else text) + unit
    return f"{value:,}"


def _parse(value: str | int | float, units: dict[str, int], allowed: str) -> int:
    number, unit = _split(value, allowed)
    if unit not in units:
        raise InputError(f"{value!r} has the unknown unit {unit!r}: {allowed}")
    if number < 0:
        raise InputError(f"{value!r} is negative: {allowed}")
    scaled = number * units[unit]
    if scaled >= 2**63:
        raise InputError(f"{value!r} is too large: {allowed}")
    if unit == "" and scaled != int(scaled):
        raise InputError(f"{value!r} is not a whole number: {allowed}")
    return int(scaled)


def _split(value: str | int | float, allowed: str) -> tuple[Decimal, str]:
    if isinstance(value, bool) or not isinstance(value, str | Real):
        raise InputError(f"{value!r} is not a number: {allowed}")
    if isinstance(value, str):
        match = _NUMBER_AND_UNIT.fullmatch(value)
        if match is None:
            raise InputError(f"{value!r} is not a number with a unit: {allowed}")
        return Decimal(match[1].replace(",", "").replace("_", "")), match[2]
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise InputError(f"{value!r} is not a number: {allowed}")
    return number, ""
