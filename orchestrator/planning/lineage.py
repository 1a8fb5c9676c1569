"""The trained network that each job of a sweep starts from: decided by the budgets alone, before any result.

A job starts from the network of the nearest budget that is at least as large in every bound, among the jobs of its own
method, network and round; else from the dense parent. So results do not depend on the number of workers or on timing,
and branches of the tree run in parallel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mcu.budget import RESOURCES, Budget, Resources

if TYPE_CHECKING:
    from orchestrator.planning.inputs import Inputs
    from orchestrator.planning.planned_trial import PlannedTrial

    Line = tuple[str, str, Inputs, int]

NEAR, FAR = 1.7, 3.4
"""A network that has to shrink up to ``NEAR`` times needs the least training after its ancestor's; from ``FAR`` times
on as much as one that begins from scratch (docs/results/pruning/lineage.md)."""

SHORTEST = 0.5
"""Part of a whole job's epochs that a job gets whose ancestor is near."""


def has_more_room(other: Budget, than: Budget) -> bool:
    """Whether a budget is at least as large in every bound, and larger in one; a missing bound counts as infinite."""
    pairs = [(_open_as_infinite(getattr(other, name)), _open_as_infinite(getattr(than, name))) for name in RESOURCES]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def nearest_first(budget: Budget, others: Iterable[tuple[int, Budget]]) -> tuple[int, ...]:
    """The numbers of the larger budgets, nearest first.

    Distance is first the number of this budget's bounds that the other lacks, then the octaves between common bounds;
    ties go to the lower number.
    """

    def apart(other: Budget) -> tuple[int, float]:
        there = other.bounds()
        common = [there[name] / bound for name, bound in budget.bounds().items() if name in there]
        return len(budget.bounds()) - len(common), round(sum(math.log2(ratio) for ratio in common), 9)

    return tuple(number for *_, number in sorted((*apart(o), n) for n, o in others if has_more_room(o, budget)))


def shrinkage(budget: Budget, ancestor: Budget, dense: Resources | None, least: Resources | None = None) -> float:
    """Compression ratio of what widths can change: the ancestor's bound, or the dense network's use, over the tightest.

    It uses the ancestor's budget and not its measured resources, so that all trials of a budget train equally long.

    Args:
        least: what the dense network takes with one channel in every group; None if it is not known.
    """

    def ratio(name: str, bound: int) -> float:
        room = min(_open_as_infinite(getattr(ancestor, name)), _open_as_infinite(getattr(dense, name, None)))
        fixed = getattr(least, name, 0)
        return (room - fixed) / (bound - fixed) if bound > fixed else math.inf

    return max([1.0, *(ratio(name, bound) for name, bound in budget.bounds().items())])


def job_epochs(epochs: int, times: float) -> int:
    """Epochs of a job whose network has to become ``times`` smaller than its ancestor's.

    Args:
        epochs: of a job that trains from scratch.
        times: as `shrinkage`.
    """
    way = min(1.0, max(0.0, math.log(times / NEAR) / math.log(FAR / NEAR)))
    return max(1, round(epochs * (SHORTEST + (1 - SHORTEST) * way)))


@dataclass(frozen=True)
class Lineage:
    """The possible ancestors of every trial of a plan.

    Attributes:
        trials: of the plan, by number.
        sizes: number of trials after each extension of the plan: a trial's ancestors belong to the plan it was added
            with, so that budgets added later do not affect existing trials.
        inheriting: the methods whose jobs start from an ancestor; none without a lineage.
        taught: the methods whose jobs start from scratch and are taught by the dense parent, for which they wait.
        planned: number of budgets that are known in advance, by index of the trial; the others are chosen from results.
    """

    trials: Sequence[PlannedTrial]
    sizes: Sequence[int]
    inheriting: frozenset[str]
    taught: frozenset[str]
    planned: float

    def inherits(self, trial: PlannedTrial) -> bool:
        """Whether the trial starts from an ancestor if one is available."""
        return trial.method in self.inheriting and trial.is_sampled

    @cached_property
    def _parents(self) -> dict[tuple[str, Inputs, int], int]:
        return {(t.network.model_dump_json(), t.inputs, t.seed): t.number for t in self.trials if t.is_parent}

    @cached_property
    def _relatives(self) -> dict[Line, list[PlannedTrial]]:
        """Trials of one method, network, input and round whose budgets are known."""
        found: dict[Line, list[PlannedTrial]] = {}
        for trial in self.trials:
            if self.inherits(trial) and trial.index < self.planned:
                found.setdefault(_line_of(trial), []).append(trial)
        return found

    def parent(self, trial: PlannedTrial) -> int | None:
        """Number of the dense network at the root of a trial's lineage; None for a trial that has none."""
        if not trial.is_sampled or trial.method not in self.inheriting | self.taught:
            return None
        return self._parents.get((trial.network.model_dump_json(), trial.inputs, trial.parent_seed))

    def candidates(self, trial: PlannedTrial) -> tuple[int, ...]:
        """Numbers of the possible ancestors of a trial, best first; the dense parent alone where it only teaches."""
        parent = self.parent(trial)
        if parent is None:
            return ()
        if not self.inherits(trial):
            return (parent,)
        end = next(size for size in self.sizes if trial.number < size)
        there = self._relatives.get(_line_of(trial), []) if trial.index < self.planned else []
        larger = nearest_first(trial.budget, ((t.number, t.budget) for t in there if t.number < end))
        return (*larger, parent)

    @cached_property
    def _ancestors(self) -> dict[int, int]:
        """Number of the trial that each begins with if nothing fails; trials without one are missing."""
        ways = [(trial.number, self.candidates(trial)[:1]) for trial in self.trials]
        return {number: first[0] for number, first in ways if first}

    @cached_property
    def heights(self) -> list[int]:
        """By number, the length of the longest chain of trials from each trial downwards, itself included."""
        heights = [1] * len(self.trials)
        for number in self._ancestors:
            height, at = 1, number
            while (ancestor := self._ancestors.get(at)) is not None and heights[ancestor] <= height:
                height, at = height + 1, ancestor
                heights[at] = height
        return heights

    @cached_property
    def depths(self) -> list[int]:
        """By number, how many trials lie between each trial and a start from scratch; 0 for one that starts there."""
        depths = [0] * len(self.trials)
        for number in self._ancestors:
            chain, at = [number], self._ancestors[number]
            while at in self._ancestors and not depths[at]:
                chain.append(at)
                at = self._ancestors[at]
            for depth, below in enumerate(reversed(chain), depths[at] + 1):
                depths[below] = depth
        return depths


def _line_of(trial: PlannedTrial) -> Line:
    return trial.method, trial.network.model_dump_json(), trial.inputs, trial.turn


def _open_as_infinite(bound: int | None) -> float:
    return math.inf if bound is None else float(bound)
