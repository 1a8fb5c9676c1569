"""One driver per study: a lock row that says who holds it and notices when the holder is dead."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, delete, select, update
from sqlalchemy.engine import URL

from mcu.errors import InputError
from orchestrator.processes import process_alive, process_start
from orchestrator.storage.connection import database_label, transaction
from orchestrator.storage.schema import LOCKS

REMOTE_PATIENCE = timedelta(seconds=120)  # a holder on another host is judged by its heartbeat alone
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock in UTC."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, as stored."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Holder:
    """Who drives a study."""

    host: str
    pid: int
    started: float | None
    since: str
    renewed_at: str

    def dead(self, now: datetime) -> bool:
        """Whether the holder is gone: its process on this host, its heartbeat on another."""
        if self.host != socket.gethostname():
            return now - datetime.fromisoformat(self.renewed_at) > REMOTE_PATIENCE
        return not process_alive(self.pid) or (self.started is not None and process_start(self.pid) != self.started)


def read_holder(connection: Connection, study: str) -> Holder | None:
    """The holder noted for a study, dead or alive."""
    row = connection.execute(select(LOCKS).where(LOCKS.c.study == study)).mappings().first()
    if row is None:
        return None
    return Holder(row["host"], row["pid"], row["process_start"], row["since"], row["renewed_at"])


class StudyLock:
    """The right to write one study; a context manager.

    Raises (on entering):
        InputError: if a living driver holds the study; the message says which.
    """

    def __init__(self, engine: Engine, url: URL, study: str, clock: Clock = utc_now) -> None:
        self._engine, self._url, self._study, self._clock = engine, url, study, clock
        self._token = secrets.token_hex(16)

    def __enter__(self) -> StudyLock:
        now = self._clock()
        with transaction(self._engine, self._url) as connection:
            if self._engine.dialect.name == "sqlite":  # take the write lock before reading: no race with a peer
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            holder = read_holder(connection, self._study)
            if holder is not None and not holder.dead(now):
                raise InputError(
                    f"study {self._study!r} in {database_label(self._url)} is being run by process {holder.pid} "
                    f"on {holder.host} since {holder.since}; wait for it or stop it first"
                )
            connection.execute(delete(LOCKS).where(LOCKS.c.study == self._study))
            connection.execute(LOCKS.insert().values(self._row(now)))
        return self

    def _row(self, now: datetime) -> dict[str, object]:
        pid = os.getpid()
        return {
            "study": self._study,
            "token": self._token,
            "host": socket.gethostname(),
            "pid": pid,
            "process_start": process_start(pid),
            "since": iso(now),
            "renewed_at": iso(now),
        }

    def renew(self) -> bool:
        """Heartbeat; False if another driver has taken the study over."""
        mine = (LOCKS.c.study == self._study) & (LOCKS.c.token == self._token)
        with transaction(self._engine, self._url) as connection:
            done = connection.execute(update(LOCKS).where(mine).values(renewed_at=iso(self._clock())))
            return done.rowcount == 1

    def __exit__(self, *_: object) -> None:
        mine = (LOCKS.c.study == self._study) & (LOCKS.c.token == self._token)
        with transaction(self._engine, self._url) as connection:
            connection.execute(delete(LOCKS).where(mine))
