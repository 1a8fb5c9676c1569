"""Intervals of accuracies and of means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def wilson(accuracy: float, images: int) -> tuple[float, float]:
    """95 % Wilson score interval of a test accuracy over ``images`` independent images (Wilson 1927)."""
    from scipy.stats import binomtest

    if images <= 0:
        return 0.0, 1.0
    interval = binomtest(round(accuracy * images), images).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_mean(
    values: Sequence[float], generator: np.random.Generator, draws: int = 2000, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean; None for fewer than three values, where it is meaningless."""
    known = np.asarray([value for value in values if np.isfinite(value)], dtype=float)
    if len(known) < 3:
        return None
    means = known[generator.integers(0, len(known), size=(draws, len(known)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
