"""Opening the trial database and saying in one line what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import URL, make_url

from mcu.errors import InputError
from orchestrator.failures import RunFailed

DEFAULT_STORAGE = "sqlite:///mcusweep.db"
BUSY_SECONDS = 30.0


class StoreError(RunFailed):
    """The database stopped working while in use (disk full, read-only, locked); one line that names it."""


def parse_storage(storage: str) -> URL:
    """The URL of a trial database.

    Raises:
        InputError: if it is not an SQLAlchemy URL of SQLite (a file) or PostgreSQL.
    """
    allowed = "allowed: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
    try:
        url = make_url(storage)
    except exc.ArgumentError:
        raise InputError(f"--storage {storage!r} is not a database address; {allowed}") from None
    backend = url.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise InputError(f"--storage {storage!r}: no support for {backend}; {allowed}")
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise InputError(f"--storage {storage!r} names no file; {allowed}")
    return url


def database_label(url: URL) -> str:
    """How messages call the database: the file, or the address without its password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.render_as_string(hide_password=True)


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
        InputError: if the file is missing (reading), is no database, or its driver is not installed.
    """
    file = database_file(url)
    if file is not None:
        _check_file(file, writing)
    try:
        engine = create_engine(url)
    except ImportError as error:
        raise InputError(f"--storage {database_label(url)}: {error}; pip install 'mcusweep[postgres]'") from None
    if file is not None:
        read_only = not writing and not os.access(file.absolute().parent, os.W_OK)
        if read_only:  # WAL needs to write beside the file; a reader of a read-only folder takes it as it is
            engine = create_engine(f"sqlite:///file:{file.absolute()}?immutable=1&uri=true")
        event.listen(engine, "connect", lambda connection, _: set_pragmas(connection, writing))
    return engine


def set_pragmas(connection: Any, writing: bool = True) -> None:
    """Prepare one raw SQLite connection."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    cursor.execute("PRAGMA foreign_keys = ON")
    if writing:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _check_file(file: Path, writing: bool) -> None:
    if file.is_dir():
        raise InputError(f"--storage: {file} is a folder; give a file, such as {file}/mcusweep.db")
    if writing:
        if not file.absolute().parent.is_dir():
            raise InputError(f"--storage: folder {file.absolute().parent} does not exist; create it first")
        return
    if not file.exists():
        raise InputError(f"--storage: no database {file}; run `mcusweep launch SWEEP.toml` or give --storage URL")
    with file.open("rb") as stream:
        start = stream.read(16)
    if start and start != b"SQLite format 3\0":
        raise InputError(f"{file} is not a trial database (not an SQLite file)")


def _one_line(error: BaseException) -> str:
    origin = getattr(error, "orig", None) or error
    return str(origin).strip().splitlines()[0] if str(origin).strip() else type(origin).__name__


@contextmanager
def database_errors(url: URL) -> Iterator[None]:
    """Turn what a database raises into one line that names it.

    Raises:
        InputError: if the content is damaged, or no trial database.
        StoreError: if the place gives out: full, read-only, locked, unreachable.
    """
    label = database_label(url)
    try:
        yield
    except exc.DatabaseError as error:
        text = _one_line(error)
        low = text.lower()
        if "malformed" in low or "not a database" in low:
            raise InputError(f"{label} is damaged or not a trial database ({text})") from error
        if "no such table" in low or "does not exist" in low:
            raise InputError(f"{label} holds no mcusweep trials ({text})") from error
        advice = next((words for key, words in _ADVICE.items() if key in low), "check that it can be reached")
        raise StoreError(f"cannot use {label}: {text}; {advice}") from error


_ADVICE = {
    "full": "free some space",
    "readonly": "make the file and its folder writable",
    "locked": "another program holds it; close that or wait",
    "unable to open": "check the folder and its permissions",
    "disk i/o": "check the disk",
}


@contextmanager
def transaction(engine: Engine, url: URL) -> Iterator[Connection]:
    """One transaction, committed at the end; errors as of `database_errors`."""
    with database_errors(url), engine.begin() as connection:
        yield connection
