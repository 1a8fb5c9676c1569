"""A tree-structured Parzen estimator over hyperparameters, conditioned on the budget.

TPE (Bergstra et al., NeurIPS 2011) in its multivariate form (Falkner et al., BOHB, ICML 2018): candidates are drawn
from a density of good trials and the one with the largest ratio to the density of the others is chosen. Here every
trial is weighted by the distance of its budget, in octaves, so that neighbouring budgets inform each other and distant
budgets may have other optima. A library's sampler with the budget as a fixed parameter drops it from the model, and
with it every interaction of budget and hyperparameters. Pure numpy; a suggestion costs the same after 1,000 trials and
after 100,000, as only the nearest trials are used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.special import ndtr, ndtri

from mcu.budget import RESOURCES, Budget
from search_spaces.choices import Scalar

Floats = NDArray[np.float64]

NEAREST = 1000
"""Trials a density is built from at most: those with the nearest budgets."""

GOOD_SHARE = 0.2
"""Part of the (weighted) neighbouring trials that count as good."""

CANDIDATES = 48
OCTAVES = 1.5
"""Distance of budgets, at twenty trials, at which what was learned counts about 0.6."""

MISSING_BOUND = 1.0
"""How far apart, in octaves, two budgets count on an axis where only one has a bound."""

OTHER_GROUP = 1.5
"""Likewise trials of another network, or of an earlier study."""

RIDGE = 0.1
"""Shrinks the trend over budgets while there are few trials."""

SMALLEST_WIDTH = 0.04
"""Kernels are no narrower than this part of a range: accuracies of short trials are noisy."""


def octaves_of(budget: Budget) -> list[float]:
    """Logarithms to base 2 of the bounds in the order of `RESOURCES`; NaN for none."""
    bounds = budget.bounds()
    return [math.log2(bounds[name]) if name in bounds else math.nan for name in RESOURCES]


@dataclass(frozen=True)
class Axis:
    """One hyperparameter on the unit interval; a categorical one by the index of its choice."""

    name: str
    distribution: BaseDistribution

    @property
    def choices(self) -> int:
        """How many values a categorical hyperparameter has; 0 for numbers."""
        return len(self.distribution.choices) if isinstance(self.distribution, CategoricalDistribution) else 0

    def holds(self, value: Scalar) -> bool:
        """Whether a value of another sweep is valid on this axis."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return value in distribution.choices
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        return isinstance(value, int | float) and distribution.low <= value <= distribution.high

    def encode(self, value: Scalar) -> float:
        """0..1, or the index of the choice."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return float(distribution.to_internal_repr(value))
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high, number = float(distribution.low), float(distribution.high), float(value)
        if high <= low:
            return 0.5
        if distribution.log:
            low, high, number = math.log(low), math.log(high), math.log(max(number, 1e-300))
        return min(1.0, max(0.0, (number - low) / (high - low)))

    def decode(self, unit: float) -> Scalar:
        """The value at ``unit``, rounded to the axis' step, if any."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            choice: Scalar = distribution.choices[int(unit)]  # type: ignore[assignment]
            return choice
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high = float(distribution.low), float(distribution.high)
        value = low * (high / low) ** unit if distribution.log else low + unit * (high - low)
        if distribution.step is not None and not distribution.log:
            value = low + round((value - low) / distribution.step) * distribution.step
        value = min(high, max(low, value))
        return round(value) if isinstance(distribution, IntDistribution) else value


@dataclass(frozen=True)
class Density:
    """A mixture of product kernels at past trials, and a uniform one as the prior.

    Attributes:
        points: ``(n, d)`` from `Axis.encode`.
        weights: ``(n + 1)``, the prior's last; they sum to 1.
        widths: ``(d,)`` of the Gaussian kernels; for a categorical axis the probability of another choice.
    """

    axes: Sequence[Axis]
    points: Floats
    weights: Floats
    widths: Floats

    @classmethod
    def of(cls, axes: Sequence[Axis], points: Floats, weights: Floats) -> Density:
        """Kernel widths by Scott's rule with the effective number of trials."""
        total = float(weights.sum())
        size = total**2 / float((weights**2).sum()) if total > 0 else 0.0
        shrink = (1.0 + size) ** (-1.0 / (len(axes) + 4))
        widths = np.full(len(axes), shrink)
        for at, axis in enumerate(axes):
            if axis.choices:
                widths[at] = 1.0 / (2.0 + size)
            elif size > 1:
                mean = weights @ points[:, at] / total
                spread = math.sqrt(float(weights @ (points[:, at] - mean) ** 2) / total)
                widths[at] = max(SMALLEST_WIDTH, shrink * max(spread, 0.5 * SMALLEST_WIDTH))
            else:
                widths[at] = 0.3
        prior = 1.0 / (1.0 + size)
        mixed = np.append(weights / total * (1 - prior), prior) if total > 0 else np.ones(1)
        return cls(axes, points if total > 0 else points[:0], mixed, widths)

    def sample(self, count: int, generator: np.random.Generator) -> Floats:
        """``(count, d)`` points drawn from the mixture."""
        kernel = generator.choice(len(self.weights), size=count, p=self.weights)
        uniform = generator.random((count, len(self.axes)))
        prior = kernel == len(self.points)
        drawn = np.empty_like(uniform)
        for at, axis in enumerate(self.axes):
            share = uniform[:, at]
            if axis.choices:
                other = np.minimum((share / max(self.widths[at], 1e-9) * axis.choices).astype(int), axis.choices - 1)
                anywhere = np.minimum((share * axis.choices).astype(int), axis.choices - 1)
                at_kernel = self._centres(kernel, at, 0.0)
                drawn[:, at] = np.where(prior, anywhere, np.where(share < self.widths[at], other, at_kernel))
                continue
            centre, width = self._centres(kernel, at, 0.5), self.widths[at]
            low, high = ndtr((0 - centre) / width), ndtr((1 - centre) / width)
            drawn[:, at] = np.where(prior, share, centre + width * ndtri(low + share * (high - low)))
        return np.clip(drawn, 0.0, [max(axis.choices - 1, 1) for axis in self.axes])

    def _centres(self, kernel: NDArray[np.int64], at: int, otherwise: float) -> Floats:
        return np.append(self.points[:, at], otherwise)[kernel]

    def log(self, wanted: Floats) -> Floats:
        """Logarithm of the density at ``(m, d)`` points, up to a constant that all densities of the axes share."""
        total = np.zeros((len(wanted), len(self.points)))
        for at, axis in enumerate(self.axes):
            width, centre = self.widths[at], self.points[:, at]
            if axis.choices:
                same = wanted[:, at, None] == centre[None]
                total += np.log(np.where(same, 1 - width, 0.0) * axis.choices + width)
                continue
            mass = width * math.sqrt(2 * math.pi) * (ndtr((1 - centre) / width) - ndtr((0 - centre) / width))
            total += -0.5 * ((wanted[:, at, None] - centre[None]) / width) ** 2 - np.log(mass)
        kernels = np.exp(np.clip(total, -300, 300)) @ self.weights[:-1] if len(self.points) else 0.0
        return np.log(np.maximum(kernels + self.weights[-1], 1e-300))


@dataclass
class Trials:
    """Data of the trials of one method, in growing columns.

    Attributes:
        groups: index of the study and network of a trial; accuracies are compared within groups only.
        scores: NaN while a trial runs, -inf without a usable result.
    """

    axes: Sequence[Axis]
    points: Floats = field(init=False)
    octaves: Floats = field(init=False)
    groups: NDArray[np.int64] = field(init=False)
    scores: Floats = field(init=False)
    size: int = 0

    def __post_init__(self) -> None:
        self.points, self.octaves = np.empty((64, len(self.axes))), np.empty((64, len(RESOURCES)))
        self.groups, self.scores = np.empty(64, dtype=np.int64), np.empty(64)

    def add(self, params: Mapping[str, Scalar], budget: Budget, group: int, score: float) -> int:
        """Add a trial; its row."""
        if self.size == len(self.scores):
            for name in ("points", "octaves", "groups", "scores"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.empty_like(column)]))
        row, self.size = self.size, self.size + 1
        self.points[row] = [axis.encode(params[axis.name]) for axis in self.axes]
        self.octaves[row], self.groups[row], self.scores[row] = octaves_of(budget), group, score
        return row

    def weights(self, octaves: Sequence[float], group: int) -> Floats:
        """Weight of each trial at a budget: a Gaussian of the distance in octaves, narrower with more trials."""
        wanted, there = np.asarray(octaves), self.octaves[: self.size]
        only_one = np.isnan(there) != np.isnan(wanted)
        squared = (np.where(only_one, MISSING_BOUND, np.nan_to_num(there - wanted)) ** 2).sum(axis=1)
        squared += OTHER_GROUP**2 * (self.groups[: self.size] != group)
        bounds = max(1, int(np.isfinite(wanted).sum()))
        reach = OCTAVES * (max(self.size, 1) / 20) ** (-1 / (bounds + 4))
        weights: Floats = np.exp(-0.5 * squared / reach**2)
        return weights


def quality(scores: Floats, octaves: Floats, weights: Floats) -> Floats:
    """Budget-corrected ranks of one group: ranks of the scores minus their trend over budgets.

    A larger budget improves almost any hyperparameters, so raw accuracies would only select large budgets. The trend is
    linear in octaves, by weighted ridge regression. Trials without a result (-inf) rank last.
    """
    found = np.full(len(scores), -np.inf)
    known = np.isfinite(scores)
    if not known.any():
        return found
    ranks = scores[known].argsort(kind="stable").argsort(kind="stable") / max(1, int(known.sum()) - 1)
    bounded = np.isfinite(octaves[known])
    centre = np.where(bounded, octaves[known], 0.0).sum(axis=0) / np.maximum(1, bounded.sum(axis=0))
    columns = np.where(bounded, octaves[known] - centre, 0.0)
    share = weights[known] / weights[known].max()
    middle = share @ ranks / share.sum()
    slope = np.linalg.solve(
        (columns.T * share) @ columns + RIDGE * np.eye(columns.shape[1]), (columns.T * share) @ (ranks - middle)
    )
    found[known] = ranks - columns @ slope
    return found


def propose(trials: Trials, octaves: Sequence[float], group: int, generator: np.random.Generator) -> Floats:
    """The point ``(d,)`` with the largest ratio of good to other density among candidates from the good density."""
    weights = trials.weights(octaves, group)
    rows = np.arange(trials.size)
    if trials.size > NEAREST:
        rows = np.sort(np.argpartition(-weights, NEAREST)[:NEAREST])
    weights, points, scores, groups = (
        weights[rows] + 1e-12,
        trials.points[rows],
        trials.scores[rows],
        trials.groups[rows],
    )
    standing = np.full(len(rows), -np.inf)
    for one in np.unique(groups):
        mine = groups == one
        standing[mine] = quality(scores[mine], trials.octaves[rows][mine], weights[mine])
    good = _best(standing, weights, GOOD_SHARE * float(weights[~np.isnan(scores)].sum()))
    better = Density.of(trials.axes, points[good], weights[good])
    worse = Density.of(trials.axes, points[~good], weights[~good])
    candidates = better.sample(CANDIDATES, generator)
    chosen: Floats = candidates[np.argmax(better.log(candidates) - worse.log(candidates))]
    return chosen


def _best(standing: Floats, weights: Floats, wanted: float) -> NDArray[np.bool_]:
    """The trials of highest standing until their weights make up ``wanted``."""
    order = np.argsort(-standing, kind="stable")
    before = np.cumsum(weights[order]) - weights[order]
    good = np.zeros(len(standing), dtype=bool)
    good[order[before < wanted]] = True
    return good & np.isfinite(standing)
