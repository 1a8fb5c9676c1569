"""Ask the trial database: filter, sort and limit in SQL, fronts and groups on the narrow result. No torch, no ray."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mcu.errors import InputError
from orchestrator.queries.where import Where, check_column, compile_condition, parse_where, read_as
from orchestrator.storage.columns import (
    COLUMNS,
    HIGH_IS_GOOD,
    NESTED,
    SOURCE,
    parameter_names,
    trial_columns,
)
from orchestrator.storage.connection import transaction
from orchestrator.storage.schema import TRIALS
from orchestrator.storage.store import Store

GROUPS = ("budget", "method", "device", "network", "task", "study", "state", "seed")
_BUDGET = ("device", "budget_flash", "budget_sram", "budget_macs")
_CHUNK = 500  # ids of one "in"
_LARGEST_LIMIT = 2**62


@dataclass(frozen=True)
class Query:
    """What is asked: a filter, columns, a sort order, how many, a front to keep, or groups to sum up.

    Attributes:
        studies: names; none means the latest study, ``("*",)`` all of them.
        where: condition in the language of `orchestrator.queries.where`.
        columns: names; none means all.
        sort: names, each with ``-`` in front for descending; missing values come last either way.
        front: columns of which only non-dominated rows are kept; accuracies are maximised, all else minimised.
        group: one of ``GROUPS`` or two of them; gives one row per group instead of rows per trial.
    """

    studies: tuple[str, ...] = ()
    where: str = ""
    columns: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    limit: int | None = None
    front: tuple[str, ...] = ()
    group: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rows:
    """The answer: column names in order and one plain dict per row (None where a value is missing)."""

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]


def run_query(store: Store, query: Query) -> Rows:
    """Answer a query.

    Raises:
        InputError: unknown study, column or group, a filter that does not parse, a limit below 1.
    """
    where = parse_where(query.where)
    if query.limit is not None and not 1 <= query.limit <= _LARGEST_LIMIT:
        raise InputError(f"--limit {query.limit}: must be 1 or more")
    if where.front and query.front:
        raise InputError("front(...) in --where and --front are the same thing; give one of them")
    studies = _study_ids(store, query.studies)
    with transaction(store.engine, store.url) as connection:
        search = _Search(connection, _columns(connection, studies), where, studies)
        if query.group:
            return _grouped(search, query)
        return search.trials(query, where.front or query.front)


def list_studies(store: Store) -> Rows:
    """One row per study: name, created_at, planned trials and how many are in which state."""
    rows = []
    for study in store.studies():
        counts = store.state_counts(study)
        rows.append(
            {"study": study.name, "created_at": study.created_at, "planned": study.planned_trials}
            | {"trials": sum(counts.values()), "complete": counts.get("complete", 0), "states": counts}
        )
    return Rows(("study", "created_at", "planned", "trials", "complete", "states"), rows)


def _study_ids(store: Store, names: Sequence[str]) -> list[int] | None:
    if "*" in names:
        return None
    return [store.study(name).id for name in names] if names else [store.study().id]


def _columns(connection: sa.Connection, studies: Sequence[int] | None) -> dict[str, sa.ColumnElement]:
    return trial_columns(connection.dialect.name, parameter_names(connection, studies))


class _Search:
    """One filtered view of the trial table."""

    def __init__(
        self,
        connection: sa.Connection,
        columns: Mapping[str, sa.ColumnElement],
        where: Where,
        studies: list[int] | None,
    ) -> None:
        self.connection = connection
        self.columns = columns
        self.condition = compile_condition(where, columns)
        if studies is not None:
            self.condition = self.condition & TRIALS.c.study_id.in_(studies)

    def trials(self, query: Query, front: tuple[str, ...]) -> Rows:
        names = self.names(query.columns)
        order = self.order(query.sort)
        if not front:
            statement = self.select(names).where(self.condition).order_by(*order).limit(query.limit)
            return Rows(names, self.fetch(statement, names))
        return Rows(names, self.by_id(names, self.front(front, order)[: query.limit]))

    def names(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The asked columns, checked; all plain ones and the parameters by default."""
        if not wanted:
            return (*COLUMNS, *(name for name in self.columns if name.startswith("param.")))
        for name in wanted:
            if name not in NESTED:
                check_column(name, {**self.columns, **dict.fromkeys(NESTED, TRIALS.c.widths_json)})
        return tuple(dict.fromkeys(wanted))

    def order(self, sort: Sequence[str]) -> list[sa.ColumnElement]:
        order: list[sa.ColumnElement] = []
        for name in sort:
            column = read_as(check_column(name.removeprefix("-"), self.columns))
            order.append((column.desc() if name.startswith("-") else column.asc()).nulls_last())
        return [*order, TRIALS.c.study_id, TRIALS.c.number]

    def select(self, names: Iterable[str], *more: sa.ColumnElement) -> sa.Select:
        """Select columns by name; the parameters of a row come as one document, decoded by `fetch`."""
        plain = [
            self.columns[name].label(name) for name in names if not name.startswith("param.") and name not in NESTED
        ]
        stored = [TRIALS.c[NESTED[name]] for name in names if name in NESTED]
        if any(name.startswith("param.") for name in names):
            stored.append(TRIALS.c.hyperparameters_json)
        return sa.select(*more, *plain, *stored).select_from(SOURCE)

    def fetch(self, statement: sa.Select, names: Sequence[str]) -> list[dict[str, Any]]:
        found = self.connection.execute(statement)
        return [_plain_row(row, names) for row in found.mappings()]

    def narrow(self, names: Sequence[str], order: Sequence[sa.ColumnElement] = ()) -> list[tuple[Any, ...]]:
        """Tuples of (id, columns...) of every row that passes the filter."""
        columns = [read_as(check_column(name, self.columns)) for name in names]
        statement = sa.select(TRIALS.c.id, *columns).select_from(SOURCE).where(self.condition).order_by(*order)
        return [tuple(row) for row in self.connection.execute(statement)]

    def front(self, names: Sequence[str], order: Sequence[sa.ColumnElement]) -> list[int]:
        """Ids of the rows that no other row dominates in these columns, in order."""
        from reports.fronts import nondominated  # numpy and moocore: only when asked for

        if len(names) < 2:
            raise InputError("--front needs at least two columns, such as flash,accuracy")
        rows = self.narrow(names, order)
        points = [[_number(value, name) for value, name in zip(row[1:], names, strict=True)] for row in rows]
        if not rows:
            return []
        kept = nondominated(points, maximise=[name in HIGH_IS_GOOD for name in names])
        return [row[0] for row, keep in zip(rows, kept, strict=True) if keep]

    def by_id(self, names: Sequence[str], ids: Sequence[int]) -> list[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for start in range(0, len(ids), _CHUNK):
            statement = self.select(names, TRIALS.c.id).where(TRIALS.c.id.in_(ids[start : start + _CHUNK]))
            for row in self.connection.execute(statement).mappings():
                found[row["id"]] = _plain_row(row, names)
        return [found[key] for key in ids]


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


def _number(value: Any, name: str) -> float:
    if isinstance(value, str):
        raise InputError(f"front: column {name!r} holds text; give columns of numbers, such as flash,accuracy")
    return float("nan") if value is None else float(value)


def _grouped(search: _Search, query: Query) -> Rows:
    """One row per group: trials, feasible ones, mean and best accuracy, and the number of the best trial."""
    for name in query.group:
        if name not in GROUPS:
            raise InputError(f"--group {name!r}: must be one of {', '.join(GROUPS)}")
    if query.front or query.columns:
        raise InputError("--group sums trials up; it does not go with --columns or a front")
    keys = tuple(part for name in query.group for part in (_BUDGET if name == "budget" else (name,)))
    keys = tuple(dict.fromkeys(keys))
    values = ("feasible", "val_accuracy", "accuracy", "flash", "sram", "macs", "number")
    groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for row in search.narrow((*keys, *values), search.order(())):
        groups.setdefault(row[1 : 1 + len(keys)], []).append(row[1 + len(keys) :])
    rows = [dict(zip(keys, key, strict=True)) | _summary(members) for key, members in groups.items()]
    columns = (*keys, *SUMMARY)
    return Rows(columns, _sorted(rows, columns, query.sort)[: query.limit])


SUMMARY = (
    *("count", "feasible", "mean_accuracy", "best_accuracy", "best_val_accuracy"),
    *("best_number", "best_flash", "best_sram", "best_macs"),
)


def _summary(members: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """Of (feasible, val_accuracy, accuracy, flash, sram, macs, number); the best is chosen by validation accuracy."""
    fit = [row for row in members if row[0] and row[2] is not None]
    best = min(fit, key=lambda row: (-(row[1] or 0.0), row[3] or 0, row[6]), default=(None,) * 7)
    mean = sum(row[2] for row in fit) / len(fit) if fit else None
    values = (len(members), len(fit), mean, best[2], best[1], best[6], best[3], best[4], best[5])
    return dict(zip(SUMMARY, values, strict=True))


def _sorted(rows: list[dict[str, Any]], columns: Sequence[str], sort: Sequence[str]) -> list[dict[str, Any]]:
    for name in reversed(sort):
        plain = name.removeprefix("-")
        if plain not in columns:
            raise InputError(f"--sort {name!r}: a grouped query has the columns {', '.join(columns)}")
        there = [row for row in rows if row[plain] is not None]
        there.sort(key=lambda row: row[plain], reverse=name.startswith("-"))
        rows = there + [row for row in rows if row[plain] is None]
    return rows
