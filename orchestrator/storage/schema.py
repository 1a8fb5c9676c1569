"""Tables of the trial database that are ours; Optuna's own lie beside them in the same database.

Plain SQLAlchemy Core types only, so SQLite and PostgreSQL get the same schema. Times are ISO 8601 texts in
UTC, which sort as they read. JSON columns are canonical JSON texts.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 1
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

RESULT_NUMBERS = (
    Column("accuracy", Float),
    Column("float_accuracy", Float),
    Column("val_accuracy", Float),
    Column("flash", BigInteger),
    Column("sram", BigInteger),
    Column("sram_activations", BigInteger),
    Column("flash_firmware", BigInteger),
    Column("sram_firmware", BigInteger),
    Column("instructions", BigInteger),
    Column("macs", BigInteger),
    Column("violation", Float),
    Column("feasible", Boolean),
    Column("binding_use", Float),
    Column("measured", Boolean),
    Column("duration_s", Float),
)

TRIALS = Table(
    "mcusweep_trials",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("mcusweep_studies.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("method", String(128), nullable=False),
    Column("network", String(256), nullable=False),
    Column("task", String(256), nullable=False),
    Column("device", String(128)),
    Column("runtime", String(16), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("budget_flash", BigInteger),
    Column("budget_sram", BigInteger),
    Column("budget_macs", BigInteger),
    *RESULT_NUMBERS,
    Column("dense_flash", BigInteger),
    Column("dense_sram", BigInteger),
    Column("dense_macs", BigInteger),
    Column("attempts", Integer, nullable=False, default=0),
    Column("started_at", String(32)),
    Column("finished_at", String(32)),
    Column("spec_hash", String(64), nullable=False),
    Column("reused_from", String(600)),
    Column("hyperparameters_json", Text, nullable=False),
    Column("spec_json", Text, nullable=False),
    Column("widths_json", Text),
    Column("dense_widths_json", Text),
    Column("artifacts_json", Text),
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
