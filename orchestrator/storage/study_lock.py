"""One driver per study: a lock row with a fencing token and heartbeats on the database's clock.

Every write of a driver compares its token with the row, in the same transaction: a driver whose study was taken over
stops there. A process number is meaningful only within one kernel's process namespace, which the token names; within it
a dead holder is detected at once.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, delete, select, update
from sqlalchemy.engine import URL

from mcu.errors import InputError
from orchestrator.processes import process_alive, process_start
from orchestrator.storage.connection import DriverReplaced, database_label, take_turns, transaction
from orchestrator.storage.reconnecting import Patience, reconnecting
from orchestrator.storage.schema import LOCKS

PATIENCE = timedelta(seconds=120)
"""A holder whose heartbeat is older than this is gone."""

_SPACE_DIGITS = 8
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock in UTC."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, as stored."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def database_now(dialect: str) -> sa.ColumnElement[str]:
    """The database's own clock, in the form of `iso`."""
    if dialect == "sqlite":
        return sa.func.strftime("%Y-%m-%dT%H:%M:%fZ", "now", type_=sa.String())
    utc = sa.func.timezone("UTC", sa.func.clock_timestamp())
    return sa.func.to_char(utc, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"', type_=sa.String())


def process_space() -> str:
    """Identifier of the process namespace and the boot of the kernel, within which process numbers are unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # a system without namespaces
        boot, space = socket.gethostname(), ""
    return sha256(f"{boot} {space}".encode()).hexdigest()[:_SPACE_DIGITS]


@dataclass(frozen=True)
class Holder:
    """The driver of a study, and the age of its last heartbeat when it was read."""

    host: str
    pid: int
    started: float | None
    since: str
    token: str
    silent: timedelta

    @property
    def dead(self) -> bool:
        """Whether the holder is dead: by its process, if it is visible from here, else by its heartbeat."""
        if self.token.startswith(process_space()):
            same = self.started is None or process_start(self.pid) == self.started
            return not (process_alive(self.pid) and same)
        return self.silent > PATIENCE

    @property
    def heard(self) -> str:
        """Time of its last heartbeat, for messages."""
        seconds = self.silent.total_seconds()
        return f"last heard of {seconds:.0f} s ago" if seconds >= 0 else f"whose heartbeat is {-seconds:.0f} s ahead"


def read_holder(connection: Connection, study: str) -> Holder | None:
    """The recorded holder of a study, dead or alive."""
    query = select(LOCKS, database_now(connection.dialect.name).label("now")).where(LOCKS.c.study == study)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    silent = datetime.fromisoformat(row["now"]) - datetime.fromisoformat(row["renewed_at"])
    return Holder(row["host"], row["pid"], row["process_start"], row["since"], row["token"], silent)


class StudyLock:
    """The lock for writing one study; a context manager.

    Args:
        take_over: take the lock from any holder; that driver stops at its next write.

    Raises (on entering):
        InputError: if a driver that is not known to be dead holds the study; the message names it.
    """

    def __init__(
        self, engine: Engine, url: URL, study: str, *, patience: Patience | None = None, take_over: bool = False
    ) -> None:
        self._engine, self._url, self._study, self._take_over = engine, url, study, take_over
        self._token = process_space() + secrets.token_hex(12)
        self.patience = patience or Patience()
        self.held = False

    def __enter__(self) -> StudyLock:
        with transaction(self._engine, self._url) as connection:
            take_turns(connection)  # before reading: no race with a peer
            holder = read_holder(connection, self._study)
            if holder is not None and not holder.dead and not self._take_over:
                raise InputError(
                    f"study {self._study!r} in {database_label(self._url)} is being run by process {holder.pid} "
                    f"on {holder.host} since {holder.since}, {holder.heard}; wait for it or stop it first, or take its "
                    "place with `mcusweep resume --take-over`"
                )
            connection.execute(delete(LOCKS).where(LOCKS.c.study == self._study))
            connection.execute(LOCKS.insert().values(self._row()))
        self.held = True
        return self

    def _row(self) -> dict[str, object]:
        pid, now = os.getpid(), database_now(self._engine.dialect.name)
        return {
            "study": self._study,
            "token": self._token,
            "host": socket.gethostname(),
            "pid": pid,
            "process_start": process_start(pid),
            "since": now,
            "renewed_at": now,
        }

    @property
    def _mine(self) -> sa.ColumnElement[bool]:
        return (LOCKS.c.study == self._study) & (LOCKS.c.token == self._token)

    def hold(self, connection: Connection) -> None:
        """Heartbeat, and the fence of a transaction: the first statement of every write.

        Raises:
            DriverReplaced: another driver has taken the study over.
        """
        now = database_now(self._engine.dialect.name)
        if connection.execute(update(LOCKS).where(self._mine).values(renewed_at=now)).rowcount != 1:
            raise DriverReplaced(f"another driver has taken over study {self._study!r}; this one stops")

    @reconnecting
    def renew(self) -> None:
        """Heartbeat.

        Raises:
            DriverReplaced: another driver has taken the study over.
        """
        with transaction(self._engine, self._url) as connection:
            self.hold(connection)

    def reconnected(self) -> None:
        """No action: no state was read."""

    def __exit__(self, *_: object) -> None:
        self.held = False
        self._release()

    @reconnecting
    def _release(self) -> None:
        with transaction(self._engine, self._url) as connection:
            connection.execute(delete(LOCKS).where(self._mine))
