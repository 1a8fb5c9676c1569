"""Optuna's learning samplers by name: one model per method, seeded per trial, blind to budgets."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from orchestrator.samplers.base import Context, Record, Sampler, Suggestion, derive_seed
from orchestrator.samplers.observation import DIRECTIONS, Observation

Space = Mapping[str, BaseDistribution]


def quiet_study(sampler: BaseSampler) -> optuna.Study:
    """A study in memory with our objectives."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=list(DIRECTIONS), sampler=sampler)


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed, multivariate=True)


def _nsga2(seed: int) -> BaseSampler:
    return NSGAIISampler(seed=seed)


def _nsga3(seed: int) -> BaseSampler:
    return NSGAIIISampler(seed=seed)


MODELS = {"optuna-tpe": _tpe, "nsga2": _nsga2, "nsga3": _nsga3}


class ModelSampler(Sampler):
    """Optuna's learning samplers, over an in-memory study per method (the database keeps its own record).

    Each ask gets a fresh sampler seeded by the trial, so a suggestion is a function of the results so far.
    """

    def __init__(self, name: str, spaces: Mapping[str, Space], seed: int) -> None:
        self._make, self._spaces, self._seed = MODELS[name], spaces, seed
        self._studies = {method: quiet_study(RandomSampler(seed=0)) for method in spaces}
        self._trials: dict[tuple[str, int], int] = {}

    def suggest(self, method: str, index: int, context: Context) -> Suggestion:
        """Ask the model of the method."""
        space = dict(self._spaces[method])
        if not space:
            return Suggestion({})
        study = self._studies[method]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.sampler = self._make(derive_seed(self._seed, method, index))
            trial = study.ask(space)
        self._trials[method, index] = trial.number
        memory = study._storage.get_trial_system_attrs(trial._trial_id)
        return Suggestion(trial.params, dict(memory))

    def learn(self, method: str, index: int, outcome: Observation) -> None:
        """Tell the model of the method; trials it did not suggest are ignored."""
        number = self._trials.pop((method, index), None)
        if number is not None:
            study = self._studies[method]
            trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
            write_observation(study._storage, trial_id, outcome)

    def restore(self, record: Record) -> None:
        """Add a trial of the database's record; one still running is told later."""
        if not self._spaces[record.method]:
            return
        study = self._studies[record.method]
        if record.trial.state.is_finished():
            study.add_trial(record.trial)
            return
        trial_id = study._storage.create_new_trial(study._study_id, template_trial=record.trial)
        self._trials[record.method, record.index] = study._storage.get_trial_number_from_id(trial_id)


STATES = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}


def write_observation(storage: BaseStorage, trial_id: int, outcome: Observation) -> None:
    """Finish a trial of an Optuna storage: its constraints first, where `optuna.Trial.constraints` reads them."""
    for name, value in outcome.constraints.items():
        storage.set_trial_system_attr(trial_id, f"constraints:{name}", value)
    storage.set_trial_state_values(trial_id, STATES[outcome.state], outcome.values)
