"""What came from elsewhere, and whether it is trusted: rows of studies and trials that were imported."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from orchestrator.storage.schema import IMPORTED, TRIALS

STUDY, TRIAL = "study", "trial"


def foreign(kind: str) -> sa.Select[Any]:
    """Row ids of the studies or trials that came from elsewhere and are not trusted."""
    return sa.select(IMPORTED.c.row_id).where(IMPORTED.c.kind == kind)


def mark_foreign(connection: sa.Connection, kind: str, row_id: int) -> None:
    """Note that a row came from elsewhere."""
    connection.execute(sa.insert(IMPORTED).values(kind=kind, row_id=row_id))


def trust_study(connection: sa.Connection, study_id: int) -> None:
    """Trust a study and all of its trials."""
    mine = sa.select(TRIALS.c.id).where(TRIALS.c.study_id == study_id)
    forget(connection, TRIAL, mine)
    forget(connection, STUDY, sa.select(sa.literal(study_id)))


def forget(connection: sa.Connection, kind: str, row_ids: sa.Select[Any]) -> None:
    """Take the notes of rows back: they are trusted now, or go."""
    connection.execute(sa.delete(IMPORTED).where((IMPORTED.c.kind == kind) & IMPORTED.c.row_id.in_(row_ids)))
