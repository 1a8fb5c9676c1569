"""Choice of the next budget: at the largest gap or uncertainty of the current front. Pure functions; no optimiser.

The value of a budget is the possible increase of the hypervolume: the mean, over all budgets that are at least as
large, of the optimistic accuracy of a trial there minus that of the best model that fits already. The optimistic
accuracy is an upper confidence bound (mean plus two standard deviations) of a Gaussian process through the front, so
that budgets far from any model have a high value. The value is divided by the number of nearby trials, running ones
included: a gap that remains after many trials is likely real. Every second budget is the next point of a Sobol
sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mcu.budget import Budget
from reports.fronts import nondominated
from search_spaces.budgets import budget_at, sobol_points

Floats = NDArray[np.float64]

CANDIDATES = 256
FRONT = 200
"""Points of the front that the process is fitted to at most, evenly taken along it."""

LENGTH = 1.5
"""Octaves over which accuracies along the front resemble each other."""

NOISE = 0.01
"""Standard deviation of an accuracy on the front."""

DEVIATIONS = 2.0
"""How optimistic the planner is about budgets it knows little of."""

NEARBY = 0.5
"""Octaves within which a trial counts as spent at a budget."""


class AdaptiveBudgets:
    """Chooses budgets within ranges from what trials have found; notified of every budget in use and every model.

    Args:
        ranges: lowest and highest bound by resource.
        seed: of the scrambled Sobol points used as candidates.
        first: number of these points used before the first choice.
        bounded: whether accuracies go from 0 to 1; those of another scale, such as errors, are taken by how they lie
            between the lowest and the highest of the front.
    """

    def __init__(self, ranges: Mapping[str, tuple[int, int]], seed: int, first: int = 0, bounded: bool = True) -> None:
        self._first, self._bounded = first, bounded
        self._names = tuple(ranges)
        units = sobol_points(CANDIDATES, len(ranges), seed)
        self._budgets = tuple(dict.fromkeys(budget_at(ranges, unit) for unit in units))
        self._octaves = np.array([self._position(budget.bounds()) for budget in self._budgets])
        self._has_room = (self._octaves[None] >= self._octaves[:, None] - 1e-9).all(axis=2)
        self._visits = np.zeros(len(self._budgets))
        self._best = np.full(len(self._budgets), -np.inf)
        self._hopeless = np.zeros(len(self._budgets), dtype=bool)
        self._front = np.empty((0, len(ranges) + 1))

    def _position(self, resources: Mapping[str, float]) -> Floats:
        return np.array([math.log2(max(float(resources[name]), 1.0)) for name in self._names])

    def spend(self, budget: Budget) -> None:
        """Record that a trial has this budget."""
        apart = ((self._octaves - self._position(budget.bounds())) ** 2).sum(axis=1)
        self._visits += np.exp(-0.5 * apart / NEARBY**2)

    def found(self, used: Mapping[str, float], accuracy: float) -> None:
        """Record a feasible model by its measured resources and validation accuracy."""
        position = self._position(used)
        fits = (position <= self._octaves + 1e-9).all(axis=1)
        self._best[fits] = np.maximum(self._best[fits], accuracy)
        front = np.vstack([self._front, [*position, accuracy]])
        self._front = front[nondominated(front, [False] * len(self._names) + [True])]

    def unreachable(self, budget: Budget) -> None:
        """Record that a network cannot meet this budget, nor any smaller one."""
        self._hopeless |= (self._octaves <= self._position(budget.bounds()) + 1e-9).all(axis=1)

    def next(self, turn: int) -> Budget:
        """The budget of the next trial, a deterministic function of the recorded results.

        Args:
            turn: number of previous budgets. Every second one follows the Sobol sequence regardless of results: an
                apparent gap may be the limit of the network, and a front has steps everywhere.
        """
        if turn % 2:
            return self._budgets[(turn + self._first) // 2 % len(self._budgets)]
        missing = np.maximum(0.0, self._promise()[:, None] - self._shares(self._best)[None]) * self._has_room
        values = missing.mean(axis=1) / (1.0 + self._visits)
        return self._budgets[int(np.argmax(np.where(self._hopeless, -1.0, values)))]

    def _shares(self, accuracies: Floats) -> Floats:
        """Accuracies from 0, also that of no model, to 1; those of another scale with the front in the middle third."""
        if self._bounded or not len(self._front):
            return np.maximum(accuracies, 0.0)
        low, high = self._front[:, -1].min(), self._front[:, -1].max()
        span = float(high - low) or 1.0
        return np.clip((accuracies - low + span) / (3 * span), 0.0, 1.0)

    def _promise(self) -> Floats:
        """The accuracy that a trial at each candidate might reach."""
        if not len(self._front):
            return np.ones(len(self._budgets))
        some = np.unique(np.linspace(0, len(self._front) - 1, min(len(self._front), FRONT)).round().astype(int))
        values = self._shares(self._front[some, -1])
        mean, deviation = _process(self._front[some, :-1], values, self._octaves)
        promise: Floats = np.minimum(1.0, mean + DEVIATIONS * deviation)
        return promise


def _process(points: Floats, values: Floats, wanted: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a Gaussian process with a squared exponential kernel (Rasmussen 2006, 2.25)."""
    spread = max(float(values.std()), 2 * NOISE)

    def kernel(left: Floats, right: Floats) -> Floats:
        apart = ((left[:, None] - right[None]) ** 2).sum(axis=2)
        return spread**2 * np.exp(-0.5 * apart / LENGTH**2)

    covariance = kernel(points, points) + NOISE**2 * np.eye(len(points))
    across = kernel(wanted, points)
    weights = np.linalg.solve(covariance, np.column_stack([values - values.mean(), across.T]))
    mean = values.mean() + across @ weights[:, 0]
    variance = spread**2 - (across * weights[:, 1:].T).sum(axis=1)
    return mean, np.sqrt(np.maximum(variance, 0.0))
