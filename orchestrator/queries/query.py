"""Queries of the trial database: filter, sort and limit in SQL; fronts and groups in Python. No torch, no Ray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mcu.budget import RESOURCES
from mcu.errors import InputError
from orchestrator.queries.where_grammar import parse_where
from orchestrator.storage.search import TrialSearch, trial_search
from orchestrator.storage.store import Store
from reports.columns import GROUP_CATALOGUE, HIGH_IS_GOOD

GROUPS = ("budget", "method", "device", "network", "task", "study", "state", "seed")
_BUDGET = ("device", *(f"budget_{name}" for name in RESOURCES))
_LARGEST_LIMIT = 2**62


@dataclass(frozen=True)
class Query:
    """A query: filter, columns, sort order, limit, front, or groups.

    Attributes:
        studies: names; empty means the latest study, ``("*",)`` all studies.
        where: condition in the language of `orchestrator.queries.where_grammar`.
        columns: names; empty means all.
        sort: names, each with ``-`` in front for descending; missing values come last either way.
        front: columns of which only non-dominated rows are kept; accuracies are maximised, other columns minimised.
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
    """The result: column names in order and one plain dict per row (None for missing values), with its ``metric``."""

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]


def run_query(store: Store, query: Query) -> Rows:
    """Run a query.

    Raises:
        InputError: unknown study, column or group, a filter that does not parse, a limit below 1.
    """
    where = parse_where(query.where)
    if query.limit is not None and not 1 <= query.limit <= _LARGEST_LIMIT:
        raise InputError(f"--limit {query.limit}: must be 1 or more")
    if where.front and query.front:
        raise InputError("front(...) in --where and --front are the same thing; give one of them")
    studies = _study_ids(store, query.studies)
    with trial_search(store, where.condition, studies) as search:
        if query.group:
            return _grouped(search, query)
        return _trials(search, query, where.front or query.front)


def list_studies(store: Store) -> Rows:
    """One row per study: name, created_at, planned trials and the number in each state."""
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


def _trials(search: TrialSearch, query: Query, front: tuple[str, ...]) -> Rows:
    names = search.names(query.columns)
    read = tuple(dict.fromkeys((*names, "metric")))  # by which scores are shown
    if not front:
        return Rows(names, search.rows(read, query.sort, query.limit))
    return Rows(names, search.by_id(read, _front(search, front, query.sort)[: query.limit]))


def _front(search: TrialSearch, names: Sequence[str], sort: Sequence[str]) -> list[int]:
    """Ids of the rows that no other row dominates in these columns, in order."""
    from reports.fronts import nondominated  # numpy and moocore: only when asked for

    if len(names) < 2:
        raise InputError("--front needs at least two columns, such as flash,accuracy")
    metrics = search.values("metric")
    if len(metrics) > 1 and any(name.endswith("accuracy") for name in names):
        raise InputError(f"front: the trials are measured by {' and '.join(metrics)}: name studies of one metric")
    rows = search.narrow(names, sort)
    points = [[_number(value, name) for value, name in zip(row[1:], names, strict=True)] for row in rows]
    if not rows:
        return []
    kept = nondominated(points, maximise=[name in HIGH_IS_GOOD for name in names])
    return [row[0] for row, keep in zip(rows, kept, strict=True) if keep]


def _number(value: Any, name: str) -> float:
    if isinstance(value, str):
        raise InputError(f"front: column {name!r} holds text; give columns of numbers, such as flash,accuracy")
    return float("nan") if value is None else float(value)


def _grouped(search: TrialSearch, query: Query) -> Rows:
    """One row per group and metric: trials, feasible ones, mean and best accuracy, and the number of the best trial."""
    for name in query.group:
        if name not in GROUPS:
            raise InputError(f"--group {name!r}: must be one of {', '.join(GROUPS)}")
    if query.front or query.columns:
        raise InputError("--group aggregates trials; it cannot be combined with --columns or a front")
    keys = tuple(part for name in query.group for part in (_BUDGET if name == "budget" else (name,)))
    keys = tuple(dict.fromkeys(keys))
    read = (*keys, "metric")
    values = ("feasible", "val_accuracy", "accuracy", "flash", "sram", "macs", "number")
    groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for row in search.narrow((*read, *values)):
        groups.setdefault(row[1 : 1 + len(read)], []).append(row[1 + len(read) :])
    rows = [dict(zip(read, key, strict=True)) | _summary(members) for key, members in groups.items()]
    columns = (*(read if len({row["metric"] for row in rows}) > 1 else keys), *SUMMARY)
    return Rows(columns, _sorted(rows, columns, query.sort)[: query.limit])


SUMMARY = tuple(column.name for column in GROUP_CATALOGUE)


def _summary(members: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """Of (feasible, val_accuracy, accuracy, flash, sram, macs, number); the best is chosen by validation accuracy."""
    fit = [row for row in members if row[0] and row[2] is not None]
    best = min(fit, key=lambda row: (math.inf if row[1] is None else -row[1], row[3] or 0, row[6]), default=(None,) * 7)
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
