"""Connection to the trial database, with errors in one line."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from mcu.errors import InputError
from orchestrator.failures import RunFailed
from orchestrator.storage.address import without_password
from orchestrator.storage.sqlite import open_sqlite

_ASK_SECONDS = 60.0
_TURNS = 0x6D637573  # any number that nobody else is likely to take
_SQLITE = re.compile(r"sqlite(\+\w+)?:///(?P<path>.*)", re.DOTALL)
_OPTIONS = re.compile(r"\?\w+=")

logging.getLogger("sqlalchemy.pool").addHandler(logging.NullHandler())  # Ctrl-C while one closes is no news


class StoreError(RunFailed):
    """The database failed during use (disk full, read-only, locked); the message is one line that names it."""


class DatabaseGone(StoreError):  # noqa: N818  (it reads as what happened)
    """The database file was deleted or replaced after it was opened: writes are lost."""

    resumable = False


class DriverReplaced(StoreError):  # noqa: N818  (it reads as what happened)
    """Another driver has taken over the study: writes of this one are rejected."""

    resumable = False


class ConnectionCut(StoreError):  # noqa: N818  (it reads as what happened)
    """A server closed or refused the connection; uncommitted work is rolled back."""


def parse_storage(storage: str) -> URL:
    """The URL of a trial database. The part after ``sqlite:///`` is a literal path, without unescaping.

    Raises:
        InputError: if it is not an address of SQLite (a file) or PostgreSQL.
    """
    allowed = "allowed: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
    shown = f"--storage {without_password(storage)!r}"
    file = _SQLITE.match(storage)
    try:
        url = URL.create("sqlite", database=file["path"]) if file else make_url(storage)
    except (exc.ArgumentError, ValueError):  # of a port that is no number
        raise InputError(f"{shown} is not a database address; {allowed}") from None
    backend = url.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise InputError(f"{shown}: no support for {backend}; {allowed}")
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise InputError(f"{shown} names no file; {allowed}")
    if file and _OPTIONS.search(storage):
        raise InputError(f"{shown}: an SQLite address takes no options; {allowed}")
    return url


def storage_address(url: URL) -> str:
    """The ``--storage`` value of this database, without its password."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}"
    return without_password(url.render_as_string(hide_password=False))


def database_label(url: URL) -> str:
    """Name of the database in messages: the file, or the address without its password."""
    return str(url.database) if url.get_backend_name() == "sqlite" else storage_address(url)


def _is_server(url: URL) -> bool:
    return url.get_backend_name() != "sqlite"


def database_file(url: URL) -> Path | None:
    """The SQLite file, or None for a server."""
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def artifact_root(url: URL) -> Path:
    """Folder of the trials' files: beside an SQLite file, in the current folder for a server."""
    file = database_file(url)
    if file is None:
        return Path(f"{url.database or 'mcusweep'}-artifacts").absolute()
    return file.absolute().with_name(f"{file.stem}-artifacts")


def open_engine(url: URL, *, writing: bool) -> Engine:
    """An engine whose SQLite connections use WAL, synchronous=NORMAL (survives a killed process) and wait.

    Raises:
        InputError: if the file is missing (reading), is not a database, or its driver is not installed.
    """
    file = database_file(url)
    if file is not None:
        _check_file(file, writing)
    address, options = engine_options(url, writing=writing)
    try:
        engine = create_engine(address, **options)
    except ImportError as error:
        raise InputError(f"--storage {database_label(url)}: {error}; pip install 'mcusweep[postgres]'") from None
    watch_file(engine, url)
    return engine


def engine_options(url: URL, *, writing: bool) -> tuple[URL | str, dict[str, Any]]:
    """Address and options for SQLAlchemy, or for Optuna, to open a database in the same way."""
    file = database_file(url)
    if file is None:
        return url, {"pool_pre_ping": True}  # a server may have closed a connection that lay idle
    options: dict[str, Any] = {"creator": partial(open_sqlite, file, writing=writing)}
    return "sqlite:///file", options if writing else options | {"poolclass": NullPool}


def watch_file(engine: Engine, url: URL) -> None:
    """Refuse to continue if the database file was deleted or replaced: SQLite would keep writing to the old one."""
    file = database_file(url)
    if file is None:
        return
    known: list[tuple[int, int]] = []

    def check(_: Connection) -> None:
        with suppress(OSError):
            status = file.stat()
            known[:] = known or [(status.st_dev, status.st_ino)]
            if known == [(status.st_dev, status.st_ino)]:
                return
        raise DatabaseGone(f"{file} was deleted or replaced while in use; what was written since then is lost")

    event.listen(engine, "begin", check)


def _check_file(file: Path, writing: bool) -> None:
    if file.is_dir():
        raise InputError(f"--storage: {file} is a folder; give a file, such as {file}/mcusweep.db")
    if writing:
        if not file.absolute().parent.is_dir():
            raise InputError(f"--storage: folder {file.absolute().parent} does not exist; create it first")
        return
    if not file.exists():
        raise InputError(f"--storage: no database {file}; run `mcusweep launch SWEEP.toml` or give --storage URL")
    try:
        with file.open("rb") as stream:
            start = stream.read(16)
    except OSError as error:
        raise InputError(f"--storage: {file} cannot be read: {error.strerror}") from None
    if start and start != b"SQLite format 3\0":
        raise InputError(f"{file} is not a trial database (not an SQLite file)")


def _one_line(error: BaseException) -> str:
    origin = getattr(error, "orig", None) or error
    return str(origin).strip().splitlines()[0] if str(origin).strip() else type(error).__name__


@contextmanager
def database_errors(url: URL) -> Iterator[None]:
    """Convert database exceptions to one line that names the database.

    Raises:
        InputError: if the content is damaged, or not a trial database.
        StoreError: if the database fails: disk full, read-only, locked, unreachable.
    """
    label = database_label(url)
    try:
        yield
    except UnicodeDecodeError as error:  # of a name in a damaged schema, or of SQLite's own message about it
        raise InputError(f"{label} is damaged or not a trial database ({error.reason})") from error
    except exc.DBAPIError as error:
        line = _one_line(error)
        low = line.lower()
        if _was_cut(error, url):
            raise ConnectionCut(f"cannot use {label}: {line}") from error
        if any(words in low for words in _DAMAGE):
            raise InputError(f"{label} is damaged or not a trial database ({line})") from error
        if "no such table" in low or "does not exist" in low:
            raise InputError(f"{label} holds no mcusweep trials ({line})") from error
        advice = next((words for key, words in _ADVICE.items() if key in low), "check that it can be reached")
        raise StoreError(f"cannot use {label}: {line}; {advice}") from error


_DAMAGE = ("malformed", "not a database", "could not decode", "datatype mismatch", "unsupported file format")
_ADVICE = {
    "full": "free some space",
    "readonly": "make the file and its folder writable",
    "locked": "another program holds it; close that or wait",
    "unable to open": "check the folder and its permissions",
    "disk i/o": "check the disk",
}


def _was_cut(error: exc.DBAPIError, url: URL) -> bool:
    """Whether a server is away: it closed the connection, or there was none to execute a statement on."""
    return _is_server(url) and (error.connection_invalidated or error.statement is None)


@contextmanager
def transaction(engine: Engine, url: URL) -> Iterator[Connection]:
    """One transaction, committed at the end; errors as of `database_errors`.

    Raises:
        ConnectionCut: in this case nothing was committed.
    """
    with database_errors(url), engine.connect() as connection:
        both = connection.begin()
        try:
            yield connection
            mark = connection.scalar(text("select txid_current_if_assigned()")) if _is_server(url) else None
        except BaseException:
            both.rollback()
            raise
        try:
            both.commit()
        except exc.DBAPIError as error:
            if mark is None or not _was_cut(error, url) or not _committed(engine, mark):
                raise


def _committed(engine: Engine, mark: int) -> bool:
    """Whether a transaction whose commit was cut came through; asks the server for it once that answers again."""
    deadline = time.monotonic() + _ASK_SECONDS
    while True:
        try:
            with engine.connect() as connection:
                status = connection.scalar(text("select txid_status(:mark)").bindparams(mark=mark))
                return bool(status == "committed")
        except exc.DBAPIError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def take_turns(connection: Connection) -> None:
    """Lock until the end of the transaction, so that only one process at a time creates an object."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(text("select pg_advisory_xact_lock(:key)").bindparams(key=_TURNS))
