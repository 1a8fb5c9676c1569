"""The filter language: what it selects, what it refuses, and that nothing of it is pasted into SQL."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from mcu.errors import InputError
from orchestrator.queries.where_grammar import Node, parse_where
from orchestrator.storage.conditions import Check, Column, Compare, Literal, Logic, compile_condition

FUZZ = int(os.environ.get("MCUSWEEP_FUZZ", "3000"))  # random expressions; the record in docs/results is for 100,000
TRIALS = sa.Table(
    "trials",
    sa.MetaData(),
    sa.Column("number", sa.Integer),
    sa.Column("method", sa.String),
    sa.Column("sram", sa.Integer),
    sa.Column("budget_sram", sa.Integer),
    sa.Column("accuracy", sa.Float),
    sa.Column("feasible", sa.Boolean),
    sa.Column("started_at", sa.String),
    sa.Column("rate", sa.Float),
)
COLUMNS = {c.name: c for c in TRIALS.c if c.name != "rate"} | {"param.learning_rate": TRIALS.c.rate}
ROWS = [
    (0, "differentiable", 32768, 32768, 0.93, True, "2026-01-01T08:00:00", 0.1),
    (1, "l1", 40000, 32768, 0.95, False, "2026-02-01T08:00:00", 0.01),
    (2, "it's", 1000, None, None, None, None, None),
    (3, "Differentiable", 64000, 65536, 0.5, True, "2025-12-31T23:59:59", 1e-3),
]


def compile_where(expression: str, columns: dict[str, sa.ColumnElement]) -> sa.ColumnElement[bool]:
    return compile_condition(parse_where(expression).condition, columns)


@pytest.fixture(scope="module")
def connection():
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        TRIALS.create(connection)
        names = [c.name for c in TRIALS.c]
        connection.execute(sa.insert(TRIALS), [dict(zip(names, row, strict=True)) for row in ROWS])
        yield connection


def numbers(connection: sa.Connection, expression: str) -> list[int]:
    condition = compile_where(expression, COLUMNS)
    return list(connection.execute(sa.select(TRIALS.c.number).where(condition)).scalars())


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("", [0, 1, 2, 3]),
        ("method = 'differentiable' and sram <= 32KB", [0]),
        ("sram <= 64kB", [0, 1, 2, 3]),
        ("sram<64kB", [0, 1, 2]),
        ("sram < 0.04M", [0, 2]),
        ("accuracy >= 93%", [0, 1]),
        ("0.93 <= accuracy", [0, 1]),
        ("accuracy between 50% and .93", [0, 3]),
        ("accuracy not between 50% and .93", [1]),
        ("method in ('l1', \"it's\")", [1, 2]),
        ("method not in ('l1')", [0, 2, 3]),
        ("method = 'it''s'", [2]),
        ("method like 'diff%'", [0, 3]),
        ("method not like '_1'", [0, 2, 3]),
        ("sram > budget_sram", [1]),
        ("feasible", [0, 3]),
        ("not feasible", [1]),
        ("feasible = false", [1]),
        ("feasible != 1", [1]),
        ("accuracy is null", [2]),
        ("accuracy IS NOT NULL", [0, 1, 3]),
        ("started_at >= '2026-01-01'", [0, 1]),
        ("param.learning_rate > 1e-3", [0, 1]),
        ("number = 1 or number = 0 and sram = 5", [1]),
        ("(number = 1 or number = 0) and sram = 40000", [1]),
        ("not (number = 1 or number = 0)", [2, 3]),
        ("not not number <> 2", [0, 1, 3]),
        ("number > -1", [0, 1, 2, 3]),
    ],
)
def test_selects(connection, expression, expected):
    assert numbers(connection, expression) == expected


def test_missing_values_match_neither_a_comparison_nor_its_negation(connection):
    assert 2 not in numbers(connection, "accuracy < 0.9")
    assert 2 not in numbers(connection, "not accuracy < 0.9")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("sramm < 3", "position 1: unknown column 'sramm'; did you mean 'sram'"),
        ("zzz < 3", "columns: number, method"),
        ("sram <", "position 7: expected a column or a literal, found the end"),
        ("sram < 3 sram", "position 10: expected 'and', 'or' or the end, found 'sram'"),
        ("sram < 3QB", "position 8: '3QB' is not a number with a known unit"),
        ("sram < 'x'", "position 8: column 'sram' is compared with a number such as 64KB"),
        ("method < 5", "position 10: column 'method' is compared with a text in quotes"),
        ("method = true", "compared with a text in quotes"),
        ("feasible = 2", "true or false"),
        ("method = 'open", "position 10: text opened with ' is not closed"),
        ("1 = 1", "needs a column on at least one side"),
        ("'a'", "expected a comparison"),
        ("sram", "'sram' is not true or false on its own"),
        ("(sram < 3", "position 10: expected ')', found the end"),
        ("sram in ()", "position 10: expected a literal, found ')'"),
        ("sram in (1", "expected ',' or ')'"),
        ("sram in (number)", "texts must be in quotes"),
        ("method like 3", "'like' needs a text"),
        ("sram like '3'", "'like' needs a text column"),
        ("sram is 3", "expected 'null'"),
        ("sram not 3", "expected 'in', 'like' or 'between'"),
        ("sram ; drop table trials", "position 6: unexpected character ';'"),
        ("sram < 1e999", "too large"),
        ("method = sram", "cannot be compared"),
        ("(" * 500 + "sram < 3" + ")" * 500, "nested deeper"),
        ("not " * 500 + "sram < 3", "nested deeper"),
        (" or ".join(["sram < 3"] * 300), "more than 250 comparisons"),
        ("sram < " + "1" * 20_000, "at most 10000"),
        ("method = '\ud800'", "is not allowed"),
        ("method = '\0'", "is not allowed"),
        ("sram < 3 or front(sram, accuracy)", "front(...) must stand outside"),
        ("front(sram)", "at least two columns"),
        ("front(sram, accuracy) and front(sram, accuracy)", "only one front"),
    ],
)
def test_refuses_with_one_precise_line(expression, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        compile_where(expression, COLUMNS)
    assert "\n" not in str(raised.value)


def test_front_is_split_from_the_row_filter():
    where = parse_where("method = 'l1' and front(sram, accuracy) and feasible")
    assert where.front == ("sram", "accuracy")
    assert isinstance(where.condition, Logic)
    assert len(where.condition.terms) == 2
    assert parse_where("FRONT(sram, accuracy)").condition is None


@pytest.mark.parametrize(
    "hostile",
    [
        "x' or '1'='1",
        "'; drop table trials; --",
        'x" or 1=1 --',
        "%' union select name from sqlite_master --",
        "\\'; attach database 'x' as y; --",
        ":method",
        "?",
        "%(x)s",
    ],
)
def test_hostile_texts_are_bound_never_pasted(connection, hostile):
    quoted = "'" + hostile.replace("'", "''") + "'"
    compiled = compile_where(f"method = {quoted} or method like {quoted}", COLUMNS).compile()
    assert hostile not in str(compiled)
    assert hostile in compiled.params.values()
    assert numbers(connection, f"method = {quoted}") == []
    assert numbers(connection, "number >= 0") == [0, 1, 2, 3]


# A second opinion on what an expression means: three-valued logic evaluated row by row in Python.


def evaluate(node: Node, row: dict) -> bool | None:
    if isinstance(node, Logic):
        values = [evaluate(term, row) for term in node.terms]
        if node.operator == "not":
            return None if values[0] is None else not values[0]
        decided = node.operator == "or"
        return decided if decided in values else (None if None in values else not decided)
    if isinstance(node, Check):
        value = row[node.column.name]
        if node.operator in ("null", "not null"):
            return (value is None) == (node.operator == "null")
        if value is None:
            return None
        if node.operator == "true":
            return bool(value)
        choices = [literal.value for literal in node.choices]
        if node.operator == "in":
            return value in choices
        if node.operator == "between":
            return choices[0] <= value <= choices[1]
        pattern = re.escape(choices[0]).replace("%", ".*").replace("_", ".")
        return re.fullmatch(pattern, value, re.IGNORECASE | re.DOTALL) is not None
    assert isinstance(node, Compare)
    left, right = (side.value if isinstance(side, Literal) else row[side.name] for side in (node.left, node.right))
    assert isinstance(node.left, Column) or isinstance(node.right, Column)
    if left is None or right is None:
        return None
    return {
        "=": left == right, "!=": left != right, "<": left < right,
        "<=": left <= right, ">": left > right, ">=": left >= right,
    }[node.operator]  # fmt: skip


numeric_literal = st.one_of(
    st.integers(-100, 70_000).map(str),
    st.sampled_from(["32KB", "64kB", "0.04M", "93%", "1e3", ".5", "32768B"]),
)
text_literal = st.one_of(
    st.sampled_from(["'l1'", '"it\'s"', "'differentiable'", "'%'", "'d%'"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=6).map(
        lambda text: "'" + text.replace("'", "''") + "'"
    ),
)
numeric_column = st.sampled_from(["sram", "budget_sram", "accuracy", "number", "param.learning_rate"])
text_column = st.sampled_from(["method", "started_at"])
operator = st.sampled_from(["<", "<=", "=", "==", "!=", "<>", ">=", ">"])
predicate = st.one_of(
    st.tuples(numeric_column, operator, numeric_literal | numeric_column).map(" ".join),
    st.tuples(numeric_literal, operator, numeric_column).map(" ".join),
    st.tuples(text_column, operator, text_literal | text_column).map(" ".join),
    st.tuples(numeric_column, st.lists(numeric_literal, min_size=1, max_size=4)).map(
        lambda pair: f"{pair[0]} in ({', '.join(pair[1])})"
    ),
    st.tuples(text_column, st.lists(text_literal, min_size=1, max_size=3)).map(
        lambda pair: f"{pair[0]} not in ({', '.join(pair[1])})"
    ),
    st.tuples(numeric_column, numeric_literal, numeric_literal).map(lambda t: f"{t[0]} between {t[1]} and {t[2]}"),
    st.tuples(numeric_column | text_column, st.sampled_from(["is null", "is not null"])).map(" ".join),
    st.just("feasible"),
)
expressions = st.recursive(
    predicate,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or", "AND", "Or"]), inner).map(" ".join),
        inner.map("not ({})".format),
        inner.map("({})".format),
    ),
    max_leaves=8,
)


@settings(max_examples=FUZZ // 5, deadline=None)
@given(expressions)
def test_database_agrees_with_python_on_every_valid_expression(connection, expression):
    condition = parse_where(expression).condition
    names = [c.name for c in TRIALS.c]
    rows = [dict(zip(names, row, strict=True)) for row in ROWS]
    for row in rows:
        row["param.learning_rate"] = row["rate"]
    expected = [row["number"] for row in rows if evaluate(condition, row)]
    assert numbers(connection, expression) == expected


WORDS = """sram method accuracy feasible param.learning_rate nope front ( ) , and or not in like is null between true
 < <= = == != <> >= > 64KB 4.4M 93% -1 1e5 1e400 12Q 'text' "text" ' " ; -- /* */ drop table \\ %"""
soup = st.lists(st.sampled_from(WORDS.split()), max_size=14).map(" ".join) | st.text(max_size=40)


def refusal(expression: str) -> str | None:
    """The error of an expression, or None after checking that the SQL holds none of its texts."""
    try:
        condition = compile_where(expression, COLUMNS)
    except InputError as error:
        return str(error)
    sql = str(sa.select(TRIALS.c.number).where(condition).compile()).replace("\n", " ")
    assert re.fullmatch(r"[\w\s.,()<>=!:\[\]]*", sql), sql
    return None


@settings(max_examples=FUZZ, deadline=None)
@given(soup)
def test_any_input_compiles_or_is_refused_in_one_line(expression):
    message = refusal(expression)
    assert message is None or re.fullmatch(r"where, position \d+: .+", message)


def test_widest_allowed_expression_runs(connection):
    assert numbers(connection, " or ".join(["sram = 1000"] * 250)) == [2]
    assert numbers(connection, f"sram in ({', '.join(['1000'] * 1000)})") == [2]
    assert numbers(connection, "not " * 48 + "sram = 1000") == [2]


def test_filter_needs_no_heavy_import():
    heavy = "{'torch', 'ray', 'optuna', 'pandas'}"
    code = f"import orchestrator.queries.where_grammar, sys; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
