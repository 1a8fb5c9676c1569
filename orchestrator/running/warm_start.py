"""What earlier studies of the same database know about a sweep's hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.samplers.base import Context, Sampler
from orchestrator.samplers.budget_tpe import ConditionedSampler
from orchestrator.samplers.observation import observe
from orchestrator.samplers.optuna import Space
from orchestrator.samplers.registry import make_sampler
from orchestrator.spec import TrialState
from orchestrator.storage.store import Store, Study
from search_spaces.choices import TaskChoice
from search_spaces.sweep import SweepConfig


def sampler_for(store: Store, study: Study, sweep: SweepConfig, spaces: Mapping[str, Space]) -> Sampler:
    """The sampler the sweep file names, with what earlier studies found where it asks for that."""
    sampler = make_sampler(sweep.sampler.name, spaces, sweep.sweep.seed)
    if sweep.sampler.warm_start and isinstance(sampler, ConditionedSampler):
        warm_start(sampler, store, study)
    return sampler


def warm_start(sampler: ConditionedSampler, store: Store, study: Study) -> int:
    """Give a sampler the complete trials of studies that are older and on the same task; returns how many it took.

    Younger studies are left out, so that a study that is resumed begins with what it began with, as long as older ones
    are finished. Trials whose hyperparameters lie outside this sweep's ranges are left out, and so are those trained
    for another number of epochs, whose best hyperparameters are others.
    """
    task = TaskChoice.model_validate(study.sweep["task"])
    epochs = study.sweep["training"]["epochs"]
    taken = 0
    for earlier in store.studies():
        if earlier.id >= study.id or earlier.simulated != study.simulated:
            continue
        if TaskChoice.model_validate(earlier.sweep["task"]) != task or earlier.sweep["training"]["epochs"] != epochs:
            continue
        for trial in store.trials(earlier):
            if trial.state is not TrialState.COMPLETE or trial.result is None:
                continue
            budget = trial.spec.budget
            context = Context(budget, trial.spec.network.name)
            outcome = observe(trial.result, budget)
            method, params = trial.spec.method, trial.spec.hyperparameters
            taken += sampler.warm_start(method, earlier.name, params, context, outcome)
    return taken
