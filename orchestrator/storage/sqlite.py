"""Raw connections to an SQLite file: reads are complete, and queries neither create nor change files."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from mcu.files import replacing

BUSY_SECONDS = 30.0


def open_sqlite(file: Path, *, writing: bool) -> sqlite3.Connection:
    """A connection for writing in WAL mode, which creates the file if missing, or a read-only one.

    SQLite reads a database in WAL mode only if it can use, or create, its side files. If the folder is read-only and
    there are no side files, the file is complete and is read as it is; an unusable log is an error, because the file
    alone would be an old state.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    if writing:
        return _prepared(_connect(file, "mode=rwc"), writing)
    if os.access(file, os.W_OK) and os.access(file.absolute().parent, os.W_OK):
        return _prepared(_connect(file, "mode=rw"), writing)
    try:
        return _prepared(_connect(file, "mode=ro"), writing)
    except sqlite3.OperationalError as error:
        if not any(words in str(error) for words in ("unable to open", "readonly")):
            raise
        if _log(file).exists() and _log(file).stat().st_size > 0:
            raise sqlite3.OperationalError(
                f"what was written last lies in {_log(file)}, which cannot be read without writing beside it; "
                "let somebody who may write there run `mcusweep status`, or copy all of the files"
            ) from None
    return _prepared(_connect(file, "immutable=1"), writing)


def backup_sqlite(file: Path, target: Path) -> None:
    """Write a complete copy of a database atomically, also while the database is being written.

    Raises:
        sqlite3.Error, OSError: the database cannot be read, or the copy cannot be written.
    """
    with (
        replacing(target) as partial,
        closing(open_sqlite(file, writing=False)) as source,
        closing(sqlite3.connect(partial)) as copy,
    ):
        source.backup(copy)


def _connect(file: Path, options: str) -> sqlite3.Connection:
    path = quote(os.fsencode(file.absolute()))
    return sqlite3.connect(f"file:{path}?{options}", uri=True, check_same_thread=False)


def _prepared(connection: sqlite3.Connection, writing: bool) -> sqlite3.Connection:
    try:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        if writing:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        else:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA schema_version").fetchone()  # the first that really opens it
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _log(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")
