"""The columns of the trial table, defined in `reports.columns`, as SQL and as lists for queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from orchestrator.storage.schema import ATTEMPTS, STUDIES, TRIALS
from reports.columns import ColumnKind, names

COLUMNS = names()
NESTED = {name: f"{name}_json" for name in names(kinds=(ColumnKind.OBJECT,))}
SOURCE = TRIALS.join(STUDIES, STUDIES.c.id == TRIALS.c.study_id)


def trial_columns(dialect: str, parameters: Iterable[str] = ()) -> dict[str, sa.ColumnElement]:
    """Every column of a trial that may be selected, filtered and sorted by, ``param.NAME`` for each parameter.

    Parameters have no type, or JSON: the filter converts them to the type they are compared with.
    """
    found: dict[str, sa.ColumnElement] = {"study": STUDIES.c.name}
    found |= {name: TRIALS.c[name] for name in COLUMNS if name in TRIALS.c}
    found |= looked_up_columns(dialect)
    return found | {f"param.{name}": _parameter(dialect, name) for name in parameters}


def looked_up_columns(dialect: str) -> dict[str, sa.ColumnElement]:
    """Columns that come from the specification or other tables and are not stored in the table."""
    return {"metric": _metric(dialect), "ancestor": _ancestor(dialect), "host": _host()}


def _host() -> sa.ColumnElement:
    """Where the last attempt of a trial ran."""
    mine = sa.select(ATTEMPTS.c.worker_host).where(ATTEMPTS.c.trial_id == TRIALS.c.id).correlate(TRIALS)
    return mine.order_by(ATTEMPTS.c.ordinal.desc()).limit(1).scalar_subquery()


def _metric(dialect: str) -> sa.ColumnElement:
    """What a trial's accuracies are measured by; trials of before there was a choice have top-1 accuracy."""
    named = (_specified(dialect, "training", name) for name in ("score", "metric"))
    return sa.func.coalesce(*named, "accuracy", type_=sa.String())


def _ancestor(dialect: str) -> sa.ColumnElement:
    """Number of the trial of the same study that has the specification which a trial's own names."""
    other, named = TRIALS.alias("ancestors"), _specified(dialect, "ancestor")
    same_study = other.c.study_id + 0 == TRIALS.c.study_id  # the sum keeps to the index of specifications
    number = sa.select(sa.func.min(other.c.number)).where((other.c.spec_hash == named) & same_study).correlate(TRIALS)
    return sa.case((named.is_not(None), number.scalar_subquery()), else_=None)


def _specified(dialect: str, *path: str) -> Any:
    """A text of a trial's specification."""
    stored = TRIALS.c.spec_json
    if dialect == "sqlite":
        return sa.func.json_extract(stored, f"$.{'.'.join(path)}", type_=sa.String())
    return sa.cast(stored, sa.JSON)[path].as_string()


def _parameter(dialect: str, name: str) -> sa.ColumnElement:
    stored = TRIALS.c.hyperparameters_json
    if dialect == "sqlite":  # gives each value in its own type, so nothing needs a cast
        return sa.func.json_extract(stored, f'$."{name}"', type_=sa.types.NullType())
    return sa.cast(stored, sa.JSON)[name]


def parameter_names(connection: sa.Connection, studies: Sequence[int] | None = None) -> list[str]:
    """Names of the hyperparameters of trials of these studies (by default of all)."""
    stored = TRIALS.c.hyperparameters_json
    if connection.dialect.name == "sqlite":
        keys: Any = sa.func.json_each(stored).table_valued("key")
    else:
        keys = sa.func.json_object_keys(sa.cast(stored, sa.JSON)).table_valued("key").render_derived()
    query = sa.select(keys.c.key).select_from(TRIALS.join(keys, sa.true())).distinct()
    if studies is not None:
        query = query.where(TRIALS.c.study_id.in_(studies))
    return sorted(str(key) for key in connection.execute(query).scalars() if '"' not in str(key))
