"""Retry of the failed trials of a study."""

from __future__ import annotations

from orchestrator.planning.plan import Plan
from orchestrator.queries.query import Query, run_query
from orchestrator.running.run import require_unchanged, stored_sweep
from orchestrator.storage.store import Store, Study


def plan_failed_again(store: Store, study: Study, where: str = "", *, take_over: bool = False) -> int:
    """Plan the failed trials of a study again, or those that pass a filter; returns how many.

    Raises:
        InputError: the filter does not parse; the data or the user's code are others now; or another driver runs the
            study.
    """
    wanted = f"state = 'failed' and ({where})" if where else "state = 'failed'"
    rows = run_query(store, Query((study.name,), wanted, columns=("number",))).rows
    numbers = [row["number"] for row in rows if row["number"] < len(Plan(stored_sweep(study)).trials)]
    if numbers:
        require_unchanged(store, study)
    with store.lock(study.name, take_over=take_over):
        return store.plan_again(study, numbers)
