"""Observer interface of a driver; the base class ignores all events."""

from __future__ import annotations

from orchestrator.executors.base import LossReason
from orchestrator.planning.plan import Plan
from orchestrator.spec import EpochReport, TrialResult, TrialSpec


class Watcher:
    """Base of the progress displays: every call does nothing."""

    def begin(self, plan: Plan, finished: list[tuple[TrialSpec, TrialResult]], capacity: int) -> None:
        """A run starts; ``finished`` are the trials of earlier runs."""

    def started(self, number: int, spec: TrialSpec) -> None:
        """A trial was submitted to a worker."""

    def reported(self, number: int, report: EpochReport) -> None:
        """A trial reported an epoch."""

    def finished(self, number: int, spec: TrialSpec, result: TrialResult, reused_from: str | None) -> None:
        """A trial has its result."""

    def lost(self, number: int, reason: LossReason, detail: str, retried: bool) -> None:
        """An attempt ended without a result."""

    def note(self, text: str) -> None:
        """A message for the user."""

    def tick(self) -> None:
        """Time passed."""

    def close(self) -> None:
        """The run is over."""
