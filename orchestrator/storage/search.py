"""Reading trials by condition: filter, order and limit in SQL, one plain dict per row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from orchestrator.storage.columns import COLUMNS, NESTED, SOURCE, parameter_names, trial_columns
from orchestrator.storage.conditions import Condition, check_column, compile_condition, read_as
from orchestrator.storage.connection import transaction
from orchestrator.storage.schema import ATTEMPTS, STUDIES, TRAJECTORIES, TRIALS
from orchestrator.storage.store import Store, Study

_CHUNK = 500  # ids of one "in"


@contextmanager
def trial_search(
    store: Store,
    condition: Condition | None = None,
    studies: Sequence[int] | None = None,
    *,
    parameters: bool = True,
) -> Iterator[TrialSearch]:
    """A filtered view of the current trial table.

    Args:
        studies: ids; None for all.
        parameters: whether ``param.NAME`` is allowed; this reads every trial's hyperparameters.

    Raises:
        InputError: the condition names an unknown column, or compares one with a value of another type.
    """
    with transaction(store.engine, store.url) as connection:
        known = parameter_names(connection, studies) if parameters else ()
        yield TrialSearch(connection, condition, studies, known)


class TrialSearch:
    """Trials that meet a condition; columns have their public names; in a sort order, ``-`` means descending.

    Raises (from every method that takes names):
        InputError: there is no such column; the message names close matches.
    """

    def __init__(
        self,
        connection: sa.Connection,
        condition: Condition | None,
        studies: Sequence[int] | None,
        parameters: Iterable[str],
    ) -> None:
        self._connection = connection
        self._columns = trial_columns(connection.dialect.name, parameters)
        self._condition = compile_condition(condition, self._columns)
        if studies is not None:
            self._condition = self._condition & TRIALS.c.study_id.in_(studies)

    def names(self, wanted: Sequence[str] = ()) -> tuple[str, ...]:
        """The requested columns, checked; by default all plain ones and the parameters."""
        if not wanted:
            return (*COLUMNS, *(name for name in self._columns if name.startswith("param.")))
        for name in wanted:
            if name not in NESTED:
                check_column(name, {**self._columns, **dict.fromkeys(NESTED, TRIALS.c.widths_json)})
        return tuple(dict.fromkeys(wanted))

    def rows(
        self, names: Sequence[str] = (), sort: Sequence[str] = (), limit: int | None = None
    ) -> list[dict[str, Any]]:
        """One dict per trial; missing values come last in either order, ties are ordered by study and number."""
        names = self.names(names)
        statement = self._select(names).where(self._condition).order_by(*self._order(sort)).limit(limit)
        return [_plain_row(row, names) for row in self._connection.execute(statement).mappings()]

    def narrow(self, names: Sequence[str], sort: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """Tuples of (row id, columns...) of every trial, without decoding values."""
        columns = [read_as(check_column(name, self._columns)) for name in names]
        statement = sa.select(TRIALS.c.id, *columns).select_from(SOURCE).where(self._condition)
        return [tuple(row) for row in self._connection.execute(statement.order_by(*self._order(sort)))]

    def by_id(self, names: Sequence[str], ids: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of these ids, in their order."""
        found: dict[int, dict[str, Any]] = {}
        for start in range(0, len(ids), _CHUNK):
            statement = self._select(names, TRIALS.c.id).where(TRIALS.c.id.in_(ids[start : start + _CHUNK]))
            for row in self._connection.execute(statement).mappings():
                found[row["id"]] = _plain_row(row, names)
        return [found[key] for key in ids]

    def count(self) -> int:
        """Number of matching trials."""
        statement = sa.select(sa.func.count()).select_from(SOURCE).where(self._condition)
        return int(self._connection.scalar(statement) or 0)

    def values(self, name: str) -> list[Any]:
        """The distinct values of a column, sorted."""
        statement = sa.select(self._columns[name]).select_from(SOURCE).where(self._condition).distinct()
        return sorted(self._connection.scalars(statement))

    def _order(self, sort: Sequence[str]) -> list[sa.ColumnElement]:
        order: list[sa.ColumnElement] = []
        for name in sort:
            column = read_as(check_column(name.removeprefix("-"), self._columns))
            order.append((column.desc() if name.startswith("-") else column.asc()).nulls_last())
        return [*order, TRIALS.c.study_id, TRIALS.c.number]

    def _select(self, names: Iterable[str], *more: sa.ColumnElement) -> sa.Select:
        """Select columns by name; the parameters of a row come as one document."""
        plain = [
            self._columns[name].label(name) for name in names if not name.startswith("param.") and name not in NESTED
        ]
        stored = [TRIALS.c[NESTED[name]] for name in names if name in NESTED]
        if any(name.startswith("param.") for name in names):
            stored.append(TRIALS.c.hyperparameters_json)
        return sa.select(*more, *plain, *stored).select_from(SOURCE)


def _plain_row(row: Mapping[Any, Any], names: Sequence[str]) -> dict[str, Any]:
    document = row.get("hyperparameters_json")
    parameters = json.loads(document) if document else {}
    plain: dict[str, Any] = {}
    for name in names:
        if name.startswith("param."):
            plain[name] = parameters.get(name.removeprefix("param."))
        elif name in NESTED:
            plain[name] = json.loads(row[NESTED[name]] or "{}")
        else:
            plain[name] = row[name]
    return plain


def read_trial(store: Store, study: Study, number: int) -> dict[str, Any] | None:
    """All stored data of one trial; None if there is no trial of that number.

    The plain and the nested columns, ``parameters``, ``spec``, ``trajectory`` and ``attempt_list``, rows in order.
    """
    plain = trial_columns(store.engine.dialect.name)
    documents = (*(TRIALS.c[stored] for stored in NESTED.values()), TRIALS.c.hyperparameters_json, TRIALS.c.spec_json)
    query = (
        sa.select(TRIALS.c.id, *(plain[name].label(name) for name in COLUMNS), *documents)
        .add_columns(TRAJECTORIES.c.trajectory_json)
        .select_from(SOURCE.outerjoin(TRAJECTORIES, TRAJECTORIES.c.trial_id == TRIALS.c.id))
        .where((STUDIES.c.id == study.id) & (TRIALS.c.number == number))
    )
    with transaction(store.engine, store.url) as connection:
        row = connection.execute(query).mappings().first()
        if row is None:
            return None
        mine = sa.select(ATTEMPTS).where(ATTEMPTS.c.trial_id == row["id"]).order_by(ATTEMPTS.c.ordinal)
        attempts = [dict(attempt) for attempt in connection.execute(mine).mappings()]
    return {
        **_plain_row(row, (*COLUMNS, *NESTED)),
        "parameters": json.loads(row["hyperparameters_json"]),
        "spec": json.loads(row["spec_json"]),
        "trajectory": json.loads(row["trajectory_json"] or "[]"),
        "attempt_list": [{key: value for key, value in each.items() if key != "trial_id"} for each in attempts],
    }
