"""Landing with a single compression parameter: how every baseline meets a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from mcu.budget import Budget, Resources
from mcu.resource_model import ResourceModel

T = TypeVar("T")

POSITIONS = 40
HALVINGS = 6
"""The knob is searched in steps of 1/40, then within one step by bisection: finer than one channel of a layer."""


def first_fit(build: Callable[[float], T], used: Callable[[T], Resources], budget: Budget) -> T | None:
    """The least compressed candidate within the budget.

    A scan rather than a bisection of the whole range: resources need not decrease monotonically with compression (peer
    libraries do not empty a layer at extreme ratios, and the arena depends on which layers shrink).

    Args:
        build: builds the candidate at a compression from 0 (dense) to 1 (maximum of the method).
        used: its exact resources.
        budget: bounds that must hold.

    Returns:
        None if no position fits.
    """
    previous = 0.0
    for position in range(POSITIONS + 1):
        fits = position / POSITIONS
        best = build(fits)
        if budget.admits(used(best)):
            break
        previous = fits
    else:
        return None
    for _ in range(HALVINGS if fits > 0 else 0):
        middle = (previous + fits) / 2
        candidate = build(middle)
        if budget.admits(used(candidate)):
            fits, best = middle, candidate
        else:
            previous = middle
    return best


def uniform_widths(model: ResourceModel, budget: Budget) -> np.ndarray:
    """Widths ``(groups,)`` of the network narrowed by the largest factor that fits; one channel each if none fits."""

    def narrowed(compression: float) -> np.ndarray:
        return np.maximum(1, np.floor((1 - compression) * model.dense_widths + 1e-9)).astype(np.int64)

    widths = first_fit(narrowed, model.exact, budget)
    return np.ones_like(model.dense_widths) if widths is None else widths
