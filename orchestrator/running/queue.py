"""Queue of planned trials: which can start now, and from which ancestor. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

from mcu.budget import Budget
from orchestrator.planning.lineage import Lineage, nearest_first
from orchestrator.planning.planned_trial import PlannedTrial, Start, Trained


class Queue:
    """Returns numbers of trials whose ancestor is known, and the ancestor.

    A trial waits for the first of its candidate ancestors that can still provide a trained network; one that ended
    without is skipped. Of the ready trials, the one furthest from the dense parent comes first, then the lowest number:
    the front is whole early, at its small end too, and the rest fills it in. As soon as a chain of descendants would
    outlast what the other workers still have to do, the longest one comes first (critical path).

    Args:
        lineage: of the plan.
        asked: numbers of the trials that were started before.
    """

    def __init__(self, lineage: Lineage, asked: Iterable[int] = ()) -> None:
        self._lineage = lineage
        self._ended: dict[int, Trained | None] = {}
        self._blocked: dict[int, list[int]] = {}
        self._ready: set[int] = set()
        self._deepest: list[tuple[int, int]] = []
        self._longest: list[tuple[int, int]] = []
        before = set(asked)
        missing = [trial.number for trial in lineage.trials if trial.number not in before]
        self._missing = len(missing)
        for number in missing:
            self._place(number)

    def __len__(self) -> int:
        return self._missing

    @property
    def ready(self) -> int:
        """Number of trials that can start now."""
        return len(self._ready)

    def _place(self, number: int) -> None:
        """Let a trial be handed out, or wait for the first that it may still inherit from."""
        for candidate in self._lineage.candidates(self._lineage.trials[number]):
            if candidate not in self._ended:
                self._blocked.setdefault(candidate, []).append(number)
                return
            if self._ended[candidate]:
                break
        self._ready.add(number)
        heapq.heappush(self._deepest, (-self._lineage.depths[number], number))
        heapq.heappush(self._longest, (-self._lineage.heights[number], number))

    def ended(self, number: int, trained: Trained | None) -> None:
        """Record that a trial has ended, and what it left if its trained network is available."""
        self._ended[number] = trained
        for waiting in self._blocked.pop(number, ()):
            self._place(waiting)

    def next(self, workers: int = 1) -> int | None:
        """Remove and return the number of the next trial; None if none can start now.

        Args:
            workers: trials that run at a time.
        """
        if not self._ready:
            return None
        longest = self._first(self._longest)
        is_critical = self._lineage.heights[longest] * workers >= self._missing
        number = longest if is_critical else self._first(self._deepest)
        self._ready.remove(number)
        self._missing -= 1
        return number

    def _first(self, order: list[tuple[int, int]]) -> int:
        """The first trial of an order that is still ready."""
        while order[0][1] not in self._ready:
            heapq.heappop(order)
        return order[0][1]

    def start(self, trial: PlannedTrial) -> Start | None:
        """Starting point of a trial whose budget is known; None: it trains from scratch."""
        candidates = self._lineage.candidates(trial)
        if candidates and trial.index >= self._lineage.planned:
            candidates = (*nearest_first(trial.budget, self._relatives(trial)), *candidates)
        ancestor = next((found for n in candidates if (found := self._ended.get(n))), None)
        root = self._lineage.parent(trial)
        if ancestor is None or root is None:
            return None
        parent = self._ended.get(root)
        return Start(ancestor, parent.hash if parent else None)

    def _relatives(self, trial: PlannedTrial) -> list[tuple[int, Budget]]:
        """Trials of its line that left a network, for a budget that was chosen as results came.

        With ``sweep.seeds`` those of its own seed, as they have one parent: repeats stay independent.
        """
        mine, trials = _line_of(trial), self._lineage.trials
        return [
            (number, found.budget)
            for number, found in self._ended.items()
            if found and _line_of(trials[number]) == mine
        ]


def _line_of(trial: PlannedTrial) -> tuple[Any, ...]:
    return trial.method, trial.network, trial.inputs, trial.parent_seed
