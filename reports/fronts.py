"""Fronts of accuracy against resources, winners, hypervolume and attainment: pure functions on numbers.

Accuracy is maximised, resources are minimised. Models are chosen by validation accuracy and reported at test accuracy,
so a front is the list of models one would deploy as the limit grows, without selection on test results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mcu.budget import RESOURCES

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def nondominated(points: ArrayLike, maximise: Sequence[bool] | bool = False) -> Mask:
    """Which rows of ``points`` (n, k) no other row dominates; of equal rows only the first, rows with NaN never.

    Runs in O(n log n) for two and three columns (moocore).
    """
    values = np.atleast_2d(np.asarray(points, dtype=float))
    mask = np.zeros(len(values), dtype=bool)
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    if len(known):
        mask[known] = moocore.is_nondominated(values[known], maximise=maximise)
    return mask


def front_rows(resource: ArrayLike, score: ArrayLike, eligible: ArrayLike) -> NDArray[np.int64]:
    """Row numbers of the front of ``score`` (maximised) over ``resource`` (minimised), in order of the resource."""
    use, good = np.asarray(resource, dtype=float), np.asarray(score, dtype=float)
    candidates = np.flatnonzero(np.asarray(eligible, dtype=bool))
    if not len(candidates):
        return candidates
    kept = candidates[nondominated(np.column_stack([use, good])[candidates], maximise=[False, True])]
    return kept[np.argsort(use[kept], kind="stable")]


def best_row(score: ArrayLike, eligible: ArrayLike, cost: ArrayLike) -> int | None:
    """The eligible row of highest ``score``; ties go to the lowest ``cost``, then to the first. None without any."""
    good, price = np.asarray(score, dtype=float), np.asarray(cost, dtype=float)
    rows = np.flatnonzero(np.asarray(eligible, dtype=bool) & np.isfinite(good))
    if not len(rows):
        return None
    return int(rows[np.lexsort((rows, price[rows], -good[rows]))[0]])


def fits(used: Mapping[str, ArrayLike], bounds: Mapping[str, float]) -> Mask:
    """Which rows meet every bound with measured values; an unknown value does not fit."""
    checks = [np.asarray(used[name], dtype=float) <= bound for name, bound in bounds.items()]
    size = len(np.asarray(next(iter(used.values()))))
    return np.logical_and.reduce(checks) if checks else np.ones(size, dtype=bool)


@dataclass(frozen=True)
class Box:
    """The range of resources that a hypervolume is taken over, ``low`` to ``high`` per resource.

    The hypervolume is the mean, over budgets drawn log-uniformly from the box, of the accuracy of the best model that
    fits the budget (0 where none fits): 0..1, and its reference point is accuracy 0 at ``high``.
    """

    low: Mapping[str, float]
    high: Mapping[str, float]

    def scale(self, used: Mapping[str, ArrayLike], names: Sequence[str]) -> Floats:
        """Resources (n, k) on the log scale of the box: 0 at ``low`` and below, 1 at ``high``."""
        columns = []
        for name in names:
            low, high = self.low[name], self.high[name]
            span = max(np.log(high / low), 1e-9)
            values = np.maximum(np.asarray(used[name], dtype=float), low)
            columns.append(np.log(values / low) / span)
        return np.column_stack(columns)


def box_of(used: Mapping[str, ArrayLike]) -> Box | None:
    """The box that holds every known positive measurement, or None when a resource has none."""
    low, high = {}, {}
    for name in RESOURCES:
        values = np.asarray(used[name], dtype=float)
        values = values[np.isfinite(values) & (values > 0)]
        if not len(values):
            return None
        low[name], high[name] = float(values.min()), float(values.max()) * 1.001
    return Box(low, high)


def hypervolume(scaled: Floats, accuracy: ArrayLike) -> float:
    """Volume under the front of (scaled resources, accuracy), reference point accuracy 0 at scaled resource 1."""
    good = np.asarray(accuracy, dtype=float)
    points = np.column_stack([scaled, good])
    points = points[np.isfinite(points).all(axis=1) & (points[:, :-1] < 1).all(axis=1) & (good > 0)]
    if not len(points):
        return 0.0
    width = points.shape[1] - 1
    return float(moocore.hypervolume(points, ref=[1.0] * width + [0.0], maximise=[False] * width + [True]))


def hypervolume_steps(scaled: Floats, accuracy: ArrayLike, points: int = 200) -> tuple[NDArray[np.int64], Floats]:
    """Hypervolume after the first 1..n rows, as (counts, volumes) at no more than ``points`` counts."""
    good = np.asarray(accuracy, dtype=float)
    counts = np.unique(np.linspace(min(1, len(good)), len(good), min(points, len(good))).round().astype(int))
    volumes: list[float] = []
    kept = np.zeros(0, dtype=int)
    done = 0
    for count in counts:
        rows = np.concatenate([kept, np.arange(done, count)])
        values = np.column_stack([scaled[rows], good[rows]])
        kept = rows[nondominated(values, maximise=[False] * scaled.shape[1] + [True])]
        volumes.append(hypervolume(scaled[kept], good[kept]))
        done = int(count)
    return np.asarray(counts, dtype=np.int64), np.asarray(volumes, dtype=float)


def attained(resource: ArrayLike, score: ArrayLike, report: ArrayLike, grid: ArrayLike) -> Floats:
    """For each limit in ``grid``: ``report`` of the row with the highest ``score`` that fits; NaN if none fits."""
    use, good, shown = (np.asarray(values, dtype=float) for values in (resource, score, report))
    rows = front_rows(use, good, np.isfinite(use) & np.isfinite(good))
    if not len(rows):
        return np.full(len(np.asarray(grid)), np.nan)
    position = np.searchsorted(use[rows], np.asarray(grid, dtype=float), side="right") - 1
    return np.where(position >= 0, shown[rows][np.maximum(position, 0)], np.nan)


def attainment_surface(curves: Sequence[Floats], none: float = 0.0) -> tuple[Floats, Floats, Floats]:
    """Worst, median and best of one curve per seed (Fonseca and Fleming 1996); one without a model is ``none``."""
    stack = np.nan_to_num(np.vstack(list(curves)), nan=none, neginf=-np.inf)
    return stack.min(axis=0), np.median(stack, axis=0), stack.max(axis=0)
