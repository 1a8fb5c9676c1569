"""Optuna's samplers by name: one model per method, seeded per trial, without knowledge of budgets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler, BaseSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from orchestrator.samplers.base import Context, Past, Sampler, derive_seed
from orchestrator.samplers.observation import DIRECTIONS, Observation
from search_spaces.choices import Scalar
from search_spaces.terms import SamplerName

Space = Mapping[str, BaseDistribution]


def quiet_study(sampler: BaseSampler) -> optuna.Study:
    """An in-memory Optuna study with our objectives."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=list(DIRECTIONS), sampler=sampler)


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed, multivariate=True)


def _nsga2(seed: int) -> BaseSampler:
    return NSGAIISampler(seed=seed)


def _nsga3(seed: int) -> BaseSampler:
    return NSGAIIISampler(seed=seed)


MODELS: Mapping[str, Callable[[int], BaseSampler]] = {
    SamplerName.OPTUNA_TPE: _tpe,
    SamplerName.NSGA2: _nsga2,
    SamplerName.NSGA3: _nsga3,
}


class ModelSampler(Sampler):
    """Optuna's samplers on an in-memory study per method, filled from the database.

    Each suggestion uses a new sampler seeded by the trial, so it is a function of the results so far.
    """

    def __init__(self, name: str, spaces: Mapping[str, Space], seed: int) -> None:
        self._make, self._spaces, self._seed = MODELS[name], spaces, seed
        self._studies = {method: quiet_study(RandomSampler(seed=0)) for method in spaces}
        self._running: dict[tuple[str, int], optuna.Trial] = {}

    def suggest(self, method: str, index: int, context: Context) -> dict[str, Scalar]:
        """Sample from the model of the method."""
        if not self._spaces[method]:
            return {}
        trial = self._ask(method, self._make(derive_seed(self._seed, method, index)))
        self._running[method, index] = trial
        return trial.params

    def _ask(self, method: str, sampler: BaseSampler) -> optuna.Trial:
        study = self._studies[method]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.sampler = sampler
            return study.ask(dict(self._spaces[method]))

    def learn(self, method: str, index: int, observation: Observation) -> None:
        """Update the model of the method."""
        trial = self._running.pop((method, index), None)
        if trial is None:
            return
        for name, value in observation.constraints.items():
            trial.set_constraint(name, value)
        self._studies[method].tell(trial, observation.values, STATES[observation.state])

    def restore(self, past: Past) -> bool:
        """Add the trial's point, as the next one of the generation for samplers with generations."""
        space = self._spaces.get(past.method)
        if not space or past.index is None:
            return False
        self._studies[past.method].enqueue_trial({name: past.params[name] for name in space})
        model = self._make(self._seed)
        trial = self._ask(past.method, model if isinstance(model, BaseGASampler) else RandomSampler(self._seed))
        self._running[past.method, past.index] = trial
        if past.observation is not None:
            self.learn(past.method, past.index, past.observation)
        return True


STATES = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
