"""Audit of early stopping in a study: savings and false stops, from the reports of its trials."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from mcu.terms import TrialState
from orchestrator.running.stop_rule import AsyncRungs, stop_rule_for
from orchestrator.spec import EpochReport
from orchestrator.storage.store import Store, Study
from search_spaces.sweep import SweepConfig


@dataclass(frozen=True)
class StopAudit:
    """Early stopping of one study.

    Attributes:
        stopped: trials that were stopped.
        epochs_saved: fraction of the epochs of all ended trials that were not trained.
        spared: completed trials of the audit set that would have been stopped.
        false_stops: those of them that were the best of their budget.
    """

    stopped: int
    epochs_saved: float
    spared: int
    false_stops: int

    @property
    def line(self) -> str:
        """Summary in one line."""
        checked = f"{self.false_stops} of {self.spared} spared for the audit were the best" if self.spared else ""
        return f"{self.stopped} trials stopped early, {self.epochs_saved:.0%} of the epochs saved" + (
            f"; {checked}" if checked else ""
        )


def stop_audit(store: Store, study: Study) -> StopAudit | None:
    """Replay a study's reports through a new stop rule; None if no trial was, or could have been, stopped."""
    try:
        sweep = SweepConfig.model_validate({**study.sweep, "workers": study.workers})
    except ValidationError:
        return None  # a study of another version: its report does not fail for this line
    rule = stop_rule_for(sweep)
    if not isinstance(rule, AsyncRungs):
        return None
    ended = {trial.number: trial for trial in store.trials(study) if trial.result is not None}
    reached: dict[int, float] = {}
    for row in store.epoch_reports(study):
        trial = ended.get(row["number"])
        if trial is None:
            continue
        report = EpochReport(**{name: row[name] for name in EpochReport.model_fields})
        rule.judge(trial.number, trial.spec, report)
        reached[trial.number] = max(reached.get(trial.number, 0.0), report.epochs_done)
    stopped = [trial for trial in ended.values() if trial.state is TrialState.STOPPED]
    for trial in ended.values():
        if trial.result is not None:
            rule.ended(trial.number, trial.spec, trial.result)
    planned = sum(trial.spec.training.epochs for trial in ended.values())
    saved = sum(trial.spec.training.epochs - reached.get(trial.number, 0.0) for trial in stopped)
    audit = rule.audit()
    if not stopped and not audit.spared:
        return None
    return StopAudit(len(stopped), saved / planned if planned else 0.0, audit.spared, audit.false_stops)
