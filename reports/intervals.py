"""Intervals of accuracies and of means."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


def wilson(accuracy: float, images: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a test accuracy over ``images`` independent images (Wilson 1927); 95 % by default."""
    if images <= 0:
        return 0.0, 1.0
    scale = 1 + z * z / images
    centre = (accuracy + z * z / (2 * images)) / scale
    half = z / scale * math.sqrt(max(accuracy * (1 - accuracy), 0.0) / images + z * z / (4 * images * images))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_mean(
    values: Sequence[float], generator: np.random.Generator, draws: int = 2000, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean; None for fewer than three values, where it would say nothing."""
    known = np.asarray([value for value in values if np.isfinite(value)], dtype=float)
    if len(known) < 3:
        return None
    means = known[generator.integers(0, len(known), size=(draws, len(known)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
