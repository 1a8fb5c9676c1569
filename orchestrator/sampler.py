"""Choosing hyperparameters: Optuna's samplers by name, one model per method, seeded per trial.

Budgets are not chosen here: they are planned beforehand and stay a context. With ``random``, ``qmc`` and ``grid``
the hyperparameters of trial k of a method depend on the sweep's seed and k alone, so the same sweep gives the same
trials on any number of workers, interrupted or not; ``tpe``, ``nsga2`` and ``nsga3`` also depend on which results
were there when the trial was asked for.
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from mcu.errors import InputError
from orchestrator.outcome import DIRECTIONS, Outcome
from orchestrator.spec import canonical_json
from search_spaces.choices import Scalar

SAMPLERS = ("tpe", "nsga2", "nsga3", "qmc", "random", "grid")
GRID_POINTS = 5  # on an axis of a grid that has no step of its own

Space = Mapping[str, BaseDistribution]


def derive_seed(*parts: int | str) -> int:
    """A seed in 0..2**31-1 that depends on the parts and on nothing else."""
    digest = hashlib.sha256(canonical_json(list(parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@dataclass(frozen=True)
class Suggestion:
    """Hyperparameters for a trial, and what the sampler wants to remember of it (kept with Optuna's record)."""

    params: dict[str, Scalar]
    memory: dict[str, Any] = field(default_factory=dict)


class Sampler(ABC):
    """Suggests hyperparameters for the k-th trial of a method and learns from results."""

    @abstractmethod
    def suggest(self, method: str, index: int, variant: int = 0) -> Suggestion:
        """Hyperparameters of trial ``index`` of a method; ``variant`` counts the budgets that share a grid point."""

    @abstractmethod
    def learn(self, method: str, index: int, outcome: Outcome) -> None:
        """Take in how a suggested trial ended."""

    @abstractmethod
    def restore(self, method: str, index: int, record: FrozenTrial) -> None:
        """Take in a trial of an earlier run, finished or not."""


def make_sampler(name: str, spaces: Mapping[str, Space], seed: int) -> Sampler:
    """The sampler of that name over one space per method.

    Raises:
        InputError: for an unknown name.
    """
    if name in ("random", "qmc"):
        return SequenceSampler(name, spaces, seed)
    if name == "grid":
        return GridSampler(spaces)
    if name in _MODELS:
        return ModelSampler(name, spaces, seed)
    raise InputError(f"[sampler] name = {name!r}: unknown; allowed: {', '.join(SAMPLERS)}")


def _quiet_study(sampler: BaseSampler) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=list(DIRECTIONS), sampler=sampler)


class SequenceSampler(Sampler):
    """Random or scrambled Sobol points: trial k gets point k, whatever the results."""

    def __init__(self, name: str, spaces: Mapping[str, Space], seed: int) -> None:
        self._name, self._spaces, self._seed = name, spaces, seed
        self._sobol: dict[str, tuple[optuna.Study, list[dict[str, Scalar]]]] = {}

    def suggest(self, method: str, index: int, variant: int = 0) -> Suggestion:
        """Point ``index`` of the sequence; methods that share a space share the points."""
        space = dict(self._spaces[method])
        if not space:
            return Suggestion({})
        if self._name == "random":
            study = _quiet_study(RandomSampler(seed=derive_seed(self._seed, "random", index)))
            return Suggestion(study.ask(space).params)
        return Suggestion(self._sobol_point(method, space, index))

    def _sobol_point(self, method: str, space: dict[str, BaseDistribution], index: int) -> dict[str, Scalar]:
        if method not in self._sobol:
            sampler = QMCSampler(qmc_type="sobol", scramble=True, seed=derive_seed(self._seed, "qmc"))
            study = _quiet_study(sampler)
            study.tell(study.ask(space), state=TrialState.PRUNED)  # only teaches the sampler the space
            self._sobol[method] = (study, [])
        study, points = self._sobol[method]
        while len(points) <= index:
            trial = study.ask(space)
            points.append(trial.params)
            study.tell(trial, state=TrialState.PRUNED)
        return points[index]

    def learn(self, method: str, index: int, outcome: Outcome) -> None:
        """Nothing to learn."""

    def restore(self, method: str, index: int, record: FrozenTrial) -> None:
        """Nothing to restore."""


class GridSampler(Sampler):
    """All combinations in order, then from the start; each budget sees every combination."""

    def __init__(self, spaces: Mapping[str, Space]) -> None:
        self._grids = {
            method: [
                dict(zip(space, point, strict=True)) for point in itertools.product(*map(axis_values, space.values()))
            ]
            for method, space in spaces.items()
        }

    def suggest(self, method: str, index: int, variant: int = 0) -> Suggestion:
        """Combination ``index // variants``; see `Sampler`."""
        grid = self._grids[method]
        return Suggestion(dict(grid[index // max(1, variant) % len(grid)]))

    def learn(self, method: str, index: int, outcome: Outcome) -> None:
        """Nothing to learn."""

    def restore(self, method: str, index: int, record: FrozenTrial) -> None:
        """Nothing to restore."""


def axis_values(distribution: BaseDistribution) -> list[Scalar]:
    """The points of one grid axis: all choices, all steps, or `GRID_POINTS` evenly (or log-evenly) spaced."""
    if isinstance(distribution, CategoricalDistribution):
        return [choice for choice in distribution.choices if choice is not None]
    if isinstance(distribution, IntDistribution):
        steps = (distribution.high - distribution.low) // distribution.step
        if not distribution.log and steps < 2 * GRID_POINTS:
            return list(range(distribution.low, distribution.high + 1, distribution.step))
        return sorted({round(value) for value in _spaced(distribution.low, distribution.high, distribution.log)})
    assert isinstance(distribution, FloatDistribution)
    if distribution.step is not None:
        steps = round((distribution.high - distribution.low) / distribution.step)
        return [distribution.low + k * distribution.step for k in range(steps + 1)]
    return list(_spaced(distribution.low, distribution.high, distribution.log))


def _spaced(low: float, high: float, log: bool) -> list[float]:
    shares = [k / (GRID_POINTS - 1) for k in range(GRID_POINTS)]
    if log:
        return [float(low * (high / low) ** share) for share in shares]
    return [low + (high - low) * share for share in shares]


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed, multivariate=True)


def _nsga2(seed: int) -> BaseSampler:
    return NSGAIISampler(seed=seed)


def _nsga3(seed: int) -> BaseSampler:
    return NSGAIIISampler(seed=seed)


_MODELS = {"tpe": _tpe, "nsga2": _nsga2, "nsga3": _nsga3}


class ModelSampler(Sampler):
    """Optuna's learning samplers, over an in-memory study per method (the database keeps its own record).

    Each ask gets a fresh sampler seeded by the trial, so a suggestion is a function of the results so far.
    """

    def __init__(self, name: str, spaces: Mapping[str, Space], seed: int) -> None:
        self._make, self._spaces, self._seed = _MODELS[name], spaces, seed
        self._studies = {method: _quiet_study(RandomSampler(seed=0)) for method in spaces}
        self._trials: dict[tuple[str, int], int] = {}

    def suggest(self, method: str, index: int, variant: int = 0) -> Suggestion:
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

    def learn(self, method: str, index: int, outcome: Outcome) -> None:
        """Tell the model of the method; trials it did not suggest are ignored."""
        number = self._trials.pop((method, index), None)
        if number is not None:
            study = self._studies[method]
            trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
            write_outcome(study._storage, trial_id, outcome)

    def restore(self, method: str, index: int, record: FrozenTrial) -> None:
        """Add a trial of the database's record; one still running is told later."""
        if not self._spaces[method]:
            return
        study = self._studies[method]
        if record.state.is_finished():
            study.add_trial(record)
            return
        trial_id = study._storage.create_new_trial(study._study_id, template_trial=record)
        self._trials[method, index] = study._storage.get_trial_number_from_id(trial_id)


STATES = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}


def write_outcome(storage: BaseStorage, trial_id: int, outcome: Outcome) -> None:
    """Finish a trial of an Optuna storage: its constraints first, where `optuna.Trial.constraints` reads them."""
    for name, value in outcome.constraints.items():
        storage.set_trial_system_attr(trial_id, f"constraints:{name}", value)
    storage.set_trial_state_values(trial_id, STATES[outcome.state], outcome.values)


def replay(sampler: Sampler, records: Iterable[tuple[str, int, FrozenTrial]]) -> None:
    """Give a new sampler the trials of an earlier run, in their order."""
    for method, index, record in records:
        sampler.restore(method, index, record)
