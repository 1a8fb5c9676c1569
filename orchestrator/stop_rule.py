"""Whether a running trial is worth going on with. Pure: told of rungs and ends, asked for a verdict, no effects."""

from __future__ import annotations

from abc import ABC, abstractmethod

from orchestrator.spec import Rung, TrialResult, TrialSpec


class StopRule(ABC):
    """Judges rungs as they come, in any order of trials."""

    @abstractmethod
    def report(self, number: int, spec: TrialSpec, rung: Rung) -> bool:
        """Take in a rung of trial ``number``; True if the trial should stop here."""

    @abstractmethod
    def ended(self, number: int, spec: TrialSpec, result: TrialResult) -> None:
        """Take in how a trial ended."""


class NeverStop(StopRule):
    """Every trial runs to its end."""

    def report(self, number: int, spec: TrialSpec, rung: Rung) -> bool:
        """Never."""
        return False

    def ended(self, number: int, spec: TrialSpec, result: TrialResult) -> None:
        """Nothing to learn."""
