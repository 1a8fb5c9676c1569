"""Trust in imported rows of studies and trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from orchestrator.spec import Artifact, canonical_json
from orchestrator.storage.records import notes_in
from orchestrator.storage.schema import IMPORTED, TRIALS

STUDY, TRIAL = "study", "trial"


def foreign(kind: str) -> sa.Select[Any]:
    """Row ids of the imported studies or trials that are not trusted."""
    return sa.select(IMPORTED.c.row_id).where(IMPORTED.c.kind == kind)


def mark_foreign(connection: sa.Connection, kind: str, row_id: int) -> None:
    """Mark a row as imported."""
    connection.execute(sa.insert(IMPORTED).values(kind=kind, row_id=row_id))


def is_foreign(connection: sa.Connection, study_id: int) -> bool:
    """Whether a study is imported and not trusted."""
    mine = (IMPORTED.c.kind == STUDY) & (IMPORTED.c.row_id == study_id)
    return connection.execute(sa.select(IMPORTED).where(mine)).first() is not None


def trust_study(
    connection: sa.Connection, study_id: int, move: Callable[[str, dict[str, Artifact]], dict[str, Artifact]]
) -> None:
    """Trust a study and all of its trials.

    Args:
        move: moves a trial's files to their final folder, given the hash of its specification and their notes; returns
            the new notes.
    """
    mine = TRIALS.c.study_id == study_id
    for row in connection.execute(
        sa.select(TRIALS.c.id, TRIALS.c.spec_hash, TRIALS.c.artifacts_json).where(mine)
    ).all():
        notes = move(row.spec_hash, notes_in(row.artifacts_json))
        text = canonical_json({name: note.model_dump() for name, note in notes.items()})
        connection.execute(sa.update(TRIALS).where(TRIALS.c.id == row.id).values(artifacts_json=text))
    forget(connection, TRIAL, sa.select(TRIALS.c.id).where(mine))
    forget(connection, STUDY, sa.select(sa.literal(study_id)))


def forget(connection: sa.Connection, kind: str, row_ids: sa.Select[Any]) -> None:
    """Remove the marks of rows that are now trusted or deleted."""
    connection.execute(sa.delete(IMPORTED).where((IMPORTED.c.kind == kind) & IMPORTED.c.row_id.in_(row_ids)))
