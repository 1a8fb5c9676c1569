"""Rows of whole studies: export from a database, import, and deletion."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from mcu.terms import FINAL_STATES
from orchestrator.storage.connection import database_file, take_turns, transaction
from orchestrator.storage.records import notes_in
from orchestrator.storage.schema import ATTEMPTS, EPOCH_REPORTS, STUDIES, TRAJECTORIES, TRIALS
from orchestrator.storage.store import Store, Study
from orchestrator.storage.trust import STUDY, TRIAL, forget, mark_foreign

REPORTS = "rungs"  # the key of an attempt's reports in files that were exported
_OWN = {"id", "study_id", "trial_id", "attempt_id"}  # keys that mean something in one database only
_FINAL = [state.value for state in FINAL_STATES]
_CHUNK = 500  # ids of one "in"


def _names(table: sa.Table) -> frozenset[str]:
    return frozenset(column.name for column in table.c) - _OWN


STUDY_NAMES = _names(STUDIES)
TRIAL_NAMES = _names(TRIALS) | {"trajectory_json", "attempt_rows"}
ATTEMPT_NAMES = _names(ATTEMPTS) | {REPORTS}
REPORT_NAMES = _names(EPOCH_REPORTS)


def study_rows(store: Store, study: Study) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of a study and those of its trials by number, with the keys `STUDY_NAMES` and `TRIAL_NAMES`."""
    query = (
        sa.select(TRIALS, TRAJECTORIES.c.trajectory_json)
        .outerjoin(TRAJECTORIES, TRAJECTORIES.c.trial_id == TRIALS.c.id)
        .where(TRIALS.c.study_id == study.id)
        .order_by(TRIALS.c.number)
    )
    with transaction(store.engine, store.url) as connection:
        row = connection.execute(sa.select(STUDIES).where(STUDIES.c.id == study.id)).mappings().one()
        trials = connection.execute(query).mappings().all()
        attempts = _attempt_rows(connection, study.id)
    return _plain(row), [_plain(trial) | {"attempt_rows": attempts.get(trial["id"], [])} for trial in trials]


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in _OWN}


def _attempt_rows(connection: sa.Connection, study_id: int) -> dict[int, list[dict[str, Any]]]:
    mine = sa.select(TRIALS.c.id).where(TRIALS.c.study_id == study_id)
    reports: dict[str, list[dict[str, Any]]] = {}
    query = sa.select(EPOCH_REPORTS).join(ATTEMPTS, ATTEMPTS.c.id == EPOCH_REPORTS.c.attempt_id)
    for report in connection.execute(
        query.where(ATTEMPTS.c.trial_id.in_(mine)).order_by(EPOCH_REPORTS.c.id)
    ).mappings():
        reports.setdefault(report["attempt_id"], []).append(_plain(report))
    found: dict[int, list[dict[str, Any]]] = {}
    for row in connection.execute(
        sa.select(ATTEMPTS).where(ATTEMPTS.c.trial_id.in_(mine)).order_by(ATTEMPTS.c.ordinal)
    ).mappings():
        found.setdefault(row["trial_id"], []).append(_plain(row) | {REPORTS: reports.get(row["id"], [])})
    return found


def take_trials(
    store: Store, study: Study, rows: Iterable[Mapping[str, Any]], *, trusted: bool = False
) -> dict[str, int]:
    """Import finished trials into a study without duplicates (equal specifications); all or, on an error, none.

    Args:
        study: an existing one, or, with id 0, a new one, which is created in the same transaction.
        trusted: whether other trials may start from their networks, and results are reused.

    Returns:
        how many were ``added``, ``filled`` (planned here, finished there), ``known`` here, or ``unfinished`` there and
            skipped.
    """
    counts = dict.fromkeys(("added", "filled", "known", "unfinished"), 0)
    with transaction(store.engine, store.url) as connection:
        take_turns(connection)
        if not study.id:
            study = replace(study, id=store.insert_study(connection, study))
            if not trusted:
                mark_foreign(connection, STUDY, study.id)
        here = _Here(connection, study, trusted)
        for row in rows:
            counts[here.take(row)] += 1
    return counts


class _Here:
    """The trials of the study that is merged into."""

    def __init__(self, connection: sa.Connection, study: Study, trusted: bool) -> None:
        self.connection, self.study, self.trusted = connection, study, trusted
        query = sa.select(TRIALS.c.id, TRIALS.c.number, TRIALS.c.spec_hash, TRIALS.c.state)
        rows = connection.execute(query.where(TRIALS.c.study_id == study.id)).all()
        self.numbers = {row.number for row in rows}
        self.finished = {row.spec_hash for row in rows if row.state in _FINAL}
        self.open = {row.spec_hash: (row.id, row.number) for row in rows if row.state not in _FINAL}

    def take(self, row: Mapping[str, Any]) -> str:
        """Import one trial; returns which counter it increments."""
        key = row["spec_hash"]
        if row["state"] not in _FINAL:
            return "unfinished"
        if key in self.finished:
            return "known"
        self.finished.add(key)
        if key in self.open:
            trial_id, number = self.open.pop(key)
            _delete(self.connection, TRIALS.c.id == trial_id)
            self._insert(row, number)
            return "filled"
        self._insert(row, self._number(row["number"]))
        return "added"

    def _number(self, wanted: int) -> int:
        """Its own number where the plan has none of it yet; else one behind the plan, which a driver passes over."""
        if 0 <= wanted < self.study.planned_trials and wanted not in self.numbers:
            return wanted
        return max([self.study.planned_trials - 1, *self.numbers]) + 1

    def _insert(self, row: Mapping[str, Any], number: int) -> None:
        self.numbers.add(number)
        values = {name: row[name] for name in _names(TRIALS)} | {"study_id": self.study.id, "number": number}
        key = self.connection.execute(sa.insert(TRIALS).values(values)).inserted_primary_key
        assert key is not None
        if not self.trusted:
            mark_foreign(self.connection, TRIAL, int(key[0]))
        trajectory = {"trial_id": int(key[0]), "trajectory_json": row["trajectory_json"] or "[]"}
        self.connection.execute(sa.insert(TRAJECTORIES).values(trajectory))
        for attempt in row["attempt_rows"]:
            fresh = secrets.token_hex(8)
            plain = {name: value for name, value in attempt.items() if name != REPORTS}
            self.connection.execute(sa.insert(ATTEMPTS).values(id=fresh, trial_id=int(key[0]), **plain))
            if attempt[REPORTS]:
                reports = [report | {"attempt_id": fresh} for report in attempt[REPORTS]]
                self.connection.execute(sa.insert(EPOCH_REPORTS), reports)


def _delete(connection: sa.Connection, which: sa.ColumnElement[bool]) -> int:
    """Delete trials and all that hangs on them; returns how many."""
    trials = sa.select(TRIALS.c.id).where(which)
    forget(connection, TRIAL, trials)
    attempts = sa.select(ATTEMPTS.c.id).where(ATTEMPTS.c.trial_id.in_(trials))
    connection.execute(sa.delete(EPOCH_REPORTS).where(EPOCH_REPORTS.c.attempt_id.in_(attempts)))
    connection.execute(sa.delete(ATTEMPTS).where(ATTEMPTS.c.trial_id.in_(trials)))
    connection.execute(sa.delete(TRAJECTORIES).where(TRAJECTORIES.c.trial_id.in_(trials)))
    return connection.execute(sa.delete(TRIALS).where(which)).rowcount


def delete_rows(store: Store, study: Study) -> int:
    """Delete a study and its trials from our tables; returns how many trials."""
    with transaction(store.engine, store.url) as connection:
        count = _delete(connection, TRIALS.c.study_id == study.id)
        forget(connection, STUDY, sa.select(sa.literal(study.id)))
        connection.execute(sa.delete(STUDIES).where(STUDIES.c.id == study.id))
    return count


@dataclass(frozen=True)
class NotedFiles:
    """The files of a trial, by artifact name; ``trial`` and ``study`` are row ids."""

    trial: int
    study: int
    state: str
    spec_hash: str
    paths: dict[str, str]


def noted_files(store: Store) -> list[NotedFiles]:
    """The files of every trial of a database."""
    columns = (TRIALS.c.id, TRIALS.c.study_id, TRIALS.c.state, TRIALS.c.spec_hash, TRIALS.c.artifacts_json)
    with transaction(store.engine, store.url) as connection:
        return [
            NotedFiles(key, study, state, spec, {name: note.path for name, note in notes_in(text).items()})
            for key, study, state, spec, text in connection.execute(sa.select(*columns))
        ]


def delete_details(store: Store, trials: Sequence[int]) -> None:
    """Delete trajectories and reports of trials, by row id, and shrink the database file."""
    with transaction(store.engine, store.url) as connection:
        for start in range(0, len(trials), _CHUNK):
            some = trials[start : start + _CHUNK]
            attempts = sa.select(ATTEMPTS.c.id).where(ATTEMPTS.c.trial_id.in_(some))
            connection.execute(sa.delete(EPOCH_REPORTS).where(EPOCH_REPORTS.c.attempt_id.in_(attempts)))
            connection.execute(sa.delete(TRAJECTORIES).where(TRAJECTORIES.c.trial_id.in_(some)))
    if database_file(store.url) is not None:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
