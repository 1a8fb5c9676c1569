"""Training the best trials of a study again with other seeds: how much of their lead is chance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence

from mcu.errors import InputError
from orchestrator.planning.extension import repeated
from orchestrator.planning.plan import Plan
from orchestrator.queries.as_good import validations
from orchestrator.queries.repeats import repeats_of
from orchestrator.running.run import left_network, require_unchanged, stored_sweep
from orchestrator.spec import IMPORTED, NETWORK
from orchestrator.storage.artifacts import artifacts_of
from orchestrator.storage.frames import trials_frame
from orchestrator.storage.store import Store, StoredTrial, Study
from reports.trials import tidy
from reports.winners import winners


def plan_best_again(store: Store, study: Study, top: int, seeds: int, *, take_over: bool = False) -> tuple[Study, int]:
    """Extend a finished study by its best trials with other seeds; returns the study and how many trials it adds.

    At every budget the winner and its runners-up by validation, whatever budget each was run for, are trained again
    until each has been trained with ``seeds`` other seeds: same ancestor, same hyperparameters.

    Args:
        top: number of trials at each budget.
        seeds: for each of them.
        take_over: from the driver that runs the study, which stops at its next write.

    Raises:
        InputError: the study has unfinished trials, trials merged in from elsewhere, or no model; the network that a
            trial begins with is gone; the data or the user's code are others now; or another driver runs it.
    """
    sweep, stored = stored_sweep(study), store.trials(study)
    repeats = {number for later in repeats_of(study).values() for number in later}
    there = {trial.number for trial in stored if trial.result is not None} | repeats
    unfinished = study.planned_trials - len(there)
    if unfinished > 0:
        raise InputError(f"study {study.name!r}: {unfinished} trials have no result yet; run `mcusweep resume` first")
    if len(stored) > study.planned_trials:
        raise InputError(
            f"study {study.name!r} has trials merged in from elsewhere behind its plan: cannot be extended"
        )
    wanted = {number for numbers in _best_of_each_budget(store, study, repeats) for number in numbers[:top]}
    if not wanted:
        raise InputError(f"study {study.name!r}: no trial has a model that fits its budget")
    had = Counter(sweep.repeats)
    _check_ancestors(store, study, stored, wanted)
    missing = tuple(number for number in sorted(wanted) for _ in range(seeds - had[number]))
    if not missing:
        return study, 0
    require_unchanged(store, study)
    longer = repeated(sweep, missing)
    dump = json.loads(longer.canonical())
    del dump["workers"]
    with store.lock(study.name, take_over=take_over):
        return store.extend_study(study, dump, None, len(Plan(longer).trials), study.task), len(missing)


def _check_ancestors(store: Store, study: Study, stored: Sequence[StoredTrial], wanted: Collection[int]) -> None:
    """Refuse to train again what begins with, or learns from, a network that is not there."""
    results = {trial.spec.hash(): trial.result for trial in stored}
    is_left = left_network(artifacts_of(store), study)
    for trial in stored:
        needed = {trial.spec.ancestor, trial.spec.parent} - {None} if trial.number in wanted else set()
        for name in needed:
            result = results.get(str(name))
            if result is None or not is_left(result):
                noted = result.artifacts.get(NETWORK) if result else None
                why = "is missing or damaged; restore the file"
                if noted is not None and noted.path.startswith(f"{IMPORTED}/"):
                    why = "was imported; if you trust it give --trust"
                raise InputError(
                    f"trial {trial.number} of study {study.name!r} cannot be trained again: the network of its lineage "
                    f"in {str(name)[:12]}... {why}, or try a smaller --top"
                )


def _best_of_each_budget(store: Store, study: Study, repeats: Collection[int]) -> list[list[int]]:
    """Numbers of the trials of the search that fit each budget, the winner first."""
    frame = trials_frame(store, study, trajectories=False)
    frame = frame[~frame["number"].isin(repeats)]
    answers = validations(artifacts_of(store), dict(zip(frame["number"], frame["artifacts"], strict=True)))
    table = tidy(frame)
    numbers = table["number"].tolist()
    won = winners(table, runners_up=len(table), validation=answers)
    return [[numbers[row] for row in (winner.row, *winner.runners_up)] for winner in won if winner.row is not None]
