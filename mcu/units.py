"""Sizes and counts with units: ``64KB`` is 65,536 bytes, ``64kB`` is 64,000, ``4.4M`` is 4,400,000."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from numbers import Real

from mcu.errors import InputError

BYTE_UNITS = {"": 1, "B": 1, "kB": 1000, "KB": 1024, "KiB": 1024, "MB": 1024**2, "MiB": 1024**2}
DURATION_UNITS = {"us": 1, "ms": 1000, "s": 1000**2, "min": 60 * 1000**2, "h": 3600 * 1000**2}
COUNT_UNITS = {"": 1, "k": 1000, "K": 1000, "M": 1000**2, "G": 1000**3}

_NUMBER_AND_UNIT = re.compile(
    r"\s*([+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)\s*([A-Za-z]*)\s*"
)
_BYTES_ALLOWED = "a size is a whole number of bytes or a number with B, kB (1000), KB (1024) or MB (1024 KB)"
_DURATION_ALLOWED = "a duration is a number with us, ms, s, min or h"
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


def format_bytes(value: float, *, rounded: bool = False) -> str:
    """Bytes as text: exact (``64KB``, ``1.5MB``, else ``65,537 B``), or ``rounded`` to ``62.1 KB``.

    `parse_bytes` reads the exact form back.
    """
    if rounded:
        return f"{value / 1024:,.1f} KB"
    return _exact(value, ("MB", "KB"), BYTE_UNITS) or f"{round(value):,} B"


def format_count(value: float, *, rounded: bool = False) -> str:
    """A count as text: exact (``4.4M``, else ``12,501,632``), or ``rounded`` (``12.50 M``, ``9.9 k``)."""
    if rounded:
        return f"{value / 1e6:,.2f} M" if value >= 1e5 else f"{value / 1e3:,.1f} k"
    return _exact(value, ("G", "M", "k"), COUNT_UNITS) or f"{round(value):,}"


def format_duration(seconds: float) -> str:
    """``2 h 05 min``, ``3 min 20 s`` or ``12 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600:,} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"


def _exact(value: float, units: Sequence[str], sizes: Mapping[str, int]) -> str | None:
    """The value in the largest unit that it reaches where two decimals say all of it."""
    for unit in units:
        text = f"{value / sizes[unit]:.2f}".rstrip("0").rstrip(".")
        if value >= sizes[unit] and Decimal(text) * sizes[unit] == value:
            return text + unit
    return None


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
