"""Output of rows: as a table or one line per column, or as CSV, JSON, JSON lines, Markdown or parquet.

Rows are written to a stream, or atomically to a file. JSON is an array of objects, JSON lines one object a line; keys
are the column names, a missing value is ``null``, ``feasible`` and ``measured`` are true or false, sizes integers,
times ISO 8601 texts in UTC.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from mcu.errors import InputError
from mcu.files import write_atomic
from mcu.score import score_of
from mcu.units import format_bytes, format_count
from reports.columns import Unit, unit_of
from reports.csv_cells import safe_cell

Row = dict[str, Any]
_ENDLESS = 10_000
"""Characters of a line that is nowhere wrapped."""


class Format(StrEnum):
    """Output format of rows."""

    TABLE = "table"
    VERTICAL = "vertical"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        InputError: there is none.
    """
    try:
        return Format(name)
    except ValueError:
        raise InputError(f"--format {name!r}: must be one of {', '.join(Format)}") from None


def write_rows(
    columns: Sequence[str],
    rows: list[Row],
    style: Format,
    output: Path | None = None,
    *,
    nothing: str = "no trial matches",
) -> None:
    """Write rows atomically to ``output``, or to standard output; ``nothing`` is the text for an empty table.

    Raises:
        InputError: the folder does not exist, or parquet is requested without pyarrow or for a terminal.
    """
    if output is None and style in (Format.TABLE, Format.VERTICAL):
        _print_people(columns, rows, style, nothing)
        return
    if output is None and style is Format.PARQUET and sys.stdout.isatty():
        raise InputError("--format parquet is binary: give --output FILE")
    content = encode_rows(columns, rows, style)
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        write_output(output, content)


def encode_rows(columns: Sequence[str], rows: list[Row], style: Format) -> bytes:
    """Rows as bytes of a file in that format."""
    if style is Format.PARQUET:
        return _parquet(columns, rows)
    encode = {
        Format.TABLE: _table_text,
        Format.VERTICAL: _vertical,
        Format.CSV: _csv,
        Format.JSON: _json,
        Format.JSONL: _jsonl,
        Format.MARKDOWN: _markdown,
    }[style]
    return encode(columns, rows).encode("utf-8", errors="replace")


def write_output(path: Path, content: bytes, option: str = "--output") -> None:
    """Write an output file given by an option, atomically.

    Raises:
        InputError: the folder does not exist or cannot be written.
    """
    if not path.absolute().parent.is_dir():
        raise InputError(f"{option} {path}: folder {path.absolute().parent} does not exist")
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; give a file")
    try:
        write_atomic(path, content)
    except OSError as error:
        raise InputError(f"{option} {path}: {error.strerror}") from None


def human(name: str, value: Any, metric: str | None = None) -> str:
    """A value for display: accuracies and utilisations in percent, sizes in KB, counts in thousands or millions.

    A score is shown by its ``metric``: an error in its own unit and not negated.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("accuracy") and metric is not None and not score_of(metric).percent:
        return score_of(metric).shown(value)
    unit = unit_of(name) if isinstance(value, int | float) else None
    if unit is Unit.FRACTION:
        return f"{100 * value:.1f} %"
    if unit is Unit.BYTES:
        return format_bytes(value, rounded=True)
    if unit is Unit.OPERATIONS:
        return format_count(value, rounded=True)
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return printable(json.dumps(value) if isinstance(value, dict | list) else str(value))


def printable(text: str) -> str:
    """The text with control characters escaped, so that no name can control a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _print_people(columns: Sequence[str], rows: list[Row], style: Format, nothing: str) -> None:
    from rich.console import Console

    if not rows:
        print(nothing, file=sys.stderr)
    elif style is Format.VERTICAL:
        print(_vertical(columns, rows), end="")
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else _ENDLESS, emoji=False)
        table = _table(columns, rows)
        console.print(table)
        if console.measure(table, options=console.options.update(width=_ENDLESS)).maximum > console.width:
            print("wider than this terminal; --vertical shows every column on a line of its own", file=sys.stderr)


def _vertical(columns: Sequence[str], rows: list[Row]) -> str:
    """A line for each column of each row."""
    width = max(map(len, columns), default=0)
    blocks = [
        "".join(f"{printable(name):{width}}  {human(name, row[name], row.get('metric'))}\n" for name in columns)
        for row in rows
    ]
    return "\n".join(blocks)


def _table(columns: Sequence[str], rows: list[Row]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        numeric = any(isinstance(row[name], int | float) and not isinstance(row[name], bool) for row in rows)
        table.add_column(Text(printable(name)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(human(name, row[name], row.get("metric"))) for name in columns))
    return table


def _table_text(columns: Sequence[str], rows: list[Row]) -> str:
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=_ENDLESS, highlight=False, emoji=False).print(_table(columns, rows))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _csv(columns: Sequence[str], rows: list[Row]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(safe_cell, columns))
    for row in rows:
        values = (row[name] for name in columns)
        writer.writerow([json.dumps(v) if isinstance(v, dict | list | bool) else safe_cell(v) for v in values])
    return stream.getvalue()


def _json(columns: Sequence[str], rows: list[Row]) -> str:
    lines = ",\n".join(f"  {json.dumps({name: row[name] for name in columns})}" for row in rows)
    return f"[\n{lines}\n]\n" if rows else "[]\n"


def _jsonl(columns: Sequence[str], rows: list[Row]) -> str:
    return "".join(json.dumps({name: row[name] for name in columns}) + "\n" for row in rows)


def _markdown(columns: Sequence[str], rows: list[Row]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |\n"

    body = "".join(line([human(name, row[name], row.get("metric")) for name in columns]) for row in rows)
    return line([printable(name) for name in columns]) + "|" + " --- |" * len(columns) + "\n" + body


def _parquet(columns: Sequence[str], rows: list[Row]) -> bytes:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise InputError("--format parquet needs pyarrow: pip install 'mcusweep[parquet]'") from None
    plain = {
        name: [json.dumps(row[name]) if isinstance(row[name], dict | list) else row[name] for row in rows]
        for name in columns
    }
    arrays = {name: _arrow(pa, values) for name, values in plain.items()}
    sink = io.BytesIO()
    parquet.write_table(pa.table(arrays), sink)
    return sink.getvalue()


def _arrow(pa: Any, values: list[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) <= 1:
        return pa.array([float(v) if kinds == {int, float} and v is not None else v for v in values])
    return pa.array([None if value is None else str(value) for value in values])


def bar(share: float, width: int = 10) -> str:
    """A fraction of a bound as a bar of ``width`` characters and a percentage."""
    full = round(min(1.0, max(0.0, share)) * width)
    return f"{'█' * full}{'░' * (width - full)} {share:4.0%}"
