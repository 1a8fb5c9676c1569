"""The filter language of ``query --where``: a small safe grammar, read into a `Condition`.

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
``accuracy < 0.9`` and by ``not accuracy < 0.9``; select it with ``accuracy is null``.

No user input reaches the database as SQL: columns are looked up in a mapping, literals are bound parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, cast

from orchestrator.queries.where_tokens import Token, tokens
from orchestrator.storage.conditions import Check, Column, Compare, Condition, Literal, Logic, fail

MAX_DEPTH = 50  # nested brackets and "not"
MAX_TERMS = 250  # comparisons; SQLite gives up at an expression depth of 1000
MAX_CHOICES = 1000  # literals of one "in"

COMPARISONS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


@dataclass(frozen=True)
class Front:
    """``front(a, b)``: keep the rows that no other row dominates."""

    columns: tuple[Column, ...]
    position: int


Node = Condition | Front


@dataclass(frozen=True)
class Where:
    """A parsed filter: the ``condition`` for the database and the ``front`` columns to apply after it."""

    condition: Condition | None
    front: tuple[str, ...] = ()


class _Parser:
    """Recursive descent over the tokens; every method reads one rule of the grammar."""

    def __init__(self, expression: str) -> None:
        self.words = list(tokens(expression))
        self.at = 0
        self.depth = 0
        self.terms = 0

    @property
    def word(self) -> Token:
        return self.words[self.at]

    def take(self, *written: str) -> Token | None:
        """The current token if it is one of these keywords or marks; advances past it."""
        word = self.word
        if word.kind in ("keyword", "mark") and word.written in written:
            self.at += 1
            return word
        return None

    def expect(self, what: str, *written: str) -> Token:
        """Like ``take``, but anything else is an error saying that ``what`` was expected."""
        word = self.take(*written)
        return word if word is not None else self.unexpected(what)

    def unexpected(self, what: str) -> NoReturn:
        found = "the end" if self.word.kind == "end" else repr(self.word.written[:40])
        fail(self.word.position, f"expected {what}, found {found}")

    def whole(self) -> Node:
        node = self.either()
        if self.word.kind != "end":
            self.unexpected("'and', 'or' or the end")
        return node

    def either(self) -> Node:
        return self.chain("or", self.both)

    def both(self) -> Node:
        return self.chain("and", self.negation)

    def chain(self, operator: str, part: Callable[[], Node]) -> Node:
        terms = [part()]
        while self.take(operator):
            terms.append(part())
        return terms[0] if len(terms) == 1 else _logic(operator, terms)

    def negation(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            fail(self.word.position, f"nested deeper than {MAX_DEPTH} levels")
        try:
            if self.take("not"):
                return _logic("not", [self.negation()])
            if self.take("("):
                node = self.either()
                self.expect("')'", ")")
                return node
            return self.predicate()
        finally:
            self.depth -= 1

    def predicate(self) -> Node:
        self.terms += 1
        if self.terms > MAX_TERMS:
            fail(self.word.position, f"more than {MAX_TERMS} comparisons")
        following = self.words[min(self.at + 1, len(self.words) - 1)]
        if self.word.kind == "name" and self.word.written.lower() == "front" and following.written == "(":
            return self.front()
        left = self.value("a column, a literal, 'not' or '('")
        if self.word.kind == "mark" and self.word.written in COMPARISONS:
            operator = COMPARISONS[self.word.written]
            self.at += 1
            right = self.value("a column or a literal")
            if isinstance(left, Literal) and isinstance(right, Literal):
                fail(left.position, "a comparison needs a column on at least one side")
            return Compare(operator, left, right)
        if isinstance(left, Literal):
            self.unexpected("a comparison such as '<=' after a literal")
        return self.test(left)

    def test(self, column: Column) -> Node:
        if self.take("is"):
            negated = self.take("not")
            self.expect("'null'", "null")
            return Check("not null" if negated else "null", column)
        negated = self.take("not")
        if self.take("in"):
            node = Check("in", column, self.choices())
        elif self.take("like"):
            pattern = self.literal("a text in quotes")
            if not isinstance(pattern.value, str):
                fail(pattern.position, "'like' needs a text in quotes")
            node = Check("like", column, (pattern,))
        elif self.take("between"):
            low = self.literal("a literal")
            self.expect("'and'", "and")
            node = Check("between", column, (low, self.literal("a literal")))
        elif negated:
            self.unexpected("'in', 'like' or 'between'")
        else:
            return Check("true", column)
        return _logic("not", [node]) if negated else node

    def choices(self) -> tuple[Literal, ...]:
        self.expect("'('", "(")
        found = [self.literal("a literal")]
        while self.take(","):
            found.append(self.literal("a literal"))
            if len(found) > MAX_CHOICES:
                fail(self.word.position, f"more than {MAX_CHOICES} values in one list")
        self.expect("',' or ')'", ")")
        return tuple(found)

    def front(self) -> Front:
        position = self.word.position
        self.at += 1
        self.expect("'('", "(")
        names = [self.column()]
        while self.take(","):
            names.append(self.column())
        self.expect("',' or ')'", ")")
        if len(names) < 2:
            fail(position, "front(...) needs at least two columns, such as front(flash, accuracy)")
        return Front(tuple(names), position)

    def column(self) -> Column:
        word = self.word
        if word.kind != "name":
            self.unexpected("a column")
        self.at += 1
        return Column(word.written, word.position)

    def literal(self, what: str) -> Literal:
        value = self.value(what)
        if isinstance(value, Column):
            fail(value.position, f"expected {what}, found the name {value.name!r}; texts must be in quotes")
        return value

    def value(self, what: str) -> Column | Literal:
        word = self.word
        if word.kind == "name":
            return self.column()
        if word.kind in ("number", "text"):
            self.at += 1
            return Literal(word.value, word.position)
        if self.take("true", "false"):
            return Literal(word.written == "true", word.position)
        return self.unexpected(what)


def parse_where(expression: str) -> Where:
    """Parse ``expression``; blank means no filter.

    Raises:
        InputError: one line with the position, what was found and what was expected.
    """
    if not expression.strip():
        return Where(None)
    node = _Parser(expression).whole()
    terms = node.terms if isinstance(node, Logic) and node.operator == "and" else (node,)
    fronts = [term for term in terms if isinstance(term, Front)]
    if len(fronts) > 1:
        fail(fronts[1].position, "only one front(...) is allowed")
    rest = [term for term in terms if not isinstance(term, Front)]
    condition = (rest[0] if len(rest) == 1 else _logic("and", rest)) if rest else None
    _refuse_inner_front(condition)
    return Where(condition, tuple(column.name for column in fronts[0].columns) if fronts else ())


def _logic(operator: str, terms: Sequence[Node]) -> Logic:
    return Logic(operator, cast(tuple[Condition, ...], tuple(terms)))  # `parse_where` refuses a front among them


def _refuse_inner_front(node: Node | None) -> None:
    if isinstance(node, Front):
        fail(node.position, "front(...) must stand outside brackets, joined to the rest by 'and'")
    for term in node.terms if isinstance(node, Logic) else ():
        _refuse_inner_front(term)
