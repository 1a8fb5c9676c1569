"""The default sampler: `conditioned_tpe` per method, over all budgets and networks of the sweep at once."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.stats import qmc

from mcu.terms import TrialState
from orchestrator.samplers.base import Context, Past, Sampler, derive_seed
from orchestrator.samplers.observation import OBJECTIVES, Observation
from orchestrator.samplers.optuna import Space
from orchestrator.samplers.parzen import Axis, Floats, Trials, octaves_of, propose
from search_spaces.choices import Scalar

START = 10
"""Trials of a method that are spread evenly over the space before its model is asked (Latin hypercube)."""

ACCURACY = OBJECTIVES.index("val_accuracy")


class ConditionedSampler(Sampler):
    """A suggestion is a function of the sweep's seed, the trial, and the results so far; running trials count as bad.


    Stopped and failed trials count as bad, too; infeasible trials rank below all feasible ones.
    """

    def __init__(self, spaces: Mapping[str, Space], seed: int) -> None:
        self._seed = seed
        self._axes = {method: [Axis(name, space[name]) for name in sorted(space)] for method, space in spaces.items()}
        self._trials = {method: Trials(axes) for method, axes in self._axes.items()}
        self._groups: dict[tuple[str, str], int] = {}
        self._running: dict[tuple[str, int], int] = {}

    def suggest(self, method: str, index: int, context: Context) -> dict[str, Scalar]:
        """Quasi-random points at first, then the model's proposal for the context."""
        axes, trials = self._axes[method], self._trials[method]
        if not axes:
            return {}
        if trials.size < START:
            point = self._spread(axes)[index % START]
        else:
            generator = np.random.default_rng(derive_seed(self._seed, "tpe", method, index))
            point = propose(trials, octaves_of(context.budget), self._group("", context.network), generator)
        params = {axis.name: axis.decode(float(unit)) for axis, unit in zip(axes, point, strict=True)}
        self._running[method, index] = self._begin(method, params, context)
        return params

    def _spread(self, axes: list[Axis]) -> Floats:
        """The first points; methods that share a space share them."""
        cube = qmc.LatinHypercube(len(axes), rng=np.random.default_rng(derive_seed(self._seed, "spread"))).random(START)
        scale = np.array([axis.choices or 1 for axis in axes])
        return np.where(scale > 1, np.floor(cube * scale), cube)

    def _group(self, study: str, network: str) -> int:
        return self._groups.setdefault((study, network), len(self._groups))

    def _begin(self, method: str, params: Mapping[str, Scalar], context: Context, study: str = "") -> int:
        group = self._group(study, context.network)
        return self._trials[method].add(params, context.budget, group, math.nan)

    def learn(self, method: str, index: int, outcome: Observation) -> None:
        """Score the trial; trials that were not suggested are ignored."""
        row = self._running.pop((method, index), None)
        if row is not None:
            self._trials[method].scores[row] = score(outcome)

    def restore(self, past: Past) -> bool:
        """Add a trial unless it lies outside this sweep's search space; a missing result follows by ``learn``."""
        axes = self._axes.get(past.method, [])
        if not axes or not all(axis.name in past.params and axis.holds(past.params[axis.name]) for axis in axes):
            return False
        row = self._begin(past.method, past.params, past.context, past.study)
        if past.observation is not None:
            self._trials[past.method].scores[row] = score(past.observation)
        elif past.index is not None:
            self._running[past.method, past.index] = row
        return True


def score(outcome: Observation) -> float:
    """Validation accuracy; below 0 for models over a bound; -inf without a usable result."""
    if outcome.state != TrialState.COMPLETE or outcome.values is None:
        return -math.inf
    over = sum(max(0.0, value) for value in outcome.constraints.values())
    return -over if over > 0 else outcome.values[ACCURACY]
