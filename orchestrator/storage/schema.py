"""Our tables of the trial database; Optuna's tables are in the same database.

Plain SQLAlchemy Core types only, so SQLite and PostgreSQL get the same schema. Times are ISO 8601 texts in UTC, whose
order as text is chronological. JSON columns are canonical JSON texts. The columns of a trial are defined in
`reports.columns`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.engine import URL

import reports.columns
from mcu.errors import InputError
from orchestrator.storage.connection import database_file, database_label, take_turns
from orchestrator.storage.sqlite import backup_sqlite
from reports.columns import CATALOGUE, ColumnKind, Part

SCHEMA_VERSION = 2
METADATA = MetaData()

META = Table(
    "mcusweep_meta",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

STUDIES = Table(
    "mcusweep_studies",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(512), nullable=False, unique=True),
    Column("sweep_json", Text, nullable=False),
    Column("sweep_file", Text),
    Column("workers_json", Text, nullable=False),
    Column("planned_trials", Integer, nullable=False),
    Column("versions_json", Text, nullable=False),
    Column("machine_json", Text, nullable=False),
    Column("task_json", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
)

_TYPES: dict[ColumnKind, Any] = {
    ColumnKind.TIME: String(32),
    ColumnKind.INTEGER: BigInteger,
    ColumnKind.NUMBER: Float,
    ColumnKind.TRUTH: Boolean,
    ColumnKind.OBJECT: Text,
}


def _stored(column: reports.columns.Column) -> Column[Any]:
    """A column of the catalogue in the table of trials; a JSON text under a name of its own."""
    name = f"{column.name}_json" if column.kind is ColumnKind.OBJECT else column.name
    text = String(column.length) if column.length else Text
    return Column(name, _TYPES.get(column.kind, text), nullable=not column.required)


TRIALS = Table(
    "mcusweep_trials",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("mcusweep_studies.id"), nullable=False),
    *(_stored(each) for each in CATALOGUE if each.part is not Part.LOOKED_UP and each.kind is not ColumnKind.LIST),
    Column("hyperparameters_json", Text, nullable=False),
    Column("spec_json", Text, nullable=False),
    UniqueConstraint("study_id", "number"),
    Index("mcusweep_trials_spec", "spec_hash", "state"),
    Index("mcusweep_trials_state", "study_id", "state"),
    Index("mcusweep_trials_best", "study_id", "method", "val_accuracy"),
)

TRAJECTORIES = Table(  # apart from the trials: long texts that a query over the results need not read past
    "mcusweep_trajectories",
    METADATA,
    Column("trial_id", ForeignKey("mcusweep_trials.id"), primary_key=True),
    Column("trajectory_json", Text, nullable=False),
)

ATTEMPTS = Table(
    "mcusweep_attempts",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("trial_id", ForeignKey("mcusweep_trials.id"), nullable=False, index=True),
    Column("ordinal", Integer, nullable=False),
    Column("lease", String(32), nullable=False),
    Column("worker_host", String(256)),
    Column("worker_pid", Integer),
    Column("started_at", String(32), nullable=False),
    Column("ended_at", String(32)),
    Column("reason", String(32)),
    Column("detail", Text),
)

EPOCH_REPORTS = Table(
    "mcusweep_rungs",  # the name that databases have
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("attempt_id", ForeignKey("mcusweep_attempts.id"), nullable=False, index=True),
    Column("step", Integer, nullable=False),
    Column("epochs_done", Float),
    Column("val_accuracy", Float),
    Column("flash", BigInteger),
    Column("sram", BigInteger),
    Column("macs", BigInteger),
    Column("phase", String(64)),
    Column("reported_at", String(32), nullable=False),
)

LOCKS = Table(
    "mcusweep_locks",
    METADATA,
    Column("study", String(512), primary_key=True),
    Column("token", String(32), nullable=False),
    Column("host", String(256), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_start", Float),
    Column("since", String(32), nullable=False),
    Column("renewed_at", String(32), nullable=False),
)

IMPORTED = Table(  # what came from elsewhere and is not trusted: shown as it is, never begun with, reused or executed
    "mcusweep_imported",
    METADATA,
    Column("kind", String(8), primary_key=True),
    Column("row_id", Integer, primary_key=True, autoincrement=False),
)


def _mark_what_is_imported(connection: Connection) -> None:
    IMPORTED.create(connection, checkfirst=True)  # some databases of layout 1 have it


STEPS: dict[int, Callable[[Connection], None]] = {1: _mark_what_is_imported}
"""From each older layout to the next. Older layouts are read as they are, and brought up to date before writing."""

_VERSION = META.c.key == "schema_version"


def require_layout(connection: Connection, url: URL) -> None:
    """Refuse a database whose table layout this version cannot read.

    Raises:
        InputError: naming the database and its layout.
    """
    _is_current(connection.scalar(select(META.c.value).where(_VERSION)), url)


def prepare_tables(connection: Connection, url: URL, upgrading: bool) -> str | None:
    """Create the tables, or bring them up to date, as a part of the transaction.

    Args:
        connection: of the transaction.
        url: of the database.
        upgrading: whether those on a server are brought up to date as well; those of a file, of which a copy is kept,
            always are.

    Returns:
        From which layout to which, and where the copy is; None if there was nothing to bring up to date.

    Raises:
        InputError: for a layout that this version does not know, or an older one on a server.
    """
    take_turns(connection)
    there = inspect(connection).has_table(META.name)
    found = connection.scalar(select(META.c.value).where(_VERSION)) if there else None
    if found is None:
        METADATA.create_all(connection)
        connection.execute(insert(META).values(key="schema_version", value=str(SCHEMA_VERSION)))
        return None
    if _is_current(found, url):
        return None
    file, label = database_file(url), database_label(url)
    if file is None and not upgrading:
        raise InputError(
            f"{label} has table layout {found}, this version writes {SCHEMA_VERSION}: "
            "run `mcusweep study upgrade`; older versions refuse it then"
        )
    upgraded = f"{label}: table layout {found} -> {SCHEMA_VERSION}"
    if file is not None:
        kept = file.with_name(f"{file.name}.layout-{found}")
        backup_sqlite(file, kept)
        upgraded += f"; the file of before is kept as {kept}"
    for step in range(int(found), SCHEMA_VERSION):
        STEPS[step](connection)
    connection.execute(update(META).where(_VERSION).values(value=str(SCHEMA_VERSION)))
    return upgraded


def _is_current(layout: str | None, url: URL) -> bool:
    """Whether a layout is that of this version; one that it does not know is refused."""
    if layout not in [str(known) for known in (*STEPS, SCHEMA_VERSION)]:
        raise InputError(
            f"{database_label(url)} was written with table layout {layout}; this version of mcusweep reads "
            f"layouts up to {SCHEMA_VERSION}: install a newer one"
        )
    return layout == str(SCHEMA_VERSION)
