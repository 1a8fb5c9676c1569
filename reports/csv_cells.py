"""Safe cells of CSV files for spreadsheets and terminals: text is never executed as a formula."""

from __future__ import annotations

from typing import Any

_FORMULA = ("=", "@", "+", "-", "\t", "\r")


def safe_cell(value: Any) -> Any:
    """The value; text that a spreadsheet would compute gets an apostrophe, control characters are written out.

    An apostrophe in front is how spreadsheets are told that a cell is text. Numbers stay as they are.
    """
    if not isinstance(value, str):
        return value
    shown = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in value)
    return f"'{shown}" if value.startswith(_FORMULA) else shown
