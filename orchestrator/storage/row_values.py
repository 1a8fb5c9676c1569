"""Checks of imported rows: columns of the tables, and values that are valid on every database."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from mcu.errors import InputError

MOST_TEXT = 16 * 2**20
"""Characters of one text, which a trajectory of 100,000 reports does not reach."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def check_values(row: Any, tables: tuple[sa.Table, ...], wanted: frozenset[str], where: str) -> None:
    """Refuse a row without exactly these columns, or with values that are not valid for the tables.

    Raises:
        InputError: naming the column and its value.
    """
    if not isinstance(row, Mapping) or set(row) != wanted:
        different = sorted(map(str, set(row) ^ wanted)) if isinstance(row, Mapping) else ["no object"]
        raise InputError(f"{where} does not have the columns of this version: {', '.join(different[:5])[:200]}")
    for table in tables:
        for column in table.c:
            if column.name in row and not _holds(column, row[column.name]):
                raise InputError(f"{where} is damaged: {column.name} cannot be {repr(row[column.name])[:60]}")


def _holds(column: sa.Column[Any], value: Any) -> bool:
    """Whether a column can hold a value, of its own type, on every database."""
    if value is None:
        return bool(column.nullable) or column.name == "trajectory_json"
    kind = column.type
    if isinstance(kind, sa.Boolean):
        return isinstance(value, bool)
    if isinstance(kind, sa.Integer):
        bits = 63 if isinstance(kind, sa.BigInteger) else 31
        return isinstance(value, int) and not isinstance(value, bool) and -(2**bits) <= value < 2**bits
    if isinstance(kind, sa.Float):
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not isinstance(value, str) or len(value) > (getattr(kind, "length", None) or MOST_TEXT) or "\0" in value:
        return False
    if column.name.endswith(("_at", "lease")) and not _TIME.fullmatch(value):
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in value)
