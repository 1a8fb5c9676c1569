"""Which nodes of a cluster failed trials for want of something there, and which a trial should therefore keep off."""

from __future__ import annotations

from collections.abc import Iterable

MOST_FAILURES = 3
"""In a row, until a node gets no more trials."""


class NodeRecord:
    """Counts faults by node; a trial that goes through there begins the count again."""

    def __init__(self) -> None:
        self._in_a_row: dict[str, int] = {}
        self._of_trial: dict[str, set[str]] = {}
        self._refused: dict[str, str] = {}

    def failed(self, node: str, trial: str) -> bool:
        """Note a fault; whether the node gets no more from now on."""
        self._of_trial.setdefault(trial, set()).add(node)
        self._in_a_row[node] = self._in_a_row.get(node, 0) + 1
        return self._in_a_row[node] == MOST_FAILURES

    def succeeded(self, node: str) -> None:
        """Note that a trial went through."""
        self._in_a_row.pop(node, None)

    def refuse(self, node: str, reason: str) -> None:
        """Give a node no trials at all."""
        self._refused[node] = reason

    def admit(self, node: str) -> None:
        """Let a node get trials."""
        self._refused.pop(node, None)

    @property
    def refused(self) -> dict[str, str]:
        """The nodes that get no trials, and why."""
        return dict(self._refused)

    def avoided(self, trial: str, alive: Iterable[str]) -> set[str]:
        """Nodes that a trial should keep off, so long as there are others."""
        nodes = set(alive)
        refused = nodes & self._refused.keys()
        worn = {node for node, count in self._in_a_row.items() if count >= MOST_FAILURES} & nodes
        own = self._of_trial.get(trial, set()) & nodes
        for avoided in (refused | worn | own, refused | worn):
            if avoided < nodes:
                return avoided
        return refused
