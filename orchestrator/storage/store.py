"""The trial database: studies, trials, attempts and reports. The driver is the only writer.

A trial's row is always consistent: each change is one transaction, and a result is accepted only from the attempt that
holds the trial's lease (late results of an abandoned attempt are rejected).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, Table, delete, func, insert, select, text, update
from sqlalchemy.engine import URL

from mcu.errors import InputError
from mcu.terms import TrialState
from orchestrator.spec import EpochReport, TrialResult, TrialSpec, canonical_json
from orchestrator.storage.connection import (
    StoreError,
    database_errors,
    database_label,
    open_engine,
    parse_storage,
    take_turns,
    transaction,
)
from orchestrator.storage.reconnecting import Patience, reconnecting
from orchestrator.storage.records import (
    PLANNED_AGAIN,
    StoredTrial,
    Study,
    planned_row,
    result_of,
    result_row,
    study_of,
    study_row,
    trial_of,
)
from orchestrator.storage.schema import (
    ATTEMPTS,
    EPOCH_REPORTS,
    META,
    STUDIES,
    TRAJECTORIES,
    TRIALS,
    prepare_tables,
    require_layout,
)
from orchestrator.storage.study_lock import Clock, Holder, StudyLock, iso, read_holder, utc_now
from orchestrator.storage.trust import TRIAL, foreign

__all__ = ["Store", "StoredTrial", "Study"]

LEASE = timedelta(minutes=10)
RETRIED = " (retried)"
"""Behind the reason of attempts of a trial that was planned again."""


class Store:
    """Read and write access to one trial database.

    Args:
        upgrading: bring the tables of an older layout up to date on a server as well; those of a file, of which a copy
            is kept, always are when it is opened for writing.

    Attributes:
        upgraded: from which layout its tables were brought up to date, and where the file of before is kept; None if
            they were not.

    Raises:
        InputError: bad address, missing, damaged or foreign database (one line).
        StoreError: the database failed during use.
    """

    def __init__(self, storage: str, *, writing: bool = False, upgrading: bool = False, clock: Clock = utc_now) -> None:
        self.url: URL = parse_storage(storage)
        self.engine: Engine = open_engine(self.url, writing=writing)
        self._clock = clock
        self._writing = writing
        self._lock: StudyLock | None = None
        self.patience = Patience()
        self.upgraded: str | None = None
        with transaction(self.engine, self.url) as connection:
            if writing:
                self.upgraded = prepare_tables(connection, self.url, upgrading)
            else:
                require_layout(connection, self.url)

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """A transaction that is refused once another driver has taken the study over."""
        with transaction(self.engine, self.url) as connection:
            if self._lock is not None and self._lock.held:
                self._lock.hold(connection)
            yield connection

    def _read(self, query: Select[Any]) -> Sequence[RowMapping]:
        with transaction(self.engine, self.url) as connection:
            return connection.execute(query).mappings().all()

    def reconnected(self) -> None:
        """No action: no state is kept between transactions."""

    def close(self) -> None:
        """Close the connections, after a checkpoint of an SQLite log."""
        if self._writing:
            with suppress(StoreError, InputError):
                self.checkpoint()
        self.engine.dispose()

    def checkpoint(self) -> None:
        """Checkpoint the log of an SQLite file, as far as no reader prevents it; no-op for a server."""
        if self.engine.dialect.name == "sqlite":
            with database_errors(self.url), self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    # the database as a whole

    @reconnecting
    def note(self, key: str) -> str | None:
        """A note of the database about itself, by key."""
        with transaction(self.engine, self.url) as connection:
            return connection.scalar(select(META.c.value).where(META.c.key == key))

    @reconnecting
    def add_note(self, key: str, value: str) -> str:
        """Add a note about the database, unless one with this key exists; returns the stored note."""
        with transaction(self.engine, self.url) as connection:
            take_turns(connection)
            there = connection.scalar(select(META.c.value).where(META.c.key == key))
            if there is None:
                connection.execute(insert(META).values(key=key, value=value))
        return value if there is None else there

    @reconnecting
    def has_trials(self) -> bool:
        """Whether any study has a trial."""
        with transaction(self.engine, self.url) as connection:
            return connection.scalar(select(TRIALS.c.id).limit(1)) is not None

    # studies

    def create_study(self, study: Study) -> Study:
        """Write a new study (its ``id`` is ignored) and return it with its id.

        Raises:
            InputError: if the name is taken.
        """
        with self._write() as connection:
            if self._lock is None or not self._lock.held:
                take_turns(connection)
            self.insert_study(connection, study)
        return self.study(study.name)

    def insert_study(self, connection: Connection, study: Study) -> int:
        """Write a new study as part of a transaction; returns its id.

        Raises:
            InputError: if the name is taken.
        """
        if connection.scalar(select(STUDIES.c.id).where(STUDIES.c.name == study.name)) is not None:
            raise InputError(f"study {study.name!r} exists already in {database_label(self.url)}")
        row = study_row(study) | {"created_at": study.created_at or iso(self._clock())}
        return _inserted(connection, STUDIES, row)

    @reconnecting
    def note_versions(self, study: Study, versions: dict[str, Any]) -> None:
        """Store the versions that took part in a study."""
        with self._write() as connection:
            changed = update(STUDIES).where(STUDIES.c.id == study.id)
            connection.execute(changed.values(versions_json=canonical_json(versions)))

    @reconnecting
    def extend_study(
        self, study: Study, sweep: dict[str, Any], sweep_file: str | None, planned: int, task: Mapping[str, Any]
    ) -> Study:
        """Extend the sweep of a study; its existing trials do not change."""
        values: dict[str, Any] = {
            "sweep_json": canonical_json(sweep), "planned_trials": planned, "task_json": canonical_json(task)
        }  # fmt: skip
        if sweep_file is not None:
            values["sweep_file"] = sweep_file
        with self._write() as connection:
            connection.execute(update(STUDIES).where(STUDIES.c.id == study.id).values(values))
        return self.study(study.name)

    @reconnecting
    def studies(self) -> list[Study]:
        """All studies, oldest first."""
        return [study_of(row) for row in self._read(select(STUDIES).order_by(STUDIES.c.id))]

    @reconnecting
    def find_study(self, name: str) -> Study | None:
        """The study of that name, or None."""
        return next(map(study_of, self._read(select(STUDIES).where(STUDIES.c.name == name))), None)

    def study(self, name: str | None = None) -> Study:
        """The study of that name; the latest one without a name.

        Raises:
            InputError: if there is none; the message lists the existing ones.
        """
        found = self.find_study(name) if name is not None else None
        if found is not None:
            return found
        there = self.studies()
        if name is None and there:
            return there[-1]
        if name is None:
            raise InputError(f"{database_label(self.url)} holds no study yet; run `mcusweep launch SWEEP.toml`")
        names = ", ".join(repr(study.name) for study in there) or "none"
        raise InputError(f"--study {name!r}: not in {database_label(self.url)}; there: {names}")

    def lock(self, study: str, *, take_over: bool = False) -> StudyLock:
        """The lock for writing one study; enter it before writing. While held, it fences the writes of this store."""
        self._lock = StudyLock(self.engine, self.url, study, patience=self.patience, take_over=take_over)
        return self._lock

    @reconnecting
    def holder(self, study: str) -> Holder | None:
        """The live driver of a study, if any."""
        with transaction(self.engine, self.url) as connection:
            holder = read_holder(connection, study)
        return holder if holder is not None and not holder.dead else None

    # trials

    @reconnecting
    def add_trial(self, study: Study, number: int, spec: TrialSpec) -> int:
        """Write a planned trial; returns its row id."""
        with self._write() as connection:
            return _inserted(connection, TRIALS, planned_row(number, spec) | {"study_id": study.id})

    @reconnecting
    def begin_attempt(self, trial_id: int) -> str:
        """Mark a trial running and return the id of its new attempt, the fence for its result."""
        attempt = secrets.token_hex(8)
        now = self._clock()
        with self._write() as connection:
            ordinal = 1 + (connection.scalar(select(TRIALS.c.attempts).where(TRIALS.c.id == trial_id)) or 0)
            started = func.coalesce(TRIALS.c.started_at, iso(now))
            connection.execute(
                update(TRIALS)
                .where(TRIALS.c.id == trial_id)
                .values(state=TrialState.RUNNING.value, attempts=ordinal, started_at=started)
            )
            connection.execute(
                insert(ATTEMPTS).values(
                    id=attempt, trial_id=trial_id, ordinal=ordinal, lease=iso(now + LEASE), started_at=iso(now)
                )
            )
        return attempt

    @reconnecting
    def note_worker(self, attempt: str, host: str, pid: int) -> None:
        """Record the worker of an attempt."""
        with self._write() as connection:
            connection.execute(
                update(ATTEMPTS).where(ATTEMPTS.c.id == attempt).values(worker_host=host, worker_pid=pid)
            )

    @reconnecting
    def add_report(self, attempt: str, report: EpochReport) -> None:
        """Write a report of a running attempt and extend its lease."""
        now = self._clock()
        values = report.model_dump() | {"attempt_id": attempt, "reported_at": iso(now)}
        with self._write() as connection:
            connection.execute(insert(EPOCH_REPORTS).values(values))
            connection.execute(update(ATTEMPTS).where(ATTEMPTS.c.id == attempt).values(lease=iso(now + LEASE)))

    @reconnecting
    def end_attempt(self, attempt: str, reason: str, detail: str | None = None) -> bool:
        """Abandon an attempt: its trial is planned again. False if it had ended before."""
        with self._write() as connection:
            trial_id = self._close_attempt(connection, attempt, reason, detail)
            if trial_id is not None:
                connection.execute(update(TRIALS).where(TRIALS.c.id == trial_id).values(state=TrialState.PLANNED.value))
        return trial_id is not None

    @reconnecting
    def finish_attempt(self, attempt: str, result: TrialResult) -> bool:
        """Store a result. Returns False, without storing, if the attempt no longer holds its trial."""
        with self._write() as connection:
            trial_id = self._close_attempt(connection, attempt, result.state, result.reason)
            if trial_id is None:
                return False
            self._write_result(connection, trial_id, result, None)
        return True

    @reconnecting
    def finish_without_attempt(self, trial_id: int, result: TrialResult, reused_from: str | None = None) -> None:
        """Store a result without an attempt: reused from an equal trial, or a failure after the last attempt."""
        with self._write() as connection:
            self._write_result(connection, trial_id, result, reused_from)

    def _close_attempt(self, connection: Connection, attempt: str, reason: str, detail: str | None) -> int | None:
        still_open = (ATTEMPTS.c.id == attempt) & ATTEMPTS.c.ended_at.is_(None)
        trial_id = connection.scalar(select(ATTEMPTS.c.trial_id).where(still_open))
        if trial_id is None:
            return None
        ended = {"ended_at": iso(self._clock()), "reason": reason, "detail": detail}
        connection.execute(update(ATTEMPTS).where(still_open).values(ended))
        return int(trial_id)

    def _write_result(
        self, connection: Connection, trial_id: int, result: TrialResult, reused_from: str | None
    ) -> None:
        values = result_row(result) | {"reused_from": reused_from, "finished_at": iso(self._clock())}
        connection.execute(update(TRIALS).where(TRIALS.c.id == trial_id).values(values))
        connection.execute(
            insert(TRAJECTORIES).values(trial_id=trial_id, trajectory_json=json.dumps(result.trajectory))
        )

    # what is there

    @reconnecting
    def trials(self, study: Study) -> list[StoredTrial]:
        """All trials of a study by number, results without their trajectories."""
        query = select(TRIALS).where(TRIALS.c.study_id == study.id).order_by(TRIALS.c.number)
        return [trial_of(row) for row in self._read(query)]

    @reconnecting
    def give_up_open_attempts(self, study: Study, reason: str) -> int:
        """Close the open attempts of a dead driver and plan their trials again; returns how many."""
        mine = select(TRIALS.c.id).where(TRIALS.c.study_id == study.id)
        with self._write() as connection:
            closed = connection.execute(
                update(ATTEMPTS)
                .where(ATTEMPTS.c.trial_id.in_(mine) & ATTEMPTS.c.ended_at.is_(None))
                .values(ended_at=iso(self._clock()), reason=reason)
            )
            connection.execute(
                update(TRIALS)
                .where((TRIALS.c.study_id == study.id) & (TRIALS.c.state == TrialState.RUNNING.value))
                .values(state=TrialState.PLANNED.value)
            )
        return closed.rowcount

    def plan_again(self, study: Study, numbers: Sequence[int]) -> int:
        """Discard the results of failed trials, so that they run again; returns how many.

        Their earlier attempts no longer count towards the maximum number of attempts.
        """
        failed = (TRIALS.c.study_id == study.id) & (TRIALS.c.state == TrialState.FAILED.value)
        with self._write() as connection:
            found = connection.execute(select(TRIALS.c.id, TRIALS.c.number).where(failed)).all()
            for trial_id in (row.id for row in found if row.number in set(numbers)):
                again = ATTEMPTS.c.reason + RETRIED
                mine = (ATTEMPTS.c.trial_id == trial_id) & ATTEMPTS.c.reason.not_like(f"%{RETRIED}")
                connection.execute(update(ATTEMPTS).where(mine).values(reason=again))
                connection.execute(delete(TRAJECTORIES).where(TRAJECTORIES.c.trial_id == trial_id))
                connection.execute(update(TRIALS).where(TRIALS.c.id == trial_id).values(PLANNED_AGAIN))
        return sum(row.number in set(numbers) for row in found)

    @reconnecting
    def equal_result(self, spec_hash: str) -> tuple[str, TrialResult] | None:
        """A completed or infeasible trial of the same spec in any study: its ``study#number`` and result.

        Simulated studies are ignored, because they have no measurements, and so are imported trials that are not
        trusted.
        """
        reusable = (TrialState.COMPLETE.value, TrialState.INFEASIBLE.value, TrialState.CANNOT.value)
        query = (
            select(TRIALS, STUDIES.c.name.label("study"), TRAJECTORIES.c.trajectory_json)
            .join(STUDIES, STUDIES.c.id == TRIALS.c.study_id)
            .outerjoin(TRAJECTORIES, TRAJECTORIES.c.trial_id == TRIALS.c.id)
            .where((TRIALS.c.spec_hash == spec_hash) & TRIALS.c.state.in_(reusable))
            .where(STUDIES.c.workers_json.not_like('%"executor":"simulated"%'))
            .where(TRIALS.c.id.not_in(foreign(TRIAL)))
            .order_by(TRIALS.c.id)
            .limit(1)
        )
        row = next(iter(self._read(query)), None)
        if row is None:
            return None
        result = result_of(row).model_copy(update={"trajectory": json.loads(row["trajectory_json"] or "[]")})
        return f"{row['study']}#{row['number']}", result

    @reconnecting
    def attempts(self, study: Study) -> list[dict[str, Any]]:
        """Every attempt of a study with its trial's number, in order of start."""
        query = (
            select(ATTEMPTS, TRIALS.c.number)
            .join(TRIALS, TRIALS.c.id == ATTEMPTS.c.trial_id)
            .where(TRIALS.c.study_id == study.id)
            .order_by(ATTEMPTS.c.started_at, ATTEMPTS.c.ordinal)
        )
        return [dict(row) for row in self._read(query)]

    @reconnecting
    def epoch_reports(self, study: Study) -> list[dict[str, Any]]:
        """Every report of a study with its trial's number and attempt, in order of report."""
        query = (
            select(EPOCH_REPORTS, TRIALS.c.number, ATTEMPTS.c.ordinal)
            .join(ATTEMPTS, ATTEMPTS.c.id == EPOCH_REPORTS.c.attempt_id)
            .join(TRIALS, TRIALS.c.id == ATTEMPTS.c.trial_id)
            .where(TRIALS.c.study_id == study.id)
            .order_by(EPOCH_REPORTS.c.id)
        )
        return [dict(row) for row in self._read(query)]

    @reconnecting
    def state_counts(self, study: Study) -> dict[str, int]:
        """Number of trials by state."""
        query = select(TRIALS.c.state, func.count()).where(TRIALS.c.study_id == study.id).group_by(TRIALS.c.state)
        with transaction(self.engine, self.url) as connection:
            return {row[0]: int(row[1]) for row in connection.execute(query)}

    def integrity(self) -> str:
        """``ok``, or the database's report of corruption."""
        if self.engine.dialect.name != "sqlite":
            return "ok"
        with transaction(self.engine, self.url) as connection:
            return str(connection.scalar(text("PRAGMA integrity_check")))


def _inserted(connection: Connection, table: Table, row: Mapping[str, Any]) -> int:
    """The id of a new row."""
    key = connection.execute(insert(table).values(row)).inserted_primary_key
    assert key is not None
    return int(key[0])
