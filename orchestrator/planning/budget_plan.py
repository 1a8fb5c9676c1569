"""Budget of a trial: as planned, or chosen from the results so far."""

from __future__ import annotations

from mcu.budget import Budget
from mcu.score import score_of
from mcu.terms import TrialState
from orchestrator.planning.adaptive_budgets import AdaptiveBudgets
from orchestrator.planning.plan import Plan
from orchestrator.planning.planned_trial import PlannedTrial
from orchestrator.spec import TrialResult, TrialSpec


class BudgetPlan:
    """Every trial has the budget it was planned with."""

    def of(self, trial: PlannedTrial) -> Budget:
        """The budget of the trial to be sampled next."""
        return trial.budget

    def restore(self, trial: PlannedTrial, spec: TrialSpec, result: TrialResult | None) -> None:
        """Record a trial of an earlier run; call in the order of trial numbers."""

    def ended(self, trial: PlannedTrial, spec: TrialSpec, result: TrialResult) -> None:
        """Record the result of a trial."""


class AdaptiveBudgetPlan(BudgetPlan):
    """Once each network was run at each Sobol budget, `AdaptiveBudgets` chooses.

    Trials of one index have the same budget in all methods, for a fair comparison.
    """

    def __init__(self, plan: Plan) -> None:
        self._ranges = plan.sweep.budgets.ranges()
        bounded = score_of(plan.sweep.training.judged_by).bounded
        self._adaptive = AdaptiveBudgets(self._ranges, plan.sweep.sweep.seed, plan.sweep.budgets.count, bounded)
        self._first = len(plan.cells)
        self._methods = set(plan.sweep.methods.names)
        self._single = len(plan.sweep.network.choices()) * len(plan.inputs) == 1
        self._chosen: dict[int, Budget] = {}
        self._refused: dict[int, set[str]] = {}

    def of(self, trial: PlannedTrial) -> Budget:
        """The planned budget in the first round; then the one chosen for the index."""
        if trial.index not in self._chosen:
            first = trial.index < self._first
            self._note(trial.index, trial.budget if first else self._adaptive.next(trial.index))
        return self._chosen[trial.index]

    def _note(self, index: int, chosen: Budget) -> None:
        self._chosen[index] = chosen
        self._adaptive.spend(chosen)

    def restore(self, trial: PlannedTrial, spec: TrialSpec, result: TrialResult | None) -> None:
        """See `BudgetPlan`."""
        if trial.index not in self._chosen:
            self._note(trial.index, spec.budget)
        if result is not None:
            self.ended(trial, spec, result)

    def ended(self, trial: PlannedTrial, spec: TrialSpec, result: TrialResult) -> None:
        """See `BudgetPlan`."""
        used = {name: getattr(result, name) for name in self._ranges}
        if result.state == TrialState.COMPLETE and not result.violation and result.val_accuracy is not None:
            if all(used.values()):
                self._adaptive.found(used, result.val_accuracy)
        elif result.state == TrialState.INFEASIBLE and self._single:
            refused = self._refused.setdefault(trial.index, set())
            refused.add(trial.method)
            if refused == self._methods:
                self._adaptive.unreachable(spec.budget)


def budget_plan_for(plan: Plan) -> BudgetPlan:
    """The budget plan that the sweep file asks for."""
    return AdaptiveBudgetPlan(plan) if plan.sweep.budgets.plan == "adaptive" else BudgetPlan()
