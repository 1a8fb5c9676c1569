"""Tokens of the filter language: numbers with units, texts, names, keywords and marks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from mcu.errors import InputError
from mcu.units import parse_bytes, parse_count
from orchestrator.storage.conditions import Scalar, fail

MAX_LENGTH = 10_000  # characters of an expression
KEYWORDS = frozenset({"and", "or", "not", "in", "like", "is", "null", "between", "true", "false"})
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?P<unit>%|[A-Za-z_]+)?)
      | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<name>[A-Za-z_]\w*(?:\.[\w-]+)*)
      | (?P<mark><=|>=|==|!=|<>|[<>=(),])""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True)
class Token:
    """One token of the expression: its kind, text, position and value."""

    kind: str  # number, text, name, keyword, mark or end
    written: str
    position: int
    value: Scalar = ""


def tokens(expression: str) -> Iterator[Token]:
    """Split ``expression`` into tokens; the last one has kind ``end``."""
    _refuse_unprintable(expression)
    position = 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            _fail_on_character(expression, position)
        kind, written = str(match.lastgroup), match.group()
        if match.group("number") is not None:
            yield Token("number", written, position, _number(written, match.group("unit"), position))
        elif kind == "text":
            yield Token(kind, written, position, written[1:-1].replace(written[0] * 2, written[0]))
        elif kind == "name" and written.lower() in KEYWORDS:
            yield Token("keyword", written.lower(), position)
        elif kind != "space":
            yield Token(kind, written, position)
        position = match.end()
    yield Token("end", "the end", len(expression))


def _refuse_unprintable(expression: str) -> None:
    if len(expression) > MAX_LENGTH:
        fail(MAX_LENGTH, f"the expression has {len(expression)} characters, at most {MAX_LENGTH} are allowed")
    for position, character in enumerate(expression):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            fail(position, f"character {character!r} is not allowed")


def _fail_on_character(expression: str, position: int) -> NoReturn:
    character = expression[position]
    if character in "'\"":
        fail(position, f"text opened with {character} is not closed")
    fail(position, f"unexpected character {character!r}")


def _number(written: str, unit: str | None, position: int) -> int | float:
    """A number with its unit: bytes for ``B`` units, counts for ``k M G``, a fraction for ``%``."""
    digits = written.removesuffix(unit) if unit else written
    value = float(digits)
    if not math.isfinite(value):
        fail(position, f"{written[:20]!r} is too large a number")
    if not unit:
        return int(digits) if digits.lstrip("-").isdecimal() and abs(value) < 2**62 else value
    if unit == "%":
        return value / 100
    try:
        return parse_bytes(written) if unit.endswith("B") else parse_count(written)
    except InputError:
        fail(position, f"{written[:20]!r} is not a number with a known unit (B, kB, KB, MB, k, M, G, %)")
