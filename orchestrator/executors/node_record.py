"""Record of node faults: which nodes failed trials because of the machine, and which nodes a trial should avoid."""

from __future__ import annotations

from collections.abc import Iterable

MOST_FAILURES = 3
"""In a row, until a node gets no more trials."""


class NodeRecord:
    """Counts consecutive faults by node; a successful trial resets the count."""

    def __init__(self) -> None:
        self._in_a_row: dict[str, int] = {}
        self._of_trial: dict[str, set[str]] = {}
        self._refused: dict[str, str] = {}

    def failed(self, node: str, trial: str) -> bool:
        """Record a fault; True if the node gets no more trials from now on."""
        self._of_trial.setdefault(trial, set()).add(node)
        self._in_a_row[node] = self._in_a_row.get(node, 0) + 1
        return self._in_a_row[node] == MOST_FAILURES

    def succeeded(self, node: str) -> None:
        """Record a successful trial."""
        self._in_a_row.pop(node, None)

    def refuse(self, node: str, reason: str) -> None:
        """Exclude a node from trials."""
        self._refused[node] = reason

    def admit(self, node: str) -> None:
        """Admit a node to trials."""
        self._refused.pop(node, None)

    @property
    def refused(self) -> dict[str, str]:
        """The excluded nodes and the reasons."""
        return dict(self._refused)

    def avoided(self, trial: str, alive: Iterable[str]) -> set[str]:
        """Nodes that a trial should avoid, if there are others."""
        nodes = set(alive)
        refused = nodes & self._refused.keys()
        worn = {node for node, count in self._in_a_row.items() if count >= MOST_FAILURES} & nodes
        own = self._of_trial.get(trial, set()) & nodes
        for avoided in (refused | worn | own, refused | worn):
            if avoided < nodes:
                return avoided
        return refused
