"""Non-adaptive samplers, which depend on the sweep's seed and the trial alone: random, Sobol, grid.

A sweep has the same trials with any number of workers and after interruptions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import QMCSampler, RandomSampler
from optuna.trial import TrialState

from orchestrator.samplers.base import Context, Sampler, derive_seed
from orchestrator.samplers.optuna import Space, quiet_study
from search_spaces.choices import Scalar

GRID_POINTS = 5  # on an axis of a grid that has no step of its own


class SequenceSampler(Sampler):
    """Random points, or scrambled Sobol points, with a separate sequence for every cell of the plan.

    A single Sobol sequence over all trials would be correlated with the round-robin of budgets: each of eight budgets
    would see one eighth of every range.
    """

    def __init__(self, name: str, spaces: Mapping[str, Space], seed: int) -> None:
        self._name, self._spaces, self._seed = name, spaces, seed
        self._sobol: dict[tuple[str, int], tuple[optuna.Study, list[dict[str, Scalar]]]] = {}

    def suggest(self, method: str, index: int, context: Context) -> dict[str, Scalar]:
        """Point of the sequence; methods that share a space share the points."""
        if not self._spaces[method]:
            return {}
        if self._name == "random":
            study = quiet_study(RandomSampler(seed=derive_seed(self._seed, "random", index)))
            return study.ask(dict(self._spaces[method])).params
        return self._sobol_point(method, index % context.cells, index // context.cells)

    def _sobol_point(self, method: str, cell: int, number: int) -> dict[str, Scalar]:
        space = dict(self._spaces[method])
        if (method, cell) not in self._sobol:
            sampler = QMCSampler(qmc_type="sobol", scramble=True, seed=derive_seed(self._seed, "qmc", cell))
            study = quiet_study(sampler)
            study.tell(study.ask(space), state=TrialState.PRUNED)  # only teaches the sampler the space
            self._sobol[method, cell] = (study, [])
        study, points = self._sobol[method, cell]
        while len(points) <= number:
            trial = study.ask(space)
            points.append(trial.params)
            study.tell(trial, state=TrialState.PRUNED)
        return points[number]


class GridSampler(Sampler):
    """All combinations in order, then from the start; each budget sees every combination, with every seed.

    Seeds alternate, too. If both cycles would coincide, every round starts one combination later.
    """

    def __init__(self, spaces: Mapping[str, Space]) -> None:
        self._grids = {
            method: [
                dict(zip(space, point, strict=True)) for point in itertools.product(*map(axis_values, space.values()))
            ]
            for method, space in spaces.items()
        }

    def suggest(self, method: str, index: int, context: Context) -> dict[str, Scalar]:
        """Combination ``index // cells``, shifted by one per round of seeds if the cycles coincide; see `Sampler`."""
        grid, turn = self._grids[method], index // context.cells
        in_step = math.gcd(context.seeds, len(grid)) > 1
        later = turn // math.lcm(context.seeds, len(grid)) if in_step else 0
        return dict(grid[(turn + later) % len(grid)])


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
