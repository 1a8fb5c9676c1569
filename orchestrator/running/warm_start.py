"""Initialisation of a sampler from the database: trials of its own study and of earlier ones."""

from __future__ import annotations

from collections.abc import Mapping

from mcu.terms import TrialState
from orchestrator.samplers.base import Context, Past, Sampler
from orchestrator.samplers.observation import observe
from orchestrator.samplers.optuna import Space
from orchestrator.samplers.registry import make_sampler
from orchestrator.storage.store import Store, StoredTrial, Study
from search_spaces.choices import TaskChoice, TrainingChoice
from search_spaces.sweep import SweepConfig


def sampler_for(store: Store, study: Study, sweep: SweepConfig, spaces: Mapping[str, Space]) -> Sampler:
    """The sampler of the sweep file, with results of earlier studies if warm start is on."""
    sampler = make_sampler(sweep.sampler.name, spaces, sweep.sweep.seed)
    if sweep.sampler.warm_start:
        warm_start(sampler, store, study)
    return sampler


def past_of(trial: StoredTrial, index: int | None, study: str = "") -> Past:
    """A stored trial in the form that samplers learn from."""
    budget = trial.spec.budget
    observation = None if trial.result is None else observe(trial.result, budget, trial.spec.runtime)
    context = Context(budget, trial.spec.network.name)
    return Past(trial.spec.method, trial.spec.hyperparameters, context, observation, index, study)


def warm_start(sampler: Sampler, store: Store, study: Study) -> int:
    """Give a sampler the complete trials of older studies on the same task; returns how many it used.

    Newer studies are ignored, so that a resumed study has the same warm start, as long as older ones are finished.
    Trials with hyperparameters outside this sweep's ranges are ignored, and so are trials with another number of
    epochs, or with a lineage if this sweep has none, because their best hyperparameters differ.
    """
    task, epochs = _task_and_epochs(study)
    taken = 0
    for earlier in store.studies():
        if earlier.id >= study.id or earlier.simulated != study.simulated:
            continue
        if _task_and_epochs(earlier) != (task, epochs):
            continue
        if earlier.sweep.get("lineage") != study.sweep.get("lineage"):
            continue
        for trial in store.trials(earlier):
            if trial.state is TrialState.COMPLETE:
                taken += sampler.restore(past_of(trial, None, earlier.name))
    return taken


def _task_and_epochs(study: Study) -> tuple[TaskChoice, int]:
    training = TrainingChoice.model_validate(study.sweep.get("training", {}))
    return TaskChoice.model_validate(study.sweep["task"]), training.epochs
