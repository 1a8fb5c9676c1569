"""Conditions on trials as expression trees, and as SQL.

No part of a tree reaches the database as SQL text: columns are looked up in a mapping, literals are bound parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from operator import eq, ge, gt, le, lt, ne
from typing import Any, NoReturn

import sqlalchemy as sa

from mcu.errors import InputError
from mcu.terms import FINAL_STATES

Scalar = int | float | str | bool
Columns = Mapping[str, sa.ColumnElement]

_OPERATORS = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
_EXPECTED = {
    "number": "a number such as 64KB, 4.4M or 0.93",
    "text": "a text in quotes",
    "truth": "true or false",
}


def fail(position: int, message: str) -> NoReturn:
    """Raise an InputError for a position in the expression (``position`` counts from 0, the message from 1)."""
    raise InputError(f"where, position {position + 1}: {message}")


@dataclass(frozen=True)
class Column:
    """A column in the expression."""

    name: str
    position: int


@dataclass(frozen=True)
class Literal:
    """A number, text or boolean in the expression."""

    value: Scalar
    position: int


@dataclass(frozen=True)
class Compare:
    """``left operator right``; at least one side is a column."""

    operator: str
    left: Column | Literal
    right: Column | Literal


@dataclass(frozen=True)
class Check:
    """``column operator choices`` for in, like, between, null and a bare boolean column ("true")."""

    operator: str
    column: Column
    choices: tuple[Literal, ...] = ()


@dataclass(frozen=True)
class Logic:
    """``and``, ``or`` or ``not`` over terms."""

    operator: str
    terms: tuple[Condition, ...]


Condition = Compare | Check | Logic
FINISHED = Check("in", Column("state", 0), tuple(Literal(state.value, 0) for state in FINAL_STATES))


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


def compile_condition(node: Condition | None, columns: Columns) -> sa.ColumnElement[bool]:
    """A condition as SQL with bound parameters; None keeps every row.

    Args:
        columns: every allowed column, by its public name (``sram``, ``param.learning_rate``).

    Raises:
        InputError: a column does not exist, or is compared with a value of another type.
    """
    if node is None:
        return sa.true()
    if isinstance(node, Logic):
        terms = [compile_condition(term, columns) for term in node.terms]
        if node.operator == "not":
            return sa.not_(terms[0])
        return sa.and_(*terms) if node.operator == "and" else sa.or_(*terms)
    if isinstance(node, Compare):
        return _compare(node, columns)
    return _test(node, columns)


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
    """A JSON column converted to the compared type: text, boolean or (by default) number; other columns unchanged."""
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
    """What the column holds: number, text, truth, or any (a hyperparameter)."""
    if isinstance(column.type, sa.Boolean):
        return "truth"
    if isinstance(column.type, sa.Integer | sa.Numeric):
        return "number"
    return "text" if isinstance(column.type, sa.String) else "any"


def _bind(literal: Literal, name: Column, column: sa.ColumnElement) -> sa.ColumnElement:
    """The literal as a bound parameter, checked against what the column holds."""
    kind, value = _kind(column), literal.value
    truth = isinstance(value, bool)
    fits = {
        "number": isinstance(value, int | float) and not truth,
        "text": isinstance(value, str),
        "truth": truth or value in (0, 1),
        "any": True,
    }
    if not fits[kind]:
        fail(literal.position, f"column {name.name!r} is compared with {_EXPECTED[kind]}, not {value!r}")
    if kind == "truth":
        return sa.literal(bool(value), column.type)
    return sa.literal(value)
