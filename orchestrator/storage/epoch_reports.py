"""What running trials reported on the way, as far as figures need it."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.storage.connection import transaction
from orchestrator.storage.schema import ATTEMPTS, RUNGS, TRIALS
from orchestrator.storage.store import Store, Study

Reports = list[tuple[int, float | None, float | None]]


def last_rungs(store: Store, study: Study, number: int | None = None) -> dict[int, Reports]:
    """(step, epochs done, validation accuracy) of each report of a trial's last attempt, by trial number.

    Args:
        number: of the one trial wanted; None for all of the study.
    """
    last = (RUNGS.c.attempt_id == ATTEMPTS.c.id) & (ATTEMPTS.c.ordinal == TRIALS.c.attempts)
    mine = TRIALS.c.study_id == study.id
    if number is not None:
        mine = mine & (TRIALS.c.number == number)
    query = (
        sa.select(TRIALS.c.number, RUNGS.c.step, RUNGS.c.epochs_done, RUNGS.c.val_accuracy)
        .select_from(TRIALS.join(ATTEMPTS, ATTEMPTS.c.trial_id == TRIALS.c.id).join(RUNGS, last))
        .where(mine)
        .order_by(TRIALS.c.number, RUNGS.c.step)
    )
    found: dict[int, Reports] = {}
    with transaction(store.engine, store.url) as connection:
        for trial, *report in connection.execute(query):
            found.setdefault(trial, []).append((report[0], report[1], report[2]))
    return found
