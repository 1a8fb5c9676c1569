"""Early stopping of trials. Pure: receives reports and results, returns decisions, no side effects."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from mcu.budget import Budget
from mcu.score import score_of
from mcu.terms import TrialState
from orchestrator.planning.inputs import without_inputs
from orchestrator.samplers.base import derive_seed
from orchestrator.spec import EpochReport, TrialResult, TrialSpec
from search_spaces.sweep import SweepConfig

USE_WEIGHT = 0.01
AUGMENTATION = 1e-3  # breaks ties between points of equal Chebyshev distance
EARLY, NOT_YET = -1, -2  # levels before the first
NEIGHBOURS = 2.0
"""Sampled budgets are compared with those that have between half their room and all of it."""


class StopRule(ABC):
    """Evaluates reports in the order of arrival."""

    @abstractmethod
    def judge(self, number: int, spec: TrialSpec, report: EpochReport) -> bool:
        """Record a report of trial ``number``; True if the trial should stop now."""

    @abstractmethod
    def ended(self, number: int, spec: TrialSpec, result: TrialResult) -> None:
        """Record the result of a trial."""


class NeverStop(StopRule):
    """Every trial runs to its end."""

    def judge(self, number: int, spec: TrialSpec, report: EpochReport) -> bool:
        """Never."""
        return False

    def ended(self, number: int, spec: TrialSpec, result: TrialResult) -> None:
        """No effect."""


@dataclass(frozen=True)
class RungSchedule:
    """Levels at which trials are compared, and the fraction that continues.

    Attributes:
        eta: at each level the best ``1 / eta`` continue; a level stops no trial before ``eta`` trials have reached it.
        levels: fractions of the epochs at which trials are compared, ascending.
        feasible_from: fraction of the epochs before which violation is ignored: pruning has not reached the budget yet,
            and the accuracy of an intermediate network says little.
        early: fraction of the epochs at which a trial that is still being pruned is compared once, by accuracy alone:
            the worst ``1 / eta`` stop. It detects only learning rates that do not train at all.
        audit_share: fraction of the trials that are never stopped, so that false stops can be counted.
        reach: trials are compared with trials whose bounds are not larger and at least ``1 / reach`` as large; with 1,
            of the same budget only.
        race: trials are compared across networks, whatever their lengths.
    """

    eta: int = 3
    levels: tuple[float, ...] = (0.25, 0.4, 0.55, 0.75)
    feasible_from: float = 0.8
    early: float = 0.2
    audit_share: float = 0.1
    reach: float = 1.0
    race: bool = False


@dataclass(frozen=True)
class LevelScore:
    """Rank of a trial at a level: smaller violation first, then smaller distance to the ideal point."""

    violation: float
    distance: float

    def before(self, other: LevelScore) -> bool:
        """Whether this is strictly better."""
        return (self.violation, self.distance) < (other.violation, other.distance)


@dataclass(frozen=True)
class Audit:
    """Results of the spared trials: ``false_stops`` of ``spared`` were the best of their budget."""

    spared: int
    false_stops: int

    @property
    def rate(self) -> float | None:
        """Estimated fraction of wrong stops; None before any spared trial has ended."""
        return self.false_stops / self.spared if self.spared else None


@dataclass
class AsyncRungs(StopRule):
    """Asynchronous successive halving (Li et al., MLSys 2020) for constrained objectives, within each budget.

    Trials are compared only with trials of the same task, method and, unless networks race, network and length, at the
    same level and at the same budget or, where budgets are sampled from ranges, at slightly smaller ones. A trial that
    is not among the best ``1 / eta`` there stops; once before that, during pruning, a trial among the worst ``1 / eta``
    stops. Ranking is by Deb's rule: feasible before infeasible, smaller violation first, then the augmented Chebyshev
    distance to the ideal point (accuracy 1, no resources). Pareto rank alone is not informative in four dimensions,
    where most points are non-dominated; and unused budget has little value, so utilisation has a hundredth of the
    weight of accuracy.
    """

    schedule: RungSchedule = field(default_factory=RungSchedule)
    seed: int = 0
    _seen: dict[tuple[str, int], dict[Budget, dict[int, LevelScore]]] = field(default_factory=dict)
    _judged: dict[int, int] = field(default_factory=dict)
    _condemned: dict[int, str] = field(default_factory=dict)
    _finals: dict[str, dict[int, float]] = field(default_factory=dict)

    def judge(self, number: int, spec: TrialSpec, report: EpochReport) -> bool:
        """Compare the trial at the highest level it has reached, once per level."""
        share = report.epochs_done / spec.training.epochs
        if report.val_accuracy is None or not spec.budget.bounds():  # the dense network of a lineage is nobody's rival
            return False
        own, keep = score(spec, report), 1 / self.schedule.eta
        level = sum(share >= bound for bound in self.schedule.levels) - 1
        if own.violation > 0 and share < self.schedule.feasible_from:
            level = EARLY if share >= self.schedule.early else NOT_YET
            own, keep = LevelScore(0.0, own.distance), 1 - keep
        if level <= self._judged.get(number, NOT_YET):
            return False
        self._judged[number] = level
        return self._among_the_rest(number, spec, level, own, keep)

    def _among_the_rest(self, number: int, spec: TrialSpec, level: int, own: LevelScore, keep: float) -> bool:
        """Whether a trial is not in the part of its peers that is kept, and not spared."""
        reached = self._seen.setdefault((family(spec, self.schedule.race), level), {})
        reached.setdefault(spec.budget, {})[number] = own
        peers = [
            other
            for budget, there in reached.items()
            if no_more_room(budget, spec.budget, self.schedule.reach)
            for other in there.values()
        ]
        if len(peers) <= self.schedule.eta:
            return False
        better = sum(other.before(own) for other in peers)
        if better < len(peers) * keep:
            return False
        if self.spared(number):
            self._condemned[number] = stratum(spec, self.schedule.race)
            return False
        return True

    def spared(self, number: int) -> bool:
        """Whether a trial belongs to the audit, decided by the seed and its number alone."""
        return derive_seed(self.seed, "audit", number) < self.schedule.audit_share * 2**31

    def ended(self, number: int, spec: TrialSpec, result: TrialResult) -> None:
        """Record final accuracies, for the audit."""
        if result.state == TrialState.COMPLETE and not result.violation and result.val_accuracy is not None:
            self._finals.setdefault(stratum(spec, self.schedule.race), {})[number] = result.val_accuracy

    def audit(self) -> Audit:
        """Number of spared trials that would have been stopped, and of those that were the best."""
        ended = {number: key for number, key in self._condemned.items() if number in self._finals.get(key, {})}
        wrong = sum(self._finals[key][number] >= max(self._finals[key].values()) for number, key in ended.items())
        return Audit(len(ended), wrong)


def family(spec: TrialSpec, race: bool = False) -> str:
    """Family of a trial: task whatever its searched options, method and, unless networks race, network and epochs."""
    own = "" if race else f"{spec.network.model_dump_json()}|{spec.training.epochs}"
    return f"{without_inputs(spec.task).model_dump_json()}|{own}|{spec.method}"


def stratum(spec: TrialSpec, race: bool = False) -> str:
    """A family at one budget."""
    return f"{family(spec, race)}|{spec.budget}"


def no_more_room(budget: Budget, than: Budget, reach: float) -> bool:
    """Whether each of the other's bounds is there, at most as large, and at least ``1 / reach`` of it."""
    if budget == than or reach == 1.0:
        return budget == than
    held, wanted = budget.bounds(), than.bounds()
    return held.keys() >= wanted.keys() and all(bound / reach <= held[name] <= bound for name, bound in wanted.items())


def score(spec: TrialSpec, report: EpochReport) -> LevelScore:
    """Score of a report: relative violation, then distance; of what has no ideal value, such as an error, the value."""
    used = {
        name: getattr(report, name) / bound
        for name, bound in spec.budget.bounds().items()
        if getattr(report, name) is not None
    }
    violation = sum(max(0.0, share - 1.0) for share in used.values())
    known = report.val_accuracy is not None and math.isfinite(report.val_accuracy)
    accuracy = report.val_accuracy if report.val_accuracy is not None and known else -math.inf
    if not score_of(spec.training.judged_by).bounded:
        return LevelScore(violation, -accuracy)
    mean_use = sum(min(share, 1.0) for share in used.values()) / len(used) if used else 0.0
    return LevelScore(violation, max(1.0 - accuracy, USE_WEIGHT * mean_use) + AUGMENTATION * mean_use)


def stop_rule_for(sweep: SweepConfig) -> StopRule:
    """The stop rule of the sweep file; budgets sampled from ranges are compared with similar budgets."""
    if not sweep.stopping.enabled:
        return NeverStop()
    reach = NEIGHBOURS if sweep.budgets.ranges() and sweep.budgets.plan != "grid" else 1.0
    stopping = sweep.stopping
    schedule = RungSchedule(eta=stopping.eta, audit_share=stopping.audit_share, reach=reach, race=stopping.race)
    return AsyncRungs(schedule, seed=sweep.sweep.seed)
