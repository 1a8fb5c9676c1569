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
    inspect,
    select,
    update,
)

import reports.columns
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


def layout_of(connection: Connection) -> str | None:
    """The layout of our tables in a database; None before there are any."""
    if not inspect(connection).has_table(META.name):
        return None
    return connection.scalar(select(META.c.value).where(_VERSION))


def is_older(layout: str) -> bool:
    """Whether `upgrade_tables` can bring a layout up to date."""
    return layout in map(str, STEPS)


def upgrade_tables(connection: Connection, layout: str) -> None:
    """Bring the tables of an older layout up to date, as a part of the transaction."""
    for step in range(int(layout), SCHEMA_VERSION):
        STEPS[step](connection)
    connection.execute(update(META).where(_VERSION).values(value=str(SCHEMA_VERSION)))
