"""The filter language of ``query --where``: a small safe grammar, compiled to bound SQL parameters.

    condition := condition or condition | condition and condition | not condition | ( condition )
               | value (< | <= | = | == | != | <> | >= | >) value
               | column [not] in (literal, ...)        | column [not] like 'pattern'
               | column [not] between literal and literal | column is [not] null
               | column                                 (a true/false column on its own)
               | front(column, ...)                     (only as a top-level "and" term)
    value     := column | literal
    literal   := 12 | 0.93 | 93% | 64KB | 64kB | 4.4M | 1e-3 | 'text' | "text" | true | false

Keywords ignore case. ``like`` knows ``%`` and ``_`` and ignores case on every database. A quote inside a
text is doubled: ``'it''s'``. Dates are texts in ISO form: ``started_at >= '2026-01-01'``.

Null follows SQL: a comparison with a missing value is neither true nor false, so the row is left out both by
``accuracy < 0.9`` and by ``not accuracy < 0.9``; ask with ``accuracy is null``.

Nothing the user writes reaches the database as SQL: columns are looked up in a mapping, literals are bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import sqlalchemy as sa

from mcu.errors import InputError
from orchestrator.queries.where_grammar import Check, Column, Compare, Literal, Logic, Node, Where, parse_where
from orchestrator.queries.where_tokens import Scalar, fail

__all__ = ["Where", "check_column", "compile_condition", "compile_where", "parse_where"]

Columns = Mapping[str, sa.ColumnElement]

_OPERATORS = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
_EXPECTED = {
    "number": "a number such as 64KB, 4.4M or 0.93",
    "text": "a text in quotes",
    "truth": "true or false",
    "time": "a date in quotes such as '2026-01-31' or '2026-01-31T12:00'",
}


def compile_where(expression: str, columns: Columns) -> sa.ColumnElement[bool]:
    """The filter as one SQL expression with bound parameters; blank keeps every row.

    Args:
        expression: what the user wrote after ``--where``; without ``front(...)``, which is no row filter.
        columns: every column that may be named, by the name people use (``sram``, ``param.learning_rate``).

    Raises:
        InputError: one line with the position and what is allowed there.
    """
    where = parse_where(expression)
    if where.front:
        fail(0, "front(...) cannot be used here")
    return compile_condition(where, columns)


def compile_condition(where: Where, columns: Columns) -> sa.ColumnElement[bool]:
    """The condition of a parsed filter as SQL; its ``front`` is left to the caller."""
    return sa.true() if where.condition is None else _compile(where.condition, columns)


def check_column(name: str, columns: Columns, position: int | None = None) -> sa.ColumnElement:
    """The column of that name.

    Raises:
        InputError: it does not exist; the message names close matches, else all columns.
    """
    if name in columns:
        return columns[name]
    close = get_close_matches(name, columns, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"columns: {', '.join(columns)}"
    message = f"unknown column {name[:60]!r}; {hint}"
    if position is None:
        raise InputError(message)
    return fail(position, message)


def _compile(node: Node, columns: Columns) -> sa.ColumnElement[bool]:
    if isinstance(node, Logic):
        terms = [_compile(term, columns) for term in node.terms]
        if node.operator == "not":
            return sa.not_(terms[0])
        return sa.and_(*terms) if node.operator == "and" else sa.or_(*terms)
    if isinstance(node, Compare):
        return _compare(node, columns)
    if isinstance(node, Check):
        return _test(node, columns)
    return fail(node.position, "front(...) cannot be used here")


def _compare(node: Compare, columns: Columns) -> sa.ColumnElement[bool]:
    written = [side.value for side in (node.left, node.right) if isinstance(side, Literal)]
    sides = [_side(side, columns, written) for side in (node.left, node.right)]
    if isinstance(node.left, Literal) and isinstance(node.right, Column):
        sides[0] = _bind(node.left, node.right, sides[1])
    elif isinstance(node.right, Literal) and isinstance(node.left, Column):
        sides[1] = _bind(node.right, node.left, sides[0])
    elif isinstance(node.left, Column) and isinstance(node.right, Column):
        kinds = {_kind(side) for side in sides} - {"any"}
        if len(kinds) > 1:
            fail(node.right.position, f"{node.left.name!r} and {node.right.name!r} cannot be compared")
    return _OPERATORS[node.operator](*sides)


def _side(side: Column | Literal, columns: Columns, written: list[Scalar]) -> sa.ColumnElement:
    if isinstance(side, Column):
        return read_as(check_column(side.name, columns, side.position), *written)
    return sa.null()


def read_as(column: sa.ColumnElement, *values: Scalar) -> sa.ColumnElement:
    """A JSON column as what it is compared with: text, truth or (by default) number; others as they are."""
    if not isinstance(column.type, sa.JSON):
        return column
    document: Any = column
    if values and all(isinstance(value, str) for value in values):
        return document.as_string()
    if values and all(isinstance(value, bool) for value in values):
        return document.as_boolean()
    return document.as_float()


def _test(node: Check, columns: Columns) -> sa.ColumnElement[bool]:
    written = [choice.value for choice in node.choices]
    column = check_column(node.column.name, columns, node.column.position)
    if node.operator in ("null", "not null"):
        written = [""]  # a parameter is there or not, whatever it holds
    column = read_as(column, *written)
    kind = _kind(column)
    if node.operator == "null":
        return column.is_(None)
    if node.operator == "not null":
        return column.is_not(None)
    if node.operator == "true":
        if kind != "truth":
            fail(
                node.column.position,
                f"{node.column.name!r} is not true or false on its own; compare it, as in {node.column.name} = ...",
            )
        return column == sa.true()
    if node.operator == "like":
        if kind not in ("text", "any"):
            fail(node.column.position, f"'like' needs a text column, {node.column.name!r} is none")
        return sa.cast(column, sa.Text).ilike(str(node.choices[0].value))
    choices = [_bind(choice, node.column, column) for choice in node.choices]
    if node.operator == "between":
        return column.between(choices[0], choices[1])
    return column.in_(choices)


def _kind(column: sa.ColumnElement) -> str:
    """What the column holds: number, text, truth, time, or any (a hyperparameter)."""
    if isinstance(column.type, sa.Boolean):
        return "truth"
    if isinstance(column.type, sa.Integer | sa.Numeric):
        return "number"
    if isinstance(column.type, sa.DateTime):
        return "time"
    return "text" if isinstance(column.type, sa.String) else "any"


def _bind(literal: Literal, name: Column, column: sa.ColumnElement) -> sa.ColumnElement:
    """The literal as a bound parameter, checked against what the column holds."""
    kind, value = _kind(column), literal.value
    truth = isinstance(value, bool)
    fits = {
        "number": isinstance(value, int | float) and not truth,
        "text": isinstance(value, str),
        "truth": truth or value in (0, 1),
        "time": isinstance(value, str),
        "any": True,
    }
    if not fits[kind]:
        fail(literal.position, f"column {name.name!r} is compared with {_EXPECTED[kind]}, not {value!r}")
    if kind == "time":
        return sa.literal(_time(str(value), literal.position), column.type)
    if kind == "truth":
        return sa.literal(bool(value), column.type)
    return sa.literal(value)


def _time(text: str, position: int) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(position, f"{text[:40]!r} is no date; expected {_EXPECTED['time']}")
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
