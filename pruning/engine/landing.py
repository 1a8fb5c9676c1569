"""From real-valued to integer widths: within the budget on exact bytes, then grown until no channel fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mcu.budget import RESOURCES, Budget, Resources, amount
from mcu.errors import InputError
from mcu.resource_model import ResourceModel

LARGEST_CUT = 1 / 16
"""Largest fraction of a group's channels that landing cuts at once; never more than half of the excess asks for."""

FULL = 0.95
"""A bound of which this fraction is used counts as made use of."""


EVEN_STEPS = (8, 16, 32)
LARGEST_SETTLING = 1 / 5
"""Settling takes the largest of these multiples that costs a group no more than this fraction of its channels."""


class UnreachableBudgetError(InputError):
    """No widths can meet the budget; ``smallest`` has the minimum resources of the network."""

    def __init__(self, message: str, smallest: Resources) -> None:
        super().__init__(message)
        self.smallest = smallest


def smallest(model: ResourceModel) -> Resources:
    """Resources with one channel in every group: no network of this shape uses less."""
    return model.exact(np.ones(len(model.graph.groups), dtype=np.int64))


def require_reachable(floor: Resources, budget: Budget, network: str = "network") -> None:
    """Refuse a budget below the least that a network can use.

    Raises:
        UnreachableBudgetError: with the smallest reachable figure of each bound that is below it.
    """
    below = [
        f"{name} {amount(name, bound)} is below {amount(name, getattr(floor, name))}"
        for name, bound in budget.bounds().items()
        if getattr(floor, name) > bound
    ]
    if below:
        raise UnreachableBudgetError(
            f"budget cannot be met by {network} at any width: {', '.join(below)}, the smallest it can be", floor
        )


def land(
    model: ResourceModel,
    budget: Budget,
    widths: np.ndarray,
    limit: np.ndarray,
    importance: list[np.ndarray],
    *,
    growing: bool = True,
) -> np.ndarray:
    """Integer widths within the budget, close to ``widths`` and not above ``limit``.

    Args:
        model: exact resources.
        budget: bounds that must hold.
        widths: real-valued widths ``(groups,)``.
        limit: maximum channels of each group.
        importance: per group, importances of the channels that exist, in descending order.
        growing: whether channels are added while every bound holds.

    Returns:
        int64 ``(groups,)``; when growing, maximal: no single channel can be added without breaking a bound.
    """
    landed = np.clip(np.rint(widths), 1, limit).astype(np.int64)
    while not model.admits(budget, landed):
        group, channels = _cheapest_loss(model, budget, landed, importance)
        landed[group] -= channels
    if not growing:
        return landed

    def regrow(landed: np.ndarray, limit: np.ndarray) -> np.ndarray:
        return grow(model, budget, landed, widths, limit, importance)

    return exchange(lambda found: budget.binding_use(model.exact(found)) or 0.0, regrow(landed, limit), limit, regrow)


def _cheapest_loss(
    model: ResourceModel, budget: Budget, widths: np.ndarray, importance: list[np.ndarray]
) -> tuple[int, int]:
    """Group whose last channel matters least for the relief it gives to the most violated bound, and how many to cut.

    One, unless widths are far above the bound: then up to ``LARGEST_CUT`` of the group.
    """
    used = model.exact(widths)
    name = max(budget.bounds(), key=lambda n: getattr(used, n) / budget.bounds()[n])
    excess = getattr(used, name) - budget.bounds()[name]
    candidates = np.flatnonzero(widths > 1)
    if not len(candidates):
        raise InputError(f"budget {name} = {budget.bounds()[name]} cannot be met even with one channel in every layer")
    column = RESOURCES.index(name)
    smaller = widths - np.eye(len(widths), dtype=np.int64)[candidates]
    relief = model.estimate(widths)[column] - model.estimate(smaller)[:, column]
    worth = np.array([importance[g][min(widths[g], len(importance[g])) - 1] for g in candidates])
    worth = worth + 1e-9 + 1e-3 * float(np.mean(worth))
    if relief.max() <= 0:  # several steps share the peak: shave the widest group
        return int(candidates[np.argmax(widths[candidates])]), 1
    best = int(np.argmax(relief / worth))
    group = int(candidates[best])
    return group, max(1, int(min(excess / (2 * relief[best]), LARGEST_CUT * widths[group])))


def grow(
    model: ResourceModel,
    budget: Budget,
    landed: np.ndarray,
    wanted: np.ndarray,
    limit: np.ndarray,
    importance: list[np.ndarray],
    step: np.ndarray | None = None,
) -> np.ndarray:
    """Add channels while every bound holds, highest importance per cost first, until none fits.

    One at a time, or ``step`` channels at a time for each group.
    """
    landed = landed.copy()
    bounds = np.array([budget.bounds().get(name, np.inf) for name in RESOURCES], dtype=np.float64)
    while True:
        before = landed.copy()
        candidates = np.flatnonzero(landed < limit).tolist()
        while candidates:
            steps = np.eye(len(landed), dtype=np.int64)[candidates]
            price = ((model.estimate(landed + steps) - model.estimate(landed)) / bounds).max(-1)
            worth = np.array([importance[g][min(landed[g], len(importance[g]) - 1)] for g in candidates])
            lag = np.maximum(wanted[candidates] - landed[candidates], 0.0)  # what the training asked for comes first
            group = candidates[int(np.argmax((worth / (worth.max() + 1e-12) + lag + 1e-6) / (price + 1e-6)))]
            more = 1 if step is None else int(step[group])
            wider = _next_fitting(model, budget, landed, group, int(limit[group]), more)
            landed[group] = wider or landed[group]
            if not wider or wider >= limit[group]:
                candidates.remove(group)
        if (landed == before).all():  # the arena is not monotone: what did not fit before may fit now
            return landed


def exchange(
    use: Callable[[np.ndarray], float],
    landed: np.ndarray,
    limit: np.ndarray,
    regrow: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Exchange a channel of one group for others where maximal widths leave much of the tightest bound unused.

    In a small network one channel can take a tenth of a bound; other widths may use more of it.

    Args:
        use: fraction of the tightest bound that widths use.
        landed, limit: int ``(groups,)``, as for ``land``.
        regrow: makes widths maximal within a limit.
    """
    while use(landed) < FULL:
        options = []
        for group in np.flatnonzero(landed > 1):
            fewer, narrower = landed.copy(), limit.copy()
            fewer[group] = narrower[group] = landed[group] - 1
            if use(found := regrow(fewer, narrower)) <= 1:  # layers that shared vectors may take more when narrower
                options.append(found)
        best = max(options, key=use, default=landed)
        if use(best) <= use(landed):
            break
        landed = best
    return landed


def settle(
    model: ResourceModel, budget: Budget, landed: np.ndarray, limit: np.ndarray, importance: list[np.ndarray]
) -> np.ndarray:
    """Widths near ``landed`` at multiples of 8, 16 or 32 channels, if they use enough of the budget; else ``landed``.

    Convolutions process so many channels at once; other widths cost as much as the next multiple. Groups are rounded
    down to a multiple and grown again in such steps: first those that lost most, then by importance per cost.

    Args:
        model, budget, limit, importance: as for ``land``.
        landed: int64 ``(groups,)``, within the budget.
    """
    each = model.graph.channels // model.graph.widths
    step = np.ones_like(landed)
    for unit in EVEN_STEPS:
        whole = unit % each == 0
        steps = np.where(whole, unit // each, 1)
        near = landed % steps <= landed * LARGEST_SETTLING
        step = np.where(whole & near & (landed >= steps), steps, step)
    settled = grow(model, budget, landed - landed % step, landed.astype(float), limit, importance, step)
    return settled if (budget.binding_use(model.exact(settled)) or 0.0) >= FULL else landed


def _next_fitting(
    model: ResourceModel, budget: Budget, widths: np.ndarray, group: int, limit: int, more: int
) -> int | None:
    """The next width of a group that fits: ``more`` channels, or else as many as another group has, if that is less.

    Layers of equally many channels share vectors in the file, so several channels more can take fewer bytes than one.
    """
    each = model.graph.channels // model.graph.widths
    shared = np.delete(widths * each, group) / each[group]
    larger = [int(width) for width in np.unique(shared) if widths[group] + more < width <= limit and width % more == 0]
    for width in [min(int(widths[group]) + more, limit), *larger[:1]]:
        tried = widths.copy()
        tried[group] = width
        if model.admits(budget, tried):
            return width
    return None
