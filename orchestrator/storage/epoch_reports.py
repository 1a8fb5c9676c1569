"""Reports of running trials, for figures."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from orchestrator.storage.connection import transaction
from orchestrator.storage.schema import ATTEMPTS, EPOCH_REPORTS, TRIALS
from orchestrator.storage.store import Store, Study
from reports.columns import Part, names

Reports = list[tuple[int, float | None, float | None]]


def last_reports(store: Store, study: Study, number: int | None = None) -> dict[int, Reports]:
    """(step, epochs done, validation accuracy) of each report of a trial's last attempt, by trial number.

    Args:
        number: of one trial; None for all trials of the study.
    """
    last = (EPOCH_REPORTS.c.attempt_id == ATTEMPTS.c.id) & (ATTEMPTS.c.ordinal == TRIALS.c.attempts)
    mine = TRIALS.c.study_id == study.id
    if number is not None:
        mine = mine & (TRIALS.c.number == number)
    query = (
        sa.select(TRIALS.c.number, EPOCH_REPORTS.c.step, EPOCH_REPORTS.c.epochs_done, EPOCH_REPORTS.c.val_accuracy)
        .select_from(TRIALS.join(ATTEMPTS, ATTEMPTS.c.trial_id == TRIALS.c.id).join(EPOCH_REPORTS, last))
        .where(mine)
        .order_by(TRIALS.c.number, EPOCH_REPORTS.c.step)
    )
    found: dict[int, Reports] = {}
    with transaction(store.engine, store.url) as connection:
        for trial, *report in connection.execute(query):
            found.setdefault(trial, []).append((report[0], report[1], report[2]))
    return found


def open_attempts(store: Store, study: Study) -> list[dict[str, Any]]:
    """Attempts that have not ended, by trial number, each with data of its trial and last report."""
    last = (
        sa.select(EPOCH_REPORTS.c.attempt_id, sa.func.max(EPOCH_REPORTS.c.id).label("id"))
        .group_by(EPOCH_REPORTS.c.attempt_id)
        .subquery()
    )
    query = (
        sa.select(
            *(TRIALS.c[name] for name in ("number", "spec_json", *names(parts=(Part.ASKED,)))),
            *(
                ATTEMPTS.c.worker_host,
                ATTEMPTS.c.worker_pid,
                ATTEMPTS.c.lease,
                EPOCH_REPORTS.c.epochs_done,
                EPOCH_REPORTS.c.phase,
            ),
        )
        .select_from(
            ATTEMPTS.join(TRIALS, TRIALS.c.id == ATTEMPTS.c.trial_id)
            .outerjoin(last, last.c.attempt_id == ATTEMPTS.c.id)
            .outerjoin(EPOCH_REPORTS, EPOCH_REPORTS.c.id == last.c.id)
        )
        .where((TRIALS.c.study_id == study.id) & ATTEMPTS.c.ended_at.is_(None))
        .order_by(TRIALS.c.number)
    )
    with transaction(store.engine, store.url) as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
